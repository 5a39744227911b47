"""Forward-mode derivatives of a model by its parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.ntk.jacobian import Function

__all__ = ["along"]


def along(
    f: Function, params: Mapping[str, Tensor], move: Mapping[str, Tensor], x: Float[Tensor, "n ..."]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """f(params, x) and its derivative J(x) move, in one pass for all k outputs."""
    with torch.no_grad(), warnings.catch_warnings():
        # torch's own forward-mode rules are still scripted with what it now deprecates.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        outputs = torch.func.jvp(lambda p: f(p, x), (dict(params),), (dict(move),))
    return outputs[0], outputs[1]
