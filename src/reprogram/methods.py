"""Every method by name: BASELINES, and each prompt joined to each mapping.

A name is a prompt, the first "+", a mapping, and an optional "@variant": `pad+ilm`, `smm+blm+`,
`full+flm@refit`. A new prompt or mapping is one class and one line in a dict below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Generator

from reprogram import input_transforms as it
from reprogram import output_mappings as om
from reprogram.errors import InputError, unknown
from reprogram.linearized import linearized
from reprogram.model import Reprogrammed
from reprogram.settings import Settings
from reprogram.sources import Source

__all__ = ["BASELINES", "MAPPINGS", "METHODS", "PROMPTS", "VARIANTS", "Method", "foreign_setting"]
__all__ += ["get_method"]


NOTHING = "nothing"


@dataclass(frozen=True)
class Prompt:
    """How an input transformation is made, and the settings it was published with.

    Attributes:
        build: Makes it for a source; `settings.size` is filled in.
        trains: What is learned, for `reprogram list methods`.
        reference: Paper and year.
        options: Settings that this prompt reads; giving another prompt's is an error.
        defaults: Published settings that differ from the common ones.
        inset: Whether the image is smaller than the canvas, and `size` its side.
        margin: Pixels that crop augmentation adds to an image of side s.
        parameters: Number of parameters, known before anything is allocated.
    """

    build: Callable[[Source, Settings, Generator], it.InputTransform]
    trains: str
    reference: str
    options: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    inset: bool = False
    margin: Callable[[int], int] = lambda s: 4
    parameters: Callable[[Source, Settings], int] | None = None

    def size(self, canvas: int, native: int | None) -> int:
        """Side of the resized image: the canvas, or the published inset of a padding prompt."""
        return it.default_image_size(canvas, native) if self.inset else canvas


@dataclass(frozen=True)
class Mapping:
    """How an output mapping is made from the numbers of source and target classes."""

    build: Callable[[Source, int, Settings, Generator], om.OutputMapping]
    does: str
    reference: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A way to make a source solve a target task.

    Attributes:
        name: As in METHODS.
        prompt: Its input transformation.
        mapping: Its output mapping.
        trains: What is learned.
        reference: Paper and year.
        settings: Published settings; those left None are filled in by :meth:`resolve`.
        whole_body: Whether a copy of the source is trained too (full fine-tuning).
        first_order: Whether the model is replaced by its linearisation at its state 0.
        variant_of: The method whose initial values it has, where that is another one.
        by_steps: Whether its settings must say how many steps it trains.
    """

    name: str
    prompt: Prompt
    mapping: Mapping
    trains: str
    reference: str
    settings: Settings
    whole_body: bool = False
    first_order: bool = False
    variant_of: str | None = None
    by_steps: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether an optimiser has anything to do; a fitted mapping needs none."""
        return self.trains != NOTHING

    @property
    def drawn_as(self) -> str:
        """The name under which initial values are drawn."""
        return self.variant_of or self.name

    def resolve(
        self,
        source: Source,
        native_size: int | None,
        n_train: int,
        settings: Settings | None = None,
    ) -> Settings:
        """Fill in what depends on source and target: image size, batch size, crop margin."""
        chosen = settings or self.settings
        self._check_options(chosen)
        if chosen.margin and chosen.augment != "crop-flip":
            raise InputError(
                f"margin={chosen.margin} is that of random crops, and augment={chosen.augment!r} "
                "makes none. Set augment to crop-flip, or leave margin out."
            )
        if chosen.label_smoothing == 1:
            raise InputError(
                "label_smoothing must be below 1, got 1: every label would be the same."
            )
        if self.first_order:
            chosen = _as_written(self.name, chosen)
        size = chosen.size or self.prompt.size(source.image_size, native_size)
        batch = chosen.batch_size or (64 if n_train < SMALL_SET else 256)
        margin = 0
        if chosen.augment == "crop-flip":
            margin = self.prompt.margin(size) if chosen.margin is None else chosen.margin
        return replace(
            chosen, size=size if self.prompt.inset else None, batch_size=batch, margin=margin
        )

    def require_steps(self, steps: int | None) -> None:
        """Refuse a control by steps that does not know how many.

        Raises:
            InputError: This is one, and there are none.
        """
        if self.by_steps and steps is None:
            raise InputError(
                f"{self.name} trains as many steps at every data size, and nothing says how many. "
                "Give --set steps=N, or take a grid such as configs/data_size.py."
            )

    def settings_read(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Those settings that this method looks at."""
        ignored = OPTIONS.keys() - {*self.prompt.options, *self.mapping.options}
        return {name: value for name, value in settings.items() if name not in ignored}

    def _check_options(self, settings: Settings) -> None:
        default = Settings()
        for name in settings.to_dict().keys() - self.settings_read(settings.to_dict()).keys():
            if getattr(settings, name) not in (
                getattr(default, name),
                getattr(self.settings, name),
            ):
                raise foreign_setting(name, getattr(settings, name), f"{self.name} has no {name}")

    def build(
        self,
        source: Source,
        class_names: tuple[str, ...],
        settings: Settings,
        generator: Generator,
        max_memory: int | None = None,
    ) -> Reprogrammed:
        """The untrained model, in its own state 0 but for the mapping's fit.

        Args:
            source: Left as it is; full fine-tuning takes a copy.
            class_names: Target classes.
            settings: Resolved settings.
            generator: Draws every random initial value.
            max_memory: Bytes that the prompt's training state may take; None allows all.

        Raises:
            InputError: The size does not fit the canvas, the mapping cannot serve so many classes,
                or the prompt is over `max_memory`.
        """
        if self.prompt.parameters is not None and max_memory is not None:
            _check_memory(self.name, self.prompt.parameters(source, settings), max_memory)
        try:
            mapping = self.mapping.build(source, len(class_names), settings, generator)
        except InputError as error:
            raise InputError(f"method {self.name}: {error}") from error
        transform = self.prompt.build(source, settings, generator)
        body = source.trainable_copy() if self.whole_body else source
        # Where the source is, and in its precision: exactness is tested in float64.
        model = Reprogrammed(transform, body, mapping, class_names)
        if self.first_order:
            model = linearized(model)
        return model.to(source.mean.device, source.mean.dtype)


