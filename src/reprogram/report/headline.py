"""The answer in a few sentences, computed from the rows and never written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reprogram.report.panels import Panel
from reprogram.report.sentence import listed, percent, points, runs_text
from reprogram.report.view_noise import noise_answer
from reprogram.statistics import Comparison, Summary, compare, p_text

__all__ = ["answer", "answer_for"]

# How a reader calls a target; any other is "the NAME test images".
_CALLED = {"digits": "the digits"}
_BASELINES = {
    "linear-probe": "a linear probe on the same network",
    "head-finetune": "a new head on its features",
    "full-finetune": "full fine-tuning",
}
_PROBES = ("linear-probe", "head-finetune")
MAX_NAMED = 4  # pairs in a sentence


def is_prompt(method: str) -> bool:
    """Whether a method trains a prompt in front of the frozen network.

    >>> is_prompt("pad+ilm@steps"), is_prompt("linear-probe@steps"), is_prompt("none+ilm")
    (True, False, False)
    """
    return method.partition("@")[0] not in _BASELINES and not method.startswith("none+")


def trains_mapping(method: str) -> bool:
    """Whether the mapping is trained: a prompt with such a one is a probe with a prompt.

    >>> trains_mapping("smm+linear@refit"), trains_mapping("smm+ilm")
    (True, False)
    """
    return method.partition("@")[0].endswith("+linear")


@dataclass(frozen=True)
class Finals:
    """Every method of a pair at the largest data size with any result."""

    panel: Panel

    @property
    def fraction(self) -> float:
        """That data size."""
        return max((f for (_, f), e in self.panel.entries.items() if e.done), default=1.0)

    @property
    def found(self) -> dict[str, Summary]:
        """The methods that have a result, with it."""
        entries = {m: self.panel.entry(m, self.fraction).summary for m in self.panel.methods}
        return {m: s for m, s in entries.items() if s is not None}

    def prompts(self, *, trained: bool) -> list[str]:
        """The prompts whose mapping is trained, or fitted."""
        return [m for m in self.found if is_prompt(m) and trains_mapping(m) == trained]

    def best(self, methods: Sequence[str]) -> str:
        """The method with the highest mean validation accuracy, so that test images choose nothing.

        Of equal ones, and where some were run without validation, the first by name.
        """
        known = self._validation(methods)
        values = known if len(known) == len(methods) else {}
        return min(methods, key=lambda m: (-values.get(m, 0.0), m))

    def validated(self, rivals: Sequence[str]) -> bool:
        """Whether validation chose among the prompts and the rivals: none was run without."""
        methods = [m for m in self.found if is_prompt(m) or m in rivals]
        return len(self._validation(methods)) == len(methods)

    def _validation(self, methods: Sequence[str]) -> dict[str, float]:
        """The mean validation accuracies that are known."""
        values = {m: self.panel.entry(m, self.fraction).validation for m in methods}
        return {m: value for m, value in values.items() if value is not None}

    def against(self, method: str, others: Sequence[str]) -> Comparison:
        """A method against the best of some others, Holm-corrected over all of them."""
        values = {m: self.panel.entry(m, self.fraction).by_seed for m in [method, *others]}
        rival = self.best(others)
        found = compare(method, values, images=self.panel.images)
        return next(c for c in found if c.other == rival)

    def unprompted(self, prompt: str) -> str | None:
        """The plain image with the prompt's mapping, or with another where that was not run."""
        mapping = "ilm" if prompt == "reprogramming" else prompt.partition("@")[0].split("+")[-1]
        plain = [m for m in self.found if m.startswith("none+") and not trains_mapping(m)]
        return f"none+{mapping}" if f"none+{mapping}" in plain else min(plain, default=None)


def answer(everything: Sequence[Panel]) -> str:
    """What was found, with n: on clean data, and under noise where there is any.

    For one or two pairs in numbers, for more as a tally over targets.
    """
    panels = [panel for panel in everything if panel.noise.kind == "clean"]
    told = [sentence for panel in panels if (sentence := answer_for(panel))]
    noise = noise_answer(everything)
    if not told:
        done = any(entry.done for panel in everything for entry in panel.entries.values())
        return f"No run {'on clean data ' if done else ''}has finished yet. {noise}".strip()
    clean = " ".join(told) if len(told) <= 2 else _tally([Finals(panel) for panel in panels])
    return f"On clean data: {clean[0].lower()}{clean[1:]} {noise}" if noise else clean


