"""Grids: from a config or flags to cells, keys and rates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from experiments.conftest import Small, write_target

from reprogram.data import load_target
from reprogram.data.noise import Noise
from reprogram.errors import InputError
from reprogram.experiments import Cell, Rates, product, tuning
from reprogram.experiments.grid import entries_of, read_config, scaled, warn_of_published_rates
from reprogram.experiments.jobs import Context, jobs_of
from reprogram.experiments.run import identity_of, load_cell_source
from reprogram.experiments.tuning import chosen_rates, tuning_cells
from reprogram.methods import METHODS, get_method
from reprogram.settings import Settings
from reprogram.sources import preprocessing_of


def test_seeds_come_first_so_that_an_interrupted_grid_holds_whole_tables() -> None:
    cells = product(
        sources="s", targets="ab", methods=["none+ilm"], fractions=(0.5, 1), seeds=(0, 1)
    )
    assert [c.seed for c in cells] == [0] * 4 + [1] * 4
    assert {(c.target, c.data_fraction) for c in cells[:4]} == {
        (t, f) for t in "ab" for f in (0.5, 1)
    }


def test_source_seeds_go_along_with_seeds() -> None:
    cells = product(
        sources="s", targets="t", methods=["none+ilm"], seeds=(0, 1), source_seeds=(5, 6)
    )
    assert [(c.seed, c.source_seed) for c in cells] == [(0, 5), (1, 6)]
    with pytest.raises(InputError, match="source_seeds has 2 entries for 1 seeds"):
        product(sources="s", targets="t", methods=["none+ilm"], source_seeds=(0, 1))


def test_a_setting_is_for_the_methods_that_read_it() -> None:
    grid = {"sources": "s", "targets": "t", "methods": ["full+ilm", "pad+ilm"]}
    full, pad = product(**grid, settings={"size": 20, "lr": 0.5})
    assert (full.settings.size, pad.settings.size) == (None, 20)
    assert full.settings.lr == pad.settings.lr == 0.5


def test_a_cell_is_its_json() -> None:
    cell = Cell("s", "t", "pad+ilm", 0.5, settings=Settings(lr=0.3), noise=Noise("gaussian", 2))
    assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


def test_key_tells_every_field_apart_but_not_a_default_from_its_absence() -> None:
    cell = Cell("s", "t", "pad+ilm", settings=Settings(lr=0.3))
    other = {
        "source": "x", "target": "x", "method": "full+ilm", "data_fraction": 0.5, "seed": 1,
        "train_pool": 9, "val_share": 0.2, "track_test": True, "settings": Settings(lr=0.4),
        "noise": Noise("blur", 1), "source_seed": 0, "test_pool": 5,
    }  # fmt: skip
    assert set(other) == set(cell.to_dict())
    keys = {
        cell.key("f"),
        cell.key("g"),
        *(replace(cell, **{k: v}).key("f") for k, v in other.items()),
    }
    assert len(keys) == 2 + len(other)
    explicit = replace(cell, settings=Settings(lr=0.3, gamma=0.1), val_share=0.1)
    assert explicit.key("f") == cell.key("f")


def test_equal_cells_have_one_key() -> None:
    whole = Cell("s", "t", "pad+ilm", 1, 3, val_share=0, settings=Settings(lr=1))
    real = Cell("s", "t", "pad+ilm", 1.0, 3, val_share=0.0, settings=Settings(lr=1.0))
    assert whole == real and whole.key() == real.key()
    assert Cell.from_dict(json.loads(json.dumps(whole.to_dict()))) == real


def test_two_targets_of_one_name_are_refused(small: Small, tmp_path: Path) -> None:
    other = write_target(tmp_path / Path(small.target).name, seed=5)
    with pytest.raises(InputError, match="both called 'colours'"):
        entries_of(small.cells(targets=[small.target, str(other)]), Context())


def test_factors_are_of_published_rates(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    row = {"source": "s", "target": "t", "method": "pad+ilm", "factor": 10}
    path.write_text(json.dumps({"rates": [row]}))
    rates = Rates(path)
    assert rates.apply(get_method("pad+ilm").settings, "s", "t", "pad+ilm").lr == 0.1
    with pytest.raises(InputError, match="pad\\+ilm has its own lr"):
        product(
            sources=["s"], targets=["t"], methods=["pad+ilm"], settings={"lr": 0.05}, rates=rates
        )


def test_cells_that_differ_in_test_noise_share_a_fit(small: Small) -> None:
    noises = [Noise(), Noise("blur", 1), Noise("gaussian", 2), Noise("gaussian", 2, "both")]
    cells = [*small.cells(methods=["pad+ilm"], noises=noises)]
    cells += [replace(cells[0], test_pool=9)]
    entries = entries_of(cells, Context())
    jobs = jobs_of(entries, lambda fit: None)
    assert [len(job.entries) for job in jobs] == [4, 1]
    assert jobs[0].fit == entries[0].key and len({e.key for e in entries}) == 5


def test_key_follows_the_data_and_not_the_path(small: Small, tmp_path: Path) -> None:
    (cell, *_) = small.cells()
    (entry,) = entries_of([cell], Context())
    moved = tmp_path / "elsewhere" / Path(small.target).name
    moved.parent.mkdir()
    moved.write_bytes(Path(small.target).read_bytes())
    (same,) = entries_of([replace(cell, target=str(moved))], Context())
    assert same.key == entry.key and same.target == "colours"
    (tmp_path / "other").mkdir()
    changed = write_target(tmp_path / "other" / "colours.npz", seed=7)
    (other,) = entries_of([replace(cell, target=str(changed))], Context())
    assert other.key != entry.key


def test_key_follows_the_published_settings(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell, *_) = small.cells(methods=["pad+ilm"])
    published = get_method("pad+ilm").settings
    cells = [replace(cell, settings=None), replace(cell, settings=published)]

    def keys() -> list[str]:
        return [entries_of([each], Context())[0].key for each in cells]

    unsaid, said = keys()
    assert unsaid == said
    changed = replace(METHODS["pad+ilm"], settings=published.updated({"epochs": 7}))
    monkeypatch.setitem(METHODS, "pad+ilm", changed)
    assert keys()[0] != unsaid and keys()[1] == said


def test_key_is_that_of_the_plain_path_of_a_source(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell, *_) = small.cells()
    shutil.copytree(small.source, tmp_path / "sources" / "a")
    monkeypatch.chdir(tmp_path)
    source, task = load_cell_source("sources/a", None), load_target(cell.target)
    spellings = ("sources/a", "./sources/a", "sources/a/", "sources/./a", "sources//a")
    keys = {identity_of(replace(cell, source=path), source, task) for path in spellings}
    plain = replace(cell, source="sources/a", target=task.name)
    prints = (source.fingerprint, preprocessing_of(source), task.fingerprint, "schema 2")
    assert keys == {plain.key(*prints)}


def test_relative_paths_are_found_in_the_data_root(small: Small) -> None:
    (cell, *_) = small.cells()
    path = Path(small.target)
    (entry,) = entries_of([replace(cell, target=path.name)], Context(data_root=path.parent))
    assert entry.target == "colours"


def test_a_grid_holds_a_cell_once(small: Small) -> None:
    with pytest.raises(InputError, match="twice"):
        entries_of(small.cells() * 2, Context())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def grid(): return []", "list of Cells"),
        ("x = 1", "has no grid"),
        ("import nothing_there", "ModuleNotFoundError"),
        ("def grid(): return [1]", "list of Cells"),
        ("from reprogram.experiments import Cell\ndef grid(): return [Cell('a', 'b', 'c', 2.0)]",
         "data_fraction must be"),
    ],
)  # fmt: skip
def test_a_config_that_is_none_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(path)
    with pytest.raises(InputError, match="no file"):
        read_config(tmp_path / "absent.py")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.py")))
def test_every_config_is_a_grid_of_different_cells(path: Path) -> None:
    cells = read_config(path)
    assert len(set(cells)) == len(cells) > 10


def test_noise_on_test_images_trains_nothing_of_its_own() -> None:
    configs = Path(__file__).parents[2] / "configs"
    fits = {cell.fit for cell in read_config(configs / "data_size.py")}
    assert {cell.fit for cell in read_config(configs / "noise_test.py")} <= fits


def test_tuning_tries_three_rates_at_full_size_on_the_first_seed() -> None:
    cells = product(
        sources="s", targets="t", methods=["reprogramming", "none+ilm", "pad+ilm"], fractions=(0.2, 1.0),
        seeds=(0, 1), settings={"epochs": 3},
    ) + product(sources="s", targets="t", methods=["pad+ilm@steps"], settings={"steps": 9})  # fmt: skip
    tuned = tuning_cells(cells)
    assert len(tuned) == 6  # nothing to choose for none+ilm; the control takes pad+ilm's
    assert {(c.seed, c.data_fraction) for c in tuned} == {(0, 1.0)}
    smm = [c.settings for c in tuned if c.method == "reprogramming"]
    assert [(s.lr, s.lr_mask) for s in smm if s] == [(0.02, 0.01), (0.06, 0.03), (0.2, 0.1)]
    assert all(s and s.epochs == 3 for s in smm)


def test_tuning_starts_from_the_published_rate_whatever_the_grid_holds() -> None:
    cell = Cell("s", "t", "pad+ilm", settings=scaled(Settings(), 10.0))
    assert [c.settings and c.settings.lr for c in tuning_cells([cell])] == [0.01, 0.03, 0.1]


def test_rates_are_chosen_on_validation_ties_to_the_smallest(tmp_path: Path) -> None:
    cells = tuning_cells([Cell("s", "t", "pad+ilm")])
    rows = [
        {"status": "done", "val_accuracy": v, "n_val": 10, "settings": c.settings.to_dict()}
        for c, v in zip(cells, (0.5, 0.7, 0.7), strict=True) if c.settings
    ]  # fmt: skip
    (chosen,) = chosen_rates(cells, rows)["rates"]
    assert chosen["factor"] == 3.0 and chosen["rates"] == {"lr": 0.03}
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"rates": [chosen]}))
    for method in ("pad+ilm", "pad+ilm@steps"):
        assert Rates(path).apply(Settings(), "s", "t", method).lr == 0.03
    assert Rates(path).apply(Settings(), "s", "other", "pad+ilm").lr == 0.01
    path.write_text("{}")
    with pytest.raises(InputError, match="bench tune"):
        Rates(path)


def test_the_rule_of_the_rates_names_factors_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FACTORS", (1.0, 2.5))
    cells = tuning_cells([Cell("s", t, "pad+ilm", seed=seed) for t, seed in (("t", 3), ("u", 4))])
    rows = [{"status": "skipped", "reason": "too large"}] * len(cells)
    rule = chosen_rates(cells, rows)["rule"]
    assert "times 1 or 2.5: " in rule and "images, seed 3 or 4; " in rule


def test_a_rate_that_diverges_is_left_out() -> None:
    cells = tuning_cells([Cell("s", "t", "pad+ilm")])
    failed = {"status": "failed", "error": "the training loss became nan"}
    done = {"status": "done", "val_accuracy": 0.1, "n_val": 5, "settings": Settings().to_dict()}
    (chosen,) = chosen_rates(cells, [done, failed, failed])["rates"]
    assert chosen["factor"] == 1.0
    assert chosen["broken"] == dict.fromkeys(("3", "10"), "the training loss became nan")


def test_what_cannot_be_tuned_does_not_take_the_others_with_it() -> None:
    cells = tuning_cells([Cell("s", "t", "pad+ilm"), Cell("s", "t", "fc+ilm")])
    done = {"status": "done", "val_accuracy": 0.1, "n_val": 5, "settings": Settings().to_dict()}
    rows = [done] * 3 + [{"status": "skipped", "reason": "too large"}] * 3
    found = chosen_rates(cells, rows)
    assert [row["method"] for row in found["rates"]] == ["pad+ilm"]
    assert found["not_chosen"] == [
        {"source": "s", "target": "t", "method": "fc+ilm", "reason": "too large"}
    ]


def test_what_takes_published_rates_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "from pathlib import Path\nfrom reprogram.experiments import Rates, product\n"
        "def grid():\n    return product(sources='s', targets='t', seeds=(0, 1),\n"
        "        methods=['none+ilm', 'pad+ilm', 'pad+ilm@steps', 'full+ilm'],\n"
        f"        rates=Rates(Path({str(tmp_path / 'rates.json')!r})))\n"
    )
    read_config(config)
    assert not caplog.records
    warn_of_published_rates()
    (record,) = caplog.records
    assert "rates.json is not there" in record.message
    assert "s -> t: pad+ilm, full+ilm" in record.message
    chosen = {"source": "s", "target": "t", "method": "pad+ilm", "factor": 3.0}
    (tmp_path / "rates.json").write_text(json.dumps({"rates": [chosen]}))
    read_config(config)
    warn_of_published_rates()
    assert "has no entry: published learning rates for s -> t: full+ilm" in caplog.text
