"""The pre-training loop: one process or several (torchrun), exact gradients in every case, resumed bit for bit.

Input: a patients table, packed photographs, settings. Output: a run folder: settings.json, history.csv, model.safetensors (lowest
validation loss), text.json, seen.json, provenance.json.
"""

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from clipdr import DataError
from clipdr.models.image_tower import PRECISIONS, keep_statistics
from clipdr.pretrain.data.loader import plan
from clipdr.pretrain.model import LEVELS, TARGETS, tripartite
from clipdr.training import checkpoint as resume
from clipdr.training.checkpoint import random_state, set_random_state
from clipdr.training.distributed import world

COUNTS = ("n", "floor", "image_to_text", "text_to_image")


class Fit(NamedTuple):
    history: pd.DataFrame  # one row per epoch
    state: (
        dict  # weights with the lowest validation loss; the last where there is no validation row
    )
    seconds: float  # spent in training steps of this process


def groups(model, rules):
    """AdamW's parameter groups: towers and heads at their own rates, no decay for vectors and t_x."""
    rates = {"image": rules.lr_image, "text": rules.lr_text, "heads": rules.lr_heads}
    found = {}
    for name, parameter in model.named_parameters():
        part = "heads" if name.startswith("image.projection") else name.partition(".")[0]
        part = part if part in rates else "heads"
        found.setdefault((part, parameter.ndim >= 2), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rates[part],
            "base": rates[part],
            "weight_decay": rules.weight_decay * decays,
        }
        for (part, decays), parameters in found.items()
    ]


def rate(step, steps, warmup):
    """Factor of the learning rate: linear warm-up ((step + 1) / warm-up steps), then cosine to 0. warmup: steps, below 1 a share."""
    first = round(warmup * steps) if warmup < 1 else round(warmup)
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))


def normalisation(model, rules, device):
    """The model, able to train exactly under `rules`: BatchNorm shared between GPUs, frozen, or refused."""
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    several = world()[1] > 1
    if norms and not rules.freeze_norm:
        if rules.chunk:
            raise DataError(
                "pretrain: a tower with BatchNorm accumulates gradients only with freeze_norm: true"
            )
        if several and device.type == "cpu":
            raise DataError(
                "pretrain: BatchNorm cannot be shared between processes on a CPU; set freeze_norm: true or use one process"
            )
        if several:
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model


def training_mode(model, rules):
    """model.train(), frozen BatchNorm in evaluation mode."""
    model.train()
    if rules.freeze_norm:
        keep_statistics(model)


def backward(model, batch, rules, scaler):
    """Loss of the global batch and its exact gradient in every parameter: (3,) losses, what tripartite saw.

    model : RetClip, or DDP around it;  batch : this process's rows. With rules.chunk the photographs pass twice: first without gradients,
    for the features that the loss needs all at once, then chunk by chunk against the gradient of the loss in these features, with the
    same draws of dropout (Gao et al., 2021, gradient cache).
    """
    device = batch.image.device
    cast = torch.autocast(
        device.type, PRECISIONS.get(rules.precision), enabled=rules.precision in PRECISIONS
    )
    if not rules.chunk or rules.chunk >= len(batch.image):
        with cast:
            z, u, scale = model(batch.image, batch.present, batch.token)
        losses, seen = tripartite(
            z.float(), u.float(), scale, batch.member, batch.content, rules.targets
        )
        scaler.scale(losses.sum()).backward()
        return losses.detach(), seen
    parts = torch.arange(len(batch.image), device=device).split(rules.chunk)
    own, states, found = getattr(model, "module", model), [], []
    for rows in parts:
        states.append(random_state())
        part = batch.part(rows)
        with torch.no_grad(), cast:
            found.append(own(part.image, part.present, part.token))
    z, u = (
        torch.cat([one[place] for one in found], 1).float().requires_grad_() for place in (0, 1)
    )
    scale = own.log_scale.detach().exp().requires_grad_()
    losses, seen = tripartite(z, u, scale, batch.member, batch.content, rules.targets)
    scaler.scale(losses.sum()).backward()
    after = random_state()
    for number, (rows, state) in enumerate(zip(parts, states, strict=True)):
        last = number == len(parts) - 1
        part = batch.part(rows)
        set_random_state(state)
        with nullcontext() if last or own is model else model.no_sync():
            with cast:
                again = model(part.image, part.present, part.token)
            surrogate = (again[0].float() * z.grad[:, rows]).sum() + (
                again[1].float() * u.grad[:, rows]
            ).sum()
            (surrogate + last * (again[2] * scale.grad).sum()).backward()
    set_random_state(after)
    return losses.detach(), seen


