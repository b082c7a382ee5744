"""Content of the multimodal report: rows of all tables, examples and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from clipdr.multimodal.data import eye_table
from clipdr.multimodal.report.claims import SCALES, claims
from clipdr.multimodal.report.figures import curve_figure, recall_figure
from clipdr.multimodal.report.tables import (
    Row,
    grading_table,
    leaky_table,
    noise_table,
    retrieval_table,
    rounded,
    upper_bound_table,
)
from clipdr.report import html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL = 96  # pixels, largest side of an image among the examples


class Content(NamedTuple):
    """Content of the report.

    Attributes:
        rows: Rows of every table: retrieval, leaky, icdr, sdrg, checks, attribution, transfers,
            upper_bounds, noise.
        claims: (sentence, rows of paired differences) per scale and model.
        examples: Queries with the images that they retrieve; `source` of an image is a data URI or
            "".
        broken: Models that failed a sanity check.
        figures: Figures by name.
        synthetic: Whether the images are synthetic.
    """

    rows: dict[str, list[Row]]
    claims: list[tuple[str, list[Row]]]
    examples: list[dict[str, Any]]
    broken: list[str]
    figures: dict[str, Figure]
    synthetic: bool


def collect(
    folders: Sequence[Path], held_out: str, data: Path, results: Path, with_images: bool
) -> Content:
    """Collect all that the report shows.

    Args:
        folders: Model folders .../NAME/SEED.
        held_out: Name of the test patients in run folders.
        data: Folder of packed eye tables.
        results: Folder of results.
        with_images: Whether examples show their images.
    """
    synthetic = held_out == "SYNTHETIC"
    checks = read_rows(folders, "sanity_checks.csv")
    broken = sorted({row["model"] for row in checks if not row["passed"] and not row["leaky"]})
    retrieval, leaky = read_rows(folders, "retrieval.csv"), read_rows(folders, "leaky.csv")
    rows = {
        "retrieval": retrieval_table(retrieval, broken),
        "leaky": leaky_table(leaky),
        "checks": checks,
        "attribution": rounded(read_rows(folders, "attribution.csv")),
        "transfers": retrieval_table(transfers(folders), broken),
        "upper_bounds": upper_bound_table(results),
        "noise": noise_table(results),
    }
    for protocol, scale in SCALES.items():
        rows[scale.lower()] = grading_table(results, protocol, held_out)
    figures = {"multimodal_recall": recall_figure(retrieval, leaky, synthetic)}
    if curves := read_rows(folders, "curves.csv"):
        figures["multimodal_curves"] = curve_figure(curves, synthetic)
    queries = examples(folders, data, with_images)
    return Content(rows, claims(results, held_out, folders), queries, broken, figures, synthetic)


def read_rows(folders: Sequence[Path | str], name: str) -> list[dict[str, Any]]:
    """Read one CSV from each model folder that has it, and add the column `model`."""
    rows = []
    for folder in map(Path, folders):
        path = folder / name
        if path.is_file() and path.read_text().strip():
            records: list[Mapping[str, Any]] = pd.read_csv(path).to_dict("records")
            rows += [{"model": folder.parent.name} | dict(row) for row in records]
    return rows


def transfers(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of every transfer_*.csv; the other data set is added to the mode."""
    names = sorted({path.name for folder in folders for path in folder.glob("transfer_*.csv")})
    return [
        row | {"leaky": False, "mode": f"{row['mode']}, {row['dataset']}"}
        for name in names
        for row in read_rows(folders, name)
    ]


def examples(folders: Sequence[Path], data: Path, with_images: bool) -> list[dict[str, Any]]:
    """Queries of the first model that has examples, with the images that they retrieve."""
    for folder in folders:
        path = folder / "examples.json"
        if path.is_file():
            queries = json.loads(path.read_text())
            name = json.loads((folder / "settings.json").read_text())["name"]
            store = eye_table.open_pack(data, name)[1] if with_images else None
            for item in (item for query in queries for item in query["items"]):
                item["source"] = (
                    "" if store is None else html.thumbnail_uri(store[item["row"]], THUMBNAIL)
                )
            return queries
    return []
