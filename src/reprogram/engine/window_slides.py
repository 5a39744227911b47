"""Convolutions and poolings on a part of their map, with the padding that this part meets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprogram.engine.window_autograd import Convolution, convolve
from reprogram.engine.window_geometry import Box, Slide, Span, same_padding

__all__ = ["ConvolutionSlide", "MapSlide", "function_slide", "module_slide", "pooling_slide"]

Size = tuple[int, int]


class Pads(NamedTuple):
    """Padding before and after on both axes, positions."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def symmetric(self) -> bool:
        return self.top == self.bottom and self.left == self.right

    def pad(self, x: Tensor, value: float) -> Tensor:
        if not any(self):
            return x
        return F.pad(x, (self.left, self.right, self.top, self.bottom), value=value)


class MapSlide(ABC):
    """A sliding operation on whole maps of a known size, restricted to boxes of its output.

    Args:
        rows: Its window on the first axis.
        cols: Its window on the second axis.
        size: Height and width of the input map.
        outputs: Height and width of the output map.
    """

    def __init__(self, rows: Slide, cols: Slide, size: Size, outputs: Size) -> None:
        self.rows, self.cols, self.size, self.outputs = rows, cols, size, outputs

    def reached(self, window: Box) -> Box:
        """The outputs that read the window."""
        return Box(
            self.rows.reached(window.rows, self.outputs[0]),
            self.cols.reached(window.cols, self.outputs[1]),
        )

    def region(self, box: Box) -> Box:
        """The part of the input map that the outputs of a box read."""
        return self._read(box).clip(*self.size)

    def pads(self, box: Box) -> Pads:
        """How far the outputs of a box read beyond the input map."""
        (top, bottom), (left, right) = self._read(box)
        height, width = self.size
        return Pads(max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))

    def _read(self, box: Box) -> Box:
        return Box(self.rows.read(box.rows), self.cols.read(box.cols))

    @abstractmethod
    def __call__(self, x: Tensor, box: Box) -> Float[Tensor, "batch c h w"]:
        """The outputs of the box from `x`, the input in `region(box)`."""


class ConvolutionSlide(MapSlide):
    """A convolution; padding is zero."""

    def __init__(self, module: nn.Conv2d, *geometry: Any) -> None:
        super().__init__(*geometry)
        self.module = module

    def how(self, pads: Pads) -> Convolution:
        stride = (self.rows.stride, self.cols.stride)
        dilation = (self.rows.dilation, self.cols.dilation)
        return Convolution(stride, (pads.top, pads.left), dilation, self.module.groups)

    def __call__(self, x: Tensor, box: Box) -> Tensor:
        pads = self.pads(box)
        if not pads.symmetric:
            x, pads = pads.pad(x, 0.0), Pads(0, 0, 0, 0)
        return convolve(x, self.module.weight, self.module.bias, self.how(pads))


class _MaxSlide(MapSlide):
    def __call__(self, x: Tensor, box: Box) -> Tensor:
        kernel = (self.rows.kernel, self.cols.kernel)
        stride = (self.rows.stride, self.cols.stride)
        dilation = (self.rows.dilation, self.cols.dilation)
        pads = self.pads(box)
        if pads.symmetric and 2 * pads.top <= kernel[0] and 2 * pads.left <= kernel[1]:
            return F.max_pool2d(x, kernel, stride, (pads.top, pads.left), dilation)
        return F.max_pool2d(pads.pad(x, -torch.inf), kernel, stride, 0, dilation)


class _MeanSlide(MapSlide):
    """An average pooling, whose divisor may depend on the position.

    Args:
        geometry: As for every sliding operation.
        padding: Padding that counts as positions (`count_include_pad`), None where none counts.
        divisor: A fixed divisor, or None.
    """

    def __init__(self, *geometry: Any, padding: Size | None, divisor: int | None) -> None:
        super().__init__(*geometry)
        self.padding, self.divisor = padding, divisor

    def __call__(self, x: Tensor, box: Box) -> Tensor:
        x = self.pads(box).pad(x, 0.0)
        kernel = (self.rows.kernel, self.cols.kernel)
        stride = (self.rows.stride, self.cols.stride)
        if self.divisor is not None:
            return F.avg_pool2d(x, kernel, stride, divisor_override=self.divisor)
        rows = self._counts(self.rows, box.rows, axis=0)
        cols = self._counts(self.cols, box.cols, axis=1)
        if set(rows) == {kernel[0]} and set(cols) == {kernel[1]}:
            return F.avg_pool2d(x, kernel, stride)
        count = torch.tensor(rows)[:, None] * torch.tensor(cols)[None, :]
        return F.avg_pool2d(x, kernel, stride, divisor_override=1) / count.to(x)

    def _counts(self, slide: Slide, outputs: Span, axis: int) -> list[int]:
        """Positions that count in each output."""
        size = self.size[axis]
        beyond = self.padding[axis] if self.padding is not None else 0
        counts = []
        for output in range(*outputs):
            start, stop = slide.read(Span(output, output + 1))
            counts.append(min(stop, size + beyond) - max(start, -beyond))
        return counts


