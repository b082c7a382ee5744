"""Multimodal training as a job: model folder RESULTS/models/NAME/SEED/.

It holds settings.json, history.csv, split.csv, tokenizer.json, grading.safetensors,
retrieval.safetensors, and provenance.json, which is also the receipt of the other files. Scores are
added by `clipdr.multimodal.evaluation.score_run`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from safetensors.torch import load_file, save_file

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import as_json, digest, replacing, write_text
from clipdr.multimodal.assembly import assemble
from clipdr.multimodal.data import eye_table, narrative, splits
from clipdr.multimodal.data.tokenizer import tokenize
from clipdr.multimodal.loop import CHOICES, fit
from clipdr.multimodal.settings import Settings
from clipdr.training.distributed import resolve_device, world
from clipdr.training.provenance import describe_run, identity, source_digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal

WRITTEN = (
    *("settings.json", "history.csv", "split.csv", "tokenizer.json"),
    *(f"{rule}.safetensors" for rule in CHOICES),
)


def input_digests(data: Path | str, name: str) -> dict[str, str]:
    """Digests of a packed eye table and its images: {file: sha256}."""
    return {file: digest(Path(data) / file) for file in (f"{name}.csv", f"{name}.npy")}


def run_identity(setting: Settings, seed: int, inputs: Mapping[str, str]) -> str:
    """Digest of everything that must be equal for a training to resume."""
    return identity([setting.model_dump(), seed], inputs, source_digests("multimodal train"))


def train(
    folder: Path | str,
    setting: Settings,
    seed: int,
    data: Path | str,
    name: str,
    device: torch.device | str,
) -> None:
    """Train one model and write its folder; an interrupted training resumes.

    Args:
        folder: Model folder to write.
        setting: Settings of the model.
        seed: Seed of split, weights and batches.
        data: Folder of packed eye tables.
        name: Name of the eye table.
        device: Device of this process. Under torchrun each process calls this function.

    Raises:
        DataError: If the eye table and its images do not belong together, or the loss is not
            finite.
    """
    began, folder, torch_device = time.monotonic(), Path(folder), resolve_device(device)
    inputs = input_digests(data, name)
    eyes, store = eye_table.open_pack(data, name)
    model, datasets, constants = assemble(eyes, store, setting, seed)
    resume = folder / "resume.pt"
    result = fit(model, datasets, seed, resume, run_identity(setting, seed, inputs), torch_device)
    if world()[0]:
        return
    table = pd.concat([datasets[split].eyes for split in datasets])
    facts = {
        "name": name,
        "seed": seed,
        "leaky": setting.leaky,
        "split_sha256": splits.manifest_digest(table),
        "shared_patients": splits.shared_patients(table),
        "constants": constants._asdict(),
        "eyes": {split: len(dataset) for split, dataset in datasets.items()},
        "text_tokens": text_lengths(datasets["train"]),
    }
    vocabulary = getattr(datasets["train"].tokenizer, "vocabulary", [])
    write_text(folder / "settings.json", as_json(facts | setting.model_dump()))
    write_text(folder / "history.csv", result.history.to_csv(index=False))
    write_text(folder / "split.csv", table[["image", "split"]].to_csv(index=False))
    write_text(folder / "tokenizer.json", json.dumps(vocabulary))
    for rule in CHOICES:
        with replacing(folder / f"{rule}.safetensors") as path:
            save_file(result.states[rule], path, metadata={"leaky": str(setting.leaky).lower()})
    record = describe_run(model, inputs, torch_device, began)
    record |= {"job": f"multimodal train {name} {folder.parent.name} {seed}", "folder": "."}
    record["files"] = {file: digest(folder / file) for file in WRITTEN}
    write_text(folder / "provenance.json", receipts.sealed(record))
    resume.unlink(missing_ok=True)


def text_lengths(eyes: EyeDataset) -> dict[str, float]:
    """Summarise the tokens of the narratives, see `narrative.lengths`.

    Returns:
        Its values, and "cut": the share that is longer than the limit of the settings.
    """
    limit = eyes.setting.tokens
    count = tokenize(eyes.tokenizer, eyes.texts(range(len(eyes))), limit)[1].numpy()
    return narrative.lengths(count) | {"cut": float((count > limit).mean())}


def load(
    folder: Path | str, data: Path | str, rule: str, device: torch.device | str = "auto"
) -> tuple[Multimodal, dict[str, EyeDataset], dict[str, Any], torch.device]:
    """Load a trained model and its datasets.

    Args:
        folder: Model folder.
        data: Folder of packed eye tables.
        rule: Rule of selection, a key of `CHOICES`.
        device: Where the model goes.

    Returns:
        The model in evaluation mode, {split: dataset}, the content of settings.json, the device.

    Raises:
        DataError: If the folder holds no trained model, or the eye table has changed since.
    """
    folder = Path(folder)
    try:
        stored = json.loads((folder / "settings.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a trained model ({error}). Train it first.") from None
    fields = {key: value for key, value in stored.items() if key in Settings.model_fields}
    eyes, store = eye_table.open_pack(data, stored["name"])
    model, datasets, _ = assemble(eyes, store, Settings(**fields), stored["seed"])
    table = pd.concat([dataset.eyes for dataset in datasets.values()])
    if splits.manifest_digest(table) != stored["split_sha256"]:
        raise DataError(f"{folder}: the eye table has changed since that training. Train it again.")
    model.load_state_dict(load_file(folder / f"{rule}.safetensors"))
    torch_device = resolve_device(device)
    return model.to(torch_device).eval(), datasets, stored, torch_device
