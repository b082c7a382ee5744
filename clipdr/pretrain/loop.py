"""Training loop of pre-training: one process or several, resumed with bitwise identical results.

Input: visits with images and reports, settings. Output: the history and the weights with the
lowest validation loss.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.parallel import DistributedDataParallel

from clipdr import DataError
from clipdr.pretrain.data.loader import plan
from clipdr.pretrain.gradients import parameter_groups, prepare_batchnorm, train_step
from clipdr.pretrain.losses import TARGETS
from clipdr.pretrain.model import LEVELS
from clipdr.training.distributed import world
from clipdr.training.schedules import warmup_cosine
from clipdr.training.state import TrainingState, Weights, progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clipdr.pretrain.data.loader import Patients, Visits
    from clipdr.pretrain.model import RetClip
    from clipdr.pretrain.settings import Rules

LOGGED = ("n", "floor", "image_to_text", "text_to_image")  # of each level, see `tripartite`
RULE = "val_loss"  # the rule of selection


class Fit(NamedTuple):
    """Result of pre-training.

    Attributes:
        history: One row per epoch.
        state: Weights with the lowest validation loss; the last without validation rows.
        seconds: Time that this process trained.
    """

    history: pd.DataFrame
    state: Weights
    seconds: float


def warmup_steps(rules: Rules, steps: int) -> int:
    """Number of warm-up steps: `warmup`, or a share of all steps if it is below 1."""
    return round(rules.warmup * steps) if rules.warmup < 1 else round(rules.warmup)


def fit(
    model: RetClip,
    train: Visits,
    val: Visits | None,
    rules: Rules,
    *,
    resume: Path | None = None,
    digest: str = "",
    device: torch.device | str = "cpu",
) -> Fit:
    """Train a RetClip and select the weights with the lowest validation loss.

    Args:
        model: Model before its first step.
        train: Training visits.
        val: Validation visits; None for none.
        rules: Settings of pre-training.
        resume: Checkpoint from which an interrupted run resumes; the caller deletes it.
        digest: Digest of settings, data and code. A checkpoint with another digest is ignored.
        device: Device of this process.

    Raises:
        DataError: If the loss is not finite, the processes cannot share a batch, or BatchNorm makes
            exact gradients impossible.
    """
    rank, processes = world()
    rows = np.flatnonzero(train.member.any(0).numpy())
    batches = [
        (epoch, rows[chosen])
        for epoch, chosen in plan(train.patient[rows], rules.batch_size, rules.epochs, rules.seed)
    ]
    size = _checked_size(batches, processes)
    device = torch.device(device)
    inner = prepare_batchnorm(model.to(device), rules, device)
    optimizer = torch.optim.AdamW(parameter_groups(inner, rules), betas=rules.betas, eps=rules.eps)
    scaler = torch.amp.GradScaler(device.type, enabled=rules.precision == "fp16")
    state = State(inner, optimizer, scaler, resume, digest)
    start = state.load()
    outer = DistributedDataParallel(inner, broadcast_buffers=False) if processes > 1 else inner
    ends = {
        step
        for step, (epoch, _) in enumerate(batches)
        if step + 1 == len(batches) or batches[step + 1][0] != epoch
    }
    warmup, began = warmup_steps(rules, len(batches)), time.monotonic()
    with progress(len(batches), start, "pre-training") as advance:
        for step in range(start, len(batches)):
            epoch, chosen = batches[step]
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * warmup_cosine(step, len(batches), warmup)
            share = chosen[rank * size // processes : (rank + 1) * size // processes]
            batch = train.batch(share, epoch, rules.seed).to(device)
            state.add_step(*train_step(outer, inner, optimizer, scaler, batch, rules))
            advance()
            if step in ends:
                loss = validate(inner, val, rules, device)
                state.end_epoch(step + 1, epoch + 1, optimizer.param_groups[-1]["lr"], loss)
            if step in ends or (step + 1) % rules.save_every == 0:
                state.save(step + 1)
    weights = state.selected.get(RULE) or state.weights()
    return Fit(pd.DataFrame(state.history), weights, time.monotonic() - began)


def _checked_size(batches: list[tuple[int, np.ndarray]], processes: int) -> int:
    """Patients of a global batch. Raises DataError if there is none or they cannot be shared."""
    if not batches:
        raise DataError(
            "pretrain: no patient of the training split has both an image and a report. "
            "Check the columns split, text and the images of the patients table."
        )
    size = len(batches[0][1])
    if size % processes:
        raise DataError(
            f"pretrain: {size} patients of a batch cannot be shared by {processes} processes. "
            f"Change batch_size."
        )
    return size


@torch.no_grad()
def validate(model: RetClip, val: Visits | None, rules: Rules, device: torch.device) -> float:
    """Mean validation loss over batches of `rules.batch_size`, weighted by their rows.

    A last, smaller batch counts. Only the first process validates.

    Returns:
        Sum of the three losses; NaN with fewer than two rows and in the other processes.
    """
    rows = np.flatnonzero(val.member.any(0).numpy()) if val else np.empty(0, int)
    if val is None or len(rows) < 2 or world()[0] > 0:
        return math.nan
    model.eval()
    chosen = [rows[part] for _, part in plan(val.patient[rows], rules.batch_size, 1, rules.seed)]
    left = np.setdiff1d(rows, np.concatenate([np.empty(0, int), *chosen]))
    total = 0.0
    for part in [*chosen, *([left] if len(left) else [])]:
        batch = val.batch(part).to(device)
        z, u, scale = model(batch.image, batch.present, batch.token)
        total += float(local_losses(z, u, scale, batch, rules).sum()) * len(part)
    return total / len(rows)


def local_losses(
    z: torch.Tensor, u: torch.Tensor, scale: torch.Tensor, batch: Patients, rules: Rules
) -> torch.Tensor:
    """Losses of a batch that only this process has.

    Args:
        z: Image vectors of the three levels, (3, B, E), unit length.
        u: Text vectors, (3, B, E), unit length.
        scale: Multiplier of the cosine at each level, (3,).
        batch: Its `member` and `content` are used.
        rules: Its `targets` are used.

    Returns:
        (3,); 0 for a level in which no row takes part.
    """
    losses = []
    for number in range(len(LEVELS)):
        rows = batch.member[number]
        inputs = (z[number][rows], u[number][rows], scale[number], batch.content[number][rows])
        losses.append(TARGETS[rules.targets](*inputs) if rows.any() else z.new_zeros(()))
    return torch.stack(losses)


class State(TrainingState):
    """Training state of a RetClip, with the loss scaling of fp16.

    Args:
        model: Model that is trained.
        optimizer: Its optimizer.
        scaler: Loss scaling.
        path: Checkpoint, or None.
        digest: Digest of settings, data and code.
    """

    advice = "Lower the learning rates"

    def __init__(
        self,
        model: RetClip,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        path: Path | None,
        digest: str,
    ) -> None:
        """Create the state before the first step."""
        super().__init__(model, {"main": optimizer}, path, digest)
        self.scaler = scaler

    def add_step(self, losses: torch.Tensor, logged: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what `train_step` returned to the sums of the epoch."""
        values = {f"loss_{level}": loss for level, loss in zip(LEVELS, losses, strict=True)}
        values |= {
            f"{name}_{level}": float(numbers[name])
            for level, numbers in logged.items()
            for name in LOGGED
        }
        self.add(values)

    def end_epoch(self, step: int, epoch: int, lr: float, loss: float) -> None:
        """Append a row to the history and keep the weights if they are the best so far.

        Args:
            step: Number of steps done.
            epoch: Number of epochs done.
            lr: Learning rate of the last parameter group.
            loss: Validation loss; NaN if there is none.

        Raises:
            DataError: If a loss of the epoch is not finite.
        """
        means = self.means(step)
        log_scale = self.model.get_parameter("log_scale").detach()
        temperature = {
            f"t_{level}": float(value) for level, value in zip(LEVELS, log_scale.exp(), strict=True)
        }
        total = sum(means[f"loss_{level}"] for level in LEVELS)
        row = {"step": step, "epoch": epoch, "lr": lr, "loss": total, "val_loss": loss}
        better = self.improves(RULE, -loss)
        if better:
            self.selected[RULE] = self.weights()
            self.history = [{**earlier, "selected": False} for earlier in self.history]
        self.history.append(row | dict(sorted(means.items())) | temperature | {"selected": better})

    def extra(self) -> dict[str, Any]:
        """State of the loss scaling."""
        return {"scaler": self.scaler.state_dict()}

    def load_extra(self, content: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.scaler.load_state_dict(content["scaler"])
