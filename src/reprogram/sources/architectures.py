"""Untrained networks by name, and where each has its head; nothing is downloaded here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import nn

from reprogram.errors import InputError, unknown
from reprogram.sources.depth import DEPTH_NETWORKS, depth_network
from reprogram.sources.networks import NETWORKS

__all__ = [
    "create_network",
    "find_architecture",
    "find_head",
    "head_weight",
    "network_names",
    "portable_name",
]

FAMILIES = ("own", "depth", "torchvision", "timm")
PREFIXES = ("torchvision", "timm")

# Arguments that shape the network and do nothing else: no path, address, callable or pretrained
# configuration may come from a file that somebody else wrote.
MODEL_ARGS: dict[str, tuple[str, ...]] = {
    "own": (),
    "depth": ("channels", "image_size", "width"),
    "torchvision": (
        "attention_dropout",
        "dropout",
        "image_size",
        "stochastic_depth_prob",
        "transform_input",
        "width_mult",
        "zero_init_residual",
    ),
    "timm": (
        "act_layer",
        "bn_eps",
        "bn_momentum",
        "class_token",
        "drop_path_rate",
        "drop_rate",
        "dynamic_img_size",
        "fc_norm",
        "global_pool",
        "img_size",
        "in_chans",
        "init_values",
        "no_embed_class",
        "norm_layer",
        "output_stride",
        "pad_type",
        "patch_size",
        "qkv_bias",
        "reg_tokens",
        "window_size",
    ),
}

# Both take ImageNet-normalised input and renormalise it themselves, as their published weights
# need; their auxiliary heads serve training from scratch only.
TORCHVISION_DEFAULTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}


@functools.cache
def network_names(family: str) -> tuple[str, ...]:
    """Names of a family ("own", "depth", "torchvision" or "timm"); builds no network."""
    if family == "own":
        return tuple(NETWORKS)
    if family == "depth":
        return tuple(DEPTH_NETWORKS)
    if family == "torchvision":
        import torchvision.models

        return tuple(torchvision.models.list_models(module=torchvision.models))
    import timm

    return tuple(timm.list_models())


def find_architecture(name: str, bare: tuple[str, ...] = FAMILIES) -> tuple[str, str]:
    """Split an architecture's name into (family, name within it).

    Args:
        name: "torchvision/NAME", "timm/NAME" (a tag such as ".a1_in1k" is allowed), or bare.
        bare: Order in which the families are asked for a bare name.

    Raises:
        InputError: No family has it.

    >>> find_architecture("resnet18")
    ('torchvision', 'resnet18')
    >>> find_architecture("timm/resnet18")
    ('timm', 'resnet18')
    """
    prefix, _, rest = name.partition("/")
    families = (prefix,) if rest and prefix in PREFIXES else bare
    short = rest if families == (prefix,) else name
    for family in families:
        if (short.partition(".")[0] if family == "timm" else short) in network_names(family):
            return family, short
    names = [n for f in families for n in network_names(f)]
    names = [f"{prefix}/{n}" for n in names] if families == (prefix,) else names
    raise unknown(
        "architecture", name, list(dict.fromkeys(names)), "Give a torchvision name or timm/NAME."
    )


def portable_name(name: str) -> str:
    """The architecture as a source directory writes it: timm's are bare, as in timm's own layout.

    >>> portable_name("resnet18"), portable_name("timm/resnet18"), portable_name("cifar_resnet20")
    ('torchvision/resnet18', 'resnet18', 'cifar_resnet20')
    """
    family, short = find_architecture(name)
    return f"torchvision/{short}" if family == "torchvision" else short


def create_network(
    architecture: str, num_classes: int, model_args: Mapping[str, Any] | None = None
) -> nn.Module:
    """An untrained network, initialised from torch's global generator.

    Args:
        architecture: A CIFAR ResNet ("cifar_resnet20"), a depth network ("cnn-3"), a torchvision
            name, or "timm/NAME".
        num_classes: Number of logits.
        model_args: Constructor arguments, from a list of harmless ones.

    Raises:
        InputError: Unknown architecture, an argument that is not on the list, or one that the
            architecture refuses.
    """
    family, name = find_architecture(architecture)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise InputError(f"num_classes must be a whole number, got {num_classes!r}.")
    if not 1 <= num_classes <= 100_000:
        raise InputError(f"num_classes must be from 1 to 100,000, got {num_classes}.")
    arguments = dict(model_args or {})
    _check_arguments(architecture, family, arguments)
    try:
        if family == "own":
            return NETWORKS[name](num_classes)
        if family == "depth":
            return depth_network(name, num_classes, **arguments)
        if family == "torchvision":
            import torchvision.models

            arguments = TORCHVISION_DEFAULTS.get(name, {}) | arguments
            return torchvision.models.get_model(
                name, weights=None, num_classes=num_classes, **arguments
            )
        import timm

        return timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)
    except Exception as error:  # whatever a third-party constructor raises for its arguments
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"architecture {architecture!r} cannot be built with {arguments or 'its defaults'} "
            f"and {num_classes} classes: {type(error).__name__} {reason}. Correct model_args."
        ) from error


def find_head(network: nn.Module) -> str | None:
    """The submodule that full and head fine-tuning replace, None where there are several.

    It is the last layer: what `pretrained_cfg` says (timm), else the last linear one: `linear`
    (own), `fc`, `classifier.N`, `heads.head` or `head` (torchvision). SqueezeNet classifies by a
    convolution that is pooled afterwards; its whole `classifier` is the head, so that its features
    are 512 numbers.
    """
    from torchvision.models import SqueezeNet

    if isinstance(network, SqueezeNet):
        return "classifier"
    modules = dict(network.named_modules())
    pretrained_cfg = getattr(network, "pretrained_cfg", None)
    if pretrained_cfg is not None:
        classifier = pretrained_cfg.get("classifier")
        return classifier if isinstance(classifier, str) and classifier in modules else None
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def head_weight(network: nn.Module, head: str | None) -> str | None:
    """Name in the state_dict of the weight whose rows are the classes."""
    if head is None:
        return None
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{name}.".startswith(f"{head}.")
    ]
    return f"{layers[-1]}.weight" if layers else None


def _check_arguments(architecture: str, family: str, arguments: dict[str, Any]) -> None:
    allowed = MODEL_ARGS[family]
    for key, value in arguments.items():
        if key not in allowed:
            listed = ", ".join(allowed) or "none"
            raise InputError(
                f"model_args of {architecture!r} may not hold {key!r}. Allowed: {listed}."
            )
        items = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(v, bool | int | float | str | None) for v in items):
            raise InputError(
                f"model_args {key}={value!r} of {architecture!r} must be a plain value or a list "
                "of such."
            )
    if arguments.get("in_chans", 3) != 3:
        raise InputError(
            f"model_args in_chans={arguments['in_chans']!r} of {architecture!r} must be 3: "
            "sources take three-channel images."
        )
