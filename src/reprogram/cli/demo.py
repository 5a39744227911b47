"""demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.cli.output import note, result

if TYPE_CHECKING:
    from reprogram.experiments import Result

__all__ = ["demo"]


def demo(
    *,
    out: Path = Path("demo"),
    budget: float = 120.0,
    device: str = "auto",
    json: bool = False,
    quiet: bool = False,
) -> None:
    """The experiment report in small: four methods and an untrained mapping, five sizes, a picture, a page.

    A ResNet-20 that ships with the package reads handwritten digits; nothing is downloaded.

    Args:
        out: Directory for the rows, the picture and the page.
        budget: Seconds within which seeds are added; one is always run.
        device: auto (cuda, else cpu), cpu, cuda or mps.
        json: Print one JSON document.
        quiet: No progress bar and no messages.
    """
    import os
    import textwrap

    from reprogram.experiments.demo import FRACTIONS, METHODS, run_demo
    from reprogram.files import write_json
    from reprogram.progress import bar, note_of
    from reprogram.report import answer, clean_panels, text_table

    note(
        "reprogram demo   source embedded (ResNet-20, CIFAR-100)   "
        f"target digits (1,797 images, 10 classes)   {os.cpu_count()} cores\n",
        quiet,
    )
    out.mkdir(parents=True, exist_ok=True)  # before two minutes of work, not after
    progress = bar(quiet or json, "{task.completed:.0f}/{task.total}", "{task.fields[note]}")
    tasks = {
        name: progress.add_task(f"{name:<13}", total=len(FRACTIONS), note="", start=False)
        for name in METHODS
    }
    current = next(iter(METHODS))
    results: list[Result] = []

    def on_cell(method: str, done: int, seed: int) -> None:
        nonlocal current
        current = method
        if done == 0:
            progress.reset(tasks[method], start=True)
        progress.update(tasks[method], completed=done, note=f"seed {seed}")
        if done == len(FRACTIONS):
            progress.stop_task(tasks[method])

    try:
        with progress:
            run_demo(
                budget=budget,
                device=device,
                on_cell=on_cell,
                on_progress=lambda step: progress.update(tasks[current], note=note_of(step)),
                on_result=results.append,
            )
    except KeyboardInterrupt:
        write_json(out / "rows.json", [r.row for r in results])
        raise KeyboardInterrupt(
            f"stopped. Finished runs ({len(results)}) are kept in {out / 'rows.json'}."
        ) from None
    rows = [r.row for r in results]
    panels = clean_panels(rows)
    (panel,) = panels
    picture, page = write_up(results, panel, out)
    text = (
        f"\n{text_table(panel)}\n\n"
        f"{textwrap.fill(answer(panels), 78, initial_indent='  ', subsequent_indent='  ')}\n"
        f"  picture  {picture}      page  {page}\n  next: reprogram fit --target YOUR_FOLDER"
    )
    document = {"rows": rows, "answer": answer(panels), "picture": str(picture), "page": str(page)}
    result(document, text, json)


def write_up(results: list[Result], panel: Any, out: Path) -> tuple[Path, Path]:
    """Rows, the curve, the best prompt's picture and the page; returns the curve and the page."""
    from reprogram.data import load_target
    from reprogram.figures import accuracy_curve, png_bytes, save
    from reprogram.files import write_json
    from reprogram.picture import model_figure
    from reprogram.report import Picture, write_report

    rows = [r.row for r in results]
    write_json(out / "rows.json", rows)
    curve = accuracy_curve(
        panel.curves, images_per_class=panel.per_class, chance=panel.chance,
        title="handwritten digits, read by a network trained on CIFAR-100",
    )  # fmt: skip
    save(curve, out / "digits.png")
    prompts = [r for r in results if r.row["method"] == "reprogramming"]
    best = max(prompts, key=lambda r: (r.row["data_fraction"], r.row["val_accuracy"]))
    figure = model_figure(best.model, load_target("digits"))
    save(figure, out / "prompt.png")
    files = write_report(
        rows, out / "report", title="Model reprogramming in small", command="reprogram demo",
        pictures=[
            Picture(
                png_bytes(figure),
                "The prompt at 100 % of the images: what the frozen network sees, and which of its "
                "classes are read as which digit.",
                "Digits, the same digits with the learned prompt, the prompt, and the mapping",
            )
        ],
    )  # fmt: skip
    return out / "digits.png", files["report.html"]
