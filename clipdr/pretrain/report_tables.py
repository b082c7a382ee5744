"""Tables of pre-training: retrieval, linear probes and zero-shot findings of a run.

Input: retrieval.csv, probes.csv (with its draws) and zeroshot.csv of the seeds of a run. Output:
Tables in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipdr.pretrain.evaluation.finding_scores import average_seeds
from clipdr.pretrain.evaluation.linear_probe import NOT_RUN
from clipdr.report.tables.table import UNDEFINED, Table

KS = (1, 5, 10)
NETWORKS = {
    "trained": "after pre-training",
    "start": "weights it started from",
    "random": "same network, random weights",
}
PROBED = {"macro_auroc": "macro AUROC", "macro_map": "macro mAP", "auroc_D": "AUROC of D"}
LEVELS = {"left": "left eye", "right": "right eye", "patient": "patient"}


def cell(
    row: str, column: str, value: float, low: float = np.nan, high: float = np.nan, **facts: Any
) -> dict[str, Any]:
    """Make a cell in percent.

    Args:
        row: Name of the row.
        column: Title of the column.
        value: Share, 0 to 1; NaN where it is undefined.
        low: Lower end of its 95 % interval, NaN for none.
        high: Upper end.
        **facts: Further columns of CELL_COLUMNS, which win over these.
    """
    text = UNDEFINED if np.isnan(value) else f"{100 * value:.1f}"
    printed = {"column": column, "method": row, "text": text, "decimals": 1, "mark": ""}
    numbers = {"value": 100 * value, "low": 100 * low, "high": 100 * high}
    return {**printed, **numbers, "degenerate": "", "scale": "percent", "held_out": "test", **facts}


def retrieval(name: str, rows: pd.DataFrame, synthetic: bool) -> Table:
    """Recall with its upper bound, chance, skill and null band, per level and direction.

    Args:
        name: The run.
        rows: Its retrieval.csv, of one seed.
        synthetic: Whether the images are synthetic.
    """
    cells = [cell for row in rows.to_dict("records") for cell in _retrieval_row(row)]
    visits, patients = int(rows["n"].max()), int(rows["patients"].max())
    notes = (
        f"Gallery: {visits} visits, {patients} patients. C_K: the largest recall that any scorer "
        "can expect, because equal reports rank alike. Skill: share of the way from chance to C_K.",
        "Null: 0.5 to 99.5 % of random re-pairings of the same scores; inside it is chance. "
        "Equivalent: a hit is any item with an equal report; compare it with its own null band "
        "only.",
    )
    caption = f"{name}: retrieval on the whole test split (%), strict, ties at random."
    corner = "Level, direction"
    return Table.of(f"retrieval_{name}", cells, caption, notes, corner=corner, synthetic=synthetic)


def _retrieval_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cells of one level and direction."""
    direction = row["direction"].replace("_", " ").replace("text", "report")
    label = f"{LEVELS[row['level']]}, {direction}"
    facts = {"n": row["n"], "clusters": row["patients"], "unit": "patient"}
    cells = []
    for k in KS:
        ends = [row[f"recall_{k}_{end}"] for end in ("low", "high")]
        cells.append(
            cell(label, f"R@{k}", row[f"recall_{k}"], *ends, metric=f"recall_{k}", **facts)
        )
        for title, key in (("C_", "ceiling"), ("chance ", "chance"), ("skill ", "skill")):
            metric = f"{key}_{k}"
            cells.append(cell(label, f"{title}{k}", row[metric], metric=metric, **facts))
        low, high = (100 * row[f"null_{k}_{end}"] for end in ("low", "high"))
        band = {"text": f"{low:.1f} to {high:.1f}", "order": low, "metric": f"null_{k}"}
        cells.append(cell(label, f"null {k}", np.nan, **band, **facts))
    rank = {"text": f"{row['median_rank']:.1f}", "scale": "rank", "value": row["median_rank"]}
    cells.append(cell(label, "median rank", np.nan, metric="median_rank", **facts) | rank)
    hits, low, high = (
        f"{100 * row[key]:.1f}"
        for key in ("equivalent_1", "equivalent_1_null_low", "equivalent_1_null_high")
    )
    equal = {"text": f"{hits} ({low} to {high})", "metric": "equivalent_1"}
    cells.append(cell(label, "equivalent R@1 (null)", row["equivalent_1"], **equal, **facts))
    metric = "same_patient_misses"
    title = "misses on the same patient"
    return [*cells, cell(label, title, row[metric], metric=metric, **facts)]


