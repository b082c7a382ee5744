"""A pre-training run on disk: built, trained, loaded again, exported as a backbone.

Input: settings, a patients table, packed photographs. Output: a run folder (settings.json, history.csv, model.safetensors, text.json,
seen.json, provenance.json), and from it the folder that clipdr.models.exported reads.
"""

import hashlib
import importlib.metadata
import json
import os
import resource
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import digest, replacing, write_text
from clipdr.models.exported import Folder
from clipdr.models.factory import image_tower, text_encoder
from clipdr.models.report_encoder import HuggingFaceReports, SmallText, vocabulary
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits
from clipdr.pretrain.loop import fit
from clipdr.pretrain.model import RetClip
from clipdr.pretrain.settings import Rules
from clipdr.training.distributed import world
from clipdr.training.provenance import code_digests, commit

WRITTEN = ("settings.json", "history.csv", "model.safetensors", "text.json", "seen.json")


def encoder_of(rules, texts):
    """The text encoder of some rules; `small` takes its vocabulary from the training texts. Returns (encoder, facts for text.json)."""
    if rules.text == "small":
        known = vocabulary(texts)
        return SmallText(known, rules.length), {
            "encoder": "small",
            "length": rules.length,
            "vocabulary": known,
        }
    folder = rules.text.removeprefix("hf:")
    if not (rules.text.startswith("hf:") and Path(folder).is_dir()):
        raise DataError(
            f"pretrain: text {rules.text!r}; use small, or hf:FOLDER with a downloaded model and its tokenizer"
        )
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (
        cls.from_pretrained(folder, local_files_only=True) for cls in (AutoModel, AutoTokenizer)
    )
    return HuggingFaceReports(model, tokenizer, rules.length), {
        "encoder": "hf",
        "length": rules.length,
        "folder": folder,
    }


def build(rules, texts):
    """A RetClip before its first step, a function of rules.seed; and the facts of its text encoder."""
    torch.manual_seed(rules.seed)
    tower = image_tower(rules.image, rules.weights, rules.side, rules.width, rules.precision)
    if rules.checkpointing:
        tower.trunk.set_grad_checkpointing(True)
    with torch.no_grad():
        width = tower.eval()(torch.zeros(1, 3, rules.side, rules.side)).shape[1]
    encoder, facts = encoder_of(rules, texts)
    return RetClip(tower, encoder, width, rules.start), facts | {"width": width}


def training_texts(table):
    """All texts of the training rows: whole reports and those of single eyes."""
    rows = table[table["split"] == "train"]
    return [text for column in ("text", "text_left", "text_right") for text in rows[column]]


def visits(table, split, data, rules, encoder, permute=None):
    """batches.Visits of one split; None where it has no row."""
    rows = table[table["split"] == split]
    return Visits(rows, data, rules, encoder, permute) if len(rows) else None


