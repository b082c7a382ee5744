"""Notes below tables and figures: selection, seeds, intervals, degenerate methods, leakage.

Input: cells of a table, the averages behind it, settings.json and provenance.json of the runs,
leakage reports. Output: sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.protocols import HELD_OUT
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import SELECTIONS
from clipdr.report.tables.table import MISSING, UNDEFINED, Table

DAGGER = "†"
OTHER_RULE = "a rule of this study"  # of selection, where labels.SELECTIONS does not name it


def leakage_verdicts(results: Path | str, runs: Iterable[Path | str]) -> dict[str, str | None]:
    """Read the leakage check of every held-out domain of some runs.

    Args:
        results: Folder with gate/PROTOCOL/HELD_OUT.json.
        runs: Run folders of one protocol.

    Returns:
        {held-out name: verdict}: for example "27 pairs (...)", "" for no leakage, None where the
        check was not run.
    """
    verdicts: dict[str, str | None] = {}
    folders = [RunFolder(Path(run)) for run in runs]
    for protocol, held_out in dict.fromkeys((run.protocol, run.held_out) for run in folders):
        path = Path(results) / "gate" / protocol / f"{held_out}.json"
        verdicts[held_out] = json.loads(path.read_text())["verdict"] if path.is_file() else None
    return verdicts


def with_leakage(table: Table, verdicts: Mapping[str, str | None]) -> Table:
    """Add notes about leakage; the caption starts with LEAKY if training knew test images.

    Args:
        table: Any table.
        verdicts: As `leakage_verdicts` returns them.
    """
    leaky = [f"{held_out}: {text}" for held_out, text in verdicts.items() if text]
    unknown = [held_out for held_out, text in verdicts.items() if text is None]
    notes = list(table.notes)
    if leaky:
        notes.append(
            "LEAKY: training or validation holds images or patients of the test set "
            f"({'; '.join(leaky)})."
        )
    if unknown:
        notes.append(
            f"Leakage between training and test not checked: {', '.join(unknown)} "
            "(run `clipdr leaks` and `clipdr gate`)."
        )
    caption = f"LEAKY: {table.caption}" if leaky else table.caption
    return table.relabelled(caption, notes=notes)


class Remarks(NamedTuple):
    """Facts about runs that a table or a figure must state.

    Attributes:
        degenerate: {(method, held-out name): reason why the method is degenerate there}.
        samplers: {method: sampler} of the methods that balance their batches.
    """

    degenerate: Mapping[tuple[str, str], str]
    samplers: Mapping[str, str]

    def why(self, method: str, domains: Iterable[str]) -> str:
        """Reasons why a method is degenerate on some held-out domains, "" where it is on none.

        A method that is degenerate on one domain is degenerate in the mean over the domains.
        """
        reasons = (self.degenerate.get((method, domain)) for domain in domains)
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    def caution(self, methods: Iterable[str], domains: Sequence[str]) -> list[str]:
        """One sentence that names the degenerate methods and the reasons, [] where there is none.

        Args:
            methods: Methods of the table or figure.
            domains: Held-out domains that it shows.
        """
        reasons: dict[str, list[str]] = {}
        for method in methods:
            reasons.setdefault(self.why(method, domains), []).append(method)
        reasons.pop("", None)
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        return [f"Degenerate here: {listed}."] if reasons else []


NOTHING = Remarks({}, {})


def remarks(runs: Iterable[Path | str]) -> Remarks:
    """Read the remarks of run folders from their settings.json and provenance.json."""
    degenerate, samplers = {}, {}
    for run in (RunFolder(Path(folder)) for folder in runs):
        reason = json.loads(run.file("provenance.json").read_text()).get("degenerate", "")
        if reason:
            degenerate[run.method, run.held_out] = reason
        training = json.loads(run.file("settings.json").read_text())["training"]
        if (sampler := training.get("sampler", "none")) != "none":
            samplers[run.method] = sampler
    return Remarks(degenerate, samplers)


def notes(cells: pd.DataFrame, rows: pd.DataFrame, remarks: Remarks) -> tuple[str, ...]:
    """Sentences below a table of averages.

    Args:
        cells: Cells of the table (CELL_COLUMNS).
        rows: The averages of the single domains behind it (`aggregate.average`).
        remarks: Of the runs.

    Returns:
        Selection, sampler, seeds, intervals, marks, degenerate methods, and the meaning of X and
        n/a.
    """
    sentences = _selection(rows)
    balanced = [
        f"{method} (by {sampler.replace('_', ' and ')})"
        for method, sampler in remarks.samplers.items()
        if method in set(cells["method"])
    ]
    if balanced:
        sentences.append(f"Balanced batches: {', '.join(balanced)}.")
    sentences += [*_seeds(cells), *_intervals(rows)]
    if (cells["mark"] == "best").any():
        sentences.append("Best in bold, second underlined; ties share the mark.")
    reasons = cells.loc[cells["degenerate"] != "", ["method", "degenerate"]].drop_duplicates()
    sentences += [
        f"{DAGGER} {method} is degenerate here and not ranked ({why})."
        for method, why in reasons.itertuples(index=False)
    ]
    if (cells["text"] == MISSING).any():
        sentences.append(f"{MISSING}: not run.")
    if (cells["text"] == UNDEFINED).any():
        sentences.append(f"{UNDEFINED}: undefined.")
    return tuple(sentences)


def _selection(rows: pd.DataFrame) -> list[str]:
    """A sentence per rule of selection, with its methods where there are several rules."""
    rules = rows.groupby("selection", sort=False)["method"].unique()
    sentences = []
    for name, methods in rules.items():
        by = f"{', '.join(methods)}: " if len(rules) > 1 else ""
        sentences.append(f"Selection: {by}{name} ({SELECTIONS.get(str(name), OTHER_RULE)}).")
    return sentences


def _seeds(cells: pd.DataFrame) -> list[str]:
    """Number of seeds and what stands behind ±; [] where nothing was run."""
    seeds = sorted({int(n) for n in cells["n_seeds"].dropna()})
    if not seeds:
        return []
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    spread = (
        "mean ± standard error over seeds"
        if seeds[-1] > 1
        else "no spread over seeds; intervals are in the CSV"
    )
    return [f"Seeds: {number}; {spread}."]


def _intervals(rows: pd.DataFrame) -> list[str]:
    """How the intervals were resampled, and domains of unknown patients; [] without resamples."""
    resamples = sorted({int(n) for n in rows["resamples"]})
    if not resamples or not resamples[-1]:
        return []
    unknown = rows.loc[(rows["unit"] != "patient") & (rows["held_out"] != AVERAGE), "held_out"]
    # under esdg the source, as in the head of its column
    names = dict.fromkeys(unknown.str.removeprefix(HELD_OUT["esdg"].format("")))
    by_image = f"; {', '.join(names)} by image: interval too narrow" if names else ""
    return [
        f"Intervals (95 %, in the CSV): {resamples[-1]} bootstrap resamples by patient{by_image}."
    ]
