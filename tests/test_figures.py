"""Pictures: every kind is drawn, files are deterministic and whole, names are only text."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from reprogram import figures
from reprogram.errors import InputError
from reprogram.figures import Examples, Point, style
from reprogram.figures.advantage import Field, advantage_picture
from reprogram.figures.curves import spread_apart
from reprogram.figures.mappings import is_sparse

CURVES = {
    "full-finetune": [Point(0.2, 0.90, 0.02, (0.89, 0.91)), Point(1.0, 0.99, 0.01, (0.98, 1.0))],
    "linear-probe": [Point(0.2, 0.80), Point(1.0, 0.985)],
    "none+ilm": [Point(0.2, 0.18), Point(1.0, 0.18)],
}
HISTORY = [{"epoch": 0, "val_accuracy": 0.1}] + [
    {"epoch": e, "train_loss": 1.0 / e, "val_accuracy": 0.2 * e, "test_accuracy": 0.19 * e}
    for e in range(1, 5)
]


def texts(figure) -> list[str]:
    """All text in a figure."""
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def examples(count: int = 3, masks: bool = False) -> Examples:
    rng = np.random.default_rng(0)
    return Examples(
        originals=rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8),
        prompted=rng.normal(0.5, 0.5, (count, 3, 16, 16)),
        true=["cat", "dog", "frog"][:count],
        predicted=["cat", "dog", "newt"][:count],
        source_class=["tench, Tinca tinca", "a $price$ tag", "drake"][:count],
        masks=rng.random((count, 3, 16, 16)) if masks else None,
    )


def test_accuracy_curve_labels_its_lines():
    figure = figures.accuracy_curve(
        CURVES, images_per_class={0.2: 26.0, 1.0: 130.0}, chance=0.1, title="a → b"
    )
    shown = texts(figure)
    assert {"full-finetune", "linear-probe", "none+ilm", "chance", "26", "130", "20%"} <= set(shown)
    assert figure.legends == []


def test_direct_labels_do_not_touch():
    figure = figures.accuracy_curve(CURVES, chance=0.17)
    figure.canvas.draw()
    names = {*CURVES, "chance"}
    from matplotlib.text import Annotation

    found = [a for a in figure.findobj(Annotation) if a.get_text() in names]
    boxes = sorted((a.get_window_extent().y0, a.get_window_extent().y1) for a in found)
    assert len(boxes) == 4
    assert all(low[1] <= high[0] + 1 for low, high in zip(boxes, boxes[1:], strict=False))


def test_a_missing_point_breaks_the_line():
    curves = {"pad+ilm": [Point(0.2, 0.4), Point(1.0, 0.6)], "linear-probe": [Point(0.6, 0.5)]}
    figure = figures.accuracy_curve(curves)
    line = next(ln for ln in figure.axes[0].get_lines() if np.isclose(ln.get_ydata()[0], 40.0))
    assert np.isnan(line.get_ydata()[1])


def test_many_methods_get_a_legend():
    curves = {f"method{i}": [Point(0.5, i / 20), Point(1.0, i / 20)] for i in range(18)}
    assert len(figures.accuracy_curve(curves).legends) == 1


def test_spread_apart_keeps_distance_order_and_bounds():
    places = spread_apart([0.0, 0.1, 0.2, 9.8, 9.9], 1.0, 0.0, 10.0)
    gaps = np.diff(places)
    assert (gaps >= 1.0 - 1e-9).all() and min(places) >= 0.0 and max(places) <= 10.0


def test_training_curve_marks_the_selected_epoch():
    shown = texts(figures.training_curve(HISTORY, selected_epoch=3))
    assert "epoch 3 selected" in shown
    assert "test (recorded, selects nothing)" in shown
    without = [{k: v for k, v in row.items() if k != "test_accuracy"} for row in HISTORY]
    assert not any("test (" in text for text in texts(figures.training_curve(without)))


def test_a_training_curve_has_no_panel_without_accuracies_and_no_zoom_into_noise():
    loss = [{"epoch": e, "train_loss": 1.0 / e} for e in (1, 2, 3)]
    assert len(figures.training_curve(loss).axes) == 1
    flat = [row | {"val_accuracy": 0.5 + 1e-4 * i} for i, row in enumerate(loss)]
    low, high = figures.training_curve(flat).axes[0].get_ylim()
    assert high - low >= 4.0


def test_examples_leave_out_what_there_is_not():
    plain = replace(examples(), prompted=None, source_class=None)
    shown = texts(figures.prompt_picture(plain))
    assert "original" in shown and "prompted" not in shown
    assert "→ cat" in shown and not any("tench" in text for text in shown)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_prompt_picture_has_units_and_names(masks: bool, signed: bool):
    prompt = np.full((3, 16, 16), np.nan)
    prompt[:, :3] = -1.5 if signed else 0.25
    figure = figures.prompt_picture(examples(masks=masks), prompt=prompt, units="normalised units")
    shown = texts(figure)
    assert "each channel, normalised units" in shown
    assert any("tench" in text and "→ cat" in text for text in shown)
    assert any("(is frog)" in text for text in shown)
    assert ("mask" in shown) == masks
    bar = next(a for a in figure.findobj(matplotlib.axes.Axes) if a.get_xlabel().startswith("each"))
    assert bar.get_xlim() == ((-1.5, 1.5) if signed else (0.0, 1.0))


def test_a_map_of_one_column_is_as_wide_as_its_title():
    fields = [[Field("resolved", ("pad+ilm",), "+3.1 points")]]
    title = "At most 34,000 trained parameters"
    figure = advantage_picture({title: fields}, ["cifar10\nfrom embedded"], ["100%"])
    (shown,) = (text for text in figure.texts if text.get_text() == title)
    box = shown.get_window_extent(figure.canvas.get_renderer())
    assert 0 < box.x0 and box.x1 < figure.bbox.x1 and box.y1 < figure.bbox.y1


def test_masks_share_one_scale_that_clips_none_of_them():
    shown = examples(masks=True)
    masks = 8.0 * np.asarray(shown.masks) - 4.0
    figure = figures.prompt_picture(replace(shown, masks=masks))
    means = masks.mean(axis=1)
    scales = {image.get_clim() for axes in figure.axes for image in axes.images[:1]
              if image.get_array().ndim == 2}  # fmt: skip
    assert scales == {(means.min(), means.max())}


def test_choose_examples_spreads_over_classes():
    true = np.array([0, 0, 0, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 2, 0])
    assert figures.choose_examples(true, predicted, 3, 2).tolist() == [0, 3, 4, 5]
    assert figures.choose_examples(true[:0], predicted[:0]).tolist() == []


def test_mapping_picture_chooses_ribbons_or_a_matrix():
    one = np.eye(6, 3)
    assert is_sparse(one) and not is_sparse(np.ones((6, 3)))
    sources, targets = [f"s{i}" for i in range(6)], ["t0", "t1", "t2"]
    counts = one * np.array([5, 30, 10])
    shown = texts(figures.mapping_picture(one, sources, targets, strength=counts))
    strongest = [text for text in shown if text in targets]
    assert strongest == ["t1", "t2", "t0"]
    assert "s3" not in shown
    signed = figures.mapping_picture(np.random.default_rng(0).normal(size=(6, 3)), sources, targets)
    assert {"t0", "t1", "t2", "weight"} <= set(texts(signed))
    assert any(text.startswith("source class") for text in texts(signed))


@pytest.mark.parametrize("kind", ["ribbons", "matrix"])
def test_mapping_picture_holds_100_targets(kind: str):
    weight = np.eye(200, 100) if kind == "ribbons" else np.random.default_rng(0).random((200, 100))
    names = [f"target {i}" for i in range(100)]
    figure = figures.mapping_picture(weight, [f"source {i}" for i in range(200)], names)
    figure.canvas.draw()
    if kind == "matrix":
        labels = figure.axes[0].get_yticklabels()
    else:
        labels = [t for t in figure.findobj(matplotlib.text.Text) if t.get_text() in set(names)]
    assert {label.get_text() for label in labels} == set(names) and len(labels) == 100
    columns: dict[int, list] = {}
    for box in (label.get_window_extent() for label in labels):
        columns.setdefault(round(box.x1 if kind == "matrix" else box.x0), []).append(box)
    for boxes in columns.values():
        boxes.sort(key=lambda box: box.y0)
        assert all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:], strict=False))


def test_names_that_do_not_fit_the_matrix_are_an_error():
    with pytest.raises(InputError, match="does not fit 2 source and 3 target names"):
        figures.mapping_picture(np.eye(3), ["a", "b"], ["x", "y", "z"])


def test_show_figure_composes_what_it_is_given(tmp_path: Path):
    figure = figures.show_figure(
        title="pad+ilm",
        examples=examples(),
        prompt=np.zeros((3, 16, 16)),
        weight=np.eye(4, 3),
        source_names=list("abcd"),
        target_names=["cat", "dog", "newt"],
        history=HISTORY,
        strength=np.eye(4, 3),
        selected_epoch=4,
    )
    shown = texts(figure)
    assert "what the network sees: 2 correct and 1 wrong answers, chosen so" in shown
    assert any("(wide: many images)" in text for text in shown)
    assert {"pad+ilm", "the prompt alone", "target class", "training", "loss"} <= set(shown)
    only = texts(figures.show_figure(history=HISTORY))
    assert "loss" in only and "the prompt alone" not in only
    with pytest.raises(InputError, match="nothing to show"):
        figures.show_figure()


def test_files_are_whole_and_deterministic(tmp_path: Path):
    written = figures.save(figures.accuracy_curve(CURVES, chance=0.1), tmp_path / "a" / "curve")
    assert [path.name for path in written] == ["curve.png", "curve.svg"]
    again = figures.save(figures.accuracy_curve(CURVES, chance=0.1), tmp_path / "b" / "curve")
    for one, two in zip(written, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert written[0].read_bytes().startswith(b"\x89PNG") and b"<svg" in written[1].read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["curve.png", "curve.svg"]
    with pytest.raises(InputError, match="must end in .png or .svg"):
        figures.save(figures.accuracy_curve(CURVES), tmp_path / "curve.pdf")


def test_inline_svg_takes_the_colours_of_its_page():
    figure = figures.accuracy_curve(CURVES)
    text = figures.inline_svg(figure, label='a "label" <b>', prefix="one")
    assert text.startswith('<svg role="img" aria-label="a &#34;label&#34; &lt;b&gt;"')
    assert "currentColor" in text and "var(--rule)" in text
    assert style.INK not in text and "http" not in text.split(">", 1)[0]
    assert 'id="one-' in text and "url(#one-" in text
    assert ">linear-probe</text>" in text


def test_each_method_has_one_style_and_the_report_s_four_differ_without_colour():
    four = ["full-finetune", "head-finetune", "linear-probe", "reprogramming"]
    assert len({figures.method_style(m).marker for m in four}) == 4
    assert len({figures.method_style(m).colour for m in four}) == 4
    assert figures.method_style("fourier+blm+") == figures.method_style("fourier+blm+")


def test_the_caller_s_settings_stay():
    before = dict(matplotlib.rcParams)
    figures.png_bytes(figures.training_curve(HISTORY))
    assert dict(matplotlib.rcParams) == before


def test_importing_figures_does_not_import_matplotlib():
    code = "import reprogram.figures, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
