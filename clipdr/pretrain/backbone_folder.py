"""Backbone folder: a pre-training run exported for the grading methods (clipdr.models.exported)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from clipdr.artifacts.files import replacing, write_text
from clipdr.models.exported import ExportedFolder
from clipdr.pretrain.run import load, read_facts


def export(
    folder: Path | str, out: Path | str, name: str = "ret_clip", half: bool = False
) -> ExportedFolder:
    """Write the backbone folder of a run.

    Args:
        folder: Run folder of pre-training.
        out: Backbone folder to write.
        name: Name in visual.json.
        half: Whether to store tensors as float16, at half the size.

    Raises:
        DataError: If a file of the run is missing or damaged.
    """
    folder, out = Path(folder), Path(out)
    model, rules = load(folder)
    _, text = read_facts(folder)
    provenance = json.loads((folder / "provenance.json").read_text())
    tower: Any = model.image
    facts = {
        "name": name,
        "image": rules.image,
        "side": rules.side,
        "width": model.width,
        "mean": tower.mean.flatten().tolist(),
        "std": tower.std.flatten().tolist(),
        "text": {key: value for key, value in text.items() if key not in ("width", "folder")},
        "laterality": provenance["laterality"],
        "provenance": {
            "commit": provenance["commit"],
            "pairs": provenance["pairs"],
            "settings": rules.model_dump(),
        },
        "seen": json.loads((folder / "seen.json").read_text()),
    }
    parts = {"visual": {}, "heads": {}}
    for key, value in model.state_dict().items():
        image = key.startswith("image.")
        tensor = value.half() if half and value.is_floating_point() else value
        part = parts["visual" if image else "heads"]
        part[key.removeprefix("image.") if image else key] = tensor.contiguous()
    if text["encoder"] != "small":
        encoder: Any = model.text
        encoder.model.config.save_pretrained(out / "text")
        encoder.tokenizer.save_pretrained(out / "text")
    for part, tensors in parts.items():
        with replacing(out / f"{part}.safetensors") as path:
            save_file(tensors, path)
    write_text(out / "visual.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return ExportedFolder(out)
