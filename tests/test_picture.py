"""The picture of a fitted model."""

from __future__ import annotations

import matplotlib
import torch
from cases import tiny_source, tiny_task

from reprogram.methods import get_method
from reprogram.model import Reprogrammed
from reprogram.picture import carrying_classes, examples, model_figure


def model_of(method: str) -> Reprogrammed:
    source, task = tiny_source(), tiny_task()
    chosen = get_method(method)
    settings = chosen.resolve(source, task.native_size, 60)
    generator = torch.Generator().manual_seed(0)
    model = chosen.build(source, task.class_names, settings, generator).eval()
    if model.mapping.refit != "never":
        x = task.train.images(model.input_transform.image_size).float() / 255
        logits = model.source(model.input_transform(x)).detach()
        model.mapping.fit(logits, torch.from_numpy(task.train.labels))
    return model


def test_a_caption_names_the_class_that_the_mapping_reads_the_answer_from() -> None:
    model = model_of("pad+ilm")
    assert model.mapping.matrix is not None
    source_of = model.mapping.matrix.argmax(0)
    shown, _ = examples(model, tiny_task().test)
    assert shown.source_class is not None and shown.prompted is not None
    names = model.source.class_names
    for predicted, source_class in zip(shown.predicted, shown.source_class, strict=True):
        assert source_class == names[source_of[model.class_names.index(predicted)]]


def test_of_a_dense_mapping_it_is_the_class_with_the_largest_share() -> None:
    model = model_of("none+blm")
    torch.manual_seed(0)
    logits = torch.randn(20, model.source.num_classes)
    answers = model.mapping(logits).argmax(1).numpy()
    found = carrying_classes(model, logits, answers)
    moved = carrying_classes(model, logits + 7.0, answers)
    weight = model.mapping.matrix
    assert weight is not None and found is not None and found == moved
    for row, (t, s) in enumerate(zip(answers, found, strict=True)):
        shares = (logits[row] - logits[row].mean()) * weight[:, t]
        assert weight[s, t] != 0 and shares[s] == shares[weight[:, t] != 0].max()


def test_methods_without_a_prompt_or_without_source_classes_show_neither() -> None:
    shown, _ = examples(model_of("none+flm"), tiny_task().test)
    assert shown.prompted is None and shown.source_class is not None
    shown, _ = examples(model_of("head-finetune"), tiny_task().test)
    assert shown.prompted is None and shown.source_class is None


def test_the_training_panel_says_on_how_many_images() -> None:
    model = model_of("pad+flm")
    history = [
        {"epoch": e, "train_loss": 1.0 / e, "val": {"accuracy": 0.5}, "seconds": 1.0}
        for e in (1, 2)
    ]
    model.record = {"n_train": 1800, "n_val": 200, "history": history, "method": "pad+flm",
                    "target": "tiny", "selected_epoch": 2}  # fmt: skip
    figure = model_figure(model, tiny_task())
    words = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert "training on 1,800 images, validated on 200" in words
