"""Training loop of the grading methods.

Neither `fit` nor a method can see the held-out domain, because no argument passes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities
from clipdr.methods.base import Source
from clipdr.models.text_tower import TextTower
from clipdr.training import schedules
from clipdr.training.state import TrainingState, Weights, cpu_copy, progress
from clipdr.training.swad import Swad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy as np

    from clipdr.config.job import Training
    from clipdr.data.loader import Batch, Rows
    from clipdr.methods.base import Method

    Optimizers = Mapping[str, torch.optim.Optimizer]

SELECTION = "auc"  # on pooled source validation: the selecting metric is the reported metric
RULE = "source_val"  # the rule of selection of the headline
WARM = 0.3  # share of the budget before which no checkpoint is selected (GDRBench)
WARMUP_LR = 1e-5  # learning rate of CoOp's first epoch
# Images per batch. Feature maps of 16 images fit into the cache of a CPU, which is 1.5 times as
# fast as 64 (EfficientNet-lite0, 112 px).
EVALUATION_BATCH = {"cpu": 16, "cuda": 64}
MOST = 50  # evaluations under SWAD: one per epoch, at least 2 % of the budget apart

OPTIMIZERS: Mapping[str, Callable[[Iterable, float, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr, decay: torch.optim.SGD(
        parameters, lr, momentum=0.9, nesterov=True, weight_decay=decay
    ),
    "radam": lambda parameters, lr, decay: torch.optim.RAdam(parameters, lr, weight_decay=decay),
    "adamw": lambda parameters, lr, decay: torch.optim.AdamW(parameters, lr, weight_decay=decay),
}


class Fit(NamedTuple):
    """Result of a training.

    Attributes:
        history: One row per evaluation; column `selected` marks the evaluation whose weights were
            chosen, or those whose steps were averaged.
        states: {rule: weights}, the rule of the headline first: source_val (or swad), last. Trained
            parts and buffers only.
        kept: {step: weights} of every evaluation that could have been selected, if asked for.
    """

    history: pd.DataFrame
    states: dict[str, Weights]
    kept: dict[int, Weights]


def fit(
    method: Method,
    train: Rows,
    val: Rows,
    training: Training,
    *,
    seed: int,
    resume: Path | None = None,
    digest: str = "",
    keep: bool = False,
    device: torch.device | str = "cpu",
) -> Fit:
    """Train a method on the source domains.

    Args:
        method: Method to train, on `device`.
        train: Training rows of the source domains.
        val: Validation rows of the source domains.
        training: Training rules.
        seed: Seed of the batches.
        resume: Checkpoint from which an interrupted run resumes, with bitwise identical results.
            It is written at every evaluation, and the caller deletes it.
        digest: Digest of settings, data and code. A checkpoint with another digest is ignored.
        keep: Whether to return `Fit.kept`, for a later choice by another rule.
        device: Device of the batches.

    Returns:
        The history, and the weights selected on source validation (under SWAD: averaged) and last.

    Raises:
        DataError: If the loss is not finite or no checkpoint can be selected.
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
    swad = Swad(training.rise) if training.average == "swad" and steps else None
    state = State(method, optimizers, resume, digest, swad, {} if keep else None)
    start = state.load()
    with progress(steps, start) as advance:
        for step in range(start, steps):
            set_rate(optimizers, training, step, steps, per_epoch)
            batch = train.batch(step, training.batch_size, seed, training.sampler).to(device)
            parts = train_step(method, optimizers, batch, training.clip_norm)
            method.after_step(step + 1)
            if method.restarts(step + 1):
                clear_moments(optimizers)
            state.add(parts)
            advance()
            if step + 1 in marks:
                row = {
                    "step": step + 1,
                    "epoch": (step + 1) / per_epoch,
                    "lr": optimizers["main"].param_groups[0]["lr"],
                }
                row |= state.losses(step + 1)
                scores = validate(method, val, device)
                state.evaluate(row, scores, eligible=step + 1 > WARM * steps)
                state.save(step + 1)
    return state.finish()


