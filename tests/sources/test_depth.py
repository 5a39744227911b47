"""The NTK paper's sources: their layers, their initial values, and the way from training to a fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import tiny_task
from torch import nn

from reprogram.errors import InputError
from reprogram.experiments import Cell, run_cell
from reprogram.methods import get_method
from reprogram.source_training import Recipe, evaluate_source, recipe_for, train_source
from reprogram.sources import create_network, load_source, resolve_seeded, training_record
from reprogram.sources.depth import DEPTH_NETWORKS, KINDS, depth_arguments


def layers(name: str, **arguments: int) -> list[nn.Module]:
    with torch.device("meta"):
        network = create_network(name, 10, arguments)
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("level", [1, 2, 6])
def test_levels_count_what_the_paper_counts(level: int) -> None:
    dnn, cnn = layers(f"dnn-{level}"), layers(f"cnn-{level}")
    assert len(dnn) == level and dnn[0].in_features == 3 * 32**2
    assert len(cnn) == level + 1 and all(c.kernel_size == (3, 3) for c in cnn[:-1])
    vgg = layers(f"vgg-{level}")
    assert [c.out_channels for c in vgg[:-1]] == [w for w in (32, 64, 128) for _ in range(level)]
    resnet = layers(f"resnet-{level}")
    # A 7 x 7 stem, two convolutions a block, one 1 x 1 shortcut where 32 become 64, the classifier.
    assert len(resnet) == 1 + 2 * level + 1 + 1
    assert resnet[0].kernel_size == (7, 7) and resnet[0].stride == (2, 2)


def test_widths_are_the_papers_unless_given() -> None:
    assert layers("dnn-2")[0].out_features == 2048
    assert layers("cnn-2")[0].out_channels == 512
    assert layers("vgg-1")[0].out_channels == layers("resnet-1")[0].out_channels == 32
    assert layers("cnn-2", width=7)[1].in_channels == 7
    assert [c.out_channels for c in layers("vgg-1", width=256)[:-1]] == [256, 512, 512]


def test_initial_variances_are_2_by_fan_in_and_a_tenth() -> None:
    torch.manual_seed(0)
    for module in create_network("dnn-3", 2000, {"width": 2000, "image_size": 8}).modules():
        if isinstance(module, nn.Linear):
            scaled = module.weight.var() * module.in_features / 2
            torch.testing.assert_close(scaled, torch.tensor(1.0), rtol=0.02, atol=0)
            # 2,000 draws: the variance has a relative standard error of 3%.
            torch.testing.assert_close(module.bias.var(), torch.tensor(0.1), rtol=0.13, atol=0)
    conv = create_network("cnn-2", 2, {"width": 64}).body[2]
    torch.testing.assert_close(conv.weight.var(), torch.tensor(2 / 576), rtol=0.03, atol=0)


@pytest.mark.parametrize("name", ["dnn-2", "cnn-2", "vgg-2", "resnet-2"])
def test_no_batchnorm_and_one_row_an_image(name: str) -> None:
    network = create_network(name, 4, {"width": 6, "image_size": 16})
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in network.modules())
    x = torch.rand(5, 3, 16, 16)
    one_by_one = torch.cat([network(image[None]) for image in x])
    torch.testing.assert_close(network(x), one_by_one)


def test_level_1_of_the_dnn_is_affine_so_a_padding_prompt_only_moves_its_bias() -> None:
    network = create_network("dnn-1", 4, {"image_size": 8}).double()
    x, y, border = torch.rand(3, 3, 3, 8, 8, dtype=torch.float64)
    shift = network(x + border) - network(x)
    torch.testing.assert_close(network(y + border), network(y) + shift)


@pytest.mark.parametrize("name", ["dnn-2", "cnn-3", "vgg-1", "resnet-1"])
def test_they_stand_on_maps_too(name: str) -> None:
    network = create_network(name, 4, {"width": 8, "image_size": 7, "channels": 20})
    assert network(torch.rand(2, 20, 7, 7)).shape == (2, 4)


@pytest.mark.parametrize("name", KINDS)
def test_an_input_that_cannot_be_pooled_is_refused(name: str) -> None:
    least = KINDS[name].image_size
    arguments = {"width": 4, "channels": 2, "image_size": least}
    assert create_network(f"{name}-1", 3, arguments)(torch.rand(1, 2, least, least)).shape == (1, 3)
    with pytest.raises(InputError, match=f"image_size at least {least}"):
        create_network(f"{name}-1", 3, arguments | {"image_size": least - 1})
    with pytest.raises(InputError, match="width and channels must be at least 1"):
        create_network(f"{name}-1", 3, arguments | {"width": 0})


def test_names_end_at_level_9() -> None:
    assert len(DEPTH_NETWORKS) == 36
    with pytest.raises(InputError, match="unknown architecture 'cnn-10'.*cnn-1"):
        create_network("cnn-10", 3)
    with pytest.raises(InputError, match="--architecture cnn-3"):
        load_source("cnn-3")


def test_the_papers_recipe_is_the_default_of_depth_networks() -> None:
    recipe = recipe_for("cnn-3", seed=2, lr=None, epochs=20)
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("adam", 1e-3, 1e-3)
    assert (recipe.epochs, recipe.patience, recipe.batch_size, recipe.seed) == (20, 3, 128, 2)
    assert recipe_for("cifar_resnet20") == Recipe("cifar_resnet20")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNN of level 2 on 16 px images, seeds 0 and 3."""
    out = tmp_path_factory.mktemp("cnn-2")
    for seed in (0, 3):
        recipe = recipe_for("cnn-2", epochs=15, batch_size=16, lr=1e-2, seed=seed)
        train_source(tiny_task(), out / f"seed-{seed}", recipe, width=8, image_size=16)
    return out


