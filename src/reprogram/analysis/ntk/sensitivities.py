"""Source sensitivities: d target logits / d prompted input, by batched backward passes.

One backward pass of a batch gives the gradient of one logit for every image of it, since a frozen
source in eval mode treats the images apart. So k passes through the folded source give all rows,
and every transformation at that base point is algebra on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.ntk.checks import check_finite
from reprogram.engine.folded import folded_source, is_frozen_network
from reprogram.model import Reprogrammed
from reprogram.sources import Source

__all__ = ["Sensitivities", "SensitivitySource", "sensitivities_of"]


@dataclass(frozen=True)
class Sensitivities:
    """A batch of images at one base point of the prompt.

    Attributes:
        x: Images r(x), in [0, 1].
        z: Prompted images, before normalisation.
        outputs: h, what the mapping reads: source logits or features of z.
        gradients: S, k combinations of the target logits, differentiated by z; None where nothing
            in front of the source is trained.
    """

    x: Float[Tensor, "n c h w"]
    z: Float[Tensor, "n 3 H W"]
    outputs: Float[Tensor, "n source"]
    gradients: Float[Tensor, "n k 3 H W"] | None


class SensitivitySource:
    """Runs prompted images through a frozen source and back.

    Args:
        model: With a frozen source.
        combinations: (k, T) combinations of the target logits; None is each of them.
    """

    def __init__(
        self, model: Reprogrammed, combinations: Float[Tensor, "k target"] | None = None
    ) -> None:
        self.model = model
        frozen = is_frozen_network(model.source)
        self.source: Source = folded_source(model.source) if frozen else model.source
        like = model.source.mean
        if combinations is None:
            combinations = torch.eye(model.mapping.num_target_classes)
        self.combinations = combinations.to(like.device, like.dtype)
        self.prompted = any(p.requires_grad for p in model.input_transform.parameters())

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Sensitivities:
        """Sensitivities of one batch; memory is that of one training step."""
        with torch.no_grad():
            z = self.model.input_transform(x)
        z = z.detach().requires_grad_(self.prompted)
        with torch.set_grad_enabled(self.prompted):
            outputs = check_finite(self._outputs(z), "source outputs")
            gradients = self._gradients(outputs, z) if self.prompted else None
        return Sensitivities(x, z.detach(), outputs.detach(), gradients)

    def _outputs(self, z: Tensor) -> Tensor:
        reads_features = self.model.mapping.reads == "features"
        return self.source.features(z) if reads_features else self.source(z)

    def _gradients(self, outputs: Tensor, z: Tensor) -> Tensor:
        weight = self.model.mapping.matrix
        seeds = None if weight is None else self.combinations @ weight.T  # (k, S)
        if seeds is not None and outputs.shape[1] < len(seeds):
            # Fewer source outputs than combinations of them: one pass each, then W.
            each = torch.eye(outputs.shape[1]).to(outputs)
            return torch.einsum("ks,ns...->nk...", seeds, backward_passes(outputs, z, each))
        if seeds is not None:
            return backward_passes(outputs, z, seeds)
        return backward_passes(self.model.mapping(outputs), z, self.combinations)


def backward_passes(
    outputs: Float[Tensor, "n o"], z: Float[Tensor, "n 3 H W"], seeds: Float[Tensor, "k o"]
) -> Float[Tensor, "n k 3 H W"]:
    """Gradient by z of every combination of the outputs, one pass of the whole batch each."""
    gradients = z.new_empty(len(z), len(seeds), *z.shape[1:])
    for i, seed in enumerate(seeds):
        again = i + 1 < len(seeds)
        (gradient,) = torch.autograd.grad(outputs, z, seed.expand_as(outputs), retain_graph=again)
        gradients[:, i] = gradient
    return check_finite(gradients)


def sensitivities_of(
    model: Reprogrammed, x: Float[Tensor, "n c h w"], batch_size: int = 32
) -> Sensitivities:
    """S of all images at once, to be kept for several transformations of the same base point.

    Args:
        model: In eval mode, with a frozen source.
        x: Images in [0, 1], of the transformation's size.
        batch_size: Images a pass.
    """
    run = SensitivitySource(model)
    parts = [run(part) for part in x.split(batch_size)]
    gradients = [p.gradients for p in parts if p.gradients is not None]
    return Sensitivities(
        x, torch.cat([p.z for p in parts]), torch.cat([p.outputs for p in parts]),
        torch.cat(gradients) if gradients else None,
    )  # fmt: skip
