"""Fine-tuning on findings of both eyes.

Trains a linear head on the frozen image encoder, or the whole image encoder. Input: a pre-trained
RetClip and a patients table with 0/1 columns. Output: probabilities of every
    visit, and one row per
epoch. The epoch with the highest validation AUROC is chosen (of equal ones the earliest) and its
test split is scored once. The released code reports the maximum over epochs on the test set. That
number exists here only as `oracle_upstream`, to show the size of its bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress

from clipdr import DataError
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits, plan
from clipdr.pretrain.evaluation.both_eyes import (
    BothEyes,
    Protocol,
    flip_upside_down,
    parameter_groups,
    predict,
    protocol_of,
)
from clipdr.pretrain.evaluation.finding_scores import findings, score_findings
from clipdr.pretrain.evaluation.multilabel import METRICS, macro

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clipdr.pretrain.model import RetClip
    from clipdr.pretrain.settings import Rules


def finetune_run(
    run_folder: Path,
    table: pd.DataFrame,
    data: Path,
    labels: Sequence[str],
    protocol: str,
    *,
    epochs: int | None = None,
    lr_tower: float | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fine-tune a pre-training run and score its test split.

    Args:
        run_folder: Folder of a finished pre-training run.
        table: Patients table.
        data: Folder with manifests/ and store/ of its images.
        labels: 0/1 columns of the table.
        protocol: Key of `PROTOCOLS`.
        epochs: Instead of the protocol's.
        lr_tower: Instead of the protocol's.
        seed: Of the head, the batches and the augmentation.
        device: Device that trains.

    Returns:
        Scores (metric, value, low, high, findings, undefined, protocol, seed, n; the last row is
        oracle_upstream), and the history (epoch, loss, val_auroc, selected).

    Raises:
        DataError: As `protocol_of`, `finetune` and `finding_scores.findings`.
    """
    from clipdr.pretrain import run

    chosen = protocol_of(protocol, epochs, lr_tower)
    model, rules = run.load(run_folder)
    probability, history = finetune(
        model, table, data, rules, labels, chosen, seed=seed, device=device
    )
    split = table["split"].to_numpy(object)
    scores, _ = score_findings(
        findings(table, labels), probability, split, patients_table.patients(table), labels
    )
    oracle = {
        "metric": "oracle_upstream",
        "value": max(row["test_auroc_unused"] for row in history),
    }
    rows = pd.DataFrame([*scores, oracle]).assign(
        protocol=protocol, seed=seed, n=int((split == "test").sum())
    )
    return rows, pd.DataFrame(history).drop(columns="test_auroc_unused")


def finetune(
    model: RetClip,
    table: pd.DataFrame,
    data: Path,
    rules: Rules,
    labels: Sequence[str],
    protocol: Protocol,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Train a head, and by protocol the image encoder with it.

    Args:
        model: Pre-trained network; its image encoder is changed in place where the protocol trains
            it.
        table: Patients table, N rows.
        data: Folder with manifests/ and store/ of its images.
        rules: Settings of the pre-training run.
        labels: C 0/1 columns of the table.
        protocol: Settings of fine-tuning.
        seed: Of the head, the batches and the augmentation.
        device: Device that trains.

    Returns:
        (N, C) float64 probabilities of every row with the chosen epoch; and one dict per epoch
        (epoch, loss, val_auroc, test_auroc_unused, selected).

    Raises:
        DataError: If no finding has both values on validation.
    """
    finding, split = findings(table, labels), table["split"].to_numpy(object)
    changes = {"flip": "none", "permute": False} | {
        name: getattr(protocol, name) for name in ("crop", "jitter", "rotate", "erase")
    }
    visits = Visits(table, data, rules.model_copy(update=changes), model.text)
    torch.manual_seed(seed)
    network = BothEyes(model, len(labels)).to(device)
    frozen = protocol.lr_tower == 0
    optimizer = torch.optim.AdamW(parameter_groups(network, protocol), eps=1e-6)
    train = np.flatnonzero(split == "train")
    batches = plan(visits.patient[train], protocol.batch_size, protocol.epochs, seed)
    target = torch.from_numpy(finding).float()
    history: list[dict[str, Any]] = []
    best, best_probability, console = -1.0, None, Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("fine-tuning", total=len(batches))
        for step, (epoch, chosen) in enumerate(batches):
            network.train()
            if frozen:
                network.model.eval()
            batch = flip_upside_down(
                visits.batch(train[chosen], epoch, seed), protocol.vertical, (seed, epoch, step)
            ).to(device)
            loss = F.binary_cross_entropy_with_logits(
                network(batch), target[train[chosen]].to(device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.advance(task)
            if step + 1 == len(batches) or batches[step + 1][0] != epoch:
                probability = predict(network, visits, device)
                scores = {
                    name: macro_auroc(finding, probability, split == name)
                    for name in ("val", "test")
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
                    best, best_probability = scores["val"], probability
    if best_probability is None:
        raise DataError(
            "finetune: no finding has both values on validation. "
            "Add validation patients to the table."
        )
    selected = next(number for number, row in enumerate(history) if row["val_auroc"] == best)
    rows = [row | {"selected": number == selected} for number, row in enumerate(history)]
    return best_probability, rows


def macro_auroc(finding: np.ndarray, probability: np.ndarray, chosen: np.ndarray) -> float:
    """Return the macro AUROC of some rows; NaN where no finding has both values."""
    return float(macro(METRICS["macro_auroc"], finding[chosen], probability[chosen])[0][0])
