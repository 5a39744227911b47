"""Several runs in lock-step (seeds, learning rates): one pass of the source serves all their batches.

The runs share a frozen source and nothing else, so the gradient of their summed losses is each
run's own. A small batch leaves a GPU idle, those of several runs do not. On a CPU, which is bound
by arithmetic, there is nothing to gain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprogram import distributed
from reprogram.data.batches import Batch
from reprogram.engine.folded import FoldedEngine, is_frozen_network
from reprogram.engine.memory import require_memory
from reprogram.engine.splitting import SplittingEngine, uses_batch_statistics
from reprogram.errors import InputError
from reprogram.input_transforms import SharedPrompt
from reprogram.training import Run, Trace

__all__ = ["train_several"]

logger = logging.getLogger(__name__)


def train_several(runs: Sequence[Run]) -> list[Trace | InputError]:
    """Train runs as one :func:`reprogram.training.train` after another would, up to rounding.

    Runs of the folded engine with images of one size take their steps in one batch. Other engines
    go by themselves: the backgrounds of windowed prompts differ, stored features need no source.
    Mapping passes and validation are each run's own, and so is its checkpoint. Runs may differ in
    all else and in length. The seconds of a trace are the group's while the run belonged to it.

    Args:
        runs: On one source; their models are left in their selected states.

    Returns:
        Of every run its trace, or the error that stopped it: a rate that diverges stops no other.

    Raises:
        InputError: Before any training: the runs share no frozen source, or share more than it, or
            one of them does not fit the memory.
    """
    _require_one_source(runs)
    for run in runs:
        require_memory(run.model, run.engine, distributed.shard(run.largest_batch))
    lanes = [_Lane(run) for run in runs]
    groups = _groups(lanes)
    try:
        going = [lane for lane in lanes if lane.advance()]
        while going:
            for group in groups:
                group.step([lane for lane in group.lanes if lane in going])
            going = [lane for lane in going if lane.advance()]
    finally:
        for lane in lanes:
            lane.close()
    return [lane.error or lane.run.trace for lane in lanes]


class _Lane:
    """A run, the batch that it has come to, and the random state that it alone draws from."""

    def __init__(self, run: Run) -> None:
        self.run, self.batches = run, run.batches()
        self.batch: Batch | None = None
        self.error: InputError | None = None
        self._random = torch.get_rng_state()

    @contextmanager
    def noise(self) -> Iterator[None]:
        """Lend the global generator this run's state."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            yield
            self._random = torch.get_rng_state()

    def advance(self) -> bool:
        """Go on to the next batch; False where the run is over."""
        self.batch = None
        self.attempt(self._next)
        return self.batch is not None

    def _next(self) -> None:
        with self.noise():
            self.batch = next(self.batches, None)

    def step(self) -> None:
        """The run's step by itself."""
        assert self.batch is not None
        with self.noise():
            self.run.step(self.batch)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do it unless the run was stopped; an error stops it."""
        if self.error is None:
            try:
                action()
            except InputError as error:
                self.error = error

    def close(self) -> None:
        """Leave the loop, which then puts back the random state that it found."""
        with self.noise():
            self.batches.close()

    def loss(self, outputs: Float[Tensor, "batch source"]) -> Float[Tensor, ""]:
        """The mean loss of the batch, or this process's share of it."""
        assert self.batch is not None
        share = distributed.shard(self.batch)
        return self.run.loss_of(outputs, share) / len(self.batch.index)

    def moving(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What a pass in train mode changes: the random state, and BatchNorm buffers with copies."""
        transform = self.run.model.input_transform
        buffers = transform.buffers() if uses_batch_statistics(transform) else ()
        return self._random, [(buffer, buffer.clone()) for buffer in buffers]

    @torch.no_grad()
    def put_back(self, before: tuple[Tensor, list[tuple[Tensor, Tensor]]]) -> None:
        """Undo a pass whose step was not taken."""
        self._random, buffers = before
        for buffer, value in buffers:
            buffer.copy_(value)


class _Group:
    """Lanes that can take their steps in one batch, as many at once as the memory holds.

    Args:
        lanes: The lanes.
        engine: Answers for several of them; None where each has to go by itself.
    """

    def __init__(self, lanes: list[_Lane], engine: _JointEngine | None) -> None:
        self.lanes, self.engine = lanes, engine
        self.at_once = _fitting([lane.run for lane in lanes]) if engine else 1

    def step(self, lanes: list[_Lane]) -> None:
        """One step of each of these lanes."""
        while lanes:
            now = lanes[: self.at_once]
            if self._take(now):
                lanes = lanes[len(now) :]

    def _take(self, lanes: list[_Lane]) -> bool:
        """One step of each in one pass; False, and nothing done, where memory runs out."""
        if len(lanes) == 1:  # which splits its batch if it has to
            lanes[0].attempt(lanes[0].step)
            return True
        before = [lane.moving() for lane in lanes]
        try:
            losses = self._backward(lanes)
        except torch.OutOfMemoryError:
            losses = None
        # Outside of the handler, whose traceback still holds the failed attempt's tensors.
        if losses is None:
            for lane, state in zip(lanes, before, strict=True):
                lane.put_back(state)
            self._halve(len(lanes))
            return False
        for lane, loss in zip(lanes, losses, strict=True):
            lane.attempt(partial(lane.run.update, loss))
        return True

    def _backward(self, lanes: list[_Lane]) -> list[float]:
        """Each lane's loss; its parameters hold the gradient."""
        assert self.engine is not None
        for lane in lanes:
            assert lane.run.optimizer is not None
            lane.run.optimizer.zero_grad(set_to_none=True)
        outputs = self.engine.joint_outputs(lanes)
        losses = torch.stack([lane.loss(o) for lane, o in zip(lanes, outputs, strict=True)])
        losses.sum().backward()
        return losses.tolist()

    def _halve(self, failed: int) -> None:
        self.at_once = (failed + 1) // 2
        logger.warning("out of memory on %d runs: going on with %d at once", failed, self.at_once)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _JointEngine(FoldedEngine):
    """Gives each run's images its own prompt, and calls the folded source once for all of them."""

    def joint_outputs(self, lanes: list[_Lane]) -> tuple[Float[Tensor, "batch source"], ...]:
        """What each lane's mapping reads for its batch."""
        dtype = lanes[0].run.model.source.mean.dtype
        pixels = [_rendered(lane) for lane in lanes]
        counts = [len(x) for x in pixels]
        x = torch.cat(pixels).to(self.device, dtype).split(counts)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self._joint(lanes, x)
        return outputs.to(dtype).split(counts)

    def _joint(self, lanes: list[_Lane], x: Sequence[Tensor]) -> Float[Tensor, "images source"]:
        model = lanes[0].run.model  # whose mapping reads what the others' do
        transforms = [lane.run.model.input_transform for lane in lanes]
        shared = [t for t in transforms if isinstance(t, SharedPrompt) and t.shared]
        if self._first is not None and len(shared) == len(lanes):
            placed = [t.place(t.check(part)) for t, part in zip(shared, x, strict=True)]
            prompts = torch.stack([t.prompt() for t in shared])
            with self._responses(prompts, [len(part) for part in x], self._first):
                return self._read(model, torch.cat(placed))
        z = []
        for lane, transform, part in zip(lanes, transforms, x, strict=True):
            with lane.noise():
                z.append(transform(part))
        return self._read(model, torch.cat(z))

    @contextmanager
    def _responses(
        self, prompts: Float[Tensor, "runs 3 H W"], counts: list[int], first: nn.Conv2d
    ) -> Iterator[None]:
        """Let the first convolution add its response to each run's prompt to that run's images."""
        responses = first(prompts / self.source.std)
        if first.bias is not None:
            responses = responses - first.bias[:, None, None]

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            parts = zip(output.split(counts), responses, strict=True)
            return torch.cat([part + response for part, response in parts])

        handle = first.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def _groups(lanes: list[_Lane]) -> list[_Group]:
    """The lanes by what one pass must have in common."""
    joint: dict[object, list[_Lane]] = {}
    groups = []
    for lane in lanes:
        engine = _folded(lane.run)
        if engine is None:
            logger.info("engine=%s takes the steps of a run by itself", lane.run.engine.name)
            groups.append(_Group([lane], None))
        else:
            reads = lane.run.model.mapping.reads
            key = (reads, engine.data.size, engine.device, engine.precision)
            joint.setdefault(key, []).append(lane)
    for members in joint.values():
        run, engine = members[0].run, _folded(members[0].run)
        assert engine is not None
        one = _JointEngine(run.model, engine.data, engine.device, engine.precision)
        groups.append(_Group(members, one))
    return groups


def _folded(run: Run) -> FoldedEngine | None:
    """The run's engine where several runs can share its source's pass."""
    engine = run.engine.engine if isinstance(run.engine, SplittingEngine) else run.engine
    return engine if type(engine) is FoldedEngine else None


def _rendered(lane: _Lane) -> Float[Tensor, "batch 3 s s"]:
    engine = _folded(lane.run)
    assert engine is not None and lane.batch is not None
    return engine.data.render(distributed.shard(lane.batch))


def _fitting(runs: list[Run]) -> int:
    """How many of the runs a CPU has the memory for at once; a GPU finds out by failing."""
    n = len(runs)
    while n > 1:
        images = torch.cat([distributed.shard(run.largest_batch).index for run in runs[:n]])
        try:
            require_memory(runs[0].model, runs[0].engine, Batch("train", images))
            return n
        except InputError:
            n = (n + 1) // 2
    return 1


def _require_one_source(runs: Sequence[Run]) -> None:
    sources = {id(run.model.source) for run in runs}
    if len(sources) > 1 or not all(is_frozen_network(run.model.source) for run in runs):
        raise InputError(
            f"runs must share one frozen source, got {len(sources)} sources. Build every model "
            "with the same source object, and train full fine-tuning by itself."
        )
    owned = [id(parameter) for run in runs for parameter in run.params]
    if len(set(owned)) < len(owned):
        raise InputError("runs must train different models, got one twice. Build one for each run.")
