"""Facts of a study collected from its files, and the rows of the summary.

Input: a Study. Output: {name: checklist.Fact} and (term, text).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from clipdr.artifacts.run_folder import Run
from clipdr.evaluation import aggregate, schema
from clipdr.report import data_report, labels
from clipdr.report.checklist import Fact
from clipdr.report.figures import catalog as figure_catalog
from clipdr.report.page import data_facts, facts
from clipdr.report.page.images import Figure

SUMMARY_FACTS = {  # fact -> term in the summary
    "sources": "Domains",
    "counts": "Images",
    "partition": "Protocol",
    "model": "Model",
    "preprocessing": "Pixels",
    "disjoint": "Leakage",
    "performance": "Result",
    "referable": "Referable DR",
}


class Study(NamedTuple):
    """What the report is about.

    Attributes:
        results: Folder of results.
        data: Folder with manifests/, store/ and rejected/.
        runs: Runs, in the order of the tables.
        manifests: {domain: manifest}.
        held: Held-out names of the first protocol, which the figures and facts are of.
        reference: Method whose largest errors and headline numbers are shown.
    """

    results: Path
    data: Path
    runs: list[Run]
    manifests: dict[str, pd.DataFrame]
    held: list[str]
    reference: str


def of_study(study: Study) -> dict[str, Fact]:
    """Facts of data, design and performance, of the protocol of the first run."""
    runs = [run for run in study.runs if run.protocol == study.runs[0].protocol]
    folders = [run.folder for run in runs if run.method == study.reference]
    scores = aggregate.collect(folders)
    averages = aggregate.average(scores, aggregate.collect_draws(folders))
    points = {
        str(folder): schema.of_headline(_json(folder / "operating.json")) for folder in folders
    }
    gate = study.results / "gate" / runs[0].protocol
    held = dict.fromkeys(run.held_out for run in runs)
    reports = {name: _json(gate / f"{name}.json") for name in held}
    refused = {name: len(data_report.rejected(study.data, name)) for name in study.manifests}
    collected = data_facts.data(study.manifests, refused) | facts.design(runs, reports)
    resamples = int(averages["resamples"].max())
    collected |= facts.performance(averages, study.reference, points, resamples)
    if "last" in set(scores["selection"]):
        text = "The last weights were scored beside the selected ones."
        collected["last weights"] = Fact(text, "selection")
    if (scores["split"] == "val").any():
        text = "Source validation is scored in results/scores.csv (split val); its AUC at every "
        collected["internal"] = Fact(f"{text}selection is shown.", "selection")
    return collected


def of_report(
    study: Study, content: Mapping[str, Any], figures: Mapping[str, Sequence[Figure]]
) -> dict[str, Fact]:
    """Facts of what the report itself shows: errors, activation maps, deviations."""
    maps = [figure for figure in figures["maps"] if figure.name in figure_catalog.FROM_MODELS]
    collected = {}
    if content["gallery"]:
        text = f"Largest errors of {study.reference} per held-out domain, with image and "
        collected["failures"] = Fact(f"{text}probabilities.", "gallery")
    if maps:
        collected["explanation"] = Fact("Activation maps, with their sanity checks.", "maps")
    if content["deviations"]:
        text = "Every difference from the papers and the released code is listed."
        collected["deviations"] = Fact(text, "deviations")
    return collected


def summary(study: Study, collected: Mapping[str, Fact]) -> list[tuple[str, str]]:
    """(term, text) of what was run, on what."""
    methods = list(dict.fromkeys(run.method for run in study.runs))
    seeds = sorted({run.seed for run in study.runs})
    over = labels.PROTOCOLS[study.runs[0].protocol][1]
    numbers = f"{len(methods)} methods, {len(study.held)} {over}"
    numbers += f", seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    rows = [("Methods", ", ".join(methods)), ("Runs", f"{len(study.runs)}: {numbers}")]
    return rows + [
        (term, collected[name].text) for name, term in SUMMARY_FACTS.items() if name in collected
    ]


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file, {} where it is missing."""
    return json.loads(path.read_text()) if path.is_file() else {}
