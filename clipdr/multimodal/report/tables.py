"""Tables of the multimodal system: rows of printed values with their numbers.

Input: rows of the files of model folders and run folders. Output: rows, {column: Measure or text},
and Tables. A recall without its upper bound is refused, and so is a leaky row outside the table of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation import aggregate
from clipdr.evaluation.retrieval import K
from clipdr.multimodal.evaluation.leaky_protocol import LEAKY
from clipdr.report.tables.table import UNDEFINED, Table, interval_text
from clipdr.report.tables.views import NO_INTERVAL

METRICS = ("accuracy", "macro_f1", "qwk", "sensitivity", "specificity", "ece_2", "rps")
# columns without which a recall is not printed
NEEDED = [
    *(f"{name}_{k}" for name in ("recall", "ceiling", "chance", "equivalent") for k in K),
    "n",
    "patients",
    "kind",
]
FAILED = " SANITY CHECK FAILED"  # after the name of a model


class Measure(NamedTuple):
    """A printed number.

    Attributes:
        text: As printed, without the interval.
        value: Number in the unit of the column; NaN where it is undefined.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        decimals: Digits after the point.
        estimated: Whether the number should have an interval.
    """

    text: str
    value: float
    low: float = np.nan
    high: float = np.nan
    decimals: int = 1
    estimated: bool = False

    @property
    def lacks_interval(self) -> bool:
        """Whether an interval is undefined."""
        return self.estimated and bool(np.isnan(self.low))

    def __str__(self) -> str:
        """Print the number with its interval in brackets."""
        if self.lacks_interval:
            return f"{self.text} (no interval)"
        if np.isnan(self.low):
            return self.text
        return f"{self.text} ({interval_text(self.low, self.high, self.decimals)})"


Row = dict[str, Any]  # column -> Measure, text or count


def percent(
    value: float | None,
    decimals: int = 1,
    low: float | None = None,
    high: float | None = None,
) -> Measure:
    """Print a share as percent, n/a where it is undefined.

    Args:
        value: Share, 0 to 1; NaN or None where it is undefined.
        decimals: Digits after the point.
        low: Lower end of its interval.
        high: Upper end.
    """
    estimated = low is not None
    value, low, high = (np.nan if share is None else 100 * share for share in (value, low, high))
    text = UNDEFINED if np.isnan(value) else f"{value:.{decimals}f}"
    return Measure(text, value, low, high, decimals, estimated)


def number(value: float, form: str) -> Measure:
    """Print a number in a format, for example ".3f"."""
    return Measure(f"{value:{form}}", float(value))


def retrieval_table(rows: Iterable[Mapping[str, Any]], broken: Collection[str] = ()) -> list[Row]:
    """Rows of retrieval.csv as printed values.

    Args:
        rows: Rows of every model, with the column model.
        broken: Models that failed a sanity check; every row of theirs is marked.

    Raises:
        DataError: If a recall lacks its upper bound, chance or size, or a row is leaky.
    """
    return [_retrieval_row(row, broken) for row in rows]


def _retrieval_row(row: Mapping[str, Any], broken: Collection[str]) -> Row:
    """One row of the table of retrieval."""
    if absent := [name for name in NEEDED if pd.isna(row.get(name, np.nan))]:
        raise DataError(
            f"report: a recall of {row.get('mode')} without its {absent[0]}. Print them together."
        )
    if row["leaky"]:
        raise DataError(f"report: {row['mode']} is leaky. Keep it out of the main table.")
    printed: Row = {
        "model": row["model"] + (FAILED if row["model"] in broken else ""),
        "mode": row["mode"],
        "direction": row["direction"].replace("_", " "),
        "text": row["kind"],
        "images": row["n"],
        "patients": row["patients"],
    }
    for k in K:
        ends = {"low": row[f"recall_{k}_low"], "high": row[f"recall_{k}_high"]}
        printed[f"R@{k} %"] = percent(row[f"recall_{k}"], **ends)
    printed |= {f"C_{k} %": percent(row[f"ceiling_{k}"]) for k in K}
    printed |= {
        "chance R@1 %": percent(row["chance_1"], 2),
        "times chance": number(row["recall_1"] / row["chance_1"], ".1f"),
        "skill@1": number(row["skill_1"], ".3f"),
        "median rank": number(row["median_rank"], "g"),
    }
    for k in K:
        band = [percent(row[f"equivalent_{k}_null_{end}"]).text for end in ("low", "high")]
        hits = percent(row[f"equivalent_{k}"])
        text = f"{hits.text} [{band[0]}, {band[1]}]"
        printed[f"equivalent R@{k} % [null band]"] = hits._replace(text=text)
    printed["misses on the same patient %"] = percent(row["same_patient_misses"])
    return printed


def leaky_table(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of leaky.csv as printed values, each under the label LEAKY.

    Raises:
        DataError: If a row is not leaky.
    """
    rows = list(rows)
    if any(not row["leaky"] for row in rows):
        raise DataError("report: a row that is not leaky. Keep it out of the leaky table.")
    return [
        {
            "status": LEAKY,
            "mode": row["mode"],
            "direction": row["direction"].replace("_", " "),
            "images": row["n"],
            **{f"R@{k} %": percent(row[f"recall_{k}"]) for k in K},
            "unimodal upper bound C_1 % of these texts": percent(row["honest_ceiling_1"]),
        }
        for row in rows
    ]


