"""What every form of the report is made from, and its Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.markdown import markdown_lines, markdown_text
from reprogram.report import view_distance, view_noise, view_text
from reprogram.report.advantage import Budget, budgets
from reprogram.report.headline import answer
from reprogram.report.panels import Panel, Row, panels
from reprogram.report.section import Section
from reprogram.report.sensitivity import sensitivity_section
from reprogram.report.tables import (
    counts_text,
    markdown_table,
    one_size,
    pair_lines,
    rows_csv,
    table_csv,
    tex_lines,
    tex_table,
    tex_text,
)
from reprogram.report.takeaway import FAMILY, noise_takeaways, pair_takeaways, takeaway
from reprogram.report.view_map import View, map_csv, text_tables, views

__all__ = ["Content", "markdown", "tex"]


@dataclass(frozen=True)
class Content:
    """What every form of the report is made from.

    Attributes:
        rows: Checked, in one order.
        title: The report's title.
        command: What repeats the measurement.
        everything: All panels.
        clean: Those without noise.
        choices: The budgets of the advantage map.
        answer: What was found, in a sentence or two.
        takeaways: The advantage map in sentences.
        sections: Sensitivity, noise and distance, where there are such rows.
        files: The CSV files by name.
        views: What the advantage map can show, the first of them by itself.
        notes: What is missing here, and why.
    """

    rows: list[Row]
    title: str
    command: str
    everything: list[Panel]
    clean: list[Panel]
    choices: list[Budget]
    answer: str
    takeaways: list[str]
    sections: dict[str, Section]
    files: dict[str, str]
    views: list[View]
    notes: Sequence[str]

    @property
    def behind(self) -> list[Row]:
        """The runs behind the cells of the tables, which open on the page."""
        return [row for panel in self.clean for e in panel.entries.values() for row in e.rows]

    @classmethod
    def of(cls, rows: list[Row], title: str, command: str, notes: Sequence[str] = ()) -> Content:
        """Everything that is computed once; the rows are checked and sorted."""
        everything = panels(rows)
        clean = [panel for panel in everything if panel.noise.kind == "clean"]
        choices = budgets(clean or everything)
        shown = views(everything)
        told = [takeaway(clean, choices), *pair_takeaways(clean, choices)]
        sections = [
            sensitivity_section(clean),
            view_noise.noise_section(everything),
            view_distance.distance_section(rows, everything[0].methods),
        ]
        return cls(
            rows,
            title,
            command,
            everything,
            clean,
            choices,
            answer(everything),
            [text for text in told + noise_takeaways(everything, choices) if text],
            {section.id: section for section in sections if section},
            {
                "table.csv": table_csv(everything),
                "rows.csv": rows_csv(rows),
                "map.csv": map_csv(everything, choices),
            },
            shown,
            notes,
        )


def markdown(content: Content) -> str:
    """The answer, the sentences and the tables in Markdown."""
    parts = [f"# {content.title}", content.answer]
    parts += [f"{notice}" for notice in view_text.notices(content.everything, content.rows)]
    caption = "Test accuracy in per cent, mean ± half of the 95 % interval"
    if one_size(content.clean):
        parts += ["## Every pair", f"{caption}.", markdown_lines(*pair_lines(content.clean))]
    else:
        for panel in content.clean:
            title = f"## {markdown_text(panel.title)}"
            parts += [title, f"{caption}, {counts_text(panel)}.", markdown_table(panel)]
    told = "\n".join(f"- {markdown_text(text)}" for text in content.takeaways)
    parts += ["## Where is the advantage?", told, FAMILY]
    for table in text_tables(content.views[0], content.choices):
        parts += [f"### {table.caption}", markdown_lines(table.heads, table.lines)]
    parts += [section.markdown() for section in content.sections.values()]
    parts += content.notes
    if content.command:
        parts += ["## To repeat it", f"```\n{content.command}\n```"]
    return "\n\n".join(parts) + "\n"


def tex(content: Content) -> str:
    """Tables and sentences in LaTeX, one after the other."""
    caption = "test accuracy in %, mean +- half of the 95% interval"
    parts = []
    if one_size(content.clean):
        parts += [f"% {caption}", tex_lines(*pair_lines(content.clean))]
    else:
        for panel in content.clean:
            name = " ".join(panel.title.replace("→", "to").split())
            parts += [f"% {name}: {caption}", tex_table(panel)]
    parts += [tex_text(text) + "\n" for text in [*content.takeaways, FAMILY]]
    for table in text_tables(content.views[0], content.choices):
        parts += [f"% {table.caption}", tex_lines(table.heads, table.lines), ""]
    parts += [section.tex() for section in content.sections.values()]
    return "\n".join(parts) + "\n"
