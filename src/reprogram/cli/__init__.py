"""The command line: one command per verb. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

from reprogram import __version__
from reprogram.allocator import keep_large_blocks
from reprogram.cli.bench import bench_app
from reprogram.cli.demo import demo
from reprogram.cli.distance import distance
from reprogram.cli.doctor import doctor
from reprogram.cli.export import export
from reprogram.cli.fit import evaluate, fit, predict, show
from reprogram.cli.lists import list_app
from reprogram.cli.ntk import ntk
from reprogram.cli.ntk_depth import ntk_depth
from reprogram.cli.ntk_study import ntk_study
from reprogram.cli.output import error_line
from reprogram.cli.sources import evaluate_source, train_source
from reprogram.errors import InputError

__all__ = ["app", "main"]

app = App(
    name="reprogram",
    version=__version__,
    help="Model reprogramming: make a frozen image classifier solve another task.",
    help_flags=["--help", "-h"],
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for verb in (fit, evaluate, predict, show, export, train_source, evaluate_source, demo, doctor):
    app.command(verb)
app.command(distance)
app.command(ntk)
app.command(ntk_study)
app.command(ntk_depth)
app.command(bench_app)
app.command(list_app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed, 2 bad input or usage, 130 Ctrl-C."""
    keep_large_blocks()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except MissingArgumentError as error:
        return error_line(missing(error), code=2)
    except UnusedCliTokensError as error:
        verb = " ".join(error.command_chain or ())
        words = " ".join(map(repr, error.unused_tokens or ()))
        return error_line(f"{verb} takes no {words}. `reprogram {verb} --help` shows all.", code=2)
    except CycloptsError as error:
        # An InputError raised while a value is converted is the cause that the user should read.
        told = error.__cause__ if isinstance(error.__cause__, InputError) else error
        return error_line(str(told), code=2)
    except InputError as error:
        return error_line(str(error), code=2)
    except KeyboardInterrupt as stop:
        return error_line(str(stop) or "stopped.", code=130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, without importing torch here
            raise
        return error_line("out of GPU memory. Lower --batch-size, or use --device cpu.", code=1)
    except (OSError, MemoryError) as error:
        return error_line(f"{type(error).__name__}: {error}", code=1)


def missing(error: MissingArgumentError) -> str:
    """Which option a verb was not given, and what stood on the line without one."""
    if error.argument is None or not error.command_chain or error.keyword:  # a word without value
        return str(error)
    verb, stray = " ".join(error.command_chain), " ".join(map(repr, error.unused_tokens or ()))
    stray = f" (got {stray} without it)" if stray else ""
    return f"{verb} needs {error.argument.name}{stray}. `reprogram {verb} --help` shows all."