def module_slide(module: nn.Module, x: Tensor, outputs: Size) -> MapSlide | None:
    """The sliding operation that a module is on maps like `x`, or None.

    A subclass with a forward of its own is compared with every known padding on random maps.
    """
    size = (x.shape[-2], x.shape[-1])
    candidates = list(_module_candidates(module, size, outputs))
    base = next((b for b in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d) if isinstance(module, b)), None)
    if base is None or (type(module).forward is base.forward and len(candidates) == 1):
        return candidates[0] if candidates else None
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    expected = module(probe)
    for slide in candidates:
        found = slide(probe, Box.whole(*outputs))
        if found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return slide
    return None


def _module_candidates(module: nn.Module, size: Size, outputs: Size) -> Iterator[MapSlide]:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        for geometry in _geometries(
            module.kernel_size, module.stride, module.padding, module.dilation, size, outputs
        ):
            yield ConvolutionSlide(module, *geometry)
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)) and not getattr(
        module, "return_indices", False
    ):
        yield from _poolings(vars(module), size, outputs, same=True)


def pooling_slide(options: Mapping[str, Any], size: Size, outputs: Size) -> MapSlide:
    """The pooling that the keyword arguments of `max_pool2d` or `avg_pool2d` describe."""
    return next(_poolings(options, size, outputs, same=False))


def _poolings(
    options: Mapping[str, Any], size: Size, outputs: Size, *, same: bool
) -> Iterator[MapSlide]:
    kernel, padding = _pair(options["kernel_size"]), _pair(options.get("padding", 0))
    stride = _pair(options.get("stride") or kernel)
    average = "count_include_pad" in options
    dilation = (1, 1) if average else _pair(options.get("dilation", 1))
    geometries = _geometries(kernel, stride, padding, dilation, size, outputs)
    for number, geometry in enumerate(geometries):
        if number > 0 and not same:
            return
        if not average:
            yield _MaxSlide(*geometry)
            continue
        # Of SAME padding every position counts.
        counted = padding if number == 0 else kernel
        yield _MeanSlide(
            *geometry,
            padding=counted if options["count_include_pad"] else None,
            divisor=options.get("divisor_override"),
        )


def _geometries(
    kernel: Any, stride: Any, padding: Any, dilation: Any, size: Size, outputs: Size
) -> Iterator[tuple[Slide, Slide, Size, Size]]:
    """The geometry with the stated padding, then the one with TensorFlow's SAME padding."""
    kernel, stride, dilation = _pair(kernel), _pair(stride), _pair(dilation)
    same = [same_padding(*axis) for axis in zip(size, kernel, stride, dilation, strict=True)]
    stated = same if padding == "same" else _pair(0 if padding == "valid" else padding)
    for before in (stated, same):
        axes = zip(kernel, stride, dilation, before, strict=True)
        rows, cols = (Slide(*axis) for axis in axes)
        yield rows, cols, size, outputs


def _pair(value: Any) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


_POOLINGS: dict[Callable[..., Any], tuple[str, ...]] = {
    F.max_pool2d: ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    F.avg_pool2d: (
        *("kernel_size", "stride", "padding", "ceil_mode"),
        *("count_include_pad", "divisor_override"),
    ),
}


def function_slide(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], size: Size, outputs: Size
) -> MapSlide | None:
    """The pooling that a call of a function is (its arguments after the input), or None."""
    if function not in _POOLINGS:
        return None
    options = dict(zip(_POOLINGS[function], args, strict=False)) | kwargs
    if options.pop("return_indices", False):
        return None
    if function is F.avg_pool2d:
        options.setdefault("count_include_pad", True)
    return pooling_slide(options, size, outputs)
