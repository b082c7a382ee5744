"""The same search budget for every method: a few trials of a learning rate and one parameter of its own, by source validation alone.

Input: manifests and arrays of the source domains of one fold; the held-out domain is not among the arguments.
Output: a dict, written as results/search/{method}.json: every trial, and the best one as a layer of options.
"""

import inspect
import math
import warnings

from clipdr import DataError
from clipdr.config.search_space import LR_FACTORS, SPACES


def search(settings, method, seed, trials, *, manifests, data, device="auto"):
    """Try the study's own setting first, then others drawn with a fixed seed; never the same twice.

    settings  : of the method, before any search;  trials : the same number for every method, the first is the study's own setting
    manifests : of the source domains alone

    returns a dict: method, seed, domains, trials (each: options, val_auc or null where it diverged), chosen: the options of the best, the
    earliest on a tie. Raises DataError where no trial has a value.
    """
    import optuna

    from clipdr.data.manifest import read_manifests

    manifest = read_manifests(manifests)
    parts = {name: manifest[manifest.split == name] for name in ("train", "val")}
    space = space_of(settings, method)
    said = []

    def objective(trial):
        values = {
            name: trial.suggest_categorical(name, choices) for name, (_, choices) in space.items()
        }
        said.append({"options": layer(values), "val_auc": None})
        said[-1]["val_auc"] = validated(
            over(settings, said[-1]["options"]), method, seed, manifest, parts, data, device
        )
        return said[-1]["val_auc"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # of the sampler that draws without repetition
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.BruteForceSampler(seed=seed)
        )
    study.enqueue_trial({name: own for name, (own, _) in space.items()})
    study.optimize(objective, n_trials=trials, catch=(DataError,))
    finished = [
        trial for trial in said if trial["val_auc"] is not None and not math.isnan(trial["val_auc"])
    ]
    if not finished:
        raise DataError(
            f"search: no trial of {method} has an AUC on source validation; train it once to see why"
        )
    best = max(finished, key=lambda trial: trial["val_auc"])
    domains = list(dict.fromkeys(manifest.domain))
    return {
        "method": method,
        "seed": seed,
        "domains": domains,
        "trials": said,
        "chosen": best["options"],
    }


def space_of(settings, method):
    """{name of a parameter: (the study's value, all values tried)}: the learning rate, and the method's own."""
    from clipdr.training.run import method_class

    training = settings["training"]
    space = {
        "training.lr": (training["lr"], tuple(training["lr"] * factor for factor in LR_FACTORS))
    }
    for name, values in SPACES[method].items():
        section, _, key = name.rpartition(".")
        default = (
            inspect.signature(method_class(settings, method)).parameters[key].default
            if not section
            else None
        )
        own = training[key] if section else settings["options"].get(key, default)
        space[name] = (own, tuple(dict.fromkeys([own, *values])))
    return space


def layer(values):
    """{"training.lr": 1, "weight": 2} -> {"training": {"lr": 1}, "weight": 2}: as options of a study."""
    options = {
        "training": {
            name.removeprefix("training."): value
            for name, value in values.items()
            if name.startswith("training.")
        }
    }
    return options | {
        name: value for name, value in values.items() if not name.startswith("training.")
    }


def over(settings, options):
    """Settings with a layer of options on top."""
    own = {name: value for name, value in options.items() if name != "training"}
    return settings | {
        "training": settings["training"] | options["training"],
        "options": settings["options"] | own,
    }


def validated(settings, method, seed, manifest, parts, data, device):
    """AUC on pooled source validation of the weights that a run under these settings would be judged by."""
    import torch

    from clipdr.config.job import Training
    from clipdr.training.distributed import resolve_device
    from clipdr.training.loop import SELECTION, fit, restore, validate
    from clipdr.training.run import build, with_method_rules

    device, settings = resolve_device(device), with_method_rules(settings, method)
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, parts, device)
    result = fit(
        model,
        rows["train"],
        rows["val"],
        Training(**settings["training"]),
        seed=seed,
        device=device,
    )
    restore(model, next(iter(result.states.values())))
    return validate(model, rows["val"], device)[f"val_{SELECTION}"]
