"""A run folder: what one training job reads and writes. results/runs/{protocol}/{method}/{held_out}/{seed}/

settings.json (complete, nothing about the machine), provenance.json (everything about it, and the receipt of the other files),
history.csv, predictions.parquet, model.safetensors; checkpoints.safetensors where they are asked for.
"""

import hashlib
import json
import time
from pathlib import Path

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
from clipdr.methods import load
from clipdr.models.backbone import Backbone
from clipdr.models.exported import Folder
from clipdr.training.distributed import place
from clipdr.training.loop import fit, predict, restore, source_of
from clipdr.training.provenance import provenance, surroundings


def refuse_known(spec, test, where):
    """Raise DataError where photographs or patients of a test set were seen in pre-training.

    spec : backbone as a mapping; one without a folder has nothing to refuse;  test : manifest rows;  where : the fold, for the message
    """
    path = folder_of(spec["image"])
    if path is None:
        return
    facts = Folder(path).facts
    seen, people = set(facts["seen"]["images"]), set(facts["seen"]["patients"])
    known = test["sha256"].isin(seen - {""}) | (test["domain"] + "/" + test["patient"]).where(
        test["patient"] != "", ""
    ).isin(people)
    if known.any():
        first = test.loc[known, "image"].iloc[0]
        raise DataError(
            f"{where} leaks: {int(known.sum())} test photographs, the first {first}, or their patients were in the pre-training of "
            f"{path}; pre-train without them, or take another backbone"
        )


REQUIRED = (
    "sampler",
    "average",
)  # of training: what a method declares as class attributes, where the study asks for nothing else


def run(
    settings,
    protocol,
    method,
    held_out,
    seed,
    *,
    manifests,
    data,
    folder,
    keep=False,
    device="auto",
):
    """Train one method with one domain held out, predict its validation and test images, and write the run folder.

    settings  : one slice of the config (Config.settings);  manifests : paths of data/manifests/{D}.csv
    data      : folder with store/ and features/;  folder : where the run is written
    keep      : write checkpoints.safetensors too, the weights of every evaluation that could have been selected, as STEP/NAME

    Raises DataError on settings that do not fit the method, and what fit raises. predictions.parquet is written last.
    """
    began = time.monotonic()
    folder = Path(folder)
    settings = required(settings, method)
    device = place(device)
    manifest = read_manifests(manifests)
    parts = fold(manifest, protocol, held_out)
    refuse_known(settings["backbone"], parts["test"], f"fold {protocol}/{held_out}")
    inputs = {str(path): digest(path) for path in manifests}
    torch.manual_seed(seed)
    model, rows = build(settings, method, data, manifest, parts, device)
    identity = [
        settings,
        protocol,
        method,
        held_out,
        seed,
        keep,
        inputs,
        surroundings(rows["train"].arrays),
    ]
    training = Training(**settings["training"])
    result = fit(
        model,
        rows["train"],
        rows["val"],
        training,
        seed=seed,
        resume=folder / "resume.pt",
        digest=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        keep=keep,
        device=device,
    )
    key = {"protocol": protocol, "method": method, "held_out": held_out, "seed": seed}
    tables = []
    for selection, state in result.states.items():
        restore(model, state)
        tables += [
            table(
                key,
                selection,
                split,
                parts[split],
                predict(model, rows[split], device),
                model.scale,
            )
            for split in ("val", "test")
        ]
    write_text(
        folder / "settings.json", json.dumps(key | settings, indent=1, sort_keys=True) + "\n"
    )
    write_text(
        folder / "history.csv",
        result.history.to_csv(index=False) if len(result.history) else "step\n",
    )
    if keep:
        with replacing(folder / "checkpoints.safetensors") as path:
            save_file(
                {
                    f"{step}/{name}": value
                    for step, state in result.kept.items()
                    for name, value in state.items()
                },
                path,
            )
    with replacing(folder / "model.safetensors") as path:
        save_file(next(iter(result.states.values())), path)
    with replacing(folder / "predictions.parquet") as path:
        pd.concat(tables, ignore_index=True).to_parquet(path, index=False)
        files = {
            name: digest(folder / name)
            for name in ("settings.json", "history.csv", "model.safetensors")
        }
        files |= {"predictions.parquet": digest(path)}
        facts = provenance(model, inputs, device, began)
        facts |= {"degenerate": model.degenerate(source_of(rows["train"], rows["val"], training))}
        facts |= {"job": f"train {method} {held_out} {seed}", "folder": ".", "files": files}
        write_text(folder / "provenance.json", receipts.sealed(facts))
    (folder / "resume.pt").unlink(missing_ok=True)


def class_of(settings, method):
    """The class of a method, or of the method that it is a variant of."""
    return load(settings.get("variant_of", method))


def required(settings, method):
    """The settings of a run with the sampler and the weight average that its method needs, where the study leaves them at none."""
    training, cls = settings["training"], class_of(settings, method)
    return settings | {
        "training": training
        | {key: getattr(cls, key) for key in REQUIRED if training[key] == "none"}
    }


def build(settings, method, data, manifest, parts, device):
    """The method on its backbone, and the rows of each part of the fold: photographs, or features where the image tower is frozen."""
    spec, side = settings["backbone"], settings["image"]["input"]
    cls = class_of(settings, method)
    if cls.reads == "feature" and not settings["frozen"]:
        raise DataError(
            f"{method} reads features of a frozen image tower: set options.{method}.frozen to true"
        )
    domains, of_domain = source_domains(parts), dict(list(manifest.groupby("domain", sort=False)))
    if settings["frozen"]:
        root = Path(data) / "features" / spec["name"]
        with np.load(root / "prompts.npz") as file:
            backbone = Backbone(spec, side, cached=dict(file))
        arrays = {
            name: open_features(root / f"{name}.npy", part) for name, part in of_domain.items()
        }
        rows = {split: Features(part, arrays, domains) for split, part in parts.items()}
    else:
        backbone = Backbone(spec, side, precision=settings["training"]["precision"])
        arrays = {
            name: open_store(Path(data) / "store" / f"{name}.npy", part)
            for name, part in of_domain.items()
        }
        augment = settings["training"]["augment"]
        rows = {
            split: Images(part, arrays, domains, side, augment, device)
            for split, part in parts.items()
        }
    try:
        model = cls(backbone, **settings["options"])
    except TypeError as error:
        raise DataError(
            f"{method}: {error}; its options are the keywords of {cls.__module__}.{cls.__name__}"
        ) from None
    return model.to(device), rows
