"""How far the kernel moves while the model trains: the linearised model holds while it does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from jaxtyping import Float
from torch import Tensor

from reprogram.analysis.spectrum.kernel import as_gram, centred
from reprogram.errors import InputError

__all__ = ["Drift", "centred_alignment", "kernel_drift"]


@dataclass(frozen=True)
class Drift:
    """Distance of Theta_t from Theta_0.

    Attributes:
        relative: |Theta_t - Theta_0|_F / |Theta_0|_F.
        alignment: Centred alignment of the two, in [0, 1]; blind to a common factor.
    """

    relative: float
    alignment: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def kernel_drift(start: Float[Tensor, "..."], now: Float[Tensor, "..."], k: int = 1) -> Drift:
    """How far the kernel has moved.

    Args:
        start: Theta_0 on some examples.
        now: Theta_t on the same.
        k: Logits an example that a kernel given as a matrix holds; 1 for a per-example one.

    Raises:
        InputError: The shapes differ, or one is zero or not finite.
    """
    before, after = as_gram(start), as_gram(now)
    if before.shape != after.shape:
        raise InputError(
            f"two kernels of the same examples are needed, got {tuple(before.shape)} and "
            f"{tuple(after.shape)} entries."
        )
    relative = float((after - before).norm() / before.norm())
    return Drift(relative, centred_alignment(start, now, k))


def centred_alignment(
    one: Float[Tensor, "..."], other: Float[Tensor, "..."], k: int = 1
) -> float | None:
    """<K, L> / (|K| |L|) of two kernels centred over examples (Cortes et al. 2012).

    Args:
        one: K.
        other: L, on the same examples.
        k: As in :func:`kernel_drift`.

    Returns:
        In [0, 1], or None where one of them is constant over the examples.
    """
    K, L = (centred(as_gram(m), m.shape[1] if m.ndim == 4 else k) for m in (one, other))
    norm = float(K.norm() * L.norm())
    return float((K * L).sum()) / norm if norm else None
