"""Report of pre-training: RESULTS/pretrain/ -> its tables, figures and section. No model is loaded.

Input: run folders RESULTS/pretrain/runs/NAME/SEED with history.csv, retrieval.csv, probes.csv (and
.npz), zeroshot.csv, fewshot.csv and examples.json. Output: probes.csv and retrieval.csv of all
runs, tables and figures in all their formats, and section.json, which the report of a study shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.files import write_text
from clipdr.pretrain import report_figures, report_tables
from clipdr.report.figures import style
from clipdr.report.page import sections
from clipdr.report.tables import writers

TITLE = "RET-CLIP: pre-training on both eyes and a report"
COLLECTED = ("probes", "retrieval")  # files of the runs that are joined into one
CURVES = (
    "curves of pre-training",
    "Loss per level (nats; dotted: its lower bound) and in-batch accuracy (%), one seed.",
)


def read(results: Path | str) -> dict[str, dict[int, Path]]:
    """Find the evaluated runs.

    Args:
        results: Folder with pretrain/runs/.

    Returns:
        {name: {seed: run folder}}.

    Raises:
        DataError: If there is none.
    """
    runs: dict[str, dict[int, Path]] = {}
    for path in sorted(Path(results).glob("pretrain/runs/*/*/retrieval.csv")):
        runs.setdefault(path.parent.parent.name, {})[int(path.parent.name)] = path.parent
    if not runs:
        raise DataError(
            f"{results}/pretrain/runs: no evaluated run. "
            "Run `clipdr pretrain retrieve` and `clipdr pretrain probe` first."
        )
    return runs


def report(results: Path | str, data: Path | str) -> dict[str, list[str]]:
    """Write tables, figures, the two collected CSV files and section.json of RESULTS/pretrain.

    Args:
        results: Folder with pretrain/runs/.
        data: Folder with manifests/ and store/ of the images.

    Returns:
        Names of the tables and of the figures.

    Raises:
        DataError: If there is no evaluated run.
    """
    folder = Path(results) / "pretrain"
    tables: list[str] = []
    words: list[str] = []
    figures: dict[str, tuple[str, str]] = {}
    histories: dict[str, pd.DataFrame] = {}
    collected: dict[str, list[pd.DataFrame]] = {kind: [] for kind in COLLECTED}
    synthetic_runs: set[str] = set()
    for name, seeds in read(results).items():
        parts = {kind: _read_seeds(kind, seeds) for kind in (*COLLECTED, "zeroshot")}
        for kind in COLLECTED:
            rows = [part.assign(run=name, seed=seed) for seed, part in parts[kind].items()]
            collected[kind] += rows
        first = min(seeds)
        histories[name] = pd.read_csv(seeds[first] / "history.csv")
        examples = json.loads((seeds[first] / "examples.json").read_text())["examples"]
        synthetic = report_figures.is_synthetic(examples[0])
        synthetic_runs |= {name} if synthetic else set()
        words.append(report_tables.sentence(name, [*parts["retrieval"].values()], synthetic))
        draws = [read_draws(path) for path in seeds.values()]
        for table in (
            report_tables.retrieval(name, parts["retrieval"][first], synthetic),
            report_tables.probes(name, [*parts["probes"].values()], draws, synthetic),
            report_tables.zero_shot(name, pd.concat(parts["zeroshot"].values()), synthetic),
        ):
            writers.write(table, folder / "tables")
            tables.append(table.name)
        pairs = report_figures.retrieved_pairs(examples, Path(data))
        if pairs is not None:
            style.write(pairs, f"pairs_{name}", folder / "figures")
            caption = f"{name}: test reports and the first three patients retrieved."
            figures[f"pairs_{name}"] = ("reports and the eyes retrieved for them", caption)
    with_images = list(figures)
    style.write(report_figures.curves(histories, synthetic_runs), "pretraining", folder / "figures")
    figures["pretraining"] = CURVES
    for kind, rows in collected.items():
        write_text(folder / f"{kind}.csv", pd.concat(rows).to_csv(index=False, lineterminator="\n"))
    sections.write(folder, TITLE, words, tables, figures, with_images)
    return {"tables": tables, "figures": list(figures)}


def read_draws(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the resampled values of a run's probes.npz: {network: {metric: (R,)}}."""
    draws: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "probes.npz") as file:
        for key in file.files:
            network, _, metric = key.partition("/")
            draws.setdefault(network, {})[metric] = file[key]
    return draws


def _read_seeds(kind: str, seeds: Mapping[int, Path]) -> dict[int, pd.DataFrame]:
    """Files {kind}.csv of the seeds of a run."""
    frames = {seed: pd.read_csv(path / f"{kind}.csv") for seed, path in seeds.items()}
    if kind == "probes":
        # An empty `against` is read as NaN, which pandas would leave out of every group.
        frames = {seed: frame.fillna({"against": ""}) for seed, frame in frames.items()}
    return frames
