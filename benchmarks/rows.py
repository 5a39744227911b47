"""Every row by name: the table of contents of `python -m benchmarks`."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks import gpu, matmul, memory, ntk, probe, prompts
from benchmarks.registry import Row

__all__ = ["GPU_ROWS", "ROWS"]

LOOP = "ILM-VP's loop"
EPOCHS = "ILM-VP's probing, projected from measured epochs (training and validation pass)"
FOLDED = "plain pass, folded, channels_last, bf16"
JACREV_64 = "vmap(jacrev) in chunks of 64"
JACREV_BEST = "vmap(jacrev) in its best chunk"
SGEMM = "fastest float32 matrix product of this machine"

ROWS: dict[str, Row] = {
    "pad32_train": Row(
        partial(prompts.padding_step, 32), "padding step, 32 px image", LOOP, goal=3.3
    ),
    "pad32_eval": Row(
        partial(prompts.padding_evaluation, 32), "padding evaluation, 32 px image", LOOP, goal=2.8
    ),
    "pad64_train": Row(
        partial(prompts.padding_step, 64), "padding step, 64 px image", LOOP, goal=1.9
    ),
    "pad128_train": Row(
        partial(prompts.padding_step, 128), "padding step, 128 px image", LOOP, goal=1.3
    ),
    "epoch_ilm": Row(
        prompts.epoch_ilm, "epoch with exact ILM: mapping, training, validation", LOOP, goal=4.0
    ),
    "full_train": Row(
        prompts.full_step, "full-image prompt step", "the same loop, full prompt", goal=1.35
    ),
    "probe": Row(
        probe.probe, "linear probe and head fine-tuning, 50 epochs", EPOCHS, goal=120.0
    ),
    "probe_fractions": Row(
        probe.probe_fractions, "the same at five data fractions", EPOCHS, goal=400.0
    ),
    "matmul_share_train": Row(
        matmul.training_share, "FLOP/s of the padding step", SGEMM, goal=0.75
    ),
    "matmul_share_eval": Row(
        matmul.evaluation_share, "FLOP/s of the padding evaluation", SGEMM, goal=0.80
    ),
    "memory": Row(
        memory.memory, "peak memory of the padding step, 32 px image", LOOP, goal=0.4,
        better="lower",
    ),
    "squeezenet_train": Row(
        partial(prompts.source_step, "squeezenet1_1"), "padding step, SqueezeNet 1.1", LOOP,
        goal=2.0,
    ),
    "mobilenetv2_train": Row(
        partial(prompts.source_step, "mobilenetv2_100"), "padding step, MobileNetV2", LOOP,
        goal=2.0,
    ),
}  # fmt: skip

ROWS |= {
    "ntk_chunk64": Row(
        ntk.chunk_of_64, "kernel of a full prompt, ResNet-20, n = 256, K = 10", JACREV_64, goal=3.3
    ),
    "ntk_best_chunk": Row(ntk.best_chunk, "the same", JACREV_BEST, goal=1.8),
    "ntk_memory": Row(
        ntk.prompt_memory, "peak memory of the same", JACREV_64, goal=0.7, better="lower"
    ),
    "ntk_resnet18": Row(
        ntk.resnet18_chunk_of_64, "the same, ResNet-18 at 224 px, n = 16", JACREV_64, goal=2.0
    ),
    "ntk_resnet18_best_chunk": Row(
        ntk.resnet18_best_chunk, "the same", JACREV_BEST, goal=None
    ),
    "ntk_fc_time": Row(
        ntk.dense_layer_time, "kernel of a dense layer, 32 px, n = 8", "its naive Jacobian",
        goal=20.0,
    ),
    "ntk_fc_memory": Row(
        ntk.dense_layer_memory, "peak memory of the same", "its naive Jacobian", goal=0.2,
        better="lower",
    ),
    "ntk_dual_50000": Row(
        ntk.dual_memory, "spectrum and ridge of 50,000 images: memory", "4 GiB", goal=1.0,
        better="lower", slow=True,
    ),
    "ntk_dual_50000_time": Row(
        ntk.dual_time, "the same: time", "vmap(jacrev), projected from 256 images", goal=None,
        slow=True,
    ),
}  # fmt: skip

GPU_ROWS: dict[str, Row] = {
    "gpu_train": Row(gpu.training, "padding step on the GPU, 32 px image", FOLDED, goal=None),
    "gpu_eval": Row(gpu.evaluation, "padding evaluation on the GPU", FOLDED, goal=3.0),
    "gpu_several": Row(
        gpu.several_prompts, "a step of 8 padding prompts in one batch", "one after another",
        goal=None,
    ),
    "gpu_table": Row(
        gpu.table_hours, "the report's whole table, projected from measured steps", "the aim",
        goal=1.0, better="lower",
    ),
    "gpu_ntk": Row(
        gpu.kernel, "spectrum of a full prompt's kernel on the GPU, n = 10,000", JACREV_64, goal=None,
    ),
}  # fmt: skip
if torch.cuda.is_available():
    ROWS |= GPU_ROWS
