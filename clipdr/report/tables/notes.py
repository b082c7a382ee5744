"""What stands under a table, and at a figure: how it was selected, seeds, intervals, what its signs mean, which method is not itself there.

Input: the cells of a table, the averages behind it, settings.json and provenance.json of the runs. Output: sentences.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from clipdr.artifacts.run_folder import RunFolder
from clipdr.data.protocols import HELD_OUT
from clipdr.evaluation.schema import AVERAGE
from clipdr.report.labels import SELECTIONS
from clipdr.report.tables.table import MISSING, UNDEFINED


def found(results, runs):
    """Per held-out domain of the runs, all of one protocol: "27 pairs (...)", "" nothing, None nobody looked."""
    verdicts = {}
    for protocol, held_out in dict.fromkeys(
        (run.protocol, run.held_out) for run in map(RunFolder, runs)
    ):
        path = Path(results) / "gate" / protocol / f"{held_out}.json"
        verdicts[held_out] = json.loads(path.read_text())["verdict"] if path.is_file() else None
    return verdicts


def marked(table, verdicts):
    """The table, LEAKY in its caption and with a note if training knew test images. verdicts : as `found` returns them"""
    leaky = [f"{held_out}: {text}" for held_out, text in verdicts.items() if text]
    unknown = [held_out for held_out, text in verdicts.items() if text is None]
    notes = table.notes
    if leaky:
        notes += (
            f"LEAKY: training or validation holds photographs or patients of the test set ({'; '.join(leaky)}).",
        )
    if unknown:
        notes += (
            f"Leaks between training and test were not looked for: {', '.join(unknown)} (clipdr leaks, clipdr gate).",
        )
    caption = f"LEAKY: {table.caption}" if leaky else table.caption
    return replace(table, caption=caption, cells=table.cells.assign(caption=caption), notes=notes)


DAGGER = "†"


class Remarks(NamedTuple):
    """What must be said about runs under a table or at a figure.

    degenerate : {(method, held_out): why the method is not itself there};  samplers : {method: sampler}, those that balance batches
    """

    degenerate: dict
    samplers: dict

    def why(self, method, domains):
        """Why a method is not itself in some of these held-out domains, and so not in their mean; "" where it is itself in all."""
        return "; ".join(
            dict.fromkeys(
                filter(None, (self.degenerate.get((method, domain)) for domain in domains))
            )
        )

    def caution(self, methods, domains):
        """[sentence]: which of the methods are not themselves in some of these held-out domains, and why; [] where all are."""
        reasons = {}
        for method in methods:
            reasons.setdefault(self.why(method, domains), []).append(method)
        reasons.pop("", None)
        them = "itself" if sum(map(len, reasons.values())) == 1 else "themselves"
        said = "; ".join(f"{', '.join(who)} ({why})" for why, who in reasons.items())
        return [f"Not {them} here: {said}."] if reasons else []


NOTHING = Remarks({}, {})


def remarks(runs):
    """Remarks of run folders .../{method}/{held_out}/{seed}, from their settings.json and provenance.json."""
    degenerate, samplers = {}, {}
    for run in map(Path, runs):
        reason = json.loads((run / "provenance.json").read_text()).get("degenerate", "")
        if reason:
            degenerate[RunFolder(run).method, RunFolder(run).held_out] = reason
        sampler = json.loads((run / "settings.json").read_text())["training"].get("sampler", "none")
        if sampler != "none":
            samplers[RunFolder(run).method] = sampler
    return Remarks(degenerate, samplers)


def notes(cells, rows, remarks):
    """Sentences under the table: what a reader must know to trust or doubt a number. rows: the averages of the single domains."""
    rules, said = rows.groupby("selection", sort=False)["method"].unique(), []
    for name, who in rules.items():
        by = f"{', '.join(who)}: " if len(rules) > 1 else ""
        said.append(f"Selection: {by}{name} ({SELECTIONS.get(name, 'a rule of this study')}).")
    balanced = [
        f"{one} (by {sampler.replace('_', ' and ')})"
        for one, sampler in remarks.samplers.items()
        if one in set(cells["method"])
    ]
    if balanced:
        said.append(f"Balanced batches: {', '.join(balanced)}.")
    seeds = sorted({int(n) for n in cells["n_seeds"].dropna()})
    if seeds:
        many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        spread = (
            "mean ± standard error over seeds"
            if seeds[-1] > 1
            else "no spread over seeds is known, the CSV has intervals"
        )
        said.append(f"Seeds: {many}; {spread}.")
    resamples = sorted({int(n) for n in rows["resamples"]})
    if resamples and resamples[-1]:
        unknown = rows.loc[(rows["unit"] != "patient") & (rows["held_out"] != AVERAGE), "held_out"]
        unknown = dict.fromkeys(
            unknown.str.removeprefix(HELD_OUT["esdg"].format(""))
        )  # the source, as in the head of its column
        by_image = f"; {', '.join(unknown)} by image: interval too narrow" if unknown else ""
        said.append(
            f"Intervals (95 %, in the CSV): {resamples[-1]} bootstrap resamples by patient{by_image}."
        )
    if (cells["mark"] == "best").any():
        said.append("Best in bold, second underlined, ties share the mark.")
    reasons = cells.loc[cells["degenerate"] != "", ["method", "degenerate"]].drop_duplicates()
    said += [
        f"{DAGGER} {method}, not itself here and not ranked: {why}."
        for method, why in reasons.itertuples(index=False)
    ]
    if (cells["text"] == MISSING).any():
        said.append(f"{MISSING}: not run.")
    if (cells["text"] == UNDEFINED).any():
        said.append(f"{UNDEFINED}: undefined.")
    return tuple(said)
