"""Progress bars."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from reprogram import progress

NOTE = "epoch 112/200  loss 2.30  val 43.1 %  1,234 img/s"


@pytest.mark.parametrize("width", [80, 120])
def test_words_and_time_stay_whole_where_the_terminal_is_narrow(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=out, width=width))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar(False, "{task.fields[note]}") as bar:
        task = bar.add_task("pad+ilm", total=2, note=NOTE)
        bar.update(task, completed=1)
        running = Console(width=width, file=io.StringIO())
        running.print(bar.get_renderable())
        bar.update(task, completed=2)
    line = running.file.getvalue().rstrip("\n")  # type: ignore[attr-defined]
    assert len(line.splitlines()) == 1 and len(line) <= width
    assert NOTE in line and line.endswith(" left")
    assert "left" not in out.getvalue().splitlines()[-1]
