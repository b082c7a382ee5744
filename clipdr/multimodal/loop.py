"""Training loop of the multimodal system. It reads training and validation eyes, never test eyes.

One process, or several started by torchrun (gloo on CPU, nccl on GPUs): every process computes the
loss of the whole global batch from gathered vectors, and the mean of the gradients is exact. With
dropout, several processes sample other masks than one process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist

from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities
from clipdr.evaluation.retrieval import recall, similarity
from clipdr.multimodal.fusion import MOST, SCALES
from clipdr.multimodal.losses import class_weights, loss_terms, weighted_sum
from clipdr.multimodal.prediction import embed, predict
from clipdr.training.distributed import world
from clipdr.training.schedules import warmup_cosine
from clipdr.training.state import TrainingState, Weights, progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clipdr.multimodal.data.loader import EyeBatch, EyeDataset
    from clipdr.multimodal.fusion import Multimodal
    from clipdr.multimodal.settings import Settings

# rule of selection -> validation score; each rule has weights of its own
CHOICES = {"grading": "val_qwk", "retrieval": "val_r1"}


class Fit(NamedTuple):
    """Result of a training.

    Attributes:
        history: One row per evaluation.
        states: {"grading", "retrieval", "last": weights}.
    """

    history: pd.DataFrame
    states: dict[str, Weights]


def build_optimizer(model: Multimodal) -> torch.optim.AdamW:
    """AdamW: image and text encoder have one rate (key `base`), new parts another.

    Parameters with fewer than two axes have no weight decay.
    """
    setting = model.setting
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            encoder = name.startswith(("image.", "text."))
            groups.setdefault((encoder, parameter.ndim >= 2), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "base": setting.tower_lr if encoder else setting.lr,
                "weight_decay": setting.weight_decay * decay,
            }
            for (encoder, decay), members in sorted(groups.items())
        ],
        lr=setting.lr,
    )


def set_rate(optimizer: torch.optim.Optimizer, setting: Settings, step: int, steps: int) -> None:
    """Set the learning rates of a step: linear warm-up, then half a cosine to 0."""
    factor = warmup_cosine(step, steps, max(1, round(setting.warmup * steps)))
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor


def train_step(
    model: Multimodal,
    optimizer: torch.optim.Optimizer,
    batch: EyeBatch,
    weights: Mapping[str, torch.Tensor],
    reconstruct: bool,
) -> dict[str, torch.Tensor]:
    """Make one optimizer step.

    Args:
        model: Model.
        optimizer: Its optimizer.
        batch: This process's share of the global batch, on the model's device.
        weights: {scale: (5,) weights of the grades}.
        reconstruct: Whether masked patches and words are reconstructed in this step.

    Returns:
        {term of the loss, "loss": detached scalar}, equal in every process.
    """
    model.train()
    terms = loss_terms(model, batch, weights, reconstruct)
    loss = weighted_sum(terms, model.setting.losses)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(model)
    torch.nn.utils.clip_grad_norm_(
        [p for p in model.parameters() if p.grad is not None], model.setting.clip_norm
    )
    optimizer.step()
    with torch.no_grad():
        model.log_scale.clamp_(max=float(np.log(MOST)))
    return {name: value.detach() for name, value in terms.items()} | {"loss": loss.detach()}


def average_gradients(model: torch.nn.Module) -> None:
    """Average every gradient over the processes.

    All of them compute the same loss, so that the same parameters have a gradient.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def fit(
    model: Multimodal,
    datasets: Mapping[str, EyeDataset],
    seed: int,
    resume: Path | None = None,
    digest: str = "",
    device: torch.device | str = "cpu",
) -> Fit:
    """Train a model and select its weights on validation.

    "grading" takes the best mean QWK of both scales, "retrieval" the best mean strict R@1 of both
    directions.

    Args:
        model: Model before its first step.
        datasets: {"train", "val": eyes}.
        seed: Seed of the batches.
        resume: Checkpoint from which an interrupted run resumes, with bitwise identical results.
            It is written at every evaluation, and the caller deletes it.
        digest: Digest of settings, data and code. A checkpoint with another digest is ignored.
        device: Device of this process.

    Raises:
        DataError: If the loss is not finite.
    """
    rank, processes = world()
    setting, train = model.setting, datasets["train"]
    if setting.shuffle == "rows":
        train = train.with_shuffled_rows(seed)
    elif setting.shuffle == "pairs":
        train = train.with_shuffled_narratives(seed)
    weights = {
        name: class_weights(np.bincount(grade[grade >= 0].numpy(), minlength=5))
        for name, grade in train.grade.items()
    }
    per_epoch = train.steps_per_epoch()
    steps = max(1, round(setting.epochs * per_epoch))
    marks = {
        max(1, round(steps * (number + 1) / setting.evaluations))
        for number in range(setting.evaluations)
    }
    optimizer = build_optimizer(model.to(device))
    state = State(model, {"main": optimizer}, resume, digest)
    start = state.load()
    reconstruction = setting.losses.mim > 0 or setting.losses.mlm > 0
    with progress(steps, start) as advance:
        for step in range(start, steps):
            set_rate(optimizer, setting, step, steps)
            reconstruct = reconstruction and step % setting.every == 0
            batch = train.batch(step, seed, rank, processes).to(device)
            state.add(train_step(model, optimizer, batch, weights, reconstruct))
            advance()
            if step + 1 in marks:
                row = {"step": step + 1, "epoch": (step + 1) / per_epoch}
                row |= state.means(step + 1)
                row["scale"] = float(model.scale.detach())
                state.evaluate(row, validate(model, datasets["val"], device))
                state.save(step + 1)
    return Fit(pd.DataFrame(state.history), state.selected | {"last": state.weights()})


def validate(
    model: Multimodal, val: EyeDataset, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Score the validation eyes.

    Returns:
        {"val_qwk_icdr", "val_qwk_sdrg", "val_qwk" (their mean), "val_r1" (mean strict R@1 of both
        directions): value}; NaN where undefined.
    """
    scores, logits = {}, predict(model, val, device)
    for name in SCALES:
        grade = val.grade[name].numpy()
        graded = grade >= 0
        probability = probabilities(logits[name][graded])
        value = METRICS["qwk"](grade[graded], probability)[0] if graded.any() else np.nan
        scores[f"val_qwk_{name}"] = float(value)
    with np.errstate(all="ignore"):
        defined = [value for value in scores.values() if not np.isnan(value)]
        scores["val_qwk"] = float(np.mean(defined)) if defined else np.nan
    vectors = embed(model, val, device)
    score = similarity(vectors["text"], vectors["image"])
    return scores | {"val_r1": float(np.mean([recall(score, 1).mean(), recall(score.T, 1).mean()]))}


class State(TrainingState):
    """Training state of the multimodal system, with two rules of selection."""

    def evaluate(self, row: dict[str, float], scores: dict[str, float]) -> None:
        """Append a row to the history, and keep the weights that are the best so far.

        A rule whose score is never defined keeps the weights of the first evaluation.

        Args:
            row: Columns of history.csv that are known before validation.
            scores: Scores of `validate`.
        """
        for rule, name in CHOICES.items():
            if self.improves(rule, scores[name]) or rule not in self.selected:
                self.selected[rule] = self.weights()
        self.history.append(row | scores)
