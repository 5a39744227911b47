"""What a row is, and what one measurement of it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from benchmarks.scale import Scale

__all__ = ["Measured", "Row"]


class Measured(NamedTuple):
    """Both sides of a row.

    Args:
        peer_value: Of the peer, in `unit`.
        our_value: Of the library, in `unit`.
        unit: "CPU s", "s", "MiB", "GFLOP/s", "images/s", "h".
        n: Runs of each side, of which the best counts.
    """

    peer_value: float
    our_value: float
    unit: str
    n: int

    @property
    def ratio(self) -> float:
        """Times faster where seconds are measured, else ours over the peer's."""
        if self.unit in ("CPU s", "s"):
            return self.peer_value / self.our_value
        return self.our_value / self.peer_value


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        measure: Makes it.
        what: What is measured.
        peer: What it is held against.
        goal: Of the ratio; None where there is none.
        better: Whether the ratio should be "higher" or "lower" than the goal.
        slow: Left out unless named or asked for with --slow.
    """

    measure: Callable[[Scale], Measured]
    what: str
    peer: str
    goal: float | None
    better: Literal["higher", "lower"] = "higher"
    slow: bool = False

    def reached(self, ratio: float) -> bool | None:
        """Whether a ratio meets the goal."""
        if self.goal is None:
            return None
        return ratio >= self.goal if self.better == "higher" else ratio <= self.goal

    def to_dict(self, name: str, measured: Measured) -> dict[str, Any]:
        """The row as it stands in the JSON document."""
        return {
            "name": name,
            "peer": self.peer,
            "peer_value": measured.peer_value,
            "our_value": measured.our_value,
            "unit": measured.unit,
            "ratio": measured.ratio,
            "goal": self.goal,
            "better": self.better,
            "n": measured.n,
        }
