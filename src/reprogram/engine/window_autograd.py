"""The few operations of the windowed forward whose gradients are cheaper than autograd's own."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from reprogram.engine.window_geometry import Box, Span

__all__ = ["Convolution", "convolve", "convolve_first", "frame", "inside", "rectify_and_frame"]


class Convolution(NamedTuple):
    """Stride, zero padding, dilation and groups of a 2-D convolution."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def inside(maps: Float[Tensor, "batch c h w"], box: Box) -> Float[Tensor, "batch c h2 w2"]:
    """A view of the box of a map."""
    (top, bottom), (left, right) = box
    return maps[:, :, top:bottom, left:right]


def frame(
    window: Float[Tensor, "batch c h w"],
    background: Float[Tensor, "1 c H W"] | None,
    box: Box,
    stored: Box,
) -> Float[Tensor, "batch c h2 w2"]:
    """The `stored` part of the map that is `window` in `box` and the background outside.

    The background's gradient is summed over the batch; it is not read where the window is all.
    """
    return window if box == stored else _Frame.apply(window, background, box, stored)


def rectify_and_frame(
    window: Float[Tensor, "batch c h w"],
    background: Float[Tensor, "1 c H W"] | None,
    box: Box,
    stored: Box,
) -> Float[Tensor, "batch c h2 w2"]:
    """`frame(relu(window), ...)`, written once."""
    if box == stored:
        return torch.relu(window)
    return _RectifyAndFrame.apply(window, background, box, stored)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, how: Convolution) -> Tensor:
    """`conv2d` that keeps no input for the backward pass, where the weight is frozen."""
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return torch.conv2d(x, weight, bias, *how[:3], how.groups)
    return _Convolve.apply(x, weight, bias, how)


def convolve_first(
    patches: Tensor,
    background: Tensor,
    geometry: tuple[Box, Box],
    weight: Tensor,
    bias: Tensor | None,
    how: Convolution,
) -> Tensor:
    """`convolve(frame(patches, background, box, stored), ...)` for patches without a gradient.

    The background's gradient is that of one image: a convolution is linear, so the gradient of
    the batch-summed output is the batch-summed gradient.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        return convolve(frame(patches, background, *geometry), weight, bias, how)
    return _ConvolveFirst.apply(patches, background, geometry, weight, bias, how)


def _fill(out: Tensor, background: Tensor, box: Box, stored: Box) -> Tensor:
    """Write the background around the window; returns the view where the window belongs."""
    for strip in _strips(box, stored):
        inside(out, _within(strip, stored)).copy_(inside(background, strip))
    return inside(out, _within(box, stored))


def _batch_sum(grad: Tensor, size: torch.Size, box: Box, stored: Box) -> Tensor:
    """Gradient of the background: the batch-summed gradient around the window, 0 elsewhere."""
    total = grad.new_zeros(size)
    for strip in _strips(box, stored):
        part = inside(grad, _within(strip, stored)).sum(0, keepdim=True)
        inside(total, strip).copy_(part)
    return total


def _within(box: Box, stored: Box) -> Box:
    return box.shift(-stored.rows.start, -stored.cols.start)


def _strips(box: Box, stored: Box) -> list[Box]:
    """The parts of `stored` above, below, left and right of `box`."""
    rows, cols = box
    strips = [
        Box(Span(stored.rows.start, rows.start), stored.cols),
        Box(Span(rows.stop, stored.rows.stop), stored.cols),
        Box(rows, Span(stored.cols.start, cols.start)),
        Box(rows, Span(cols.stop, stored.cols.stop)),
    ]
    return [strip for strip in strips if strip.area > 0]


def _empty(window: Tensor, stored: Box) -> Tensor:
    shape = (*window.shape[:2], stored.rows.size, stored.cols.size)
    return torch.empty(
        shape, dtype=window.dtype, device=window.device, memory_format=torch.channels_last
    )


class _Frame(Function):
    @staticmethod
    def forward(ctx: Any, window: Tensor, background: Tensor, box: Box, stored: Box) -> Tensor:
        ctx.geometry, ctx.size = (box, stored), background.shape
        out = _empty(window, stored)
        _fill(out, background, box, stored).copy_(window)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        box, stored = ctx.geometry
        window = inside(grad, _within(box, stored)) if ctx.needs_input_grad[0] else None
        total = _batch_sum(grad, ctx.size, box, stored) if ctx.needs_input_grad[1] else None
        return window, total, None, None


class _RectifyAndFrame(Function):
    @staticmethod
    def forward(ctx: Any, window: Tensor, background: Tensor, box: Box, stored: Box) -> Tensor:
        ctx.geometry, ctx.size = (box, stored), background.shape
        out = _empty(window, stored)
        torch.clamp_min(window, 0, out=_fill(out, background, box, stored))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        box, stored = ctx.geometry
        within = _within(box, stored)
        window = None
        if ctx.needs_input_grad[0]:
            window = torch.ops.aten.threshold_backward(inside(grad, within), inside(out, within), 0)
        total = _batch_sum(grad, ctx.size, box, stored) if ctx.needs_input_grad[1] else None
        return window, total, None, None


class _Convolve(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Convolution
    ) -> Tensor:
        ctx.weight, ctx.how, ctx.size = weight, how, x.shape
        return torch.conv2d(x, weight, bias, *how[:3], how.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _input_gradient(grad, ctx.size, ctx.weight, ctx.how), None, None, None


class _ConvolveFirst(Function):
    @staticmethod
    def forward(
        ctx: Any,
        patches: Tensor,
        background: Tensor,
        geometry: tuple[Box, Box],
        weight: Tensor,
        bias: Tensor | None,
        how: Convolution,
    ) -> Tensor:
        ctx.geometry, ctx.size = geometry, background.shape
        ctx.weight, ctx.how = weight, how
        box, stored = geometry
        x = _empty(patches, stored)
        _fill(x, background, box, stored).copy_(patches)
        return torch.conv2d(x, weight, bias, *how[:3], how.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        box, stored = ctx.geometry
        size = torch.Size((1, ctx.size[1], stored.rows.size, stored.cols.size))
        around = _input_gradient(grad.sum(0, keepdim=True), size, ctx.weight, ctx.how)
        return None, _batch_sum(around, ctx.size, box, stored), None, None, None, None


def _input_gradient(grad: Tensor, size: torch.Size, weight: Tensor, how: Convolution) -> Tensor:
    # The backward pass reads the input's size only, so memory without content will do.
    x = torch.empty(size, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    return torch.ops.aten.convolution_backward(
        grad.contiguous(memory_format=torch.channels_last),
        x,
        weight.to(grad.dtype),
        None,
        how.stride,
        how.padding,
        how.dilation,
        False,
        (0, 0),
        how.groups,
        (True, False, False),
    )[0]