def source_of(train: Rows, val: Rows, training: Training) -> Source:
    """Return what a method may see before the first step, under some training rules."""
    per_epoch = max(1, len(train) // train.size(training.batch_size, training.sampler))
    return Source(train, val, per_epoch, round(training.epochs * per_epoch))


def evaluation_steps(training: Training, steps: int) -> list[int]:
    """Return the numbers of steps after which source validation is scored.

    They are spaced evenly over the budget. SWAD evaluates once per epoch, at most MOST times.
    """
    count = training.evaluations
    if training.average == "swad":
        count = max(count, min(MOST, int(training.epochs)))
    return sorted({max(1, round(steps * (i + 1) / count)) for i in range(count)}) if steps else []


def train_step(
    method: Method, optimizers: Optimizers, batch: Batch, clip_norm: float
) -> dict[str, torch.Tensor]:
    """Train every phase of a method on one batch.

    Args:
        method: Method to train.
        optimizers: {phase: optimizer}.
        batch: Training batch on the method's device.
        clip_norm: Largest norm of the gradient of a phase; 0 for no clipping.

    Returns:
        {part of the loss: detached scalar}.
    """
    method.train()
    losses = {}
    for phase, parts in method.phases(batch):
        optimizer = optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        loss: Any = sum(parts.values())
        loss.backward()
        if clip_norm:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        losses |= {name: value.detach() for name, value in parts.items()}
    return losses


def clear_moments(optimizers: Optimizers) -> None:
    """Reset the optimizer state but keep the learning-rate schedule.

    DomainBed creates a new optimizer that its scheduler no longer updates.
    """
    for optimizer in optimizers.values():
        optimizer.state.clear()


def set_rate(
    optimizers: Optimizers, training: Training, step: int, steps: int, per_epoch: int
) -> None:
    """Set the learning rate of a step: WARMUP_LR in the first epochs, then the schedule.

    Args:
        optimizers: {phase: optimizer}. The rate of a parameter group is multiplied by its key
            `lr_multiplier`.
        training: Training rules.
        step: Number of steps done.
        steps: Number of steps of the training.
        per_epoch: Number of steps of an epoch.
    """
    rate = training.lr * schedules.factor(training.schedule, step / steps, training.milestone)
    if step < training.warmup_epochs * per_epoch:
        rate = WARMUP_LR
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_multiplier", 1.0)


@torch.no_grad()
def predict(method: Method, rows: Rows, device: torch.device | str = "cpu") -> np.ndarray:
    """Predict the logits of all rows in order, (N, 5) float32."""
    method.eval()
    chunks = rows.chunks(EVALUATION_BATCH[torch.device(device).type])
    return torch.cat([method(batch.to(device).image).float().cpu() for batch in chunks]).numpy()


def validate(method: Method, val: Rows, device: torch.device | str) -> dict[str, float]:
    """Score the pooled source validation images.

    Returns:
        {column of history.csv: value}: val_loss, val_auc, val_qwk, and val_auc_D of each source
        domain D. Undefined values are NaN.
    """
    logits = predict(method, val, device)
    probability, grade, names = probabilities(logits), val.grade.numpy(), val.names
    scores = {"val_loss": F.cross_entropy(torch.from_numpy(logits).double(), val.grade).item()}
    scores |= {
        f"val_{metric}": float(METRICS[metric](grade, probability)[0]) for metric in ("auc", "qwk")
    }
    return scores | {
        f"val_auc_{domain}": float(
            METRICS["auc"](grade[names == domain], probability[names == domain])[0]
        )
        for domain in dict.fromkeys(names)
    }


def trained(method: Method) -> Weights:
    """Copy what is saved, selected and resumed: the state of a method without frozen encoders."""
    return cpu_copy(live(method))


def live(method: Method) -> dict[str, torch.Tensor]:
    """Return the tensors that `trained` copies."""
    frozen = tuple(
        f"{name}." for name, module in method.named_modules() if isinstance(module, TextTower)
    )
    return {key: value for key, value in method.state_dict().items() if not key.startswith(frozen)}


def restore(method: Method, state: Weights) -> None:
    """Load what `trained` returned.

    Raises:
        DataError: If the weights do not fit the method.
    """
    _, unexpected = method.load_state_dict(state, strict=False)
    missing = set(trained(method)) - set(state)
    if unexpected or missing:
        raise DataError(
            f"weights do not fit the method: {sorted(missing)[:2]} missing, "
            f"{unexpected[:2]} unknown. Train that run again."
        )


class State(TrainingState):
    """Training state of a grading method, with SWAD and checkpoints for later selection.

    Args:
        method: Method to train.
        optimizers: {phase: optimizer}.
        path: Checkpoint, or None.
        digest: Digest of settings, data and code.
        swad: Weight average; None to select one evaluation.
        kept: {step: weights} to fill; None to keep no further weights.
    """

    def __init__(
        self,
        method: Method,
        optimizers: Optimizers,
        path: Path | None,
        digest: str,
        swad: Swad | None = None,
        kept: dict[int, Weights] | None = None,
    ) -> None:
        """Create the state before the first step."""
        super().__init__(method, optimizers, path, digest)
        self.method, self.swad, self.kept = method, swad, kept

    def weights(self) -> Weights:
        """Copy of the trained parts, see `trained`."""
        return trained(self.method)

    def load_weights(self, weights: Weights) -> None:
        """Load what `weights` returned, see `restore`."""
        restore(self.method, weights)

    def add(self, values: Mapping[str, torch.Tensor | float]) -> None:
        """Add the losses of a step to the sums, and its weights to the average."""
        super().add(values)
        if self.swad:
            self.swad.update(live(self.method))

    def losses(self, step: int) -> dict[str, float]:
        """Return the mean loss and its parts since the last evaluation: {"loss", part: value}.

        Raises:
            DataError: If one is not finite.
        """
        means = self.means(step, per_step=True)
        return {"loss": sum(means.values())} | means

    def evaluate(self, row: dict[str, Any], scores: dict[str, float], eligible: bool) -> None:
        """Append a row to the history and select the weights if they are the best so far.

        Args:
            row: Columns of history.csv that are known before validation; `step` is one of them.
            scores: Scores of `validate`.
            eligible: Whether this evaluation may be selected.
        """
        if self.swad:
            self.swad.evaluate(scores["val_loss"])
        if self.kept is not None and eligible:
            self.kept[row["step"]] = self.weights()
        better = eligible and self.improves(RULE, scores[f"val_{SELECTION}"])
        if better and not self.swad:
            self.selected[RULE] = self.weights()
        self.history.append(row | scores | {"selected": better})

    def extra(self) -> dict[str, Any]:
        """State of the average, and the checkpoints for later selection."""
        return {"swad": self.swad and self.swad.state_dict(), "kept": self.kept}

    def load_extra(self, content: dict[str, Any]) -> None:
        """Restore what `extra` returned."""
        self.kept = content["kept"]
        if self.swad:
            self.swad.load_state_dict(content["swad"])

    def finish(self) -> Fit:
        """Return the result of a finished training.

        Raises:
            DataError: If no evaluation could be selected.
        """
        chosen = [index for index, row in enumerate(self.history) if row["selected"]][-1:]
        last = self.weights()
        states = {RULE: self.selected.get(RULE, last), "last": last}
        if self.swad:
            averaged, chosen = self.swad.finish()
            states = {"swad": averaged, "last": last}
        elif self.history and not chosen:
            raise DataError(
                "training: the AUC of source validation is undefined at every evaluation. "
                "Validate on images of every grade."
            )
        rows = [row | {"selected": index in chosen} for index, row in enumerate(self.history)]
        return Fit(pd.DataFrame(rows), states, self.kept or {})
