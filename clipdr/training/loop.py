"""The one training loop. Neither `fit` nor a method can see the held-out domain: there is no argument to pass it through."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities
from clipdr.methods.base import Source
from clipdr.models.text_tower import Frozen
from clipdr.training import checkpoint as resume
from clipdr.training.swad import Swad

SELECTION = "auc"  # on pooled source validation: the selecting metric is the reported metric
WARM = 0.3  # share of the budget before which no checkpoint is selected (GDRBench)
WARMUP_LR = 1e-5  # of CoOp's first epoch
EVALUATION_BATCH = {
    "cpu": 16,
    "cuda": 64,
}  # images; maps of 16 stay in a CPU's cache: 1.5 times as fast as 64 (EfficientNet-lite0, 112 px)
MOST = 50  # evaluations under SWAD: one per epoch, at least 2 % of the budget apart

OPTIMIZERS = {
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(
        parameters, lr, momentum=0.9, nesterov=True, weight_decay=decay
    ),
    "radam": lambda parameters, lr, decay: torch.optim.RAdam(parameters, lr, weight_decay=decay),
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay),
}
SCHEDULES = {  # share of the budget that is done, milestone -> factor of the learning rate
    "constant": lambda done, milestone: 1.0,
    "step": lambda done, milestone: 1.0 if done < milestone else 0.1,
    "cosine": lambda done, milestone: 0.5 * (1 + float(np.cos(np.pi * done))),
}


class Fit(NamedTuple):
    history: pd.DataFrame  # one row per evaluation
    states: dict  # {rule: weights}, the headline's first: source_val (or swad), last; trained parts and buffers only
    kept: dict  # {step: weights} of every evaluation that could have been selected, where `keep` asks for it


def fit(method, train, val, training, *, seed, resume=None, digest="", keep=False, device="cpu"):
    """Train a method on the source domains.

    train, val : Rows of the source domains (clipdr.data.loader)
    training   : clipdr.config.job.Training
    resume     : path of the file that a cut run goes on from, bit for bit; written at every evaluation, for the caller to delete
    digest     : of the settings and inputs; a file with another digest is not resumed from
    keep       : whether Fit.kept is asked for, for a later choice by another rule
    returns      Fit: the history and the weights selected on source validation (under SWAD: averaged) and last

    Raises DataError on a non-finite loss, and where no checkpoint can be selected.
    """
    source = source_of(train, val, training)
    method.begin(source)
    groups = method.parameter_groups()
    steps, per_epoch = source.steps if groups else 0, source.steps_per_epoch
    optimizers = {
        name: OPTIMIZERS[training.optimizer](group, training.lr, training.weight_decay)
        for name, group in groups.items()
    }
    marks = evaluation_steps(training, steps)
    state = State(
        method,
        optimizers,
        resume,
        digest,
        Swad(training.rise) if training.average == "swad" and steps else None,
        {} if keep else None,
    )
    start = state.load()
    console = Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("training", total=steps, completed=start)
        for step in range(start, steps):
            set_rate(optimizers, training, step, steps, per_epoch)
            batch = train.batch(step, training.batch_size, seed, training.sampler).to(device)
            parts = train_step(method, optimizers, batch, training.clip_norm)
            method.after_step(step + 1)
            if method.restarts(step + 1):
                forget(optimizers)
            state.add(parts)
            bar.advance(task)
            if step + 1 in marks:
                row = {
                    "step": step + 1,
                    "epoch": (step + 1) / per_epoch,
                    "lr": optimizers["main"].param_groups[0]["lr"],
                }
                state.evaluate(
                    row | state.losses(step + 1),
                    validate(method, val, device),
                    eligible=step + 1 > WARM * steps,
                )
                state.save(step + 1)
    return state.finish()


def source_of(train, val, training):
    """What a method may see before the first step, under the rules of Training."""
    per_epoch = max(1, len(train) // train.size(training.batch_size, training.sampler))
    return Source(train, val, per_epoch, round(training.epochs * per_epoch))


def evaluation_steps(training, steps):
    """Numbers of steps done at which source validation is scored, evenly over the budget; SWAD wants one per epoch."""
    count = training.evaluations
    if training.average == "swad":
        count = max(count, min(MOST, int(training.epochs)))
    return sorted({max(1, round(steps * (i + 1) / count)) for i in range(count)}) if steps else []


def train_step(method, optimizers, batch, clip_norm):
    """One step of every phase of a method -> {part of the loss: detached scalar tensor}."""
    method.train()
    seen = {}
    for phase, parts in method.phases(batch):
        optimizer = optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], clip_norm
            )
        optimizer.step()
        seen |= {name: value.detach() for name, value in parts.items()}
    return seen


def forget(optimizers):
    """Drop momentum and moments; the rates stay with the schedule (DomainBed's new optimiser is left behind by its scheduler)."""
    for optimizer in optimizers.values():
        optimizer.state.clear()


def set_rate(optimizers, training, step, steps, per_epoch):
    """Learning rate of a step: the warm-up rate in the first epochs, then the schedule."""
    rate = training.lr * SCHEDULES[training.schedule](step / steps, training.milestone)
    if step < training.warmup_epochs * per_epoch:
        rate = WARMUP_LR
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("pace", 1.0)


@torch.no_grad()
def predict(method, rows, device="cpu"):
    """Logits of all rows in order, (N, 5) float32."""
    method.eval()
    chunks = rows.chunks(EVALUATION_BATCH[torch.device(device).type])
    return torch.cat([method(batch.to(device).image).float().cpu() for batch in chunks]).numpy()


def validate(method, val, device):
    """Scores of the pooled source validation images, and the AUC of each source domain: {column of history.csv: value}."""
    logits = predict(method, val, device)
    probability, grade, names = probabilities(logits), val.grade.numpy(), val.names
    scores = {"val_loss": F.cross_entropy(torch.from_numpy(logits).double(), val.grade).item()}
    scores |= {
        f"val_{metric}": float(METRICS[metric](grade, probability)[0]) for metric in ("auc", "qwk")
    }
    return scores | {
        f"val_auc_{d}": float(METRICS["auc"](grade[names == d], probability[names == d])[0])
        for d in dict.fromkeys(names)
    }


def trained(method):
    """State of a method without the frozen text tower: what is saved, selected and resumed; a copy."""
    return {key: value.detach().cpu().clone() for key, value in live(method).items()}


def live(method):
    """As `trained`, but the tensors themselves."""
    frozen = tuple(
        f"{name}." for name, module in method.named_modules() if isinstance(module, Frozen)
    )
    return {key: value for key, value in method.state_dict().items() if not key.startswith(frozen)}


def restore(method, state):
    """Load what `trained` gave; raises DataError where it does not fit the method."""
    _, unexpected = method.load_state_dict(state, strict=False)
    missing = set(trained(method)) - set(state)
    if unexpected or missing:
        raise DataError(
            f"weights do not fit the method: {sorted(missing)[:2]} missing, {unexpected[:2]} unknown; train that run again"
        )


class State:
    """What changes during training besides the method: the history, the selected weights, and the file to go on from."""

    def __init__(self, method, optimizers, path, digest, swad=None, kept=None):
        self.method, self.optimizers, self.path, self.digest = (
            method,
            optimizers,
            Path(path) if path else None,
            digest,
        )
        self.swad, self.kept = swad, kept
        self.history, self.selected, self.best, self.sums, self.since = (
            [],
            None,
            float("-inf"),
            {},
            0,
        )

    def add(self, parts):
        """Keep the sum of each part of the loss; read at the next evaluation, so that no step waits for the device."""
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.double()
        self.since += 1
        if self.swad:
            self.swad.update(live(self.method))

    def losses(self, step):
        """Mean of each part since the last evaluation: {"loss": ..., part: ...}. Raises DataError if one is not finite."""
        means = {name: float(value) / self.since for name, value in self.sums.items()}
        total = sum(means.values())
        if not np.isfinite(total):
            raise DataError(
                f"training: the loss is not finite between steps {step - self.since} and {step} ({means}); lower the learning rate"
            )
        self.sums, self.since = {}, 0
        return {"loss": total} | means

    def evaluate(self, row, scores, eligible):
        """Append a row to the history; select the weights if they are the best so far (the earliest wins a tie)."""
        if self.swad:
            self.swad.evaluate(scores["val_loss"])
        if self.kept is not None and eligible:
            self.kept[row["step"]] = trained(self.method)
        better = eligible and scores[f"val_{SELECTION}"] > self.best
        if better:
            self.best, self.selected = (
                scores[f"val_{SELECTION}"],
                None if self.swad else trained(self.method),
            )
        self.history.append(row | scores | {"selected": better})

    def save(self, step):
        if self.path is None:
            return
        resume.write(
            self.path,
            self.digest,
            step=step,
            history=self.history,
            best=self.best,
            selected=self.selected,
            swad=self.swad and self.swad.state_dict(),
            kept=self.kept,
            method=trained(self.method),
            optimizers={
                name: optimizer.state_dict() for name, optimizer in self.optimizers.items()
            },
        )

    def load(self):
        """Number of steps done: 0, or those of the file of the same digest."""
        content = resume.read(self.path, self.digest)
        if content is None:
            return 0
        restore(self.method, content["method"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        resume.go_on(content)
        self.history, self.best, self.selected, self.kept = (
            content[key] for key in ("history", "best", "selected", "kept")
        )
        if self.swad:
            self.swad.load_state_dict(content["swad"])
        return content["step"]

    def finish(self):
        """Fit of a run that is through. `selected` marks the evaluation whose weights were chosen, or those whose steps were averaged."""
        chosen = [index for index, row in enumerate(self.history) if row["selected"]][-1:]
        last = trained(self.method)
        states = {"source_val": self.selected or last, "last": last}
        if self.swad:
            averaged, chosen = self.swad.finish()
            states = {"swad": averaged, "last": last}
        elif self.history and not chosen:
            raise DataError(
                "training: AUC of source validation is undefined at every evaluation; it needs images of every grade"
            )
        history = pd.DataFrame(
            [row | {"selected": index in chosen} for index, row in enumerate(self.history)]
        )
        return Fit(history, states, self.kept or {})
