"""The page: complete by itself, safe with hostile names, the same for the same rows, alive."""

from __future__ import annotations

import random
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report.browser import CHROMIUM, DRIVER, Browser
from report.sample_rows import sample_rows

from reprogram.data.noise import NOISES, ImageNoise
from reprogram.errors import InputError
from reprogram.report import Picture, write_report
from reprogram.report import page as page_module
from reprogram.report.panels import run_key

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8"
    "ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


class Reader(HTMLParser):
    """Collects tags, ids and everything that a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
                self.loaded.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    rows = sample_rows(3, ("digits", "gtsrb"), distance={"FID": 40.0})
    noisy = [r | {"noise": f"gaussian:{s}@test"} for s in (1, 3) for r in sample_rows(3)]
    rows = [r for r in rows if (r["target"], r["method"]) != ("gtsrb", "none+ilm")]
    rows[-1] |= {"status": "failed", "accuracy": None, "error": "Traceback\nRuntimeError: invented"}
    return rows + [r for r in noisy if r["data_fraction"] == 1.0]


@pytest.fixture(scope="module")
def report(rows: list[dict], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    picture = Picture(PIXEL, "a picture", "one pixel")
    return write_report(
        rows,
        tmp_path_factory.mktemp("report"),
        title="test data",
        command="reprogram demo",
        pictures=[picture],
        run_pictures={run_key(rows[0]): [picture]},
    )


def test_all_files_are_written(report: dict[str, Path]):
    names = {"report.html", "report.md", "report.tex", "table.csv", "rows.csv"}
    names |= {"map.csv", "map.png", "map.svg"}
    assert set(report) == names
    folder = report["report.html"].parent
    assert {path.name for path in folder.iterdir()} == names  # no temporary file stays


def test_the_page_loads_nothing(report: dict[str, Path]):
    text = report["report.html"].read_text(encoding="utf-8")
    reader = Reader(text)
    assert reader.loaded and all(link.startswith(("#", "data:")) for link in reader.loaded)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not reader.handlers
    assert len(text.encode()) < 5_000_000
    assert len(reader.ids) == len(set(reader.ids))
    assert "svg" in reader.tags and "default-src 'none'" in text


def test_the_page_shows_every_section_and_every_absence(report: dict[str, Path]):
    text = report["report.html"].read_text(encoding="utf-8")
    order = [
        text.index(f'<section id="{name}"') for name in ("map", "size", "noise", "table", "how")
    ]
    assert order == sorted(order)
    assert "not run" in text and "Of 32 cells" in text
    assert "reprogram demo" in text and "0123abc" in text


def test_the_map_is_a_table_a_picture_and_a_file(report: dict[str, Path]):
    page = report["report.html"].read_text(encoding="utf-8")
    assert (
        page.count('aria-label="Advantage map, clean data, ') == 2
    )  # no limit, and one that bites
    for name in ("report.md", "report.tex"):
        assert "Advantage map, clean data, no limit" in report[name].read_text(encoding="utf-8")
    lines = report["map.csv"].read_text(encoding="utf-8").splitlines()
    free = [line for line in lines if line.startswith("embedded,digits,,clean,1,120,,,")]
    assert len(free) == 1
    assert free[0].startswith("embedded,digits,,clean,1,120,,,resolved,full-finetune,0.97")
    assert any(",trainable_parameters,30000,resolved,reprogramming," in line for line in lines)
    assert report["map.png"].read_bytes().startswith(b"\x89PNG")
    assert report["map.svg"].read_text(encoding="utf-8").startswith("<?xml")


def test_notes_stand_where_it_was_measured(tmp_path: Path):
    files = write_report(sample_rows(1), tmp_path, notes=["Pictures are missing: no fit is here."])
    for name in ("report.html", "report.md"):
        assert "Pictures are missing: no fit is here." in files[name].read_text(encoding="utf-8")


def test_a_count_of_fields_says_what_is_corrected(report: dict[str, Path]):
    for name in ("report.html", "report.md", "report.tex"):
        assert "counts of fields are not corrected over them" in report[name].read_text("utf-8")


def test_mixed_code_versions_are_marked(tmp_path: Path):
    rows = sample_rows(1)
    rows[0]["git_sha"] = "feedbee"
    text = write_report(rows, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "2 versions of the code" in text
    assert "n = 1: nothing can be resolved, means are shown" in text


def test_equal_rows_make_equal_files(rows: list[dict], report: dict[str, Path], tmp_path: Path):
    shuffled = [dict(row) for row in rows]
    random.Random(1).shuffle(shuffled)
    picture = Picture(PIXEL, "a picture", "one pixel")
    again = write_report(
        shuffled,
        tmp_path,
        title="test data",
        command="reprogram demo",
        pictures=[picture],
        run_pictures={run_key(rows[0]): [picture]},
    )
    for name, path in again.items():
        assert path.read_bytes() == report[name].read_bytes(), name


def test_hostile_names_stay_text(tmp_path: Path):
    rows = sample_rows(1, (HOSTILE,))
    rows = [r | {"source": HOSTILE, "settings": {HOSTILE: HOSTILE}} for r in rows]
    rows += [r | {"method": HOSTILE} for r in rows if r["method"] == "none+ilm"]
    text = write_report(rows, tmp_path, title=HOSTILE, command=HOSTILE)["report.html"].read_text()
    reader = Reader(text)
    assert reader.tags.count("script") == 2
    assert "img" not in reader.tags and not reader.handlers


def test_a_page_that_grows_too_large_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [row for row in sample_rows(1) if row["method"] == "linear-probe"]
    pictures = {run_key(rows[0]): [Picture(PIXEL + bytes(900_000), "large", "large")]}
    monkeypatch.setattr(page_module, "MAX_BYTES", 1_000_000)
    text = write_report(rows, tmp_path, run_pictures=pictures)["report.html"].read_text()
    assert "pictures of single runs are left out" in text
    assert len(text.encode()) < 1_000_000
    monkeypatch.setattr(page_module, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="report.html of 3 rows would have"):
        write_report(rows, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_no_rows_are_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="at least one result row"):
        write_report([], tmp_path)


def test_the_protocol_says_what_a_p_value_accounts_for(report: dict[str, Path]):
    text = report["report.html"].read_text(encoding="utf-8")
    assert (
        "A p-value accounts for the spread over seeds and, as a cautious floor, for the least"
        in text
    )
    assert "which all seeds share" in text


def test_versions_of_failed_runs_count_and_dirty_ones_are_told_apart(tmp_path: Path):
    rows = sample_rows(1)
    rows[0] |= {"git_sha": "0123456789ab", "status": "failed", "accuracy": None}
    rows[1] |= {"git_sha": "0123456789ab-dirty"}
    rows[2] = {k: rows[2][k] for k in ("source", "target", "method", "data_fraction", "seed")}
    rows[2] |= {"status": "missing"}
    files = write_report(rows, tmp_path)
    for name in ("report.html", "report.md"):
        text = files[name].read_text(encoding="utf-8")
        assert "3 versions of the code: 0123456789ab, 0123456789ab-dirty, 0123abc" in text
        assert "Of 12 runs, 1 not run, 1 failed." in text
        assert "not committed (-dirty)" in text


def test_ten_thousand_rows_fit_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page_module.view_figures, "size_figures", lambda clean: [])
    monkeypatch.setattr(page_module.view_noise, "noise_figures", lambda everything: [])
    clean = sample_rows(3, tuple(f"target{i}" for i in range(12)))
    names = [name for name, noise in NOISES.items() if isinstance(noise, ImageNoise)][:14]
    kinds = [f"{name}:{s}@test" for name in names for s in (1, 3, 5)]
    rows = clean + [
        {k: v for k, v in row.items() if k != "history"} | {"noise": kind}
        for kind in kinds
        for row in clean
        if row["data_fraction"] < 1.0
    ]
    rows += [row | {"target": f"more{i}"} for i in range(3) for row in clean[:36]]
    assert len(rows) > 10_000
    started = time.process_time()
    files = write_report(rows, tmp_path)
    assert time.process_time() - started < 60  # about 7 s on one core; quadratic would be hours
    assert files["report.html"].stat().st_size < page_module.MAX_BYTES


def test_only_failures_still_make_a_page(tmp_path: Path):
    rows = [r | {"status": "failed", "accuracy": None} for r in sample_rows(1)]
    text = write_report(rows, tmp_path)["report.html"].read_text(encoding="utf-8")
    assert "No run has finished yet" in text


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here")
def test_the_page_in_a_real_browser(rows: list[dict], report: dict[str, Path], tmp_path: Path):
    column = "[...document.querySelectorAll('.results tbody')][0].rows"
    methods = f"return [...{column}].map(row => row.cells[0].textContent)"
    with Browser(tmp_path / "profile") as browser:
        browser.open(report["report.html"])
        assert browser.script("return document.querySelectorAll('figure svg').length") >= 3

        # A table sorted by accuracy, then by name, with the keyboard.
        click = "document.querySelectorAll('.results .sort')[3].click()"
        browser.script(click)
        falling = browser.script(methods)
        browser.script(click)
        assert browser.script(methods) == falling[::-1] != falling
        browser.script("document.querySelector('.results .sort').focus()")
        browser.press("\ue007")  # Enter
        assert browser.script(methods) == sorted(falling)
        sort = "return document.querySelector('.results th').getAttribute('aria-sort')"
        assert browser.script(sort) == "ascending"

        # A budget changes the map.
        shown = "return [...document.querySelectorAll('.map:not([hidden])')].map(m => m.innerText)"
        free = browser.script(shown)
        browser.script("document.querySelector('input[value=trainable_parameters]').click()")
        limited = browser.script(shown)
        assert len(free) == len(limited) == 1
        assert "full-finetune" in free[0] and "full-finetune" not in limited[0]

        # The noises of a pair are a map of their own.
        browser.script(
            "const view = document.querySelector('#view'); view.value = '1';"
            "view.dispatchEvent(new Event('input', { bubbles: true }))"
        )
        noisy = browser.script(shown)
        assert len(noisy) == 1 and "gaussian" in noisy[0] and "gtsrb" not in noisy[0]

        # A cell opens its runs, Escape closes them.
        browser.script("document.querySelector('.cell').click()")
        text = browser.script("return document.querySelector('dialog[open]').innerText")
        assert "learning_rate" in text and "selected epoch" in text
        assert (
            browser.script("return document.querySelectorAll('dialog[open] polyline').length") == 3
        )
        browser.press("\ue00c")  # Escape
        assert browser.script("return document.querySelector('dialog[open]')") is None

        # The rows become a plain file, equal to the one beside the page.
        read = (
            "return fetch === undefined ? '' : document.querySelectorAll('.download')[1].download"
        )
        assert browser.script(read) == "rows.csv"
        assert browser.script("return document.documentElement.scrollWidth <= innerWidth")

        # A phone scrolls tables, not the page; everything that folds is open.
        browser.resize(390, 844)
        browser.script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.script("return innerWidth") == 390
        assert browser.script("return document.documentElement.scrollWidth") <= 390

        # On paper nothing can be chosen, and nothing is cut off to be scrolled to.
        browser.resize(794, 1123)
        browser.devtools("Emulation.setEmulatedMedia", media="print")
        style = "return getComputedStyle(document.querySelector('{}')).{}"
        assert browser.script(style.format("nav", "display")) == "none"
        assert browser.script(style.format(".budget", "display")) == "none"
        assert browser.script(style.format(".scroll", "overflowX")) == "visible"
        assert browser.script("return document.documentElement.scrollWidth") <= 794
        assert browser.console_errors() == []
