"""Hyper-parameter search: a few trials of learning rate and one parameter per method.

Every method has the same budget, and source validation alone decides. Input: manifests and arrays
of the source domains of one fold, never of the held-out domain. Output: results/search/METHOD.json,
every trial, and the best one as a layer of options.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import TYPE_CHECKING, Any

from clipdr import DataError
from clipdr.config.search_space import LR_FACTORS, SPACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pandas as pd
    import torch

Settings = dict[str, Any]


def search(
    settings: Settings,
    method: str,
    seed: int,
    trials: int,
    *,
    manifests: Iterable[Path],
    data: Path,
    device: str = "auto",
) -> dict[str, Any]:
    """Try the study's own setting first, then others sampled without repetition.

    Args:
        settings: Settings of the method before any search.
        method: Method.
        seed: Seed of the samples and of every training.
        trials: Number of trials, the same for every method.
        manifests: Manifests of the source domains alone.
        data: Folder with store/ and features/.
        device: "auto", "cpu" or "cuda".

    Returns:
        A dict of method, seed, domains, trials (each: options, and val_auc or None after a failure)
        and chosen: the options of the best trial, the earliest on a tie.

    Raises:
        DataError: If no trial has a defined score.
    """
    import optuna

    from clipdr.data.manifest import read_manifests

    manifest = read_manifests(manifests)
    splits = {name: manifest[manifest.split == name] for name in ("train", "val")}
    space = space_of(settings, method)
    records: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        values = {
            name: trial.suggest_categorical(name, choices) for name, (_, choices) in space.items()
        }
        options = layer(values)
        records.append({"options": options, "val_auc": None})
        score = validated(over(settings, options), method, seed, manifest, splits, data, device)
        records[-1]["val_auc"] = score
        return score

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        # the sampler without repetition is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.BruteForceSampler(seed=seed)
        )
    study.enqueue_trial({name: own for name, (own, _) in space.items()})
    study.optimize(objective, n_trials=trials, catch=(DataError,))
    finished = [
        record
        for record in records
        if record["val_auc"] is not None and not math.isnan(record["val_auc"])
    ]
    if not finished:
        raise DataError(
            f"search: no trial of {method} has an AUC on source validation. "
            f"Train the method once to see the error."
        )
    best = max(finished, key=lambda record: record["val_auc"])
    return {
        "method": method,
        "seed": seed,
        "domains": list(dict.fromkeys(manifest.domain)),
        "trials": records,
        "chosen": best["options"],
    }


def space_of(settings: Settings, method: str) -> dict[str, tuple[Any, tuple]]:
    """Search space of a method: learning rate, and one parameter of its own.

    Returns:
        {name of a parameter: (value of the study, all values to try)}.
    """
    from clipdr.training.run import method_class

    training = settings["training"]
    lr = training["lr"]
    space = {"training.lr": (lr, tuple(lr * factor for factor in LR_FACTORS))}
    for name, values in SPACES[method].items():
        section, _, key = name.rpartition(".")
        if section:
            own = training[key]
        else:
            default = inspect.signature(method_class(settings, method)).parameters[key].default
            own = settings["options"].get(key, default)
        space[name] = (own, tuple(dict.fromkeys([own, *values])))
    return space


def layer(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert parameters to options of a study.

    {"training.lr": 1, "weight": 2} becomes {"training": {"lr": 1}, "weight": 2}.
    """
    options: dict[str, Any] = {"training": {}}
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        if section:
            options["training"][key] = value
        else:
            options[name] = value
    return options


def over(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Put a layer of options over settings."""
    own = {name: value for name, value in options.items() if name != "training"}
    return settings | {
        "training": settings["training"] | options["training"],
        "options": settings["options"] | own,
    }


def validated(
    settings: Settings,
    method: str,
    seed: int,
    manifest: pd.DataFrame,
    splits: Mapping[str, pd.DataFrame],
    data: Path,
    device: str | torch.device,
) -> float:
    """Train once and score the selected weights on pooled source validation.

    Args:
        settings: Settings of the trial.
        method: Method.
        seed: Seed of the training.
        manifest: Rows of the source domains.
        splits: {"train", "val": manifest rows}.
        data: Folder with store/ and features/.
        device: "auto", "cpu" or "cuda".

    Returns:
        AUC of the weights that a run under these settings would be judged by.
    """
    import torch

    from clipdr.config.job import Training
    from clipdr.training.distributed import resolve_device
    from clipdr.training.loop import SELECTION, fit, restore, validate
    from clipdr.training.run import build, with_method_rules

    device, settings = resolve_device(device), with_method_rules(settings, method)
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, splits, device)
    training = Training(**settings["training"])
    result = fit(model, rows["train"], rows["val"], training, seed=seed, device=device)
    restore(model, next(iter(result.states.values())))
    return validate(model, rows["val"], device)[f"val_{SELECTION}"]