def fit(model, train, val, rules, *, resume=None, digest="", device="cpu"):
    """Train a RetClip on the visits of `train`; the weights with the lowest loss on `val`.

    train, val : batches.Visits;  resume : file that a cut run goes on from, for the caller to delete;  digest : of all that matters
    Raises DataError on a loss that is not finite, a batch that the processes cannot share, a tower that cannot be trained exactly.
    """
    rank, processes = world()
    rows = np.flatnonzero(train.member.any(0).numpy())
    batches = [
        (epoch, rows[chosen])
        for epoch, chosen in plan(train.patient[rows], rules.batch_size, rules.epochs, rules.seed)
    ]
    if not batches:
        raise DataError("pretrain: no patient of the training split has both an image and a report")
    size = len(batches[0][1])
    if size % processes:
        raise DataError(
            f"pretrain: {size} patients of a batch cannot be shared by {processes} processes; change batch_size"
        )
    model = normalisation(model.to(device), rules, torch.device(device))
    inner = model
    optimizer = torch.optim.AdamW(groups(inner, rules), betas=tuple(rules.betas), eps=rules.eps)
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=rules.precision == "fp16")
    state = State(inner, optimizer, scaler, resume, digest)
    start = state.load()
    if processes > 1:
        model = DistributedDataParallel(inner, broadcast_buffers=False)
    ends = {
        index
        for index, (epoch, _) in enumerate(batches)
        if index + 1 == len(batches) or batches[index + 1][0] != epoch
    }
    console, began = Console(stderr=True), time.monotonic()
    quiet = rank > 0 or not console.is_terminal
    with Progress(
        *Progress.get_default_columns(), console=console, transient=True, disable=quiet
    ) as bar:
        task = bar.add_task("pre-training", total=len(batches), completed=start)
        for step in range(start, len(batches)):
            epoch, chosen = batches[step]
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate(step, len(batches), rules.warmup)
            share = chosen[rank * size // processes : (rank + 1) * size // processes]
            state.add(
                *train_step(
                    model,
                    inner,
                    optimizer,
                    scaler,
                    train.batch(share, epoch, rules.seed).to(device),
                    rules,
                )
            )
            bar.advance(task)
            if step in ends:
                state.end_epoch(
                    step + 1,
                    epoch + 1,
                    optimizer.param_groups[-1]["lr"],
                    validate(inner, val, rules, device),
                )
            if step in ends or (step + 1) % rules.save_every == 0:
                state.save(step + 1)
    return Fit(
        pd.DataFrame(state.history), state.best_state or state.weights(), time.monotonic() - began
    )


def train_step(model, inner, optimizer, scaler, batch, rules):
    """One optimiser step -> (losses, seen) of `tripartite`."""
    training_mode(model, rules)
    optimizer.zero_grad(set_to_none=True)
    losses, seen = backward(model, batch, rules, scaler)
    if rules.clip_norm:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(inner.parameters(), rules.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    inner.clamp()
    return losses, seen


@torch.no_grad()
def validate(model, val, rules, device):
    """Mean loss of the validation rows in batches of rules.batch_size, weighted by their rows; a last smaller batch included. NaN: none."""
    rows = np.flatnonzero(val.member.any(0).numpy()) if val else np.empty(0, int)
    if len(rows) < 2 or world()[0] > 0:
        return math.nan
    model.eval()
    chosen = [rows[part] for _, part in plan(val.patient[rows], rules.batch_size, 1, rules.seed)]
    left = np.setdiff1d(rows, np.concatenate([np.empty(0, int), *chosen]))
    total = 0.0
    for part in [*chosen, *([left] if len(left) else [])]:
        batch = val.batch(part).to(device)
        z, u, scale = model(batch.image, batch.present, batch.token)
        total += float(alone(z, u, scale, batch, rules).sum()) * len(part)
    return total / len(rows)


def alone(z, u, scale, batch, rules):
    """Losses of a batch that only this process has."""
    losses = []
    for number in range(len(LEVELS)):
        rows = batch.member[number]
        chosen = (z[number][rows], u[number][rows], scale[number], batch.content[number][rows])
        losses.append(TARGETS[rules.targets](*chosen) if rows.any() else z.new_zeros(()))
    return torch.stack(losses)


class State:
    """What changes during training: history, best weights, and the file to go on from."""

    def __init__(self, model, optimizer, scaler, path, digest):
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.path, self.digest = Path(path) if path else None, digest
        self.history, self.best, self.best_state, self.sums, self.since = [], math.inf, None, {}, 0

    def weights(self):
        return {key: value.detach().cpu().clone() for key, value in self.model.state_dict().items()}

    def add(self, losses, seen):
        """Sum what a step saw, until the epoch ends. Raises DataError on a loss that is not finite."""
        if not torch.isfinite(losses).all():
            raise DataError(
                f"pretrain: the loss is not finite ({losses.tolist()}); lower the learning rates"
            )
        values = {
            f"loss_{level}": float(value) for level, value in zip(LEVELS, losses, strict=True)
        }
        values |= {
            f"{name}_{level}": float(facts[name])
            for level, facts in seen.items()
            for name in COUNTS
        }
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, count + 1)

    def end_epoch(self, step, epoch, lr, loss):
        """A row of the history; the weights are kept if they are the best so far (the earliest wins a tie)."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        temperature = {
            f"t_{level}": float(value)
            for level, value in zip(LEVELS, self.model.log_scale.detach().exp(), strict=True)
        }
        row = {
            "step": step,
            "epoch": epoch,
            "lr": lr,
            "loss": sum(means[f"loss_{level}"] for level in LEVELS),
            "val_loss": loss,
        }
        if loss < self.best:
            self.best, self.best_state = loss, self.weights()
            self.history = [{**earlier, "selected": False} for earlier in self.history]
        self.history.append(
            row | dict(sorted(means.items())) | temperature | {"selected": loss <= self.best}
        )
        self.sums = {}

    def save(self, step):
        """Rank 0 writes; the random state of every process goes in."""
        if self.path is None:
            return
        resume.write(
            self.path,
            self.digest,
            step=step,
            history=self.history,
            best=self.best,
            best_state=self.best_state,
            sums=self.sums,
            model=self.weights(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
        )

    def load(self):
        """Number of steps done: 0, or those of the file of the same digest; DataError where the file is another run's."""
        if self.path is None or not self.path.is_file():
            return 0
        content = resume.read(self.path, self.digest)
        if content is None:
            raise DataError(
                f"{self.path}: of other settings, data or code; delete it to train from the start"
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        resume.go_on(content)
        self.history, self.best, self.best_state, self.sums = (
            content[key] for key in ("history", "best", "best_state", "sums")
        )
        return content["step"]
