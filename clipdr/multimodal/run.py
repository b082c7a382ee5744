"""Training as a job. A model folder {results}/models/{name}/{seed}/ holds settings.json, history.csv, split.csv, tokenizer.json,
provenance.json, grading.safetensors and retrieval.safetensors; clipdr.multimodal.evaluation.score_run adds what is scored from it."""

import hashlib
import json
import time
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from clipdr import DataError
from clipdr.artifacts.files import as_json, digest, replacing, write_text
from clipdr.multimodal import loop
from clipdr.multimodal.data import narrative, packing, splits
from clipdr.multimodal.data.tokenizer import tokens
from clipdr.multimodal.settings import Settings
from clipdr.training.distributed import place, world
from clipdr.training.provenance import provenance


def identity(setting, seed, data, name):
    """Digest of all that a training depends on: settings, seed, table and store."""
    files = [digest(Path(data) / f"{name}.{suffix}") for suffix in ("csv", "npy")]
    return hashlib.sha256(
        json.dumps([setting.model_dump(), seed, files], sort_keys=True).encode()
    ).hexdigest()


def train(folder, setting, seed, data, name, device):
    """Train one model on a device and write its folder; a run that was cut goes on. Several processes: each calls it."""
    began, folder, device = time.monotonic(), Path(folder), place(device)
    eyes, store = packing.open_pack(data, name)
    model, visits, constants = loop.assemble(eyes, store, setting, seed)
    fit = loop.fit(
        model, visits, seed, folder / "resume.pt", identity(setting, seed, data, name), device
    )
    if world()[0]:
        return
    every = pd.concat([visits[part].eyes for part in visits])
    about = {
        "name": name,
        "seed": seed,
        "leaky": setting.leaky,
        "split_sha256": splits.manifest_digest(every),
    }
    about |= {"shared_patients": splits.shared_patients(every), "constants": constants._asdict()}
    about |= {
        "eyes": {part: len(one) for part, one in visits.items()},
        "text_tokens": lengths(visits["train"]),
    }
    write_text(folder / "settings.json", as_json(about | setting.model_dump()))
    write_text(folder / "history.csv", fit.history.to_csv(index=False))
    write_text(folder / "split.csv", every[["image", "split"]].to_csv(index=False))
    write_text(
        folder / "tokenizer.json", json.dumps(getattr(visits["train"].tokenizer, "vocabulary", []))
    )
    for rule in loop.CHOICES:
        with replacing(folder / f"{rule}.safetensors") as path:
            save_file(fit.states[rule], path, metadata={"leaky": str(setting.leaky).lower()})
    inputs = {
        f"{name}.{suffix}": digest(Path(data) / f"{name}.{suffix}") for suffix in ("csv", "npy")
    }
    write_text(folder / "provenance.json", as_json(provenance(model, inputs, device, began)))
    (folder / "resume.pt").unlink(missing_ok=True)


def lengths(visits):
    """Tokens per narrative: mean, longest, share above CLIP's 77; and the share cut at the setting's limit."""
    count = tokens(visits.tokenizer, visits.texts(range(len(visits))), visits.setting.tokens)[
        1
    ].numpy()
    return narrative.lengths(count) | {"cut": float((count > visits.setting.tokens).mean())}


def load(folder, data, rule, device="auto"):
    """A trained model with the weights of one rule, its Visits, seed and device. DataError where data and folder do not belong together."""
    folder = Path(folder)
    try:
        known = json.loads((folder / "settings.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no trained model ({error}); train it first") from None
    setting = Settings(
        **{key: value for key, value in known.items() if key in Settings.model_fields}
    )
    eyes, store = packing.open_pack(data, known["name"])
    model, visits, _ = loop.assemble(eyes, store, setting, known["seed"])
    if (
        splits.manifest_digest(pd.concat([one.eyes for one in visits.values()]))
        != known["split_sha256"]
    ):
        raise DataError(f"{folder}: the eye table has changed since that training; train again")
    model.load_state_dict(load_file(folder / f"{rule}.safetensors"))
    device = place(device)
    return model.to(device).eval(), visits, known, device
