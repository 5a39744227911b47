"""A part of the report: sentences, tables and figures, as the page, Markdown and LaTeX show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reprogram.markdown import markdown_lines, markdown_text
from reprogram.report.tables import tex_lines, tex_text

__all__ = ["FigureGroup", "Section", "TextTable"]

FOLD = 24  # lines from which a table lies folded on the page


@dataclass(frozen=True)
class TextTable:
    """A table of texts; a line break in a cell sets what follows small."""

    caption: str
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]

    @property
    def folded(self) -> bool:
        """Whether the page shows it when asked."""
        return len(self.lines) > FOLD


@dataclass(frozen=True)
class FigureGroup:
    """Figures that are read together.

    Attributes:
        large: ``svg``, ``caption`` of figures that name their own lines.
        small: The same of small multiples, which share a legend.
        summary: What the small multiples show.
        legend: Method and colour.
    """

    large: Sequence[dict[str, Any]]
    small: Sequence[dict[str, Any]] = ()
    summary: str = ""
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
        id: Anchor on the page.
        name: In the page's list of sections.
        title: The heading.
        lead: How to read what follows.
        sentences: What was found, computed.
        tables: The numbers behind it.
        figures: For the page alone.
    """

    id: str
    name: str
    title: str
    lead: str
    sentences: Sequence[str] = ()
    tables: Sequence[TextTable] = ()
    figures: Sequence[FigureGroup] = ()

    def markdown(self) -> str:
        """Sentences and tables in Markdown."""
        parts = [f"## {self.title}", markdown_text(self.lead)]
        if self.sentences:
            parts.append("\n".join(f"- {markdown_text(sentence)}" for sentence in self.sentences))
        for table in self.tables:
            parts += [f"### {markdown_text(table.caption)}"]
            parts += [markdown_lines(table.heads, table.lines)]
        return "\n\n".join(parts)

    def tex(self) -> str:
        """Sentences as paragraphs and tables in LaTeX."""
        parts = [f"% {self.title}", *(tex_text(sentence) + "\n" for sentence in self.sentences)]
        for table in self.tables:
            parts += [f"% {' '.join(table.caption.replace('→', 'to').split())}"]
            parts += [tex_lines(table.heads, table.lines), ""]
        return "\n".join(parts)
