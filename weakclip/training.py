"""The one training loop: schedule, log, checkpoint, resume and a guard against losses that are not numbers.

Everything random in a step is drawn from ``(seed, step)`` (`weakclip.seeding`), so a run that was killed and resumed ends
with the same weights, to the byte, as one that was not.

Ranks share the batch of a step: each computes the losses of its part, losses and gradients are averaged over them, and all
take the same step. The main one logs, validates and keeps the checkpoints.
"""

from __future__ import annotations

import errno
import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weakclip.disk_space import room_for
from weakclip.errors import WeakClipError
from weakclip.process_pool import WorkerDiedError
from weakclip.progress import Bar
from weakclip.ranks import world
from weakclip.runlog import StepLog
from weakclip.whole_batch import average_gradients, whole_batch

CHECKPOINT = "state.pt"


def cosine_schedule(step: int, *, lr: float, iterations: int, warmup: int, min_lr: float = 0.0) -> float:
    """Learning rate of a step counted from 0: linear warm-up to ``lr``, then half a cosine down to ``min_lr``."""
    if step < warmup:
        return lr * (step + 1) / warmup
    share = (step - warmup) / max(1, iterations - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * share)) / 2


def polynomial_schedule(step: int, *, lr: float, iterations: int, power: float = 0.9) -> float:
    """Learning rate of a step counted from 0: ``lr (1 - step / iterations)^power``."""
    return float(lr * (1 - step / iterations) ** power)


class _CountedBytes(io.BytesIO):
    """A file that keeps nothing but the number of bytes written to it."""

    count = 0

    def write(self, data: Any, /) -> int:
        length = memoryview(data).nbytes
        self.count += length
        return length


def save_checkpoint(path: Path, step: int, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """The state after ``step`` steps, written whole or not at all."""
    part = path.with_name(path.name + ".part")
    state = {
        "step": step,
        "optimizer": optimizer.state_dict(),
        "modules": {name: module.state_dict() for name, module in modules.items()},
    }
    try:
        _write_state(part, state)
    except OSError:
        with room_for(part, saved_bytes(state)):
            raise
    part.replace(path)


def _write_state(path: Path, state: Mapping[str, object]) -> None:
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # on a full disk torch complains of its place in the file; why, stands behind that
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())


def saved_bytes(state: Mapping[str, object]) -> int:
    """The size of the file that `torch.save` makes of a state."""
    counted = _CountedBytes()
    torch.save(state, counted)
    return counted.count


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Restores modules and optimizer; returns the number of steps done, 0 where there is no checkpoint."""
    if not path.is_file():
        return 0
    try:
        # What torch saves are zip archives, and it does not look at their checksums.
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:  # a damaged file makes the archive's reader and torch raise many kinds
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)):
            raise  # of this machine, now; the file may be sound
        raise WeakClipError(
            f"{path} cannot be resumed from: {error}", f"delete {path.parent} to start the stage from its beginning"
        ) from error


def train(
    *,
    title: str,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    iterations: int,
    gradients_of_step: Callable[[int], Mapping[str, Tensor]],
    rates_of_step: Callable[[int], Sequence[float]],
    names_of_step: Callable[[int], Sequence[str]],
    folder: Path,
    checkpoint_every: int,
    log: StepLog | None = None,
    log_every: int = 10,
    validate: Callable[[int], dict[str, float]] | None = None,
    validate_every: int = 0,
) -> None:
    """Runs the steps that are not yet done.

    ``gradients_of_step(step)``: adds the gradients of named scalar losses, whose sum is minimised, and returns the losses (see
    `backward`); those of a rank's part of the batch, whose mean over the ranks is the loss of the batch.
    ``rates_of_step(step)``: a learning rate per parameter group. ``names_of_step(step)``: the images of the batch, or of the
    rank's part of it, for the error message. ``folder``: where the checkpoint lives. ``validate(step)`` runs after every
    ``validate_every`` steps and after the last one, on the main rank.

    Raises `WeakClipError` when a loss, a gradient or a weight that is to be kept is not finite, with the step and the names;
    the last checkpoint is kept.
    """
    checkpoint = folder / CHECKPOINT
    start = load_checkpoint(checkpoint, modules, optimizer)
    if len({*world().gathered(start)}) > 1:
        raise WeakClipError(f"the processes see different checkpoints in {folder}", "their machines must share its file system")
    main = world().main
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if log is not None:
        log.resume(start)
    with Bar(total=iterations, title=title, unit="steps", done=start) as bar:
        for step in range(start, iterations):
            rates = rates_of_step(step)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            try:
                with whole_batch():
                    losses = gradients_of_step(step)
            except WorkerDiedError as error:
                raise WorkerDiedError([f"step {step} of {title}, images {', '.join(names_of_step(step))}"]) from error
            stacked = torch.stack(list(losses.values()))
            values = dict(zip(losses, world().average(stacked).tolist(), strict=True))
            not_finite = partial(_not_finite, title, step, values, names_of_step, checkpoint)
            if not all(math.isfinite(value) for value in values.values()):
                raise not_finite("a loss")
            average_gradients(trained)
            # A finite loss can have other gradients, and after the last step no loss would tell.
            if not _finite([parameter.grad for parameter in trained if parameter.grad is not None]):
                raise not_finite("a gradient")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # now, so that no gradients are kept through the next forward pass
            done = step + 1
            if (done % checkpoint_every == 0 or done == iterations) and not _finite(trained):
                raise not_finite("a weight")
            if log is not None and (done % log_every == 0 or done == iterations):
                log.log(done, {**values, "learning_rate": rates[0]})
            if main and validate is not None and validate_every and (done % validate_every == 0 or done == iterations):
                figures = validate(done)
                if log is not None:
                    log.log(done, figures)
            if main and done % checkpoint_every == 0 and done < iterations:
                save_checkpoint(checkpoint, done, modules, optimizer)
            bar.advance(1, note="  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    if main:
        save_checkpoint(checkpoint, iterations, modules, optimizer)


def backward(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adds the gradients of the sum of scalar losses to those of what they were computed from; returns the mere losses."""
    torch.stack(list(losses.values())).sum().backward()
    return {name: loss.detach() for name, loss in losses.items()}


def _finite(tensors: Sequence[Tensor]) -> bool:
    filled = [tensor for tensor in tensors if tensor.numel()]  # contexts of length 0 have no largest value
    return math.isfinite(nn.utils.get_total_norm(filled, math.inf).item())


def _not_finite(
    title: str,
    step: int,
    losses: Mapping[str, float],
    names_of_step: Callable[[int], Sequence[str]],
    checkpoint: Path,
    what: str,
) -> WeakClipError:
    names = [name for part in world().gathered(names_of_step(step)) for name in part]
    shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    kept = f"the last checkpoint is {checkpoint}" if checkpoint.is_file() else "there is no checkpoint yet"
    return WeakClipError(
        f"{title}: {what} is not finite at step {step} ({shown}); images {', '.join(names)}", f"lower the learning rate; {kept}"
    )
