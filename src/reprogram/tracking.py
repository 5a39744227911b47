"""TensorBoard logs of a run (extra `track`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reprogram.errors import InputError
from reprogram.training import Epoch

__all__ = ["tensorboard"]


@contextmanager
def tensorboard(folder: Path | None) -> Iterator[Callable[[Epoch], None]]:
    """A function for `on_epoch` that logs every state; does nothing without a folder.

    Raises:
        InputError: The extra is not installed.
    """
    if folder is None:
        yield lambda _: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError('--track needs TensorBoard: pip install "reprogram[track]".') from error
    with SummaryWriter(str(folder)) as writer:

        def log(state: Epoch) -> None:
            if state.train_loss is not None:
                writer.add_scalar("loss/train", state.train_loss, state.epoch)
            for name, found in (("val", state.val), ("test", state.test)):
                if found is not None:
                    writer.add_scalar(f"loss/{name}", found.loss, state.epoch)
                    writer.add_scalar(f"accuracy/{name}", found.accuracy, state.epoch)

        yield log
