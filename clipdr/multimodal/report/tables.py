"""Tables of the multimodal system as printed cells. A recall without its ceiling is refused, and a leaky row outside its own table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.artifacts.run_folder import RunFolder
from clipdr.evaluation import aggregate
from clipdr.evaluation.retrieval import K
from clipdr.multimodal.evaluation.leaky_protocol import LEAKY

SHOWN = ("accuracy", "macro_f1", "qwk", "sensitivity", "specificity", "ece_2", "rps")
NEEDED = [f"{name}_{k}" for name in ("recall", "ceiling", "chance", "equivalent") for k in K] + [
    "n",
    "patients",
    "kind",
]


def percent(value, decimals=1):
    """A share as percent; n/a for none."""
    return "n/a" if value is None or pd.isna(value) else f"{100 * value:.{decimals}f}"


def retrieval_table(rows, broken=()):
    """Rows of retrieval.csv as printed cells; `broken`: models whose canary failed, marked in every row.

    Raises DataError for a recall without its ceiling, chance and size, and for a leaky row: it belongs into the table of its own.
    """
    made = []
    for row in rows:
        if absent := [name for name in NEEDED if pd.isna(row.get(name, np.nan))]:
            raise DataError(
                f"report: a recall of {row.get('mode')} without its {absent[0]}: print them together or not at all"
            )
        if row["leaky"]:
            raise DataError(f"report: {row['mode']} is leaky and stays out of the main table")
        strict = [
            f"{percent(row[f'recall_{k}'])} ({percent(row[f'recall_{k}_low'])} to {percent(row[f'recall_{k}_high'])})"
            for k in K
        ]
        alike = [
            f"{percent(row[f'equivalent_{k}'])} [{percent(row[f'equivalent_{k}_null_low'])}, {percent(row[f'equivalent_{k}_null_high'])}]"
            for k in K
        ]
        mark = " CANARY FAILED" if row["model"] in broken else ""
        made.append({
            "model": row["model"] + mark, "mode": row["mode"], "direction": row["direction"].replace("_", " "), "text": row["kind"],
            "images": row["n"], "patients": row["patients"],
            **{f"R@{k} %": one for k, one in zip(K, strict, strict=True)},
            **{f"C_{k} %": percent(row[f"ceiling_{k}"]) for k in K},
            "chance R@1 %": percent(row["chance_1"], 2), "times chance": f"{row['recall_1'] / row['chance_1']:.1f}",
            "skill@1": f"{row['skill_1']:.3f}", "median rank": f"{row['median_rank']:g}",
            **{f"equivalent R@{k} % [null band]": one for k, one in zip(K, alike, strict=True)},
            "misses on the same patient %": percent(row["same_patient_misses"]),
        })  # fmt: skip
    return made


def leaky_table(rows):
    """Rows of leaky.csv as printed cells, each under the label LEAKY. DataError for an honest row: it has no business here."""
    if any(not row["leaky"] for row in rows):
        raise DataError("report: an honest row in the leaky table")
    return [
        {
            "status": LEAKY, "mode": row["mode"], "direction": row["direction"].replace("_", " "), "images": row["n"],
            **{f"R@{k} %": percent(row[f"recall_{k}"]) for k in K},
            "honest ceiling C_1 % of these texts": percent(row["honest_ceiling_1"]),
        }
        for row in rows
    ]  # fmt: skip


def grading_table(results, protocol, held_out):
    """Rows of every run of one scale, mean over seeds with intervals by patient; balanced accuracy and AUROC of further.csv beside."""
    folders = sorted(
        path.parent
        for path in (Path(results) / "runs" / protocol).glob(f"*/{held_out}/*/scores.csv")
    )
    if not folders:
        return []
    averages = aggregate.average(aggregate.collect(folders), aggregate.collect_draws(folders))
    averages = averages[averages["held_out"] == held_out]
    made = []
    for method, part in averages.groupby("method", sort=False):
        cells = part.set_index("metric")
        row = {
            "method": method,
            "eyes": int(cells["n"].iloc[0]),
            "patients": int(cells["clusters"].iloc[0]),
        }
        extra = pd.concat(
            [
                pd.read_csv(folder / "further.csv")
                for folder in folders
                if RunFolder(folder).method == method
            ]
        )
        extra = extra[extra["stratum"] == "all"].groupby("metric")[["value", "low", "high"]].mean()
        for name, cell in extra.iterrows():
            row[f"{name.replace('_', ' ')} %"] = (
                f"{percent(cell['value'])} ({percent(cell['low'])} to {percent(cell['high'])})"
            )
        for name in SHOWN:
            one = cells.loc[name]
            row[f"{name} %"] = (
                f"{percent(one['mean'])} ({percent(one['low'])} to {percent(one['high'])})"
            )
        made.append(
            row | {f"recall {g} %": percent(cells.loc[f"recall_{g}", "mean"]) for g in range(5)}
        )
    return made


def rounded(rows):
    """Rows with every float as text of three decimals."""
    return [
        {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]


def ceilings(results):
    """Printed rows of every upper_bounds_*.csv of a results folder."""
    rows = []
    for path in sorted(Path(results).glob("upper_bounds_*.csv")):
        for row in pd.read_csv(path).to_dict("records"):
            ends = {f"C_{k} %": percent(row[f"ceiling_{k}"]) for k in K}
            rows.append(
                {
                    "table": path.stem.removeprefix("upper_bounds_"),
                    **{key: row[key] for key in ("content", "part", "n", "distinct")},
                    **ends,
                }
            )
    return rows


def noise(results):
    """Printed rows of noise.json of a results folder; none where the demonstration was not run."""
    path = Path(results) / "noise.json"
    if not path.is_file():
        return []
    return [
        {
            "what": f"{LEAKY}: fused" if one["leaky"] else name.replace("_", " "), "pairs": one["pairs"], "steps": one["steps"],
            "R@1 %": percent(one["recall_1"], 2), "R@10 %": percent(one["recall_10"], 2),
            "R@1 %, partners shuffled": percent(one["shuffled_recall_1"], 2), "chance %": percent(one["chance"], 2),
        }
        for name, one in json.loads(path.read_text()).items()
    ]  # fmt: skip
