"""The loop that this field runs today, written from its published description.

Chen et al. 2023, CVPR, "Understanding and improving visual prompting: a label-mapping perspective"
(ILM-VP), whose released experiment `cnn/ilm_vp` later papers of the field start from; for full
prompts and probes its `cnn/linear_probing` and Cai et al. 2024 (BLM). Point by point:

published                                          here
-------------------------------------------------  --------------------------------------------------
network frozen by requires_grad_(False), in eval   the same: no gradient of a weight is computed
mode, NCHW, BatchNorm not folded                   the same
image zero-padded to 224 px, plus mask times       the same; (x - mean) / std, where the published
sigmoid(delta), then torchvision's Normalize       Normalize copies the batch first
full prompt: delta, times a mask of ones, added    delta added without the mask
to the normalised image
logits indexed by the mapping, mean cross-entropy  the same
Adam, 1e-2, batch 128; accuracy and loss read      the same
after every step
CUDA autocast and gradient scaling                 neither: on a CPU they are switched off
DataLoader with 2 workers, ToTensor, for prompts   left out: float batches lie ready in memory
mapping pass over the training set each epoch: a   the same
one-hot (N, S) of the predictions, a sum of its
rows for each class, T times the largest entry
after each epoch the same one-hot table of the     left out
test logits, a plot of it, a checkpoint
probe: each image is opened by PIL, resized to     the same, with torchvision's own transforms; images
224 px and normalised whenever it is seen          are decoded already, and no workers
progress bars and TensorBoard                      left out

So wherever the two differ, this one is the faster.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from reprogram.sources import NetworkSource

__all__ = ["FullPrompt", "Loop", "PaddingPrompt", "Probe", "frequency_mapping"]

RATE = 1e-2


class PaddingPrompt(nn.Module):
    """The image in the middle of the canvas, a sigmoid border around it, normalised.

    Args:
        source: For canvas and normalisation.
        image_size: Side of the images, pixels.
    """

    mean: Tensor
    std: Tensor
    mask: Tensor

    def __init__(self, source: NetworkSource, image_size: int) -> None:
        super().__init__()
        canvas = source.image_size
        self.before = (canvas - image_size + 1) // 2
        self.after = canvas - image_size - self.before
        self.delta = nn.Parameter(torch.zeros(3, canvas, canvas, dtype=source.mean.dtype))
        mask = torch.ones(3, canvas, canvas, dtype=source.mean.dtype)
        mask[:, self.before : canvas - self.after, self.before : canvas - self.after] = 0
        self.register_buffer("mask", mask)
        self.register_buffer("mean", source.mean)
        self.register_buffer("std", source.std)

    def forward(self, x: Float[Tensor, "batch 3 s s"]) -> Float[Tensor, "batch 3 H W"]:
        margin = (self.before, self.after, self.before, self.after)
        return (F.pad(x, margin) + self.delta.sigmoid() * self.mask - self.mean) / self.std


class FullPrompt(nn.Module):
    """Delta added to the normalised image, as large as the canvas."""

    def __init__(self, source: NetworkSource) -> None:
        super().__init__()
        size = source.image_size
        self.delta = nn.Parameter(torch.zeros(3, size, size, dtype=source.mean.dtype))

    def forward(self, x: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch 3 H W"]:
        return x + self.delta


class Loop:
    """Training of a prompt in front of a frozen network.

    Args:
        source: Its network is used as it is; nothing of it is changed.
        prompt: From images to normalised canvases.
        num_target_classes: T; until the first mapping pass target t is source class t.
    """

    def __init__(self, source: NetworkSource, prompt: nn.Module, num_target_classes: int) -> None:
        self.network = source.network
        self.prompt = prompt.to(source.mean.device)
        self.optimizer = torch.optim.Adam(prompt.parameters(), lr=RATE)
        self.mapping = torch.arange(num_target_classes)
        self.num_target_classes = num_target_classes

    def loss(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of a batch, and its target logits."""
        logits = self.network(self.prompt(x))[:, self.mapping]
        return F.cross_entropy(logits, labels), logits

    def step(self, x: Tensor, labels: Tensor) -> tuple[float, int]:
        """One optimiser step; returns the loss and the number of hits."""
        self.optimizer.zero_grad()
        loss, logits = self.loss(x, labels)
        loss.backward()
        self.optimizer.step()
        return loss.item(), int(logits.argmax(1).eq(labels).sum())

    @torch.no_grad()
    def source_logits(self, x: Tensor) -> Float[Tensor, "batch source"]:
        return self.network(self.prompt(x))

    def hits(self, x: Tensor, labels: Tensor) -> int:
        """Correct predictions in a batch."""
        return int(self.source_logits(x)[:, self.mapping].argmax(1).eq(labels).sum())

    def fit_mapping(self, x: Tensor, labels: Tensor, batch_size: int) -> None:
        """The mapping pass over all training images."""
        outputs = torch.cat([self.source_logits(part) for part in x.split(batch_size)])
        self.mapping = frequency_mapping(outputs, labels, self.num_target_classes)

    def epoch(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], batch: int) -> float:
        """Mapping pass, training and validation; returns the validation accuracy."""
        self.fit_mapping(*train, batch)
        order = torch.randperm(len(train[1]))
        for index in order.split(batch):
            self.step(train[0][index], train[1][index])
        parts = zip(val[0].split(batch), val[1].split(batch), strict=True)
        return sum(self.hits(x, y) for x, y in parts) / len(val[1])


