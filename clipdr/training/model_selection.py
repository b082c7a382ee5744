"""Model selection beyond one run: leave-one-source-domain-out validation, and the oracle.

- loso: for each source d, the method is trained on the other sources and scored on all of d at the
  same shares of the budget. The evaluation with the best mean over d is taken from the run. This is
  the leave-one-domain-out cross-validation of Gulrajani and Lopez-Paz (2021), who choose
  hyper-parameters by it and retrain on all sources; here it chooses the evaluation.
- oracle: the checkpoint with the best AUC on the held-out test images. It uses the test grades and
  is an upper bound, never a result.

Both choose among the evaluations of source_val (after 30 % of the budget, the earliest on a tie).
Input: checkpoints of a run, histories of its inner runs. Output: history.csv of an inner run;
selected.parquet of a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from clipdr import DataError
from clipdr.artifacts.files import replacing, write_text
from clipdr.config.job import Training
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation.metrics import METRICS
from clipdr.evaluation.predictions import probabilities, table
from clipdr.training.distributed import resolve_device
from clipdr.training.loop import SELECTION, WARM, fit, predict, restore, source_of
from clipdr.training.run import build, with_method_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clipdr.data.loader import Rows
    from clipdr.methods.base import Method
    from clipdr.training.state import Weights


def curve(
    settings: dict[str, Any],
    method: str,
    left_out: str,
    seed: int,
    *,
    manifests: Iterable[Path],
    data: Path,
    device: str = "auto",
) -> pd.DataFrame:
    """Train a method on all given domains but one, and validate on the whole of that one.

    Args:
        settings: Settings of the run.
        method: Method or variant.
        left_out: Domain that is left out.
        seed: Seed of the training.
        manifests: Manifests of the source domains of a run, without the domain that it holds out.
        data: Folder with store/ and features/.
        device: "auto", "cpu" or "cuda".

    Returns:
        History, one row per evaluation.
    """
    torch_device, settings = resolve_device(device), with_method_rules(settings, method)
    manifest = read_manifests(manifests)
    splits = fold(manifest, "dg", left_out)
    splits = {"train": splits["train"], "val": splits["test"]}
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, splits, torch_device)
    training = Training(**settings["training"])
    return fit(model, rows["train"], rows["val"], training, seed=seed, device=torch_device).history


def leave_one_out(history: pd.DataFrame, inner: Mapping[str, pd.DataFrame]) -> int | None:
    """Choose a step by leave-one-source-domain-out validation.

    Args:
        history: History of the run.
        inner: {left-out source: its curve}, evaluated as often as the run.

    Returns:
        The step; None for a method without steps.

    Raises:
        DataError: If a curve has another number of evaluations, or all scores are undefined.
    """
    if "val_auc" not in history:
        return None
    for name, rows in inner.items():
        if len(rows) != len(history):
            raise DataError(
                f"loso: {name}: {len(rows)} evaluations for {len(history)} of the run. "
                f"Train it with the settings of the run."
            )
    mean = np.mean([rows[f"val_{SELECTION}"].to_numpy() for rows in inner.values()], axis=0)
    return best_step(dict(zip(history["step"], mean, strict=True)), int(history["step"].max()))


def best_step(scores: Mapping[int, float], steps: int) -> int:
    """Return the step with the best score, the earliest on a tie.

    Args:
        scores: {step: score}. Undefined scores (NaN) and those of the first 30 % of the steps are
            never chosen.
        steps: Number of steps of the run.

    Raises:
        DataError: If no score is left.
    """
    late = {
        step: score for step, score in scores.items() if step > WARM * steps and not np.isnan(score)
    }
    if not late:
        raise DataError(
            "selection: the AUC is undefined at every evaluation. Use images of every grade."
        )
    return int(max(late, key=lambda step: late[step]))


def select(
    folder: Path,
    rules: Sequence[str],
    inner: Mapping[str, Path],
    *,
    manifests: Iterable[Path],
    data: Path,
    device: str = "auto",
) -> None:
    """Predict with the checkpoints that the rules loso and oracle select.

    Writes selected.parquet and selected.json ({rule: step}) in the run folder. A method without
    steps has one set of weights, which every rule chooses.

    Args:
        folder: Run folder with checkpoints.safetensors.
        rules: Rules, of loso and oracle.
        inner: {left-out source: path of its history.csv}, for loso.
        manifests: Manifests of all domains of the study.
        data: Folder with store/ and features/.
        device: "auto", "cpu" or "cuda".

    Raises:
        DataError: If no evaluation can be chosen or the weights do not fit the method.
    """
    folder, torch_device = Path(folder), resolve_device(device)
    settings = json.loads((folder / "settings.json").read_text())
    key = {name: settings.pop(name) for name in ("protocol", "method", "held_out", "seed")}
    manifest = read_manifests(manifests)
    splits = fold(manifest, key["protocol"], key["held_out"])
    model, rows = build(settings, key["method"], data, manifest, splits, torch_device)
    # a method creates state for its sources before its weights can be loaded
    model.begin(source_of(rows["train"], rows["val"], Training(**settings["training"])))
    checkpoints = by_step(load_file(folder / "checkpoints.safetensors"))
    chosen: dict[str, int | None] = {}
    if "loso" in rules:
        history = pd.read_csv(folder / "history.csv")
        curves = {name: pd.read_csv(path) for name, path in inner.items()}
        chosen["loso"] = leave_one_out(history, curves)
    if "oracle" in rules:
        chosen["oracle"] = oracle(model, rows["test"], checkpoints, torch_device)
    tables = []
    for rule, step in chosen.items():
        only = folder / "model.safetensors"
        restore(model, checkpoints[step] if step is not None else load_file(only))
        for split in ("val", "test"):
            logits = predict(model, rows[split], torch_device)
            tables.append(table(key, rule, split, splits[split], logits, model.scale))
    write_text(folder / "selected.json", json.dumps(chosen, indent=1) + "\n")
    with replacing(folder / "selected.parquet") as path:
        pd.concat(tables, ignore_index=True).to_parquet(path, index=False)


def oracle(
    model: Method, test: Rows, checkpoints: Mapping[int, Weights], device: torch.device
) -> int | None:
    """Return the step of the checkpoint with the best AUC on the test images, by their grades.

    Args:
        model: Method into which the checkpoints are loaded.
        test: Test rows.
        checkpoints: {step: weights}.
        device: Where the method is.

    Returns:
        The step; None without checkpoints.
    """
    scores, grade = {}, test.grade.numpy()
    for step, state in checkpoints.items():
        restore(model, state)
        probability = probabilities(predict(model, test, device))
        scores[step] = float(METRICS[SELECTION](grade, probability)[0])
    return best_step(scores, max(scores)) if scores else None


def by_step(stored: Mapping[str, torch.Tensor]) -> dict[int, Weights]:
    """Group {"STEP/NAME": tensor} by step: {step: {name: tensor}}, in the order of the steps."""
    states: dict[int, Weights] = {}
    for key, value in stored.items():
        step, name = key.split("/", 1)
        states.setdefault(int(step), {})[name] = value
    return dict(sorted(states.items()))
