"""Training: eyes and settings -> the weights that grade best and those that retrieve best on validation. No test eye is touched here.

One process, or several started by torchrun (gloo on CPU, nccl on GPUs): every process computes the loss of the whole global batch from
gathered vectors, and the mean of the gradients is exact. With dropout above 0 the processes draw other masks than one process would.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress

from clipdr import DataError
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities
from clipdr.evaluation.retrieval import recall, similarity
from clipdr.methods.corn import log_probability
from clipdr.multimodal.data import eye_table, narrative, splits
from clipdr.multimodal.data.loader import CHUNK, Visits
from clipdr.multimodal.data.tokenizer import Pretrained, Words, tokens
from clipdr.multimodal.fusion import MOST, SCALES, Multimodal
from clipdr.multimodal.losses import class_weights, parts, total
from clipdr.multimodal.towers import text_folder
from clipdr.training import checkpoint as resume
from clipdr.training.distributed import world

CHOICES = ("grading", "retrieval")  # rules of selection; each has weights of its own


class Fit(NamedTuple):
    history: pd.DataFrame
    states: dict  # {"grading": weights, "retrieval": weights, "last": weights}


def assemble(eyes, store, setting, seed):
    """Model and {part: Visits} of a run: split, constants, vocabulary and class weights come from the training rows alone."""
    if setting.split == "image_leaky":
        eyes = splits.split_images(eyes, seed, setting.fractions)
    elif (eyes["split"] == "").all():
        eyes = splits.split(eyes, seed, setting.fractions)
    else:
        splits.check_split(eyes)
    train = eyes[eyes["split"] == "train"]
    if train.empty or not (eyes["split"] == "val").any():
        raise DataError(
            "multimodal: training and validation need eyes; look at the column split of the eye table"
        )
    constants = eye_table.constants(train)
    visits = {
        part: Visits(eyes[eyes["split"] == part], store, setting, constants)
        for part in ("train", "val", "test")
    }
    tokenizer = tokenizer_of(setting, visits["train"])
    torch.manual_seed(seed)
    model = Multimodal(setting, visits["train"].row.shape[1], tokenizer)
    for one in visits.values():
        one.tokenizer, one.grid = tokenizer, model.image.grid
    return model, visits, constants


def tokenizer_of(setting, train):
    """Tokenizer of the settings; the small one learns its words from every wording of the training narratives."""
    if setting.text_tower != "small":
        return Pretrained(text_folder(setting.text_tower))
    found = list(dict.fromkeys([*train.said, *(train.told or [])]))
    wordings = len(narrative.WORDINGS["eye"])
    return Words.learn(
        narrative.sentence(*one, wording)
        for said in found
        for one in said
        for wording in range(wordings)
    )


def optimizer_of(model):
    """AdamW: towers at their own rate, new parts at another; no decay for parameters with fewer than two axes."""
    setting = model.setting
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tower = name.startswith(("image.", "text."))
            groups.setdefault((tower, parameter.ndim >= 2), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "base": setting.tower_lr if tower else setting.lr,
                "weight_decay": setting.weight_decay * decay,
            }
            for (tower, decay), members in sorted(groups.items())
        ],
        lr=setting.lr,
    )


def set_rate(optimizer, setting, step, steps):
    """Linear warm-up, then half a cosine to 0."""
    warm = max(1, round(setting.warmup * steps))
    factor = (
        (step + 1) / warm
        if step < warm
        else 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))
    )
    for group in optimizer.param_groups:
        group["lr"] = float(group["base"] * factor)


def train_step(model, optimizer, visit, weights, rebuild):
    """One step on this process's part of the batch -> {term: value, "loss": value}, the same in every process."""
    model.train()
    found = parts(model, visit, weights, rebuild)
    loss = total(found, model.setting.losses)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(model)
    torch.nn.utils.clip_grad_norm_(
        [p for p in model.parameters() if p.grad is not None], model.setting.clip_norm
    )
    optimizer.step()
    with torch.no_grad():
        model.log_scale.clamp_(max=float(np.log(MOST)))
    return {name: value.detach() for name, value in found.items()} | {"loss": loss.detach()}


