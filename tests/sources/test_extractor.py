"""Sources on a frozen extractor's last spatial map: the cut, the training on stored maps, the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import tiny_network, tiny_task
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reprogram.data import load_target
from reprogram.errors import InputError
from reprogram.experiments import Cell, run_cell
from reprogram.methods import get_method
from reprogram.source_training import Recipe, evaluate_source, recipe_for, train_source
from reprogram.sources import (
    Extractor,
    OnExtractor,
    create_network,
    load_extractor,
    load_source,
    training_record,
    write_source_directory,
)
from reprogram.sources.depth import depth_network
from reprogram.sources.extractor import create_extractor, last_map


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-20 with random weights, as a source directory; it stands for a pretrained network."""
    torch.manual_seed(0)
    return write_source_directory(
        tmp_path_factory.mktemp("backbone"), create_network("cifar_resnet20", 7),
        architecture="cifar_resnet20", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), image_size=16,
        class_names=[f"c{i}" for i in range(7)],
    )  # fmt: skip


def recipe(**changes: object) -> Recipe:
    return recipe_for("cnn-1", **({"epochs": 12, "batch_size": 16, "lr": 1e-2} | changes))


@pytest.fixture(scope="module")
def trained(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train_source(tiny_task(), out, recipe(), width=8, extractor=load_extractor(backbone))
    return out


def read_by(network: nn.Module, pool: str, x: Tensor) -> Tensor:
    """What the submodule `pool` reads: the slow and certain way to the last map."""
    read: list[Tensor] = []
    handle = network.get_submodule(pool).register_forward_pre_hook(lambda _, x: read.append(x[0]))
    with torch.no_grad():
        network(x)
    handle.remove()
    return read[0]


@pytest.mark.parametrize(
    "name, pool, size",
    [
        ("squeezenet1_1", "classifier", 64),
        ("torchvision/mobilenet_v3_small", "avgpool", 64),
        ("timm/test_efficientnet", "global_pool", 96),
        ("timm/test_convnext", "head.global_pool", 96),
        ("timm/test_resnet", "global_pool", 96),
    ],
)
def test_the_cut_is_what_is_pooled_in_front_of_the_head(name: str, pool: str, size: int) -> None:
    network = create_network(name, 9).eval()
    x = torch.rand(2, 3, size, size)
    expected = read_by(network, pool, x)
    cut = last_map(network, size, name)
    assert expected.ndim == 4 and expected.shape[2] > 1
    assert torch.equal(cut(x), expected)
    behind = {k for k in network.state_dict() if k.startswith(("classifier", "head", "fc"))}
    assert behind and not behind & cut.state_dict().keys()


def test_the_cut_of_a_network_that_pools_by_a_function() -> None:
    network = tiny_network()
    x = torch.rand(2, 3, 16, 16)
    cut = last_map(network, 16, "tiny")
    expected = network.layer3(
        network.layer2(network.layer1(torch.relu(network.bn1(network.conv1(x)))))
    )
    assert torch.equal(cut(x), expected)
    assert not any(p.startswith("linear") for p in cut.state_dict())


def test_a_timm_transformer_gives_its_tokens_as_a_map() -> None:
    network = create_network("timm/test_vit", 9).eval()
    x = torch.rand(2, 3, 160, 160)
    tokens = network.forward_features(x)[:, network.num_prefix_tokens :]
    found = last_map(network, 160, "test_vit")(x)
    assert found.shape == (2, 64, 10, 10)
    torch.testing.assert_close(found.flatten(2).mT, tokens)


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(InputError, match="'torchvision/vit_b_32' has no spatial map"):
        create_extractor("torchvision/vit_b_32", {}, 224)


def test_extractors_are_frozen_and_normalise_as_they_were_trained(backbone: Path) -> None:
    extractor, source = load_extractor(backbone), load_source(backbone)
    assert extractor.map_shape == (64, 4)
    assert not any(p.requires_grad for p in extractor.network.parameters())
    x = torch.rand(3, 3, 16, 16)
    # The source's features are the mean over this map.
    torch.testing.assert_close(extractor(x).mean((2, 3)), source.features(x))
    assert load_extractor(backbone, image_size=32).map_shape == (64, 8)


def test_the_source_is_what_was_trained(trained: Path, backbone: Path) -> None:
    source, extractor, record = (
        load_source(trained),
        load_extractor(backbone),
        training_record(trained),
    )
    assert isinstance(source.network, OnExtractor)
    assert record["extractor"] == extractor.fingerprint
    assert record["test_accuracy"] == evaluate_source(source, tiny_task().test)["accuracy"] > 0.6
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(source(x), source.network.top(extractor(x)))
    # An extractor's features are the depth network's own: what its linear layer reads.
    torch.testing.assert_close(source.network.top.linear(source.features(x)), source(x))
    assert source.num_features == 8
    assert str(backbone) in (trained / "README.md").read_text()


def test_maps_are_made_once_for_each_image(backbone: Path, tmp_path: Path) -> None:
    extractor, seen = load_extractor(backbone), []
    handle = extractor.network.conv1.register_forward_hook(lambda m, i, o: seen.append(len(o)))
    announced: list[tuple[int, int]] = []
    trained = train_source(
        tiny_task(n_test=30), tmp_path, recipe(epochs=5, patience=None), width=4,
        extractor=extractor, on_maps=lambda done, n: announced.append((done, n)),
    )  # fmt: skip
    handle.remove()
    assert trained["selection"]["epochs"] == 5
    probes = seen.count(1)  # the shape of a map is asked for with one empty image
    assert sum(seen) - probes == 54 + 6 + 30  # training, validation, and the test at the end
    assert announced == [(54, 54), (6, 6)]


def test_training_on_stored_maps_is_training_through_the_frozen_extractor(backbone: Path) -> None:
    extractor = load_extractor(backbone)
    torch.manual_seed(1)
    top = depth_network("cnn-2", 3, width=4, image_size=4, channels=64)
    x = torch.rand(5, 3, 16, 16)
    whole = OnExtractor(extractor.network, top)((x - extractor.mean) / extractor.std)
    through, stored = (
        torch.autograd.grad(logits.logsumexp(1).sum(), list(top.parameters()))
        for logits in (whole, top(extractor(x)))
    )
    assert all(torch.equal(a, b) and a.any() for a, b in zip(through, stored, strict=True))


def test_the_gradient_reaches_the_pixels(trained: Path) -> None:
    source = load_source(trained).double()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    assert torch.autograd.gradcheck(source, x.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("method", ["pad+ilm", "full+first", "head-finetune", "full-finetune"])
def test_methods_run_on_it(trained: Path, method: str) -> None:
    source = load_source(trained)
    before = source.fingerprint
    settings = get_method(method).settings.updated({"epochs": 1})
    row = run_cell(
        Cell("x", "tiny", method, settings=settings), source=source, task=tiny_task(), device="cpu"
    ).row
    assert row["status"] == "done" and row["source_fingerprint"] == before
    assert load_source(trained).fingerprint == before


@pytest.mark.parametrize("engine", ["folded", "window"])
def test_engines_follow_it(trained: Path, engine: str) -> None:
    scores = []
    for name in ("plain", engine):
        settings = get_method("pad+flm").settings.updated({"epochs": 1, "engine": name})
        source = load_source(trained).double()
        cell = Cell("x", "tiny", "pad+flm", settings=settings, val_share=0)
        scores.append(run_cell(cell, source=source, task=tiny_task(), device="cpu").row["loss"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)


@pytest.mark.parametrize("part", ["body.conv1.weight", "top.linear.bias"])
def test_the_fingerprint_covers_extractor_and_head(trained: Path, part: str) -> None:
    source = load_source(trained)
    network = load_source(trained).network
    network.state_dict()[part].view(-1)[0] += 1
    changed = load_source(
        network, mean=source.mean, std=source.std, image_size=16, head="top.linear"
    )
    assert changed.fingerprint != source.fingerprint


def altered(trained: Path, to: Path) -> Path:
    for file in ("config.json", "model.safetensors"):
        (to / file).write_bytes((trained / file).read_bytes())
    return to


def test_another_extractor_beneath_it_is_refused(trained: Path, tmp_path: Path) -> None:
    path = altered(trained, tmp_path)
    state = load_file(path / "model.safetensors")
    state["body.layer2.0.conv1.weight"] *= 1.001
    save_file(state, path / "model.safetensors")
    with pytest.raises(InputError, match="are not those that the source was trained on"):
        load_source(path)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("fingerprint", 3, "extractor.fingerprint must be of type str, got 3"),
        ("architecture", "resnet2000", "unknown architecture 'resnet2000'"),
        ("architecture", "cifar_resnet32", "does not fit the network"),
        ("model_args", {"checkpoint_path": "x"}, "may not hold 'checkpoint_path'"),
        ("name", ..., "extractor.name is missing"),
    ],
)
def test_a_bad_description_says_what_is_wrong(
    trained: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = altered(trained, tmp_path) / "config.json"
    config = json.loads(path.read_text())
    if value is ...:
        del config["extractor"][key]
    else:
        config["extractor"][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_source(tmp_path)


def test_half_precision_is_scored_and_checked_as_stored(backbone: Path, tmp_path: Path) -> None:
    extractor = load_extractor(backbone)
    record = train_source(
        tiny_task(), tmp_path, recipe(epochs=2), width=4, extractor=extractor, half=True
    )
    found = evaluate_source(load_source(tmp_path), tiny_task().test)
    assert record["test_accuracy"] == found["accuracy"]
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["body.conv1.weight"].dtype == torch.float16


def test_what_cannot_be_trained_says_why(backbone: Path, tmp_path: Path, trained: Path) -> None:
    extractor = load_extractor(backbone)

    def train(recipe: Recipe, **more: object) -> None:
        train_source(tiny_task(), tmp_path / "out", recipe, extractor=extractor, **more)

    with pytest.raises(InputError, match="'cifar_resnet20' takes no extractor"):
        train(Recipe(epochs=1))
    with pytest.raises(InputError, match="augment=crop .*Set augment to none"):
        train(recipe(augment="crop"))
    # 60 images of 64 x 4 x 4 floats are 245,760 bytes; a third of that holds 20.
    with pytest.raises(InputError, match="60 images .* over --max-memory .* at most 20"):
        train(recipe(), max_memory=81_920)
    with pytest.raises(InputError, match="stands on an extractor itself"):
        load_extractor(trained)
    with pytest.raises(InputError, match="unknown source"):
        load_extractor("resnet2000")


@pytest.mark.real
def test_mobilenet_gives_its_last_map_at_224_px(
    shared: Path, real_npz: Callable[[str], Path]
) -> None:
    extractor = load_extractor(shared / "weights" / "mobilenetv2_100-imagenet")
    assert extractor.map_shape == (1280, 7)
    x = load_target(str(real_npz("usps"))).test.subset(range(4)).images(224).float() / 255
    source = load_source(shared / "weights" / "mobilenetv2_100-imagenet")
    with torch.no_grad():
        torch.testing.assert_close(extractor(x).mean((2, 3)), source.features(x))


def test_clip_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match=r'pip install "reprogram\[clip\]"'):
        load_extractor("open_clip/RN50@openai")


@pytest.mark.slow
@pytest.mark.parametrize("name, shape", [("RN50", (2048, 7)), ("ViT-B-32", (768, 7))])
def test_clips_image_encoder_from_a_file(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    """Untrained weights stand for the published ones, which are not in the repository."""
    open_clip = pytest.importorskip("open_clip")
    model = open_clip.create_model(name, load_weights=False).eval()
    file = tmp_path / "clip.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, file)
    extractor = load_extractor(f"open_clip/{name}", weights=file)
    assert isinstance(extractor, Extractor) and extractor.map_shape == shape
    x = torch.rand(2, 3, 224, 224)
    normalised = (x - extractor.mean) / extractor.std
    with torch.no_grad():
        if name == "RN50":
            torch.testing.assert_close(
                model.visual.attnpool(extractor(x)), model.visual(normalised)
            )
        else:
            model.visual.output_tokens = True
            tokens = model.visual(normalised)[1]
            torch.testing.assert_close(extractor(x).flatten(2).mT, tokens)
    training = train_source(
        tiny_task(n_train=12, n_test=6), tmp_path / "out", recipe(epochs=1, val_share=0.25),
        width=4, extractor=extractor, half=True,
    )  # fmt: skip
    source = load_source(tmp_path / "out")
    assert source(x).shape == (2, 3) and training["extractor"] == extractor.fingerprint
    with pytest.raises(InputError, match="are not on this machine"):
        load_extractor(f"open_clip/{name}@openai")
    with pytest.raises(InputError, match="unknown weights of 'open_clip/.*--weights"):
        load_extractor(f"open_clip/{name}@opanai")
    with pytest.raises(InputError, match="unknown open_clip network"):
        load_extractor("open_clip/RN51@openai")
