"""Findings of both eyes by gradient descent: a linear head on the frozen tower, or the whole tower fine-tuned.

Input: a pre-trained RetClip, a patients table with 0/1 columns. Output: probabilities of every visit, and a row per epoch. The epoch is
chosen by validation AUROC (ties: the earlier), the test split is scored once with it. The released code reports the maximum over epochs
on the test set: that number exists here only as `oracle_upstream`, to show the size of the bias.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from torch import nn

from clipdr import DataError
from clipdr.pretrain.data.loader import Visits, plan
from clipdr.pretrain.evaluation.linear_probe import findings
from clipdr.pretrain.evaluation.multilabel import METRICS, macro


@dataclass(frozen=True)
class Protocol:
    """lr_tower 0 freezes the tower. Augmentation as settings.Rules; vertical: probability of a flip of both eyes, upside down."""

    lr_head: float
    decay_head: float
    betas_head: tuple[float, float]
    lr_tower: float = 0.0
    decay_tower: float = 0.0
    batch_size: int = 16
    epochs: int = 50
    crop: float = 0.8
    jitter: float = 0.0
    rotate: float = 0.0
    erase: float = 0.2
    vertical: float = 0.5


PROTOCOLS = {
    "linear": Protocol(1e-3, 0.01, (0.9, 0.99)),
    "full": Protocol(
        1e-3, 0.0, (0.9, 0.999), 2e-6, 0.02, epochs=100, crop=0.6, jitter=0.1, rotate=15, erase=0.1
    ),
}


class BothEyes(nn.Module):
    """[v_l ; v_r] -> logits of C findings; one eye alone fills both halves."""

    def __init__(self, model, count):
        super().__init__()
        self.model, self.head = model, nn.Linear(2 * model.width, count)

    def forward(self, batch):
        left, right = self.model.raw(batch.image, batch.present).unbind(1)
        there = batch.present[..., None]
        return self.head(
            torch.cat(
                [torch.where(there[:, 0], left, right), torch.where(there[:, 1], right, left)], 1
            )
        )


def finetune(model, table, data, rules, labels, protocol, *, seed=0, device="cpu"):
    """Train by a Protocol -> (probabilities (N, C) of every row with the chosen epoch, history: list of dicts).

    Raises DataError where validation has no finding with both values.
    """
    finding, split = findings(table, labels), table["split"].to_numpy(object)
    changes = {"flip": "none", "permute": False} | {
        name: getattr(protocol, name) for name in ("crop", "jitter", "rotate", "erase")
    }
    rows = Visits(table, data, rules.model_copy(update=changes), model.text)
    torch.manual_seed(seed)
    network = BothEyes(model, len(labels)).to(device)
    frozen = protocol.lr_tower == 0
    optimizer = torch.optim.AdamW(groups(network, protocol), eps=1e-6)
    train = np.flatnonzero(split == "train")
    batches = plan(rows.patient[train], protocol.batch_size, protocol.epochs, seed)
    wanted = torch.from_numpy(finding).float()
    history, best, answer, console = [], -1.0, None, Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("fine-tuning", total=len(batches))
        for place, (epoch, chosen) in enumerate(batches):
            network.train()
            if frozen:
                network.model.eval()
            batch = upside_down(
                rows.batch(train[chosen], epoch, seed), protocol.vertical, (seed, epoch, place)
            ).to(device)
            loss = F.binary_cross_entropy_with_logits(
                network(batch), wanted[train[chosen]].to(device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.advance(task)
            if place + 1 == len(batches) or batches[place + 1][0] != epoch:
                probability = answers(network, rows, device)
                scores = {
                    part: score(finding, probability, split == part) for part in ("val", "test")
                }
                history.append(
                    {
                        "epoch": epoch + 1,
                        "loss": float(loss.detach()),
                        "val_auroc": scores["val"],
                        "test_auroc_unused": scores["test"],
                    }
                )
                if scores["val"] > best:
                    best, answer = scores["val"], probability
    if answer is None:
        raise DataError(
            "finetune: AUROC of validation is undefined at every epoch; no finding has both values there"
        )
    chosen = next(number for number, row in enumerate(history) if row["val_auroc"] == best)
    return answer, [row | {"selected": number == chosen} for number, row in enumerate(history)]


def groups(network, protocol):
    """AdamW's groups: the head, and where it is trained the tower, its vectors without decay."""
    found = [
        {
            "params": network.head.parameters(),
            "lr": protocol.lr_head,
            "weight_decay": protocol.decay_head,
            "betas": protocol.betas_head,
        }
    ]
    network.model.requires_grad_(False)
    if protocol.lr_tower:
        network.model.image.requires_grad_(True)
        for decays in (True, False):
            part = [
                parameter
                for parameter in network.model.image.parameters()
                if (parameter.ndim >= 2) == decays
            ]
            found.append(
                {
                    "params": part,
                    "lr": protocol.lr_tower,
                    "weight_decay": protocol.decay_tower * decays,
                    "betas": (0.9, 0.98),
                }
            )
    return found


def upside_down(batch, share, key):
    """Both eyes of some patients flipped vertically."""
    chosen = torch.from_numpy(np.random.default_rng(key).random(len(batch.image)) < share)[
        :, None, None, None, None
    ]
    return batch._replace(image=torch.where(chosen, batch.image.flip(-2), batch.image))


@torch.no_grad()
def answers(network, rows, device, count=64):
    """Probabilities of all rows, never augmented, (N, C) float64."""
    network.eval()
    parts = [
        rows.batch(np.arange(start, min(start + count, len(rows)))).to(device)
        for start in range(0, len(rows), count)
    ]
    return torch.cat([network(part).double().sigmoid().cpu() for part in parts]).numpy()


def score(finding, probability, chosen):
    return float(macro(METRICS["macro_auroc"], finding[chosen], probability[chosen])[0][0])
