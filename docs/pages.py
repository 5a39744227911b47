"""The pages that are made from the package itself, so that they cannot fall behind it."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def write(package: Path, out: Path, reading_order: list[str]) -> None:
    """Write api.rst, all.rst and methods.inc; a page that would not change is left alone."""
    out.mkdir(exist_ok=True)
    pages = {
        "api.rst": api(package),
        "all.rst": all_of_it(package, reading_order),
        "methods.inc": methods(),
    }
    for name, text in pages.items():
        file = out / name
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def api(package: Path) -> str:
    """Every public module; in a package, only what is defined there, not what it passes on."""
    parts = [heading("API", "=")]
    for file in sorted(package.rglob("*.py"), key=lambda f: (f.parent, f.name != "__init__.py", f)):
        path = file.relative_to(package.parent).with_suffix("").parts
        is_package = path[-1] == "__init__"
        name = ".".join(path[:-1] if is_package else path)
        if "._" in name or name.startswith("reprogram.cli"):
            continue
        parts.append(heading(name, "-"))
        parts.append(f".. automodule:: {name}\n   :members:\n")
        if is_package:
            parts[-1] += "   :ignore-module-all:\n"
    return "\n".join(parts)


def all_of_it(package: Path, reading_order: list[str]) -> str:
    """The source of the core in reading order, a file a section."""
    files = [name for name in reading_order if (package / name).exists()]
    lines = sum(len((package / name).read_text("utf-8").splitlines()) for name in files)
    parts = [
        heading("All of reprogram", "="),
        f"The core in reading order: {len(files)} files, {lines:,} lines.\n",
    ]
    for name in files:
        parts.append(heading(name, "-"))
        parts.append(f".. literalinclude:: /../src/reprogram/{name}\n   :language: python\n")
    return "\n".join(parts)


def methods() -> str:
    """The dicts that every command reads, as tables."""
    from reprogram.methods import BASELINES, MAPPINGS, METHODS, PROMPTS, VARIANTS

    return "\n".join(
        [
            f"{len(METHODS)} methods: {len(BASELINES)} by name, and each of {len(PROMPTS)} prompts "
            f"with each of {len(MAPPINGS)} mappings. `--set` changes a setting.\n",
            "### By name\n",
            table(
                ("name", "trained", "reference"),
                [(f"`{name}`", m.trains, m.reference) for name, m in BASELINES.items()],
            ),
            "### Prompts\n",
            table(
                ("prompt", "learned", "reference", "settings"),
                [
                    (f"`{name}`", p.trains, p.reference, code(p.options))
                    for name, p in PROMPTS.items()
                ],
            ),
            "### Mappings\n",
            table(
                ("mapping", "how", "reference", "settings"),
                [
                    (f"`{name}`", m.does, m.reference, code(m.options))
                    for name, m in MAPPINGS.items()
                ],
            ),
            "### Variants\n",
            table(
                ("variant", "difference"), [(f"`@{name}`", v[1]) for name, v in VARIANTS.items()]
            ),
        ]
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}\n"