def run(folder, table_path, data, rules, device="cpu"):
    """Pre-train on a patients table and write the run folder; a run that was cut goes on. Returns one line about it."""
    folder, device = Path(folder), torch.device(device)
    table = patients_table.read(table_path)
    model, text = build(rules, training_texts(table))
    train = visits(
        table, "train", data, rules, model.text, rules.seed + 1 if rules.permute else None
    )
    val = visits(table, "val", data, rules, model.text)
    if train is None:
        raise DataError(f"{table_path}: no row has the split train")
    stamps = [[array.shape, os.stat(array.filename).st_mtime_ns] for array in train.arrays.values()]
    code = code_digests()
    identity = [
        rules.model_dump(),
        digest(table_path),
        stamps,
        code,
        importlib.metadata.version("torch"),
    ]
    if world()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
    result = fit(
        model,
        train,
        val,
        rules,
        resume=folder / "resume.pt",
        digest=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        device=device,
    )
    if world()[0] > 0:
        return ""
    write_text(
        folder / "settings.json", json.dumps(rules.model_dump(), indent=1, sort_keys=True) + "\n"
    )
    write_text(folder / "text.json", json.dumps(text, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "seen.json", json.dumps(seen(table, data), indent=1) + "\n")
    write_text(folder / "history.csv", result.history.to_csv(index=False, lineterminator="\n"))
    with replacing(folder / "model.safetensors") as path:
        save_file(result.state, path)
    facts = {
        "job": f"pretrain {folder.name}",
        "commit": commit(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": world()[1],
        "seconds": round(result.seconds, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "images": int(train.present.sum()) * rules.epochs,
        "truncated": train.truncated,
        "laterality": "destroyed" if rules.flip == "upstream" else "kept",
        "pairs": {"file": Path(table_path).name, "sha256": digest(table_path)},
        "folder": ".",
        "files": {name: digest(folder / name) for name in WRITTEN},
    }
    write_text(folder / "provenance.json", receipts.sealed(facts))
    (folder / "resume.pt").unlink(missing_ok=True)
    first, last = result.history.iloc[0], result.history.iloc[-1]
    losses = f"loss {first['loss']:.2f} -> {last['loss']:.2f} (floor {sum(last.get(f'floor_{x}', 0) for x in ('left', 'right', 'patient')):.2f})"
    return f"{folder}: {len(result.history)} epochs, {losses}, {train.truncated:.1%} of the reports cut to {rules.length} tokens"


def seen(table, data):
    """{images: sha256 of every photograph of training and validation, patients: their keys}: what no test set may hold."""
    rows = table[table["split"] != "test"]
    digests = patients_table.resolve(rows, data)[2]
    return {
        "images": sorted(set(digests.ravel()) - {""}),
        "patients": sorted(set(patients_table.patients(rows))),
    }


def facts_of(folder):
    """settings, text facts of a run folder. DataError where a file is missing or damaged."""
    try:
        return Rules(**json.loads((Path(folder) / "settings.json").read_text())), json.loads(
            (Path(folder) / "text.json").read_text()
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: not a finished pre-training run ({error}); run `clipdr pretrain train` again"
        ) from None


def load(folder, weights="trained"):
    """(RetClip in evaluation mode, Rules) of a run folder.

    weights : "trained" | "start", what pre-training began with | "random", the same network without any
    """
    rules, text = facts_of(folder)
    if weights != "trained":
        first = rules.model_copy(
            update={"weights": rules.weights if weights == "start" else "random"}
        )
        if text["encoder"] == "small":
            return build(first, text["vocabulary"][4:])[0].eval(), rules
        return build(first, [])[0].eval(), rules
    tower = image_tower(rules.image, "random", rules.side, rules.width, rules.precision)
    encoder = (
        text_encoder(text, Path(folder)) if text["encoder"] == "small" else encoder_of(rules, [])[0]
    )
    model = RetClip(tower, encoder, text["width"], rules.start)
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval(), rules


def export(folder, out, name="ret_clip", half=False):
    """Write the backbone folder of a run (clipdr.models.exported). half: tensors in float16, half the size."""
    model, rules = load(folder)
    _, text = facts_of(folder)
    provenance = json.loads((Path(folder) / "provenance.json").read_text())
    out = Path(out)
    tower = model.image
    facts = {
        "name": name,
        "image": rules.image,
        "side": rules.side,
        "width": model.width,
        "mean": tower.mean.flatten().tolist(),
        "std": tower.std.flatten().tolist(),
        "text": {key: value for key, value in text.items() if key not in ("width", "folder")},
        "laterality": provenance["laterality"],
        "provenance": {key: provenance[key] for key in ("commit", "pairs")}
        | {"settings": rules.model_dump()},
        "seen": json.loads((Path(folder) / "seen.json").read_text()),
    }
    state = {
        key: value.half() if half and value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    parts = {"visual": {}, "heads": {}}
    for key, value in state.items():
        image = key.startswith("image.")
        parts["visual" if image else "heads"][key.removeprefix("image.") if image else key] = (
            value.contiguous()
        )
    if text["encoder"] != "small":
        model.text.model.config.save_pretrained(out / "text")
        model.text.tokenizer.save_pretrained(out / "text")
    for part, tensors in parts.items():
        with replacing(out / f"{part}.safetensors") as path:
            save_file(tensors, path)
    write_text(out / "visual.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return Folder(out)


class Embedded(NamedTuple):
    """What a model says of N visits; numpy."""

    raw: np.ndarray  # (N, 2, E) float32, v of both eyes, zeros where absent
    image: np.ndarray  # (3, N, E) unit vectors
    text: np.ndarray  # (3, N, E) unit vectors
    member: np.ndarray  # (3, N) bool: rows that take part at each level
    present: np.ndarray  # (N, 2) bool
    content: np.ndarray  # (3, N) int64: equal numbers, equal texts


@torch.no_grad()
def embed(model, table, data, rules, device="cpu", count=64):
    """Embedded of every visit of a table, photographs as they are."""
    rows = Visits(table, data, rules.model_copy(update={"flip": "none"}), model.text)
    model, found = model.to(device).eval(), []
    for start in range(0, len(rows), count):
        batch = rows.batch(np.arange(start, min(start + count, len(rows)))).to(device)
        raw = model.raw(batch.image, batch.present)
        found.append((raw, model.project(raw, batch.present), model.report(batch.token)))
    vectors = (
        torch.cat([one[place] for one in found], int(place > 0)).float().cpu().numpy()
        for place in range(3)
    )
    return Embedded(*vectors, rows.member.numpy(), rows.present.numpy(), rows.content.numpy())