def probes(
    name: str,
    tables: Sequence[pd.DataFrame],
    draws: Sequence[Mapping[str, Mapping[str, np.ndarray]]],
    synthetic: bool,
) -> Table:
    """Linear probe of the networks and the paired differences, means over seeds.

    Args:
        name: The run.
        tables: probes.csv of every seed; an empty `against` is "".
        draws: {network: {metric: (R,) resampled values}} of every seed.
        synthetic: Whether the images are synthetic.
    """
    together = average_seeds(tables, draws).reindex(
        columns=["network", "against", "metric", "value", "se", "low", "high"]
    )
    n, patients = int(tables[0]["n"].iloc[0]), int(tables[0]["clusters"].iloc[0])
    common = {"n": n, "clusters": patients, "unit": "patient", "n_seeds": len(tables)}
    rows = [(network, "", label) for network, label in NETWORKS.items()]
    rows += [
        ("trained", other, f"difference to {NETWORKS[other]}") for other in ("start", "random")
    ]
    indexed = together.set_index(["network", "against", "metric"])
    metrics = [metric for metric in PROBED if metric in set(together["metric"])]
    cells = []
    for network, against, label in rows:
        for metric in metrics:
            row = indexed.loc[(network, against, metric)]
            facts = common | {"metric": metric, "se": 100 * row["se"]}
            if against:
                facts |= {"text": f"{100 * row['value']:+.1f}", "scale": "points"}
            numbers = (row["value"], row["low"], row["high"])
            cells.append(cell(label, PROBED[metric], *numbers, **facts))
    notes = (
        f"{n} test visits of {patients} patients, {len(tables)} seed(s); intervals: resampled "
        "patients, the same for all networks.",
        "The findings are a function of the keywords that ODIR's reports consist of: pre-training "
        "on them is supervision by these findings."
        if name == "odir"
        else "The reports describe synthetic lesions.",
        f"Not run (the data sets are not available here): {', '.join(NOT_RUN)}. "
        "Paper value not available.",
    )
    caption = f"{name}: logistic probe of both eyes' features (%), test patients unseen in "
    caption += "pre-training."
    return Table.of(f"probes_{name}", cells, caption, notes, corner="Network", synthetic=synthetic)


def zero_shot(name: str, rows: pd.DataFrame, synthetic: bool) -> Table:
    """AUROC per finding from prompts alone, means over seeds.

    Args:
        name: The run.
        rows: zeroshot.csv of all seeds.
        synthetic: Whether the images are synthetic.
    """
    cells = []
    for (source, label), part in rows.groupby(["input", "label"], sort=False):
        facts = {"metric": f"auroc_{label}", "n": int(part["n"].iloc[0]), "n_seeds": len(part)}
        numbers = (part[key].mean() for key in ("auroc", "low", "high"))
        cells.append(cell(str(source), str(label), *numbers, **facts))
    notes = (
        "No training on labels: prompts of clipdr/pretrain/prompts/en.yaml. Intervals (in the "
        "CSV): means over seeds of the ends.",
    )
    caption = f"{name}: zero-shot AUROC per finding (%)."
    return Table.of(f"zeroshot_{name}", cells, caption, notes, corner="Input", synthetic=synthetic)


def sentence(name: str, tables: Sequence[pd.DataFrame], synthetic: bool) -> str:
    """State the data of a run, and its patient retrieval with the upper bound.

    Args:
        name: The run.
        tables: retrieval.csv of every seed.
        synthetic: Whether the images are synthetic.
    """
    rows = pd.concat(tables)
    rows = rows[(rows["level"] == "patient") & (rows["direction"] == "text_to_image")]
    mean = 100 * rows[["recall_1", "ceiling_1", "chance_1"]].mean()
    lead = "SYNTHETIC images. " if synthetic else ""
    visits, patients = int(rows["n"].iloc[0]), int(rows["patients"].iloc[0])
    return (
        f"{lead}{name}: {len(tables)} seed(s), {visits} test visits of {patients} patients who are "
        "not in the pre-training set. The patient of a report is retrieved first in "
        f"{mean['recall_1']:.1f} % of queries (mean over seeds). The upper bound is "
        f"{mean['ceiling_1']:.1f} %, because reports repeat; chance is {mean['chance_1']:.1f} %. "
        "Paper value not available (Du et al., 2024)."
    )
