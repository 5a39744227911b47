"""Pictures of a grid's fits: of every method that has any, and a line where some are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from experiments.conftest import Small

from reprogram.cli import run as run_command
from reprogram.experiments.pictures import run_pictures
from reprogram.experiments.results import ResultStore


def test_methods_without_a_prompt_show_their_mapping(small: Small):
    store, _ = small.run(small.cells(methods=["none+ilm", "linear-probe", "head-finetune"]))
    pictures, missing = run_pictures(store, store.rows())
    methods = {key[3] for key in pictures}
    assert methods == {"none+ilm", "linear-probe"} and not missing  # a head reads no classes


def test_fits_of_another_grid_are_found(small: Small, tmp_path: Path):
    store, _ = small.run(small.cells())
    rows = store.rows()
    shutil.copytree(store.directory / "fits", tmp_path / "other" / "fits")
    shutil.rmtree(store.directory / "fits")
    pictures, missing = run_pictures(store, rows)
    assert not pictures
    assert missing.startswith("Pictures of 2 of 2 methods and pairs are missing. 2: the fit is not")
    pictures, missing = run_pictures(store, rows, fits=ResultStore(tmp_path / "other"))
    assert len(pictures) == 2 and not missing


def test_the_page_says_which_pictures_are_missing(small: Small, capsys: pytest.CaptureFixture[str]):
    store, _ = small.run(small.cells())
    shutil.rmtree(store.directory / "fits")
    fits = ["--fits", str(small.out / "nowhere"), "--data-root", str(small.out)]
    assert run_command(["bench", "report", str(small.out), *fits]) == 0
    page = (small.out / "report" / "report.html").read_text(encoding="utf-8")
    assert "Pictures of 2 of 2 methods and pairs are missing" in page
    assert "training compute" in page
