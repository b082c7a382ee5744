"""Run folder: what one training job reads and writes, results/runs/PROTOCOL/METHOD/HELD_OUT/SEED/.

It holds settings.json (complete, nothing about the machine), provenance.json (everything about the
machine, and the receipt of the other files), history.csv, predictions.parquet, model.safetensors,
and checkpoints.safetensors if they are asked for.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import digest, replacing, write_text
from clipdr.config.job import Training, folder_of
from clipdr.data.loader import Features, Images
from clipdr.data.manifest import open_features, open_store, read_manifests
from clipdr.data.splits import fold, source_domains
from clipdr.evaluation.predictions import table
from clipdr.methods import METHODS, load
from clipdr.models.backbone import Backbone
from clipdr.models.exported import ExportedFolder
from clipdr.training.distributed import resolve_device
from clipdr.training.loop import Fit, fit, predict, restore, source_of
from clipdr.training.provenance import array_stamps, describe_run, identity, source_digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clipdr.data.loader import Rows
    from clipdr.methods.base import Method

Settings = dict[str, Any]
# Training rules of a method's class that hold unless the study names others
REQUIRED = ("sampler", "average")


class Job(NamedTuple):
    """Identity and inputs of one run.

    Attributes:
        settings: Complete settings of the run.
        key: {"protocol", "method", "held_out", "seed"}.
        inputs: {path of a manifest: sha256}.
    """

    settings: Settings
    key: dict[str, Any]
    inputs: dict[str, str]


def train(
    settings: Settings,
    protocol: str,
    method: str,
    held_out: str,
    seed: int,
    *,
    manifests: Iterable[Path],
    data: Path,
    folder: Path,
    keep: bool = False,
    device: str = "auto",
) -> None:
    """Train one method with one domain held out, predict, and write the run folder.

    predictions.parquet is written last.

    Args:
        settings: Settings of the method (`Study.settings`).
        protocol: A key of `clipdr.data.protocols`.
        method: Method or variant.
        held_out: What the protocol holds out.
        seed: Seed of weights and batches.
        manifests: Paths of data/manifests/D.csv.
        data: Folder with store/ and features/.
        folder: Run folder to write.
        keep: Whether to write checkpoints.safetensors too: the weights of every evaluation that
            could have been selected, as STEP/NAME.
        device: "auto", "cpu" or "cuda".

    Raises:
        DataError: If the settings do not fit the method, the test set overlaps with the
            pre-training data, the loss is not finite, or no checkpoint can be selected.
    """
    began, folder, torch_device = time.monotonic(), Path(folder), resolve_device(device)
    manifests = list(manifests)
    settings = with_method_rules(settings, method)
    manifest = read_manifests(manifests)
    splits = fold(manifest, protocol, held_out)
    refuse_pretraining_overlap(settings["backbone"], splits["test"], f"{protocol}/{held_out}")
    key = {"protocol": protocol, "method": method, "held_out": held_out, "seed": seed}
    job = Job(settings, key, {str(path): digest(path) for path in manifests})
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, splits, torch_device)
    training = Training(**settings["training"])
    result = fit(
        model,
        rows["train"],
        rows["val"],
        training,
        seed=seed,
        resume=folder / "resume.pt",
        digest=run_identity(job, rows["train"].arrays, keep),
        keep=keep,
        device=torch_device,
    )
    tables = predict_splits(model, rows, splits, result, key, torch_device)
    write_weights(folder, job, result, keep)
    facts = describe_run(model, job.inputs, torch_device, began)
    facts |= {"degenerate": model.degenerate(source_of(rows["train"], rows["val"], training))}
    with replacing(folder / "predictions.parquet") as path:
        tables.to_parquet(path, index=False)
        names = ("settings.json", "history.csv", "model.safetensors")
        files = {name: digest(folder / name) for name in names}
        files |= {"predictions.parquet": digest(path)}
        facts |= {"job": f"train {method} {held_out} {seed}", "folder": ".", "files": files}
        write_text(folder / "provenance.json", receipts.sealed(facts))
    (folder / "resume.pt").unlink(missing_ok=True)


def run_identity(job: Job, arrays: Mapping[str, np.ndarray], keep: bool) -> str:
    """Digest of everything that must be equal for a run to resume.

    Args:
        job: Settings, key and inputs of the run.
        arrays: {domain: memory-mapped images or features}.
        keep: Whether checkpoints are kept.
    """
    module = METHODS[base_method(job.settings, job.key["method"])].partition(":")[0]
    code = source_digests("train", f"methods/{module}")
    return identity([job.settings, job.key, keep], [job.inputs, array_stamps(arrays)], code)


def predict_splits(
    model: Method,
    rows: Mapping[str, Rows],
    splits: Mapping[str, pd.DataFrame],
    result: Fit,
    key: Mapping[str, Any],
    device: torch.device,
) -> pd.DataFrame:
    """Predict validation and test images with the weights of every rule of selection.

    Args:
        model: Method, trained.
        rows: {split: rows}.
        splits: {split: manifest rows}, in the same order.
        result: Result of the training.
        key: Identity of the run, see `Job`.
        device: Where the model is.

    Returns:
        Rows of predictions.parquet (`clipdr.evaluation.predictions.table`).
    """
    tables = []
    for rule, weights in result.states.items():
        restore(model, weights)
        for split in ("val", "test"):
            logits = predict(model, rows[split], device)
            tables.append(table(key, rule, split, splits[split], logits, model.scale))
    return pd.concat(tables, ignore_index=True)


def write_weights(folder: Path, job: Job, result: Fit, keep: bool) -> None:
    """Write settings.json, history.csv, model.safetensors and, with `keep`, all checkpoints."""
    settings = job.key | job.settings
    write_text(folder / "settings.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")
    history = result.history.to_csv(index=False) if len(result.history) else "step\n"
    write_text(folder / "history.csv", history)
    if keep:
        checkpoints = {
            f"{step}/{name}": value
            for step, weights in result.kept.items()
            for name, value in weights.items()
        }
        with replacing(folder / "checkpoints.safetensors") as path:
            save_file(checkpoints, path)
    with replacing(folder / "model.safetensors") as path:
        save_file(next(iter(result.states.values())), path)


def refuse_pretraining_overlap(spec: Mapping[str, str], test: pd.DataFrame, fold_name: str) -> None:
    """Refuse a test set that overlaps with the pre-training data of a backbone.

    Args:
        spec: Backbone as a mapping. One of open_clip or timm has no record, and nothing is checked.
        test: Manifest rows of the test set.
        fold_name: Name of the fold, for the error: PROTOCOL/HELD_OUT.

    Raises:
        DataError: If images or patients of the test set were in the pre-training data.
    """
    path = folder_of(spec["image"])
    if path is None:
        return
    facts = ExportedFolder(path).facts
    images, patients = set(facts["seen"]["images"]), set(facts["seen"]["patients"])
    keys = (test["domain"] + "/" + test["patient"]).where(test["patient"] != "", "")
    overlap = test["sha256"].isin(images - {""}) | keys.isin(patients)
    if overlap.any():
        first = test.loc[overlap, "image"].iloc[0]
        raise DataError(
            f"test set of fold {fold_name} overlaps with the pre-training data of {path}: "
            f"{int(overlap.sum())} images or their patients (first: {first}). "
            f"Pre-train without them or use another backbone."
        )


def base_method(settings: Settings, method: str) -> str:
    """Name of a method, or of the method of which it is a variant."""
    return settings.get("variant_of", method)


def method_class(settings: Settings, method: str) -> type[Method]:
    """Class of a method, or of the method of which it is a variant."""
    return load(base_method(settings, method))


def with_method_rules(settings: Settings, method: str) -> Settings:
    """Fill in the sampler and weight average that a method needs where the study leaves "none"."""
    training, cls = settings["training"], method_class(settings, method)
    needed = {key: getattr(cls, key) for key in REQUIRED if training[key] == "none"}
    return settings | {"training": training | needed}


def build(
    settings: Settings,
    method: str,
    data: Path,
    manifest: pd.DataFrame,
    splits: Mapping[str, pd.DataFrame],
    device: torch.device,
) -> tuple[Method, Mapping[str, Rows]]:
    """Build a method on its backbone, and the rows of each split of the fold.

    Args:
        settings: Settings of the run.
        method: Method or variant.
        data: Folder with store/ and features/.
        manifest: Rows of all domains.
        splits: {split: manifest rows}.
        device: Where the method goes.

    Returns:
        The method, and {split: rows}: images, or features where the image encoder is frozen.

    Raises:
        DataError: If the method needs features and the image encoder is not frozen, or an option is
            unknown.
    """
    spec, side = settings["backbone"], settings["image"]["input"]
    cls, training = method_class(settings, method), settings["training"]
    if cls.reads == "features" and not settings["frozen"]:
        raise DataError(
            f"{method}: reads features of a frozen image encoder. "
            f"Set options.{method}.frozen to true."
        )
    domains, by_domain = source_domains(splits), dict(list(manifest.groupby("domain", sort=False)))
    if settings["frozen"]:
        root = Path(data) / "features" / spec["name"]
        with np.load(root / "prompts.npz") as file:
            backbone = Backbone(spec, side, cached=dict(file))
        arrays = {name: open_features(root / f"{name}.npy", r) for name, r in by_domain.items()}
        rows = {split: Features(r, arrays, domains) for split, r in splits.items()}
    else:
        backbone = Backbone(spec, side, precision=training["precision"])
        store = Path(data) / "store"
        arrays = {name: open_store(store / f"{name}.npy", r) for name, r in by_domain.items()}
        rows = {
            split: Images(r, arrays, domains, side, training["augment"], device)
            for split, r in splits.items()
        }
    try:
        model = cls(backbone, **settings["options"])
    except TypeError as error:
        raise DataError(
            f"{method}: {error}. Its options are the keywords of {cls.__module__}.{cls.__name__}."
        ) from None
    return model.to(device), rows