def test_a_trained_one_is_loaded_as_it_was_scored(trained: Path) -> None:
    record = training_record(trained / "seed-0")
    source = load_source(trained / "seed-0")
    found = evaluate_source(source, tiny_task().test)
    assert record["test_accuracy"] == found["accuracy"] > 0.6  # three classes; chance is 0.33
    assert record["model_args"] == depth_arguments("cnn-2", 8, 16)
    assert (record["num_train"], record["num_val"]) == (54, 6)
    assert source.num_features == 8


def test_a_seed_picks_the_training(trained: Path) -> None:
    one, other = (load_source(resolve_seeded(str(trained), seed)) for seed in (0, 3))
    assert one.fingerprint != other.fingerprint
    assert resolve_seeded(f"{trained}/seed-{{seed}}", 3) == f"{trained}/seed-3"
    with pytest.raises(InputError, match="trained with seeds 0, 3. Choose"):
        resolve_seeded(str(trained), None)
    with pytest.raises(InputError, match="no training with seed 1. It has: 0, 3.*--seed 1"):
        resolve_seeded(str(trained), 1)
    with pytest.raises(InputError, match="no training with seed 0. It has: none"):
        resolve_seeded(str(trained / "seed-0"), 0)
    assert resolve_seeded(str(trained / "seed-0"), None) == str(trained / "seed-0")


def test_one_training_needs_no_seed(tmp_path: Path) -> None:
    (tmp_path / "seed-4").mkdir()
    (tmp_path / "seed-x").mkdir()
    assert resolve_seeded(str(tmp_path), None) == f"{tmp_path}/seed-4"


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("method", ["pad+first", "fc+first", "fc-pad+first"])
def test_the_papers_prompts_run_on_it(trained: Path, method: str, loss: str) -> None:
    changes = {"epochs": 2, "loss": loss, "engine": "plain"}
    if method == "pad+first":
        changes |= {"lr": 0.1}
    settings = get_method(method).settings.updated(changes)
    if method != "pad+first":
        rates = (settings.lr, settings.lr_linear)
        assert rates == ((1e-3, None) if method == "fc+first" else (1e-1, 1e-3))
        assert (settings.batch_size, settings.schedule) == (128, "constant")
    cell = Cell("cnn-2", "tiny", method, settings=settings)
    source = load_source(trained / "seed-0")
    row = run_cell(cell, source=source, task=tiny_task(), device="cpu").row
    assert row["status"] == "done" and len(row["history"]) == 3
    # The inset of a 16 px canvas is round(7 * 16 / 8) = 14 px.
    border, inset = 3 * (16**2 - 14**2), 3 * 14**2
    parameters = {
        "pad+first": border,
        "fc+first": (3 * 16**2 + 1) * 3 * 16**2,
        "fc-pad+first": (inset + 1) * inset + border,
    }
    assert row["trainable_parameters"] == parameters[method]