def frequency_mapping(
    outputs: Float[Tensor, "n source"], labels: Int[Tensor, " n"], num_target_classes: int
) -> Int[Tensor, " target"]:
    """The source class of each target class: T times the largest count, its row and column struck."""
    one_hot = F.one_hot(outputs.argmax(1), outputs.shape[1])  # (N, S)
    counts = torch.stack([one_hot[labels == t].sum(0) for t in range(num_target_classes)], 1)
    chosen = torch.zeros(num_target_classes, dtype=torch.int64)
    for _ in range(num_target_classes):
        s, t = divmod(int(counts.argmax()), num_target_classes)
        chosen[t] = s
        counts[s], counts[:, t] = -1, -1
    return chosen


class Probe:
    """A linear layer on a frozen network's logits or features; the network runs every epoch.

    Args:
        source: Its network is copied, since the head is replaced.
        num_target_classes: T.
        reads: "logits" for a layer behind the network, "features" for one in its head's place.
    """

    def __init__(self, source: NetworkSource, num_target_classes: int, reads: str) -> None:
        network = copy.deepcopy(source.network)
        dtype = source.mean.dtype
        assert source.head is not None
        if reads == "logits":
            head = nn.Linear(source.num_classes, num_target_classes, dtype=dtype)
            network = nn.Sequential(network, head)
        else:
            head = nn.Linear(source.num_features, num_target_classes, dtype=dtype)
            owner, _, leaf = source.head.rpartition(".")
            setattr(network.get_submodule(owner), leaf, head)
        self.network, self.head = network, head
        self.optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
        self.preprocess = transforms.Compose(
            [
                transforms.Resize((source.image_size, source.image_size)),
                transforms.ToTensor(),
                transforms.Normalize(source.mean.flatten(), source.std.flatten()),
            ]
        )

    def load(self, images: Sequence[Image.Image]) -> Float[Tensor, "batch 3 H W"]:
        """A batch, resized image by image."""
        return torch.stack([self.preprocess(image) for image in images])

    def train(self, images: Sequence[Image.Image], labels: Tensor, batch: int) -> None:
        """One pass over the training images."""
        for index in torch.randperm(len(images)).split(batch):
            logits = self.network(self.load([images[i] for i in index]))
            loss = F.cross_entropy(logits, labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item(), int(logits.argmax(1).eq(labels[index]).sum())

    @torch.no_grad()
    def validate(self, images: Sequence[Image.Image], labels: Tensor, batch: int) -> float:
        """Accuracy on the validation images."""
        hits = 0
        for index in torch.arange(len(images)).split(batch):
            logits = self.network(self.load([images[i] for i in index]))
            hits += int(logits.argmax(1).eq(labels[index]).sum())
        return hits / len(images)