def average_gradients(model):
    """Mean of every gradient over processes. Which parameters have one is the same in all of them, since all compute the same loss."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def fit(model, visits, seed, resume=None, digest="", device="cpu"):
    """Train; returns Fit. Choices are made on validation alone: mean QWK of the scales, mean strict R@1 of both directions.

    resume : file that a cut run goes on from, bit for bit; written at every evaluation, for the caller to delete
    digest : of settings, table and store; a file with another digest is not resumed from

    Raises DataError on a loss that is not finite.
    """
    rank, count = world()
    setting, train = model.setting, visits["train"]
    if setting.shuffle == "rows":
        train = train.shuffled(seed)
    elif setting.shuffle == "pairs":
        train = train.repaired(seed)
    weights = {
        name: class_weights(np.bincount(grade[grade >= 0].numpy(), minlength=5))
        for name, grade in train.grade.items()
    }
    steps = max(1, round(setting.epochs * train.per_epoch()))
    marks = {
        max(1, round(steps * (place + 1) / setting.evaluations))
        for place in range(setting.evaluations)
    }
    optimizer = optimizer_of(model.to(device))
    state = State(model, optimizer, resume, digest)
    start = state.load()
    console = Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=rank > 0 or not console.is_terminal,
    ) as bar:
        task = bar.add_task("training", total=steps, completed=start)
        for step in range(start, steps):
            set_rate(optimizer, setting, step, steps)
            rebuild = (
                setting.losses.mim > 0 or setting.losses.mlm > 0
            ) and step % setting.every == 0
            visit = train.batch(step, seed, rank, count).to(device)
            state.add(train_step(model, optimizer, visit, weights, rebuild))
            bar.advance(task)
            if step + 1 in marks:
                state.evaluate(
                    {"step": step + 1, "epoch": (step + 1) / train.per_epoch()},
                    validate(model, visits["val"], device),
                )
                state.save(step + 1)
    return Fit(
        pd.DataFrame(state.history),
        {name: one for name, (_, one) in state.best.items()} | {"last": copied(model)},
    )


def validate(model, val, device="cpu"):
    """{"val_qwk_icdr", "val_qwk_sdrg", "val_qwk", "val_r1"}; NaN where undefined."""
    found, logits = {}, predict(model, val, device)
    for name in SCALES:
        grade = val.grade[name].numpy()
        known = grade >= 0
        value = (
            METRICS["qwk"](grade[known], probabilities(logits[name][known]))[0]
            if known.any()
            else np.nan
        )
        found[f"val_qwk_{name}"] = float(value)
    with np.errstate(all="ignore"):
        defined = [value for value in found.values() if value == value]
        found["val_qwk"] = float(np.mean(defined)) if defined else np.nan
    one = embed(model, val, device)
    score = similarity(one["text"], one["image"])
    return found | {"val_r1": float(np.mean([recall(score, 1).mean(), recall(score.T, 1).mean()]))}


@torch.no_grad()
def predict(model, visits, device="cpu", without=(), absent=None):
    """{scale: (N, 5) float32 logits} of the grading pass.

    without : modalities masked for every eye;  absent : {modality: (N,) bool}, True where it is masked
    """
    model.eval()
    found, start = {name: [] for name in SCALES}, 0
    for visit in visits.chunks():
        visit, size = visit.to(device), len(visit.image)
        present = {name: torch.zeros(size, dtype=torch.bool, device=device) for name in without}
        for name, gone in (absent or {}).items():
            present[name] = torch.from_numpy(~gone[start : start + size]).to(device)
        start += size
        row = model.row(visit.row) if model.setting.inputs != "none" else None
        told = model.read(visit.history) if visit.history is not None else None
        summary, _ = model.join(model.see(visit.image), told, visit.history, row, present)
        for name, logits in model.grades(summary).items():
            found[name].append(
                (log_probability(logits) if model.setting.ordinal else logits).float().cpu()
            )
    return {name: torch.cat(rows).numpy() for name, rows in found.items()}


@torch.no_grad()
def embed(model, visits, device="cpu"):
    """{"image", "text", "row"}: (N, e) float32 unit vectors of one tower each. Each distinct text is encoded once and its vector shared."""
    model.eval()
    image = torch.cat(
        [model.embed(image=visit.image.to(device))["image"].cpu() for visit in visits.chunks()]
    )
    every = visits.texts(range(len(visits)))
    distinct = sorted(set(every))
    rows = []
    for start in range(0, len(distinct), CHUNK):
        token = tokens(visits.tokenizer, distinct[start : start + CHUNK], model.setting.tokens)[0]
        rows.append(model.embed(token=token.to(device))["text"].cpu())
    place = {text: number for number, text in enumerate(distinct)}
    text = torch.cat(rows)[[place[one] for one in every]]
    found = {"image": image.numpy(), "text": text.numpy()}
    if visits.setting.inputs != "none":
        found["row"] = model.embed(row=visits.row.to(device))["row"].cpu().numpy()
    return found


def copied(model):
    """State of a model on the CPU; a copy."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


class State:
    """What changes during training beside the model, and the file to go on from."""

    def __init__(self, model, optimizer, path, digest):
        self.model, self.optimizer, self.path, self.digest = (
            model,
            optimizer,
            Path(path) if path else None,
            digest,
        )
        self.history, self.best, self.sums, self.seen = [], {}, {}, {}

    def add(self, found):
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.seen[name] = self.seen.get(name, 0) + 1

    def evaluate(self, row, scores):
        """Append a row to the history; keep the weights that are best so far under either rule (the earliest wins a tie)."""
        means = {name: self.sums[name] / self.seen[name] for name in self.sums}
        if not np.isfinite(means["loss"]):
            raise DataError(
                f"training: the loss is not finite before step {row['step']} ({means}); lower the learning rate"
            )
        self.sums, self.seen = {}, {}
        for rule, name in zip(CHOICES, ("val_qwk", "val_r1"), strict=True):
            value = scores[name]
            if (
                rule not in self.best
                or value > self.best[rule][0]
                or (value == value and self.best[rule][0] != self.best[rule][0])
            ):
                self.best[rule] = value, copied(self.model)
        self.history.append(row | means | {"scale": float(self.model.scale.detach())} | scores)

    def save(self, step):
        if self.path is not None:
            best = {rule: list(pair) for rule, pair in self.best.items()}
            weights, optimizer = copied(self.model), self.optimizer.state_dict()
            resume.write(
                self.path,
                self.digest,
                step=step,
                history=self.history,
                best=best,
                model=weights,
                optimizer=optimizer,
            )

    def load(self):
        """Steps done: 0, or those of a file with the same digest."""
        content = resume.read(self.path, self.digest)
        if content is None:
            return 0
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        resume.go_on(content)
        self.history, self.best = (
            content["history"],
            {rule: tuple(pair) for rule, pair in content["best"].items()},
        )
        return content["step"]