@dataclass(frozen=True)
class _Match:
    """A method against another on one pair."""

    place: str
    method: str
    result: Comparison


def _tally(finals: Sequence[Finals]) -> str:
    """On which pairs the best prompt is ahead of its rival, on which behind.

    The rival is the best frozen baseline; full fine-tuning where no pair has one. Prompts with a
    fitted and with a trained mapping are told apart, and the first held against no prompt.
    """
    probed = any(name in one.found for one in finals for name in _PROBES)
    rivals, rival = (
        (_PROBES, "the best probe") if probed else (("full-finetune",), "full fine-tuning")
    )
    fitted = list(_matches(finals, rivals, trained=False))
    trained = list(_matches(finals, rivals, trained=True))
    plain = [match for one in finals if (match := _plain_match(one, finals))]
    told = [
        f"the best prompt with a fitted mapping ({_which(fitted)}) is {_sides(fitted, rival)}"
        if fitted
        else "",
        f"a probe with a prompt ({_which(trained)}) is {_sides(trained, rival)}" if trained else "",
        _no_gain(plain),
    ]
    told = [text for text in told if text]
    if not told:
        runs = runs_text(s.n for one in finals for s in one.found.values())
        return f"Results on {len(finals)} pairs of source and target ({runs})."
    matches = [*fitted, *trained, *plain]
    runs = runs_text(m.result.difference.n if m.result.difference else 0 for m in matches)
    how = f"{runs}, paired by seed, Holm-corrected over the rivals of each kind of prompt on each pair"
    validated = all(one.validated(rivals) for one in finals)
    how += (
        "; methods chosen on validation"
        if validated
        else "; where validation is missing, the first method by name"
    )
    first, *rest = told
    said = [f"With the network frozen, {first}", *(text[0].upper() + text[1:] for text in rest)]
    return f"{'. '.join(said)} ({how})."


def _matches(finals: Sequence[Finals], rivals: Sequence[str], *, trained: bool) -> Iterator[_Match]:
    """The best prompt of a kind against the best rival, where a pair has both."""
    for one in finals:
        prompts, frozen = one.prompts(trained=trained), [m for m in rivals if m in one.found]
        if prompts and frozen:
            prompt = one.best(prompts)
            yield _Match(_place(one, finals), prompt, one.against(prompt, frozen))


def _plain_match(one: Finals, finals: Sequence[Finals]) -> _Match | None:
    """The best prompt with a fitted mapping against no prompt."""
    prompts = one.prompts(trained=False)
    prompt = one.best(prompts) if prompts else ""
    plain = one.unprompted(prompt) if prompts else None
    return _Match(_place(one, finals), prompt, one.against(prompt, [plain])) if plain else None


def _place(one: Finals, finals: Sequence[Finals]) -> str:
    """The pair, called by its target where there is one source."""
    sources = {each.panel.source for each in finals}
    return one.panel.place if len(sources) == 1 else one.panel.pair


def _which(matches: Sequence[_Match]) -> str:
    """Which method stands for its kind, and where."""
    places: dict[str, list[str]] = {}
    for match in matches:
        places.setdefault(match.method, []).append(match.place)
    if len(places) == 1:
        return next(iter(places))
    if len(matches) > MAX_NAMED:
        return listed([f"{m} on {len(found)}" for m, found in places.items()])
    return "; ".join(f"{m} on {listed(found)}" for m, found in places.items())


def _sides(matches: Sequence[_Match], rival: str) -> str:
    """Where it is ahead, where behind, where that is not resolved."""
    groups: dict[str, list[_Match]] = {"ahead of": [], "behind": [], "not resolved against": []}
    for match in matches:
        groups[_side(match.result)].append(match)
    parts: list[str] = []
    for words, members in groups.items():
        if members:
            parts.append(f"{words} {'it' if parts else rival} on {_places(members, len(matches))}")
    return "; ".join(parts)


def _side(result: Comparison) -> str:
    if not result.resolved:
        return "not resolved against"
    return "ahead of" if result.gap > 0 else "behind"


def _places(members: Sequence[_Match], total: int) -> str:
    """Pairs by name with their differences where these are resolved; many of them as a count."""
    sizes = [m.result.difference for m in members if m.result.resolved and m.result.difference]
    if len(members) <= MAX_NAMED:
        return listed(
            [f"{m.place} ({points(d)})" if d else m.place
             for m in members for d in [m.result.difference if m.result.resolved else None]]
        )  # fmt: skip
    low, high = (100 * f(abs(d.mean) for d in sizes) if sizes else 0.0 for f in (min, max))
    return f"{len(members)} of {total} pairs" + (
        f" ({low:.1f} to {high:.1f} points)" if sizes else ""
    )


