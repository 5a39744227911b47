"""What noise leaves of a method's accuracy: relative robustness, and who keeps the most."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reprogram.data.noise.spec import PLACES, Noise
from reprogram.report.panels import Entry, Panel

__all__ = ["NoiseGroup", "Scores", "noise_groups"]

Runs = Mapping[Hashable, float]


@dataclass(frozen=True)
class Scores:
    """Every method over the same noises: its mean accuracy and mean relative robustness.

    Attributes:
        noises: The noises that every method has in every counted trial.
        accuracy: For each method and trial, its accuracy averaged over the noises.
        robustness: The same of noisy over clean accuracy, of trials that have a clean run.
    """

    noises: tuple[Noise, ...]
    accuracy: Mapping[str, Runs]
    robustness: Mapping[str, Runs]


@dataclass(frozen=True)
class NoiseGroup:
    """All noises of one pair on the same images at one data size.

    Attributes:
        split: What was noisy: "test", "train" or "both".
        fraction: The data size.
        clean: The pair without noise, where it was run.
        noisy: The pair under each noise, by kind, then severity.
    """

    split: str
    fraction: float
    clean: Panel | None
    noisy: Mapping[Noise, Panel]

    def near_chance(self, method: str) -> bool:
        """Whether clean accuracy cannot be told from guessing: a ratio of it says nothing.

        The interval is Student's over seeds, or twice the binomial deviation of guessing where
        that is wider.
        """
        summary, panel = self.clean_entry(method).summary, self.clean
        if summary is None or panel is None or panel.chance is None:
            return False
        guess = panel.chance
        binomial = 2 * math.sqrt(guess * (1 - guess) / panel.images) if panel.images else 0.0
        return summary.mean - max(summary.half_width or 0.0, binomial) <= guess

    @property
    def panel(self) -> Panel:
        """One of the noisy panels, for what all of them have: source, target, methods."""
        return next(iter(self.noisy.values()))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods with a result under some noise."""
        names = self.panel.methods
        return tuple(m for m in names if any(self.entry(m, noise).done for noise in self.noisy))

    @property
    def images(self) -> float | None:
        """The smallest number of test images behind a noisy accuracy."""
        return min((n for panel in self.noisy.values() if (n := panel.images)), default=None)

    def clean_hits(self, methods: Iterable[str]) -> float | None:
        """Test images n times the highest clean accuracy c of the methods.

        Relative robustness is a share of the hits c n, so that differences r of it have at least
        the variance r (1 - r) / (c n). That is below the variance of the accuracies c r over c^2,

            c r (1 - c r) / n / c^2 = r (1 - c r) / (c n),

        which leaves out that clean accuracy is of sampled images too.
        """
        clean = [s.mean for m in methods if (s := self.clean_entry(m).summary)]
        return self.images * max(clean) if self.images and clean else None

    def entry(self, method: str, noise: Noise) -> Entry:
        """The runs of a method under a noise."""
        return self.noisy[noise].entry(method, self.fraction)

    def clean_entry(self, method: str) -> Entry:
        """The runs of a method without noise at the same size."""
        return self.clean.entry(method, self.fraction) if self.clean else Entry(())

    def kept(self, method: str, noise: Noise) -> dict[Hashable, float]:
        """Relative robustness in each trial: noisy over clean accuracy of the same method."""
        clean = self.clean_entry(method).by_seed
        noisy = self.entry(method, noise).by_seed
        return {run: value / clean[run] for run, value in noisy.items() if clean.get(run)}

    def scores(self) -> Scores:
        """All methods over the noises that they share, so that half a grid compares like with like.

        A trial counts where it holds at least half as many shared noises as the fullest one. A ratio
        needs the trial's clean run too; an accuracy does not.
        """
        values = {(m, c): self.entry(m, c).by_seed for m in self.methods for c in self.noisy}
        # shared[run]: the noises that every method of that trial was run under
        shared: dict[Hashable, set[Noise]] = {}
        for run in sorted({run for found in values.values() for run in found}, key=str):
            each = [{c for c in self.noisy if run in values[m, c]} for m in self.methods]
            shared[run] = set.intersection(*(found for found in each if found))
        fullest = max((len(found) for found in shared.values()), default=0)
        counted = [run for run, found in shared.items() if found and 2 * len(found) >= fullest]
        common = set.intersection(*(shared[run] for run in counted)) if counted else set()
        noises = tuple(c for c in self.noisy if c in common)
        if not noises:
            return Scores((), {}, {})
        accuracy: dict[str, Runs] = {}
        robustness: dict[str, Runs] = {}
        for method in self.methods:
            runs = [run for run in counted if all(run in values[method, c] for c in noises)]
            means = {run: fmean(values[method, c][run] for c in noises) for run in runs}
            clean = self.clean_entry(method).by_seed
            accuracy[method] = means
            robustness[method] = {r: mean / clean[r] for r, mean in means.items() if clean.get(r)}
        return Scores(noises, accuracy, robustness)


def noise_groups(everything: Sequence[Panel], *, every_size: bool = False) -> list[NoiseGroup]:
    """The noisy panels by pair and noisy split.

    Args:
        everything: Panels, the clean ones among them.
        every_size: A group for each data size instead of the largest alone.
    """
    clean = {panel.pair: panel for panel in everything if panel.noise.kind == "clean"}
    grouped: dict[tuple[str, str], list[Panel]] = {}
    for panel in everything:
        if panel.noise.kind != "clean":
            grouped.setdefault((panel.pair, panel.noise.on), []).append(panel)
    groups = []
    for (pair, split), members in grouped.items():
        noisy = {p.noise: p for p in sorted(members, key=lambda p: p.noise)}
        sizes = sorted({fraction for panel in members for _, fraction in panel.entries})
        for fraction in sizes if every_size else sizes[-1:]:
            groups.append(NoiseGroup(split, fraction, clean.get(pair), noisy))
    return sorted(groups, key=lambda g: (g.panel.pair, PLACES.index(g.split)))
