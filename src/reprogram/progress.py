"""Progress bars on stderr; silent without a terminal or where they are switched off."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from reprogram.training import Progress as Step

__all__ = ["FitProgress", "bar", "note_of"]


def bar(quiet: bool, *columns: str) -> Progress:
    """A bar for a long step: name, bar, given columns, time left; in the end the time it took.

    Where the terminal is narrow, the bar gives way and the words stay whole.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        *(TextColumn(column) for column in columns),
        _TimeLeft(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        console=console,
        disable=quiet or not sys.stderr.isatty(),
        transient=False,
    )


class _TimeLeft(TimeRemainingColumn):
    """The remaining time says what it is."""

    def render(self, task: Task) -> Text:
        text = super().render(task)
        return text if task.finished else text.append(" left")


class FitProgress:
    """Follows one run: epoch, loss, validation accuracy, images/s, time left."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self._bar = bar(quiet, "{task.fields[note]}")
        self._task = self._bar.add_task(name, total=None, note="fitting the mapping")

    def __enter__(self) -> FitProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        done = (step.epoch - 1) * step.images_per_epoch + step.images
        task = self._bar.tasks[self._task]
        rate = f"  {task.speed:,.0f} img/s" if task.speed else ""
        self._bar.update(
            self._task, total=step.epochs * step.images_per_epoch, completed=done,
            note=note_of(step) + rate,
        )  # fmt: skip


def note_of(step: Step) -> str:
    """What stands beside a bar: epoch, loss, validation accuracy."""
    val = "" if step.val_accuracy is None else f"  val {100 * step.val_accuracy:.1f} %"
    return f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.2f}{val}"
