"""Run folders of the multimodal system: both scales in the common layout of all runs.

RESULTS/runs/brset_{scale}/{method}/{held_out}/{seed}/ holds predictions in the common format, so
that scores, tables and MLflow read them unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from clipdr.artifacts import receipts
from clipdr.artifacts.files import as_csv, as_json, digest, replacing, write_text
from clipdr.evaluation import scoring
from clipdr.multimodal.evaluation.grading import further_metrics

if TYPE_CHECKING:
    import pandas as pd
    import torch

WRITTEN = (  # files that the provenance names with their sha256
    "settings.json",
    "history.csv",
    "model.safetensors",
    "predictions.parquet",
    "scores.csv",
    "draws.npz",
    "operating.json",
    "further.csv",
)


def write_run(
    results: str | Path,
    predicted: pd.DataFrame,
    manifest: pd.DataFrame,
    eyes: pd.DataFrame,
    resamples: int,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    history: str,
    state: dict[str, torch.Tensor],
) -> None:
    """Write one run folder: predictions, scores, bootstrap draws, operating point, further.csv.

    Args:
        results: Results folder.
        predicted: Rows of predictions.parquet of one run.
        manifest: Eyes to score, as of `grading.manifest`.
        eyes: Eye table of the test split.
        resamples: Resamples of patients behind each interval.
        settings: Settings to state in settings.json.
        provenance: Facts of provenance.json, which is also the receipt of the other files.
        history: Content of history.csv.
        state: Tensors of model.safetensors.
    """
    first = predicted.iloc[0]
    key = {name: first[name] for name in ("protocol", "method", "held_out")}
    seed = int(first["seed"])
    folder = Path(results).joinpath("runs", *key.values(), str(seed))
    scored = scoring.score(predicted, manifest, resamples, str(folder))
    write_text(folder / "settings.json", as_json({**key, "seed": seed, **settings}))
    write_text(folder / "history.csv", history)
    with replacing(folder / "model.safetensors") as path:
        save_file(state, path)
    with replacing(folder / "predictions.parquet") as path:
        predicted.to_parquet(path, index=False)
    scoring.write(scored, folder)
    write_text(folder / "further.csv", as_csv(further_metrics(predicted, eyes, resamples)))
    record = {**provenance, "job": f"multimodal score {'/'.join(key.values())}/{seed}"}
    record |= {"folder": ".", "files": {name: digest(folder / name) for name in WRITTEN}}
    write_text(folder / "provenance.json", receipts.sealed(json.loads(as_json(record))))