class Variant(NamedTuple):
    """What `@variant` changes of a method: its settings, in words, and which model is built.

    A variant has its method's initial values, so that the two differ in nothing else, unless it
    has an own start.
    """

    settings: dict[str, Any]
    does: str
    first_order: bool = False
    own_start: bool = False
    by_steps: bool = False


SMALL_SET = 10_000


def _check_memory(name: str, parameters: int, max_memory: int) -> None:
    needed = 16 * parameters  # value, gradient and Adam's two moments, four bytes each
    if needed > max_memory:
        raise InputError(
            f"{name} has {parameters:,} parameters here and needs {needed / 2**30:.1f} GiB to train, "
            f"over --max-memory {max_memory / 2**30:.1f} GiB. Use a smaller source, or pad+ilm."
        )


def _as_written(name: str, settings: Settings) -> Settings:
    # The other engines call transform and source as they are, not their first order, and autocast
    # has no forward derivative.
    for option, value in (("engine", "plain"), ("precision", "float32")):
        if getattr(settings, option) not in ("auto", value):
            raise InputError(
                f"{option}={getattr(settings, option)} cannot serve {name}, which runs as written. "
                f"Use {option}={value}."
            )
    return replace(settings, engine="plain")


def _side(settings: Settings) -> int:
    if settings.size is None:
        raise InputError("a padding prompt needs a size: resolve the method's settings first.")
    return settings.size


def _smm_margin(s: int) -> int:
    # Published: Resize 256, crop 224. Below 224 the same share, not the same 32 pixels.
    return 32 if s >= 224 else round(s / 7)


_ELSAYED = "Elsayed et al. 2019; Chen et al. 2023"
_BAHNG = "Bahng et al. 2022"
_NTK = "arXiv 2506.00620 (2025)"
_CROPS = {"augment": "crop-flip"}
_NTK_TRAINING = {"epochs": 150, "batch_size": 128, "schedule": "constant"}

