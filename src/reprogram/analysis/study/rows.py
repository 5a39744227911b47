"""The rows of a study: one JSON file a trial, there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from reprogram.files import write_json, write_text

__all__ = ["Pairs", "StudyRows", "write_csv"]

logger = logging.getLogger(__name__)

SCHEMA = 3  # a row of another one is measured again


class StudyRows:
    """Rows under a directory.

    Args:
        directory: Where; nothing is made before something is written.
        identity: What was measured how; rows of another identity are measured again.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any]) -> None:
        self.directory = directory
        self.identity = {"schema": SCHEMA, **identity}

    def read(self, key: str) -> dict[str, Any] | None:
        """A trial's row; None where it has none of this identity."""
        path = self._path(key)
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if row["identity"] == self.identity:
                return row
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged (%s): it is measured again", path, type(error).__name__)
        return None

    def write(self, key: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Put a trial's row in place, as a whole; returns it as it will be read."""
        whole = {**row, "identity": self.identity}
        write_json(self._path(key), whole)
        return whole

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.json"


class Pairs:
    """Rows as arrays, and which of them are runs of the same pair.

    Args:
        rows: As `measure_trial` makes them.

    Attributes:
        names: (source, target) of every pair; a target's selected classes are left out, since the
            images are the same.
        of: Pair of every row.
        weights: 1 / runs of the row's pair, so that pairs count alike.
        features: What stands in every row under "predictors".
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        places = [(str(r["source"]), str(r["target"]), str(r["method"])) for r in rows]
        order = list(dict.fromkeys(places))
        self.names = [(source, target.partition("[")[0]) for source, target, _ in order]
        self.of = np.array([order.index(place) for place in places])
        self.weights = 1.0 / np.bincount(self.of)[self.of]
        predictors = [row["predictors"] for row in rows]
        self.features = [n for n in predictors[0] if all(p.get(n) is not None for p in predictors)]
        self.left_out = sorted({name for p in predictors for name in p} - set(self.features))

    @property
    def n_train(self) -> int:
        """The most images that one of the trainings had."""
        return max(int(row["n_train"]) for row in self.rows)

    @property
    def training(self) -> str:
        """What the outcomes are those of, such as "15 epochs on up to 1,800 images"."""
        epochs = sorted({int(row["epochs"]) for row in self.rows})
        span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        return f"{span} epochs on up to {self.n_train:,} images"

    def outcome(self, name: str) -> Float[ndarray, " rows"]:
        """Trained "accuracy", or its "gain" over the unprompted mapping; both on test images."""
        accuracy = np.array([row["accuracy"] for row in self.rows], dtype=float)
        if name == "accuracy":
            return accuracy
        return accuracy - np.array([row["unprompted_accuracy"] for row in self.rows], dtype=float)

    def predictors(self, names: Sequence[str]) -> Float[ndarray, "rows features"]:
        """Those predictors, a column each."""
        return np.array([[row["predictors"][n] for n in names] for row in self.rows], dtype=float)

    def seconds(self, name: str) -> Float[ndarray, " rows"]:
        """A time of every row."""
        return np.array([row["seconds"][name] for row in self.rows], dtype=float)

    def mean(self, values: Float[ndarray, " rows"]) -> Float[ndarray, " pairs"]:
        """The mean over each pair's runs."""
        return np.bincount(self.of, weights=values) / np.bincount(self.of)

    def groups(self, side: str) -> list[str]:
        """The "target" or "source" of every row, as it is left out."""
        index = 0 if side == "source" else 1
        return [self.names[i][index] for i in self.of]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows as one table; what is nested stands in columns of its own."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_text(path, buffer.getvalue())


PREFIXES = {"predictors": "", "seconds": "seconds ", "identity": "measured with "}
RENAMED = {"kernel": "kernel kind"}  # beside the predictor of that name


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    own = {RENAMED.get(n, n): value for n, value in row.items() if not isinstance(value, Mapping)}
    for name, prefix in PREFIXES.items():
        if isinstance(inner := row.get(name), Mapping):
            own |= {f"{prefix}{key}": value for key, value in inner.items()}
    return own
