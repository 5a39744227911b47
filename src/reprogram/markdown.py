"""Tables and text in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown_lines", "markdown_text"]


def markdown_lines(heads: Sequence[str], lines: Iterable[Sequence[str]], *, left: int = 1) -> str:
    r"""A table of texts in Markdown, the first ``left`` columns set left and the others right.

    >>> print(markdown_lines(["method", "n"], [["a|b", "3"]]))
    | method | n |
    | --- | ---: |
    | a\|b | 3 |
    """
    written = [
        [markdown_text(head) for head in heads],
        ["---"] * left + ["---:"] * (len(heads) - left),
        *([markdown_text(cell) for cell in line] for line in lines),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in written)


def markdown_text(text: str) -> str:
    """Text that no table or tag can break out of; the lines of a cell one after the other."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return text.replace("\n", " / ")
