"""Integer geometry of windows: which outputs a window of inputs reaches, and what those read."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Box", "Slide", "Span", "same_padding"]


class Span(NamedTuple):
    """Positions start <= i < stop on one axis."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def join(self, other: Span) -> Span:
        """The smallest span that holds both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop))

    def clip(self, size: int) -> Span:
        """The part on an axis of `size` positions."""
        return Span(min(max(self.start, 0), size), max(min(self.stop, size), 0))

    def shift(self, by: int) -> Span:
        return Span(self.start + by, self.stop + by)


class Box(NamedTuple):
    """A rectangle of positions of a map."""

    rows: Span
    cols: Span

    @classmethod
    def whole(cls, height: int, width: int) -> Box:
        return cls(Span(0, height), Span(0, width))

    @property
    def area(self) -> int:
        return self.rows.size * self.cols.size

    def join(self, other: Box) -> Box:
        return Box(self.rows.join(other.rows), self.cols.join(other.cols))

    def clip(self, height: int, width: int) -> Box:
        return Box(self.rows.clip(height), self.cols.clip(width))

    def shift(self, rows: int, cols: int) -> Box:
        return Box(self.rows.shift(rows), self.cols.shift(cols))


class Slide(NamedTuple):
    """Sliding on one axis: output o reads inputs o stride - before + i dilation, i < kernel.

    >>> Slide(kernel=7, stride=2, dilation=1, before=3).reached(Span(96, 128), outputs=112)
    Span(start=47, stop=66)
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0

    @property
    def extent(self) -> int:
        """Inputs from the first that an output reads to the last."""
        return self.dilation * (self.kernel - 1) + 1

    def reached(self, window: Span, outputs: int) -> Span:
        """The outputs that read an input of the window, in one span of at least one position."""
        # o stride - before + extent - 1 >= start  and  o stride - before <= stop - 1
        first = -((self.extent - 1 - self.before - window.start) // self.stride)
        last = (window.stop - 1 + self.before) // self.stride
        # A stride over the kernel can miss the window; one position more is never wrong.
        first = min(max(first, 0), outputs - 1)
        return Span(first, max(min(last, outputs - 1), first) + 1)

    def read(self, outputs: Span) -> Span:
        """The inputs that a span of outputs reads; it may leave the map, where padding lies."""
        first = outputs.start * self.stride - self.before
        return Span(first, (outputs.stop - 1) * self.stride - self.before + self.extent)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> int:
    """TensorFlow's SAME padding in front of an axis of `size`: half of the total, rounded down."""
    total = (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size
    return max(total, 0) // 2
