"""From result rows to what people read: tables, a computed answer, and one self-contained page."""

from __future__ import annotations

from reprogram.report.advantage import advantage, budgets
from reprogram.report.distance import with_distances
from reprogram.report.headline import answer
from reprogram.report.page import Picture, write_report
from reprogram.report.panels import Panel, clean_panels, panels, run_key
from reprogram.report.tables import rows_csv, table_csv, text_table
from reprogram.statistics import compare, holm, paired_difference, summarise

__all__ = [
    "Panel",
    "Picture",
    "advantage",
    "answer",
    "budgets",
    "clean_panels",
    "compare",
    "holm",
    "paired_difference",
    "panels",
    "rows_csv",
    "run_key",
    "summarise",
    "table_csv",
    "text_table",
    "with_distances",
    "write_report",
]
