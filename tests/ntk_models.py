"""Small reprogrammed models in float64, away from their symmetric starting points."""

from __future__ import annotations

from typing import Any

import torch
from cases import TARGET_CLASSES, tiny_source
from torch import Tensor

from reprogram.methods import get_method
from reprogram.model import Reprogrammed
from reprogram.output_mappings import MatrixMapping

PROMPTS = (
    "pad", "pad-raw", "border", "full", "patch", "smm", "lowrank", "fourier", "scale", "fc", "fc-pad",
)  # fmt: skip
METHODS = (
    *(f"{prompt}+flm" for prompt in PROMPTS), "pad+linear", "smm+linear", "fc-pad+linear",
    "linear-probe", "head-finetune",
)  # fmt: skip


def built(name: str, num_targets: int = TARGET_CLASSES, **changes: Any) -> Reprogrammed:
    """A model of that method whose parameters are not 0; its fitted mapping is a dense W."""
    method = get_method(name)
    generator = torch.Generator().manual_seed(0)
    source = tiny_source().double()
    settings = method.resolve(source, 8, 100, method.settings.updated(changes))
    names = tuple(f"class {t}" for t in range(num_targets))
    model = method.build(source, names, settings, generator).eval()
    if isinstance(model.mapping, MatrixMapping):
        model.mapping.weight.copy_(torch.rand(model.mapping.weight.shape, generator=generator))
    with torch.no_grad():
        for p in model.input_transform.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return model


def images(model: Reprogrammed, n: int, seed: int = 0) -> Tensor:
    side = model.input_transform.image_size
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, side, side, generator=generator, dtype=torch.float64)
