"""Seeds with roles: a role names what is drawn, and only what it may depend on enters the seed."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator_for", "seed_for"]


def seed_for(role: str, *parts: object) -> int:
    """A 63-bit seed for one role, the same on every machine and in every process.

    ``seed_for("split", target, seed)`` leaves the method out, so that methods are compared on the
    same images; ``seed_for("init", target, method, seed)`` holds it.

    Args:
        role: What is drawn: "split", "init", "batches", ...
        parts: Everything that the draw may depend on, in order.

    >>> seed_for("split", "digits", 0) == seed_for("split", "digits", 0)
    True
    >>> seed_for("split", "digits", 0) == seed_for("split", "digits", 1)
    False
    """
    text = "\x1f".join([role, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(role: str, *parts: object) -> torch.Generator:
    """A CPU generator seeded by :func:`seed_for`."""
    return torch.Generator().manual_seed(seed_for(role, *parts))