PROMPTS: dict[str, Prompt] = {
    "none": Prompt(lambda f, s, g: it.Identity(f.image_size), NOTHING, "-", margin=_smm_margin),
    "pad": Prompt(
        lambda f, s, g: it.Padding(f.image_size, _side(s)),
        "a border around the image, sigmoid", _ELSAYED, ("size",), inset=True,
    ),
    "pad-raw": Prompt(
        lambda f, s, g: it.PaddingRaw(f.image_size, _side(s), mean=f.mean, std=f.std),
        "a border around the image, normalised units", "Chen et al. 2023", ("size",), inset=True,
    ),
    "border": Prompt(
        lambda f, s, g: it.Border(f.image_size, std=f.std, width=s.width, clamp=s.clamp),
        "a frame added to the image", _BAHNG, ("width", "clamp"), _CROPS,
    ),
    "full": Prompt(
        lambda f, s, g: it.Full(f.image_size, std=f.std, clamp=s.clamp),
        "an image added to the image", _BAHNG, ("clamp",), _CROPS,
    ),
    "patch": Prompt(
        lambda f, s, g: it.Patch(
            f.image_size, std=f.std, generator=g, side=s.patch, position=s.position, clamp=s.clamp
        ),
        "a patch added to the image", _BAHNG, ("patch", "position", "clamp"), _CROPS,
    ),
    "smm": Prompt(
        lambda f, s, g: it.SMM(f.image_size, mean=f.mean, std=f.std, generator=g, form=s.mask),
        "an image added through a mask network", "Cai et al. 2024 (ICML)", ("mask", "lr_mask"), _CROPS,
        margin=_smm_margin,
    ),
    "lowrank": Prompt(
        lambda f, s, g: it.LowRank(f.image_size, std=f.std, generator=g, rank=s.rank, clamp=s.clamp),
        "a low-rank image added to the image", "LoR-VP 2025", ("rank", "clamp"), _CROPS,
    ),
    "fourier": Prompt(
        lambda f, s, g: it.Fourier(
            f.image_size, std=f.std, clamp=s.clamp,
            frequencies=s.frequencies or min(8, (f.image_size - 1) // 2),
        ),
        "low frequencies added to the image", "this project", ("frequencies", "clamp"), _CROPS,
    ),
    "scale": Prompt(
        lambda f, s, g: it.LearnableScale(f.image_size, _side(s)),
        "a border and the image's size in it", "AutoVP 2024", ("size",), inset=True,
    ),
    "fc": Prompt(
        lambda f, s, g: it.FC(f.image_size, generator=g),
        "a linear layer over all pixels", _NTK, ("lr_linear",), {**_NTK_TRAINING, "lr": 1e-3},
        parameters=lambda f, s: it.FC.parameter_count(f.image_size),
    ),
    "fc-pad": Prompt(
        lambda f, s, g: it.FCPad(f.image_size, _side(s), generator=g),
        "a linear layer inside a border (MIX)", _NTK, ("size", "lr_linear"),
        {**_NTK_TRAINING, "lr": 1e-1, "lr_linear": 1e-3}, inset=True,
        parameters=lambda f, s: it.FCPad.parameter_count(f.image_size, _side(s)),
    ),
}  # fmt: skip

MAPPINGS: dict[str, Mapping] = {
    "rlm": Mapping(
        lambda f, t, s, g: om.RandomMapping(f.num_classes, t, g),
        "random, one-to-one", "Elsayed et al. 2019",
    ),
    "flm": Mapping(
        lambda f, t, s, g: om.FrequencyMapping(f.num_classes, t, refit="start"),
        "most frequent, one-to-one, once", "Tsai et al. 2020",
    ),
    "ilm": Mapping(
        lambda f, t, s, g: om.FrequencyMapping(f.num_classes, t, refit="epoch"),
        "most frequent, one-to-one, every epoch", "Chen et al. 2023 (CVPR)",
    ),
    "many": Mapping(
        lambda f, t, s, g: om.ManyToOneMapping(f.num_classes, t, k=s.sources_per_target),
        "mean of k source classes, every epoch", "Tsai et al. 2020", ("sources_per_target",),
    ),
    "blm": Mapping(
        lambda f, t, s, g: om.BayesianMapping(f.num_classes, t, smoothing=s.smoothing),
        "Bayesian weights, every epoch", "Cai et al. 2024 (NeurIPS)", ("smoothing",),
    ),
    "blm+": Mapping(
        lambda f, t, s, g: om.BayesianPlusMapping(f.num_classes, t, smoothing=s.smoothing, top_k=s.top_k),
        "Bayesian weights of top-k votes, every epoch", "Cai et al. 2024 (NeurIPS)", ("smoothing", "top_k"),
    ),
    "linear": Mapping(
        lambda f, t, s, g: om.LinearMapping(f.num_classes, t, generator=g),
        "a linear layer, trained", "AutoVP 2024", ("lr_mapping",),
    ),
    "first": Mapping(
        lambda f, t, s, g: om.FirstMapping(f.num_classes, t),
        "target t is source output t", _NTK,
    ),
}  # fmt: skip

_HEAD = Mapping(
    lambda f, t, s, g: om.HeadMapping(f.num_features, t, generator=g),
    "a linear layer on features, trained", "-", ("lr_mapping",),
)  # fmt: skip

# Of the experiment report: ResNet-18, 50 epochs, the rates below. The probes are not augmented here,
# since random crops would run the frozen body every epoch; --set augment=crop-flip does as published.
_REPORT = Settings(epochs=50)

BASELINES: dict[str, Method] = {
    "full-finetune": Method(
        "full-finetune", PROMPTS["none"], _HEAD, "all layers and a new head", "experiment report",
        replace(_REPORT, lr=1e-4, augment="crop-flip"), whole_body=True,
    ),
    "head-finetune": Method(
        "head-finetune", PROMPTS["none"], _HEAD, "a new head on the features", "experiment report",
        _REPORT,
    ),
    "linear-probe": Method(
        "linear-probe", PROMPTS["none"], MAPPINGS["linear"], "a head on the source's logits",
        "experiment report", _REPORT,
    ),
    "reprogramming": Method(
        "reprogramming", PROMPTS["smm"], MAPPINGS["ilm"], PROMPTS["smm"].trains,
        "experiment report", replace(_REPORT, lr=2e-2, lr_mask=1e-2, augment="crop-flip"),
    ),
}  # fmt: skip


# A pair that was published with a training of its own: the NTK paper's VP.
_PAIRS = {("pad", "first"): _NTK_TRAINING | {"lr": 1e-1}}


def _compose(prompt: str, mapping: str) -> Method:
    p, m = PROMPTS[prompt], MAPPINGS[mapping]
    trains = p.trains if m.build is not MAPPINGS["linear"].build else f"{p.trains}; a linear layer"
    # Adam 1e-2, 200 epochs, MultiStep at 50% and 72%: the common published training.
    settings = Settings(**p.defaults | _PAIRS.get((prompt, mapping), {}))
    return Method(f"{prompt}+{mapping}", p, m, trains, f"{p.reference}; {m.reference}", settings)


METHODS: dict[str, Method] = {
    **BASELINES,
    **{f"{p}+{m}": _compose(p, m) for p in PROMPTS for m in MAPPINGS},
}

VARIANTS: dict[str, Variant] = {
    "refit": Variant({"final_refit": True}, "the mapping is fitted once more after training"),
    "linearized": Variant({}, "the model's first order at its start is trained", first_order=True),
    "steps": Variant(
        {},
        "as many optimiser steps at every data size: a grid's control",
        own_start=True,
        by_steps=True,
    ),  # fmt: skip
}

# Settings that belong to some prompt or mapping, and to which.
OPTIONS: dict[str, list[str]] = {}
for _name, _options in [
    *((name, prompt.options) for name, prompt in PROMPTS.items()),
    *((name, mapping.options) for name, mapping in MAPPINGS.items()),
]:
    for _option in _options:
        OPTIONS.setdefault(_option, []).append(_name)


def foreign_setting(name: str, value: Any, who: str) -> InputError:
    """The error for a setting of other prompts or mappings; `who` says whose it is not."""
    return InputError(f"--set {name}={value}: {who}. It belongs to {', '.join(OPTIONS[name])}.")


def get_method(name: str) -> Method:
    """The method of that name, with its variant's settings.

    >>> get_method("pad+ilm@refit").settings.final_refit
    True
    """
    base, at, variant = name.partition("@")
    if base not in METHODS:
        raise unknown("method", base, METHODS, "`reprogram list methods` shows them all.")
    method = METHODS[base]
    if not at:
        return method
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    chosen = VARIANTS[variant]
    return replace(
        method,
        name=name,
        settings=method.settings.updated(chosen.settings),
        first_order=chosen.first_order,
        variant_of=None if chosen.own_start else base,
        by_steps=chosen.by_steps,
    )