def _no_gain(plain: Sequence[_Match]) -> str:
    """Where a prompt is worse than none, or cannot be told from it; "" where it always helps."""
    if not any(_side(match.result) != "ahead of" for match in plain):
        return ""
    against = f"no prompt ({listed(sorted({match.result.other for match in plain}))})"
    parts: list[str] = []
    for side, words in (("behind", "worse than"), ("not resolved against",) * 2):
        if members := [match for match in plain if _side(match.result) == side]:
            rival = "it" if parts else against
            parts.append(f"{words} {rival} on {_places(members, len(plain))}")
    return f"a prompt with a fitted mapping is {'; '.join(parts)}"


def answer_for(panel: Panel) -> str:
    """Prompt, probes and full fine-tuning on one target at its largest training set.

    Returns:
        A few sentences; empty where nothing has finished.
    """
    one = Finals(panel)
    found = one.found
    if not found:
        return ""
    called = _CALLED.get(panel.target, f"the {panel.target} test images")
    called += f" ({panel.pool})" if panel.pool else ""
    fitted, probes = one.prompts(trained=False), one.prompts(trained=True)
    if not fitted and not probes:
        return _without_prompts(one, called)
    prompt = one.best(fitted or probes)
    size = panel.cost(prompt, "trainable_parameters")
    noun = f"a {size:,.0f}-parameter prompt" if size else "a prompt"
    noun += "" if fitted else " with a linear probe"
    text = f"With the network frozen, {noun} ({prompt}) reads {percent(found[prompt])} of {called}"
    frozen = [m for m in _PROBES if m in found]
    text += "".join(f"; {_BASELINES[m]} {percent(found[m])}" for m in frozen)
    if fitted and probes:
        both = one.best(probes)
        text += f"; a probe with a prompt ({both}) {percent(found[both])}"
    text += "."
    if full := found.get("full-finetune"):
        cost = panel.cost("full-finetune", "trainable_parameters")
        trained = f", which trains {cost:,.0f} parameters," if cost else ""
        text += f" Full fine-tuning{trained} reads {percent(full)}."
    return f"{text} {_resolution(one, prompt, frozen)}{_beside_none(one, prompt)}"


def _without_prompts(one: Finals, called: str) -> str:
    """The method that validation chooses, and whether it is ahead of the next."""
    found = one.found
    best = one.best(list(found))
    reads, others = f"reads {percent(found[best])} of {called}", [m for m in found if m != best]
    if not others:
        return f"{best} {reads} ({_runs(found)})."
    chosen = "which validation chose" if one.validated(list(found)) else "the first by name"
    return (
        f"{best}, {chosen} of {len(found)} methods, {reads}. {_resolution(one, best, others, best)}"
    )


def _resolution(one: Finals, method: str, rivals: Sequence[str], subject: str = "") -> str:
    """How sure the first comparison is: a method, by default the prompt, against the best rival."""
    if not rivals:
        return f"({_runs(one.found)}.)"
    against = one.against(method, rivals)
    if against.difference is None or against.p_value is None:
        return f"({_runs(one.found)}; one run a cell resolves no difference.)"
    runs = f"n = {against.difference.n}"
    if not against.resolved:
        return f"({subject or 'Prompt'} against {against.other}: not resolved; {runs}.)"
    which = "ahead of" if against.difference.mean > 0 else "behind"
    text = f"{subject or 'The prompt'} is {points(against.difference)} {which} {against.other}"
    return f"{text} ({runs}, paired by seed, Holm {p_text(against.p_value)})."


def _beside_none(one: Finals, prompt: str) -> str:
    """What is said of a prompt that is not ahead of none; "" of one that is."""
    plain = one.unprompted(prompt)
    if plain is None:
        return ""
    against, reads = one.against(prompt, [plain]), f"{plain}, {percent(one.found[plain])}"
    if against.difference is None or _side(against) == "ahead of":
        return ""
    if _side(against) == "behind":
        return f" It is worse than no prompt ({reads})."
    if against.p_value is None:
        return "" if against.difference.mean > 0 else f" No prompt ({reads}) is not worse."
    return f" It is not resolved against no prompt ({reads})."


def _runs(found: dict[str, Summary]) -> str:
    """How many runs stand behind the means."""
    return runs_text(s.n for s in found.values())