def grading_table(results: Path, protocol: str, held_out: str) -> list[Row]:
    """Grades of every run of one scale: means over seeds, with intervals by patient.

    Balanced accuracy and AUROC come from further.csv.

    Args:
        results: Folder with runs/.
        protocol: Protocol of the scale, for example "brset_icdr".
        held_out: Name of the test patients in run folders.
    """
    runs = Path(results) / "runs" / protocol
    folders = sorted(path.parent for path in runs.glob(f"*/{held_out}/*/scores.csv"))
    if not folders:
        return []
    averages = aggregate.average(aggregate.collect(folders), aggregate.collect_draws(folders))
    averages = averages[averages["held_out"] == held_out]
    rows: list[Row] = []
    for method, part in averages.groupby("method", sort=False):
        cells = part.set_index("metric")
        row: Row = {
            "method": str(method),
            "eyes": int(cells["n"].iloc[0]),
            "patients": int(cells["clusters"].iloc[0]),
        }
        own = [folder for folder in folders if RunFolder(folder).method == method]
        further = pd.concat([pd.read_csv(folder / "further.csv") for folder in own])
        further = further[further["stratum"] == "all"]
        for name, cell in further.groupby("metric")[["value", "low", "high"]].mean().iterrows():
            title = f"{str(name).replace('_', ' ')} %"
            row[title] = percent(cell["value"], low=cell["low"], high=cell["high"])
        for name in METRICS:
            cell = cells.loc[name]
            row[f"{name} %"] = percent(cell["mean"], low=cell["low"], high=cell["high"])
        for grade in range(len(GRADES)):
            row[f"recall {grade} %"] = percent(cells.loc[f"recall_{grade}", "mean"])
        rows.append(row)
    return rows


def rounded(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows whose floats are printed with three decimals."""
    return [
        {
            key: number(value, ".3f") if isinstance(value, float) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def upper_bound_table(results: Path) -> list[Row]:
    """Rows of every upper_bounds_*.csv of a folder of results as printed values."""
    return [
        {
            "table": path.stem.removeprefix("upper_bounds_"),
            **{key: row[key] for key in ("content", "part", "n", "distinct")},
            **{f"C_{k} %": percent(row[f"ceiling_{k}"]) for k in K},
        }
        for path in sorted(Path(results).glob("upper_bounds_*.csv"))
        for row in pd.read_csv(path).to_dict("records")
    ]


def noise_table(results: Path) -> list[Row]:
    """Rows of noise.json of a folder of results; [] where the demonstration was not run."""
    path = Path(results) / "noise.json"
    if not path.is_file():
        return []
    return [
        {
            "what": f"{LEAKY}: fused" if result["leaky"] else name.replace("_", " "),
            "pairs": result["pairs"],
            "steps": result["steps"],
            "R@1 %": percent(result["recall_1"], 2),
            "R@10 %": percent(result["recall_10"], 2),
            "R@1 %, partners shuffled": percent(result["shuffled_recall_1"], 2),
            "chance %": percent(result["chance"], 2),
        }
        for name, result in json.loads(path.read_text()).items()
    ]


def printed(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as texts and counts, for a CSV."""
    return [
        {key: str(value) if isinstance(value, Measure) else value for key, value in row.items()}
        for row in rows
    ]


def as_table(
    name: str,
    rows: Sequence[Row],
    keys: Sequence[str],
    corner: str,
    caption: str,
    *,
    synthetic: bool,
    notes: Sequence[str] = (),
) -> Table:
    """Make a Table of rows.

    Args:
        name: Name of its files.
        rows: Rows with the same columns.
        keys: Columns that name a row; equal names are numbered.
        corner: Title of the first column.
        caption: Without SYNTHETIC.
        synthetic: Whether the images are synthetic.
        notes: Sentences below the table.
    """
    cells, used = [], {}
    for row in rows:
        label = ", ".join(str(row[key]) for key in keys)
        used[label] = used.get(label, 0) + 1
        label = label if used[label] == 1 else f"{label} ({used[label]})"
        base = {"method": label, "mark": "", "degenerate": ""}
        for column, value in row.items():
            if column not in keys:
                cells.append(base | {"column": column} | _cell(value))
    measures = [value for row in rows for value in row.values() if isinstance(value, Measure)]
    if any(measure.lacks_interval for measure in measures):
        notes = [*notes, NO_INTERVAL]
    return Table.of(name, cells, caption, notes, corner=corner, synthetic=synthetic)


def _cell(value: Any) -> dict[str, Any]:
    """Text and numbers of a cell."""
    if isinstance(value, Measure):
        numbers = {name: getattr(value, name) for name in ("value", "low", "high", "decimals")}
        return {"text": value.text, **numbers}
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return {"text": str(value), "value": float(value), "decimals": 0}
    return {"text": "" if value is None or value is np.nan else str(value)}
