"""Scoring of a model folder: retrieval, grades on both scales, baselines and sanity checks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file

from clipdr.artifacts.files import as_csv, as_json, write_text
from clipdr.multimodal.evaluation import (
    baselines,
    grading,
    leaky_protocol,
    retrieval,
    sanity_checks,
)
from clipdr.multimodal.evaluation.scored_run import write_run
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.run import load
from clipdr.training.distributed import resolve_device
from clipdr.training.provenance import describe_run

if TYPE_CHECKING:
    from clipdr.multimodal.data.loader import EyeDataset


class NoNetwork(torch.nn.Module):
    """Placeholder for a baseline without a network where a provenance is written."""

    chosen: ClassVar[dict[str, Any]] = {}


def retrieve(
    folder: str | Path, data: str | Path, resamples: int = 2000, device: str = "auto"
) -> list[dict[str, Any]]:
    """Score retrieval of one model over the whole test split.

    Writes retrieval.csv, retrieval.json and examples.json. Of a model under `contrast: fused` it
    writes leaky.csv and leaky.json instead.

    Args:
        folder: Model folder.
        data: Folder of packed eye tables.
        resamples: Resamples of patients behind each interval.
        device: "auto", "cpu" or "cuda".

    Returns:
        Rows of `judge` with model, seed, dataset, shuffle, mode, direction, kind and leaky.

    Raises:
        DataError: If data and folder do not belong together, the split leaks, or a recall exceeds
            its upper bound.
    """
    folder = Path(folder)
    model, datasets, stored, torch_device = load(folder, data, "retrieval", device)
    test = datasets["test"]
    about = {
        "model": folder.parent.name,
        "seed": stored["seed"],
        "dataset": stored["name"],
        "shuffle": model.setting.shuffle,
    }
    if model.setting.contrast == "fused":
        name = "leaky"
        scores = leaky_protocol.fused_paper(model, test, torch_device, resamples)
    else:
        leaky_protocol.refuse_leaky(model, "retrieve")
        name = "retrieval"
        scores, embeddings = retrieval.score_modes(model, test, torch_device, resamples)
        queries = retrieval.examples(embeddings, test)
        for query in queries:
            for item in query["items"]:
                item["row"] = int(test.eyes["row"].iloc[item["place"]])
        write_text(folder / "examples.json", as_json(queries))
    rows = [about | row for row in scores]
    write_text(folder / f"{name}.csv", as_csv(rows))
    write_text(folder / f"{name}.json", as_json(rows))
    return rows


def classify(
    folder: str | Path,
    data: str | Path,
    results: str | Path,
    held_out: str,
    resamples: int = 2000,
    device: str = "auto",
) -> None:
    """Grade the test eyes on both scales.

    Writes run folders, curves.csv (a modality absent) and attribution.csv. A model that reads
    structured data is also scored with that of random other patients, as the method
    NAME_shuffled_at_test.

    Args:
        folder: Model folder.
        data: Folder of packed eye tables.
        results: Results folder.
        held_out: Name of the test patients in run folders.
        resamples: Resamples of patients behind each interval.
        device: "auto", "cpu" or "cuda".

    Raises:
        DataError: If data and folder do not belong together, or the model is leaky.
    """
    began, folder = time.monotonic(), Path(folder)
    model, datasets, stored, torch_device = load(folder, data, "grading", device)
    leaky_protocol.refuse_leaky(model, "classify")
    name, seed, setting = folder.parent.name, stored["seed"], model.setting
    if (
        setting.shuffle == "rows"
    ):  # this control is trained on shuffled rows, so it is tested on them
        datasets = _with_shuffled_rows(datasets, seed)
    history = (folder / "history.csv").read_text()
    state = load_file(folder / "grading.safetensors")
    methods = {name: datasets}
    if setting.inputs != "none" and setting.shuffle == "none":
        methods[f"{name}_shuffled_at_test"] = _with_shuffled_rows(datasets, seed)
    for scale in graded_scales(datasets):
        manifest = grading.manifest(datasets, scale, held_out)
        predicted = {
            method: grading.predictions(model, inputs, scale, method, held_out, seed, torch_device)
            for method, inputs in methods.items()
        }
        for predictions in predicted.values():
            provenance = describe_run(model, {}, torch_device, began)
            write_run(
                results,
                predictions,
                manifest,
                datasets["test"].eyes,
                resamples,
                {"model": stored},
                provenance,
                history,
                state,
            )
    curves = grading.absence_curves(model, datasets, seed, torch_device)
    attribution = grading.attribution(model, datasets["test"], torch_device)
    write_text(folder / "curves.csv", as_csv(curves))
    write_text(folder / "attribution.csv", as_csv(attribution))


def _with_shuffled_rows(datasets: Mapping[str, EyeDataset], seed: int) -> dict[str, EyeDataset]:
    """Datasets by split, each eye with the structured data of a random other patient."""
    return {split: dataset.with_shuffled_rows(seed) for split, dataset in datasets.items()}


def graded_scales(datasets: Mapping[str, EyeDataset]) -> list[str]:
    """List the scales with grades in training, validation and test; the other head was masked.

    Args:
        datasets: Datasets by split.

    Returns:
        Names among "icdr" and "sdrg".
    """
    return [
        scale
        for scale in SCALES
        if all((dataset.grade[scale] >= 0).any() for dataset in datasets.values())
    ]


def check_model(
    folder: str | Path,
    data: str | Path,
    results: str | Path,
    held_out: str,
    resamples: int = 2000,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Fit the baselines on a model's split and run the sanity checks of the model.

    Writes run folders of the baselines, sanity_checks.json, sanity_checks.csv and missingness.json.

    Args:
        folder: Model folder.
        data: Folder of packed eye tables.
        results: Results folder.
        held_out: Name of the test patients in run folders.
        resamples: Resamples of patients behind each interval.
        device: "auto", "cpu" or "cuda".

    Returns:
        Rows model, seed, leaky, check, mode, passed, detail.

    Raises:
        DataError: If data and folder do not belong together, or the training eyes hold fewer than
            two grades.
    """
    began, folder = time.monotonic(), Path(folder)
    model, datasets, stored, torch_device = load(folder, data, "retrieval", device)
    seed, missingness = stored["seed"], {}
    for scale in graded_scales(datasets) if model.setting.contrast != "fused" else ():
        manifest = grading.manifest(datasets, scale, held_out)
        logits = baselines.fit_baselines(datasets, scale, seed)
        grade = datasets["train"].grade[scale].numpy()
        counts = np.bincount(grade[grade >= 0], minlength=5).astype(np.float32)
        inputs = model.setting.inputs
        for baseline, by_split in logits.items():
            name = baselines.run_name(baseline, inputs)
            write_run(
                results,
                grading.prediction_table(by_split, datasets, scale, name, held_out, seed),
                manifest,
                datasets["test"].eyes,
                resamples,
                {"baseline": baseline} | ({} if name == baseline else {"inputs": inputs}),
                describe_run(NoNetwork(), {}, resolve_device("cpu"), began),
                "step\n",
                {"training_counts": torch.from_numpy(counts)},
            )
        grade = datasets["test"].grade[scale].numpy()
        graded = grade >= 0
        auroc = baselines.any_retinopathy(logits["missingness"]["test"][graded], grade[graded])
        missingness[scale] = {"auroc_any_retinopathy": auroc, "n": int(graded.sum())}
    about = {"model": folder.parent.name, "seed": seed, "leaky": model.setting.leaky}
    checks = sanity_checks.run_checks(model, datasets["test"], seed, torch_device)
    rows = [about | row for row in checks]
    write_text(folder / "missingness.json", as_json(missingness))
    write_text(folder / "sanity_checks.csv", as_csv(rows))
    write_text(folder / "sanity_checks.json", as_json(rows))
    return rows
