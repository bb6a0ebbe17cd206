"""The training loop: schedules, resume to the byte, and losses that are not numbers."""

import errno
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weakclip.errors import WeakClipError
from weakclip.process_pool import WorkerDiedError
from weakclip.runlog import StepLog
from weakclip.seeding import rng
from weakclip.training import backward, cosine_schedule, polynomial_schedule, train


def test_cosine_schedule_rises_then_falls_to_the_minimum() -> None:
    rates = [cosine_schedule(step, lr=1.0, iterations=12, warmup=2, min_lr=0.1) for step in range(12)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert cosine_schedule(7, lr=1.0, iterations=12, warmup=2, min_lr=0.1) == pytest.approx(0.55)


def test_polynomial_schedule_matches_its_formula() -> None:
    assert polynomial_schedule(50, lr=2.0, iterations=100) == pytest.approx(2 * 0.5**0.9)


class StopError(Exception):
    pass


def run(
    folder: Path,
    stop_at: int | None = None,
    bad_at: int | None = None,
    bad: float = math.nan,
    bad_gradient_at: int | None = None,
) -> nn.Linear:
    """Trains a small regression; every step's data follow from its number."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def losses(step: int) -> dict[str, Tensor]:
        if step == stop_at:
            raise StopError
        assert all(parameter.grad is None for parameter in model.parameters())  # they would take memory in the forward pass
        x = torch.from_numpy(rng(0, "data", step).normal(size=(4, 3))).float()
        loss = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
        if step == bad_gradient_at:
            loss = loss + (0 * model.weight).sum().sqrt()  # nothing, at an endless slope
        return {"square_loss": loss * bad if step == bad_at else loss}

    (folder / "plots").mkdir(parents=True, exist_ok=True)
    log = StepLog(folder / "plots")
    train(
        title="test",
        modules={"model": model},
        optimizer=optimizer,
        iterations=25,
        gradients_of_step=lambda step: backward(losses(step)),
        rates_of_step=lambda step: [cosine_schedule(step, lr=0.1, iterations=25, warmup=2)],
        names_of_step=lambda step: [f"image_{step}"],
        folder=folder,
        checkpoint_every=5,
        log=log,
        log_every=2,
        validate=lambda step: {"figure": float(step)},
        validate_every=10,
    )
    log.close()
    return model


def curves(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "plots" / "metrics").rglob("*.tsv"))}


@pytest.mark.parametrize("stop_at", [3, 5, 13, 24])
def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(StopError):
        run(tmp_path / "broken", stop_at=stop_at)
    resumed = run(tmp_path / "broken")
    assert torch.equal(whole.weight, resumed.weight)
    assert curves(tmp_path / "whole") == curves(tmp_path / "broken")


def test_a_finished_training_does_nothing_again(tmp_path: Path) -> None:
    model = run(tmp_path)
    again = run(tmp_path, stop_at=0)
    assert torch.equal(model.weight, again.weight)


def test_validation_runs_at_its_steps_and_at_the_end(tmp_path: Path) -> None:
    run(tmp_path)
    assert [row.split("\t")[0] for row in curves(tmp_path)["figure.tsv"].splitlines()[1:]] == ["10", "20", "25"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_step_and_images_and_keeps_the_checkpoint(tmp_path: Path, bad: float) -> None:
    with pytest.raises(WeakClipError, match=r"not finite at step 12 .*image_12") as caught:
        run(tmp_path, bad_at=12, bad=bad)
    assert "state.pt" in caught.value.hint
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 10


@pytest.mark.parametrize("step", [14, 24])  # before a checkpoint, and the last one
@pytest.mark.parametrize(("kind", "what"), [("gradient", "a gradient"), ("weight", "a weight")])
def test_what_a_finite_loss_does_not_tell_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, kind: str, what: str
) -> None:
    step_of = torch.optim.AdamW.step
    done = iter(range(25))

    def spoil(self: torch.optim.AdamW) -> None:
        step_of(self)
        if kind == "weight" and next(done) == step:
            self.param_groups[0]["params"][0].data.mul_(math.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(WeakClipError, match=rf"{what} is not finite at step {step} .*image_{step}$"):
        run(tmp_path, bad_gradient_at=step if kind == "gradient" else None)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] < step
    assert all(value.isfinite().all() for value in state["modules"]["model"].values())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no checkpoint")
    with pytest.raises(WeakClipError, match=r"state\.pt cannot be resumed from"):
        run(tmp_path)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_next_run_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    sync, left = os.fsync, iter([True, True, False])

    def full(file: int) -> None:
        if not next(left):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WeakClipError, match=r"state\.pt.* needs \d.*B, \d.*B are free on the disk"):
            run(tmp_path / "killed")
    assert torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["step"] == 10
    assert not list((tmp_path / "killed").glob("*.part"))
    assert torch.equal(run(tmp_path / "killed").weight, whole.weight)
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")


def test_a_worker_process_that_dies_is_reported_with_the_images_of_the_step(tmp_path: Path) -> None:
    def losses(step: int) -> dict[str, Tensor]:
        raise WorkerDiedError([])

    model = nn.Linear(1, 1)
    with pytest.raises(WeakClipError, match=r"died .* while it worked on step 0 of test, images a, b$"):
        train(
            title="test",
            modules={"model": model},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            iterations=1,
            gradients_of_step=losses,
            rates_of_step=lambda step: [0.1],
            names_of_step=lambda step: ["a", "b"],
            folder=tmp_path,
            checkpoint_every=1,
        )
