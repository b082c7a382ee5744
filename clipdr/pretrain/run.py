"""Pre-training run on disk: built, trained, loaded again, and applied to patients.

Input: settings, a patients table, packed images. Output: a run folder with settings.json,
history.csv, model.safetensors (lowest validation loss), text.json, seen.json, provenance.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.files import digest, replacing, write_text
from clipdr.models.factory import build_image_tower, build_report_encoder
from clipdr.models.report_encoder import (
    HuggingFaceReportEncoder,
    SmallReportEncoder,
    build_vocabulary,
)
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.loader import Visits
from clipdr.pretrain.loop import Fit, fit
from clipdr.pretrain.model import LEVELS, RetClip
from clipdr.pretrain.settings import Rules
from clipdr.training.distributed import world
from clipdr.training.provenance import (
    array_stamps,
    commit,
    identity,
    peak_memory_mib,
    source_digests,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

WRITTEN = ("settings.json", "history.csv", "model.safetensors", "text.json", "seen.json")


def build_text_encoder(
    rules: Rules, texts: Sequence[str]
) -> tuple[SmallReportEncoder | HuggingFaceReportEncoder, dict[str, Any]]:
    """Build the text encoder of some settings.

    Args:
        rules: Settings.
        texts: Training texts, the vocabulary of `small`.

    Returns:
        The encoder, and its facts for text.json.

    Raises:
        DataError: If the encoder is unknown or its folder is missing.
    """
    if rules.text == "small":
        words = build_vocabulary(texts)
        facts = {"encoder": "small", "length": rules.length, "vocabulary": words}
        return SmallReportEncoder(words, rules.length), facts
    folder = rules.text.removeprefix("hf:")
    if not (rules.text.startswith("hf:") and Path(folder).is_dir()):
        raise DataError(
            f"pretrain: text encoder {rules.text!r} is unknown or its folder is missing. "
            f"Use small, or hf:FOLDER with a downloaded model and its tokenizer."
        )
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (
        cls.from_pretrained(folder, local_files_only=True) for cls in (AutoModel, AutoTokenizer)
    )
    facts = {"encoder": "hf", "length": rules.length, "folder": folder}
    return HuggingFaceReportEncoder(model, tokenizer, rules.length), facts


def build(rules: Rules, texts: Sequence[str]) -> tuple[RetClip, dict[str, Any]]:
    """Build a RetClip before its first step, a function of `rules.seed`.

    Args:
        rules: Settings.
        texts: Training texts.

    Returns:
        The model, and the content of text.json.
    """
    torch.manual_seed(rules.seed)
    tower = build_image_tower(rules.image, rules.weights, rules.side, rules.width, rules.precision)
    if rules.checkpointing:
        enable: Any = tower.trunk.set_grad_checkpointing
        enable(True)
    with torch.no_grad():
        width = tower.eval()(torch.zeros(1, 3, rules.side, rules.side)).shape[1]
    encoder, facts = build_text_encoder(rules, texts)
    return RetClip(tower, encoder, width, rules.start), facts | {"width": width}


def training_texts(table: pd.DataFrame) -> list[str]:
    """List all texts of the training rows: whole reports and those of single eyes."""
    rows = table[table["split"] == "train"]
    return [text for column in ("text", "text_left", "text_right") for text in rows[column]]


def visits(
    table: pd.DataFrame,
    split: str,
    data: Path,
    rules: Rules,
    encoder: SmallReportEncoder | HuggingFaceReportEncoder,
    permute: int | None = None,
) -> Visits | None:
    """Visits of one split, None where it has no row; arguments as those of `Visits`."""
    rows = table[table["split"] == split]
    return Visits(rows, data, rules, encoder, permute) if len(rows) else None


def train(
    folder: Path | str,
    table_path: Path | str,
    data: Path | str,
    rules: Rules,
    device: torch.device | str = "cpu",
) -> str:
    """Pre-train on a patients table and write the run folder; an interrupted run resumes.

    Args:
        folder: Run folder to write.
        table_path: Patients table of `clipdr pretrain pairs`.
        data: Folder with manifests/ and store/.
        rules: Settings.
        device: Device of this process. Under torchrun each process calls this function.

    Returns:
        One line about the run; "" in all processes but the first.

    Raises:
        DataError: If no row has the split train, or `fit` raises it.
    """
    folder, table_path, data = Path(folder), Path(table_path), Path(data)
    table = patients_table.read(table_path)
    model, text = build(rules, training_texts(table))
    permute = rules.seed + 1 if rules.permute else None
    training = visits(table, "train", data, rules, model.text, permute)
    val = visits(table, "val", data, rules, model.text)
    if training is None:
        raise DataError(
            f"{table_path}: no row has the split train. Write it with `clipdr pretrain pairs`."
        )
    if world()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
    result = fit(
        model,
        training,
        val,
        rules,
        resume=folder / "resume.pt",
        digest=run_identity(rules, table_path, training),
        device=device,
    )
    if world()[0] > 0:
        return ""
    files = {
        "settings.json": json.dumps(rules.model_dump(), indent=1, sort_keys=True) + "\n",
        "text.json": json.dumps(text, indent=1, ensure_ascii=False) + "\n",
        "seen.json": json.dumps(training_data_record(table, data), indent=1) + "\n",
        "history.csv": result.history.to_csv(index=False, lineterminator="\n"),
    }
    for name, content in files.items():
        write_text(folder / name, content)
    with replacing(folder / "model.safetensors") as path:
        save_file(result.state, path)
    facts = {
        "job": f"pretrain {folder.name}",
        "device": str(device),
        "images": int(training.present.sum()) * rules.epochs,
        "truncated": training.truncated,
        "laterality": "destroyed" if rules.flip == "upstream" else "kept",
        "pairs": {"file": table_path.name, "sha256": digest(table_path)},
        "folder": ".",
        "files": {name: digest(folder / name) for name in WRITTEN},
    }
    write_text(folder / "provenance.json", receipts.sealed(facts | _surroundings(result)))
    (folder / "resume.pt").unlink(missing_ok=True)
    return _summary(folder, result, training.truncated, rules.length)


def run_identity(rules: Rules, table_path: Path, training: Visits) -> str:
    """Digest of everything that must be equal for a run to resume."""
    inputs = [digest(table_path), array_stamps(training.arrays)]
    return identity(rules.model_dump(), inputs, source_digests("pretrain train"))


def _surroundings(result: Fit) -> dict[str, Any]:
    """Commit, threads, processes, seconds of training and peak memory in MiB."""
    return {
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "processes": world()[1],
        "seconds": round(result.seconds, 3),
        "peak_mib": peak_memory_mib(),
    }


def _summary(folder: Path, result: Fit, truncated: float, length: int) -> str:
    """One line: epochs, first and last loss, its lower bound, share of truncated reports."""
    first, last = result.history.iloc[0], result.history.iloc[-1]
    bound = sum(last.get(f"floor_{level}", 0) for level in LEVELS)
    return (
        f"{folder}: {len(result.history)} epochs, loss {first['loss']:.2f} -> {last['loss']:.2f} "
        f"(lower bound {bound:.2f}), {truncated:.1%} of the reports truncated to {length} tokens"
    )


def training_data_record(table: pd.DataFrame, data: Path) -> dict[str, list[str]]:
    """Record what no test set may hold.

    Returns:
        {"images": sha256 of every image of training and validation, "patients": their keys}.
    """
    rows = table[table["split"] != "test"]
    digests = patients_table.resolve(rows, data)[2]
    return {
        "images": sorted(set(digests.ravel()) - {""}),
        "patients": sorted(set(patients_table.patients(rows))),
    }


def read_facts(folder: Path | str) -> tuple[Rules, dict[str, Any]]:
    """Read settings.json and text.json of a run folder.

    Raises:
        DataError: If a file is missing or damaged.
    """
    settings, text = (Path(folder) / name for name in ("settings.json", "text.json"))
    try:
        return Rules(**json.loads(settings.read_text())), json.loads(text.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: not a finished pre-training run ({error}). Run `clipdr pretrain train`."
        ) from None


def load(folder: Path | str, weights: str = "trained") -> tuple[RetClip, Rules]:
    """Load the model of a run folder, in evaluation mode.

    Args:
        folder: Run folder.
        weights: "trained", "start" (what pre-training began with) or "random" (no pretrained
            weights).

    Returns:
        The model and its settings.

    Raises:
        DataError: If a file is missing or damaged.
    """
    rules, text = read_facts(folder)
    small = text["encoder"] == "small"
    if weights != "trained":
        start = rules.weights if weights == "start" else "random"
        first = rules.model_copy(update={"weights": start})
        words = text["vocabulary"][4:] if small else []  # without the special tokens
        return build(first, words)[0].eval(), rules
    tower = build_image_tower(rules.image, "random", rules.side, rules.width, rules.precision)
    encoder = (
        build_report_encoder(text, Path(folder)) if small else build_text_encoder(rules, [])[0]
    )
    model = RetClip(tower, encoder, text["width"], rules.start)
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval(), rules


class Embedded(NamedTuple):
    """Embeddings of N visits.

    Attributes:
        raw: (N, 2, E) float32, v of both eyes, zeros where absent.
        image: (3, N, E) float32 unit vectors of the three levels.
        text: (3, N, E) float32 unit vectors.
        member: (3, N) bool, rows that take part at each level.
        present: (N, 2) bool, images that exist.
        content: (3, N) int64, equal numbers for equal texts.
    """

    raw: np.ndarray
    image: np.ndarray
    text: np.ndarray
    member: np.ndarray
    present: np.ndarray
    content: np.ndarray


@torch.no_grad()
def embed(
    model: RetClip,
    table: pd.DataFrame,
    data: Path | str,
    rules: Rules,
    device: torch.device | str = "cpu",
    count: int = 64,
) -> Embedded:
    """Embed every visit of a table, images without augmentation.

    Args:
        model: Trained model.
        table: Patients table of N rows.
        data: Folder with manifests/ and store/.
        rules: Settings of the model.
        device: Where to compute.
        count: Visits per batch.
    """
    rows = Visits(table, Path(data), rules.model_copy(update={"flip": "none"}), model.text)
    model = model.to(device).eval()
    raw, image, text = [], [], []
    for start in range(0, len(rows), count):
        batch = rows.batch(np.arange(start, min(start + count, len(rows)))).to(device)
        raw.append(model.raw(batch.image, batch.present))
        image.append(model.project(raw[-1], batch.present))
        text.append(model.report(batch.token))
    v, z, u = (
        torch.cat(parts, axis).float().cpu().numpy()
        for parts, axis in ((raw, 0), (image, 1), (text, 1))
    )
    return Embedded(v, z, u, rows.member.numpy(), rows.present.numpy(), rows.content.numpy())
