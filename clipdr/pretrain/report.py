"""What pre-training found, as tables and figures: {results}/pretrain/ -> its tables/ and figures/. No model is loaded.

Input: run folders {results}/pretrain/runs/{name}/{seed}/ with history.csv, retrieval.csv, probes.csv (and .npz), zeroshot.csv, fewshot.csv,
examples.json. Output: probes.csv and retrieval.csv of all runs; tables and figures as clipdr.report.tables.writers and clipdr.report.figures.style write them; and
section.json, with which the report page shows them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.pretrain.evaluation.finding_scores import average_seeds
from clipdr.pretrain.evaluation.linear_probe import NOT_RUN
from clipdr.report.tables.table import CSV_COLUMNS, UNDEFINED, Table
from clipdr.report.tables.writers import write

KS = (1, 5, 10)
NETWORKS = {
    "trained": "after pre-training",
    "start": "weights it started from",
    "random": "same network, random weights",
}
PROBED = {"macro_auroc": "macro AUROC", "macro_map": "macro mAP", "auroc_D": "AUROC of D"}
DRAWN = (
    "PRACTICE",
    "SIM_",
    "TOY",
)  # data sets whose photographs are drawn, by the beginning of their names
LEVELS = {"left": "left eye", "right": "right eye", "patient": "patient"}


def read(results):
    """{name: {seed: folder}} of the finished runs below {results}/pretrain/runs. DataError where there is none."""
    found = {}
    for path in sorted(Path(results).glob("pretrain/runs/*/*/retrieval.csv")):
        found.setdefault(path.parent.parent.name, {})[int(path.parent.name)] = path.parent
    if not found:
        raise DataError(
            f"{results}/pretrain/runs holds no evaluated run; run `clipdr pretrain retrieve` and `probe` first"
        )
    return found


def cell(row, column, value, low=np.nan, high=np.nan, **facts):
    """One cell of a Table in percent: its text, and its interval for the CSV."""
    text = UNDEFINED if np.isnan(value) else f"{100 * value:.1f}"
    shown = {
        "column": column,
        "method": row,
        "text": text,
        "mark": "",
        "degenerate": "",
        "scale": "percent",
        "held_out": "test",
    }
    return shown | {"value": 100 * value, "low": 100 * low, "high": 100 * high} | facts


def table(name, cells, caption, notes, corner, drawn):
    """A Table of cells, row by row. drawn: whether the photographs are; the caption says so"""
    caption = f"{'SYNTHETIC images: ' if drawn else ''}{caption}"
    frame = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS]).assign(
        table=name, caption=caption
    )
    return Table(name, frame, caption, tuple(notes), corner)


def retrieval(name, rows, drawn):
    """Recall with ceiling, chance, skill and null band, one row per level and direction, of one run. rows: its retrieval.csv."""
    cells = []
    for row in rows.to_dict("records"):
        label = f"{LEVELS[row['level']]}, {row['direction'].replace('_', ' ').replace('text', 'report')}"
        facts = {"n": row["n"], "clusters": row["patients"], "unit": "patient"}
        for k in KS:
            one = {"metric": f"recall_{k}"} | facts
            cells.append(
                cell(
                    label,
                    f"R@{k}",
                    row[f"recall_{k}"],
                    row[f"recall_{k}_low"],
                    row[f"recall_{k}_high"],
                    **one,
                )
            )
            band = f"{100 * row[f'null_{k}_low']:.1f} to {100 * row[f'null_{k}_high']:.1f}"
            cells.append(
                cell(label, f"C_{k}", row[f"ceiling_{k}"], **facts | {"metric": f"ceiling_{k}"})
            )
            cells.append(
                cell(label, f"chance {k}", row[f"chance_{k}"], **facts | {"metric": f"chance_{k}"})
            )
            cells.append(
                cell(label, f"skill {k}", row[f"skill_{k}"], **facts | {"metric": f"skill_{k}"})
            )
            cells.append(
                cell(label, f"null {k}", np.nan, **facts | {"metric": f"null_{k}"}) | {"text": band}
            )
        rank = {"text": f"{row['median_rank']:.1f}", "scale": "rank", "value": row["median_rank"]}
        cells.append(cell(label, "median rank", np.nan, **facts | {"metric": "median_rank"}) | rank)
        equal = f"{100 * row['equivalent_1']:.1f} ({100 * row['equivalent_1_null_low']:.1f} to {100 * row['equivalent_1_null_high']:.1f})"
        cells.append(
            cell(
                label,
                "equivalent R@1 (null)",
                row["equivalent_1"],
                **facts | {"metric": "equivalent_1"},
            )
            | {"text": equal}
        )
        same = row["same_patient_misses"]
        cells.append(
            cell(
                label,
                "misses on the same patient",
                same,
                **facts | {"metric": "same_patient_misses"},
            )
        )
    caption = f"{name}: retrieval on the whole test split (%), strict, ties at random."
    notes = (
        f"Gallery: {int(rows['n'].max())} visits, {int(rows['patients'].max())} patients. C_K: the most any scorer can expect, since equal "
        "reports rank alike. Skill: share of the way from chance to C_K.",
        "Null: 0.5 to 99.5 % of random re-pairings of the same scores; inside it is chance. Equivalent: a hit is any item with an equal "
        "report; read it beside its own null band only.",
    )
    return table(f"retrieval_{name}", cells, caption, notes, "Level, direction", drawn)


def probes(name, tables, draws, drawn):
    """Fast probe of the networks and the paired differences, the mean over seeds. tables, draws: of the seeds."""
    together = average_seeds(tables, draws)
    cells, n, patients = [], int(tables[0]["n"].iloc[0]), int(tables[0]["clusters"].iloc[0])
    common = {"n": n, "clusters": patients, "unit": "patient", "n_seeds": len(tables)}
    shown = [(network, "", label) for network, label in NETWORKS.items()]
    shown += [
        ("trained", other, f"difference to {NETWORKS[other]}") for other in ("start", "random")
    ]
    for network, against, label in shown:
        for metric, title in PROBED.items():
            if metric not in set(together["metric"]):
                continue
            part = together[
                (together["network"] == network)
                & (together["against"] == against)
                & (together["metric"] == metric)
            ]
            row, facts = part.iloc[0], common | {"metric": metric, "se": 100 * part["se"].iloc[0]}
            one = cell(label, title, row["value"], row["low"], row["high"], **facts)
            cells.append(
                one | ({"text": f"{100 * row['value']:+.1f}", "scale": "points"} if against else {})
            )
    caption = (
        f"{name}: logistic probe of both eyes' features (%), test patients unseen in pre-training."
    )
    notes = (
        f"{n} test visits of {patients} patients, {len(tables)} seed(s); intervals: resampled patients, the same for all networks.",
        "The findings are a function of the keywords that ODIR's reports consist of: pre-training on them is supervision by these findings."
        if name == "odir"
        else "The reports describe drawn lesions.",
        f"Not run (data sets that are not here): {', '.join(NOT_RUN)}. Paper value not available.",
    )
    return table(f"probes_{name}", cells, caption, notes, "Network", drawn)


def zero_shot(name, rows, drawn):
    """AUROC per finding from prompts alone, mean over seeds. rows: zeroshot.csv of all seeds."""
    cells = []
    for (source, label), part in rows.groupby(["input", "label"], sort=False):
        low, high = (part["low"].mean(), part["high"].mean())
        facts = {"metric": f"auroc_{label}", "n": int(part["n"].iloc[0]), "n_seeds": len(part)}
        cells.append(cell(source, label, part["auroc"].mean(), low, high, **facts))
    notes = (
        "No training on answers: prompts of clipdr/pretrain/prompts/en.yaml. Intervals (in the CSV): mean over seeds of the ends.",
    )
    return table(
        f"zeroshot_{name}",
        cells,
        f"{name}: zero-shot AUROC per finding (%).",
        notes,
        "Input",
        drawn,
    )


def curves(histories, drawn):
    """Loss per level with its floor, and in-batch accuracy, over the epochs.

    histories : {run: history.csv};  drawn : names of the runs on drawn photographs
    """
    from matplotlib.figure import Figure

    from clipdr.report.figures.style import COLOURS, WIDE, style

    with style():
        figure = Figure(figsize=(WIDE, 2.2 * len(histories)), layout="constrained")
        axes = figure.subplots(len(histories), 2, squeeze=False)
        for line, (name, history) in zip(axes, histories.items(), strict=True):
            for number, (level, title) in enumerate(LEVELS.items()):
                colour = COLOURS[number]
                line[0].plot(
                    history["epoch"],
                    history[f"loss_{level}"],
                    color=colour,
                    marker=".",
                    markersize=3,
                    label=title,
                )
                line[0].plot(
                    history["epoch"],
                    history[f"floor_{level}"],
                    color=colour,
                    linestyle=":",
                    linewidth=0.8,
                )
                accuracy = (
                    100
                    * (history[f"image_to_text_{level}"] + history[f"text_to_image_{level}"])
                    / 2
                )
                line[1].plot(history["epoch"], accuracy, color=colour, marker=".", markersize=3)
            line[0].plot(
                history["epoch"],
                history["val_loss"] / len(LEVELS),
                color="black",
                linewidth=0.9,
                label="validation, mean",
            )
            chosen = history[history["selected"]]
            ring = {"s": 22, "facecolors": "none", "edgecolors": "black", "label": "selected"}
            line[0].scatter(chosen["epoch"], chosen["val_loss"] / len(LEVELS), **ring)
            title = f"{name} (SYNTHETIC images)" if name in drawn else name
            line[0].set(title=title, xlabel="epoch", ylabel="loss per level (nats)")
            line[1].set(title=title, xlabel="epoch", ylabel="in-batch accuracy (%)")
        axes[0, 0].plot(
            [], [], color="0.3", linestyle=":", linewidth=0.8, label="the least it can be"
        )
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
    return figure


def pairs_found(examples, data):
    """Queries and the eyes found for them, photographs of drawn patients only; None where no such query is there."""
    import textwrap

    from matplotlib.figure import Figure

    from clipdr.report.figures.style import WIDE, style, titled

    shown = [
        one
        for one in examples
        if one["direction"] == "text_to_image" and one["query"]["dataset"].startswith(DRAWN)
    ][:4]
    if not shown:
        return None
    with style():
        figure = Figure(figsize=(WIDE, 1.1 * len(shown) + 0.2), layout="constrained")
        axes = figure.subplots(len(shown), 7, squeeze=False, width_ratios=[3, 1, 1, 1, 1, 1, 1])
        for line, one in zip(axes, shown, strict=True):
            for axis in line:
                axis.axis("off")
            said = textwrap.fill(textwrap.shorten(one["query"]["text"], 330, placeholder=" …"), 52)
            line[0].text(
                0, 0.95, f"rank of the true patient: {one['rank']:g}\n{said}", va="top", fontsize=5
            )
            for place, found in enumerate(one["found"]):
                for eye, side in enumerate(("right", "left")):  # as an examiner faces the patient
                    axis = line[1 + 2 * place + eye]
                    if found[f"{side}_image"]:
                        axis.imshow(_photograph(found[f"{side}_image"], data))
                    if eye == 0:
                        axis.set_title(
                            f"{place + 1}.{' true' if found['true'] else ''}",
                            loc="left",
                            fontsize=6,
                        )
        titled(
            figure, "reports, and the right and left eyes of the first three patients found", True
        )
    return figure


def _photograph(key, data):
    from clipdr.data.manifest import open_store, read_manifest

    domain = key.partition("/")[0]
    manifest = read_manifest(Path(data) / "manifests" / f"{domain}.csv")
    return open_store(Path(data) / "store" / f"{domain}.npy", manifest)[
        int(manifest.index[manifest["image"] == key][0])
    ]


def report(results, data):
    """Write tables, figures, the two collected CSVs and section.json of {results}/pretrain; returns the names of tables and figures."""
    from clipdr.artifacts.files import write_text
    from clipdr.report.figures.style import write as draw
    from clipdr.report.page import sections

    folder, runs = Path(results) / "pretrain", read(results)
    names, figures, collected, histories, words = [], {}, {"probes": [], "retrieval": []}, {}, []
    synthetic = set()
    for name, seeds in runs.items():
        parts = {
            kind: {seed: pd.read_csv(path / f"{kind}.csv") for seed, path in seeds.items()}
            for kind in ("retrieval", "probes", "zeroshot")
        }
        # a value of one network is written with an empty `against`, and read back as NaN, which pandas would leave out of every group
        parts["probes"] = {
            seed: part.fillna({"against": ""}) for seed, part in parts["probes"].items()
        }
        for kind, rows in collected.items():
            rows += [part.assign(run=name, seed=seed) for seed, part in parts[kind].items()]
        first = min(seeds)
        histories[name] = pd.read_csv(seeds[first] / "history.csv")
        examples = json.loads((seeds[first] / "examples.json").read_text())["examples"]
        drawn = examples[0]["query"]["dataset"].startswith(DRAWN)
        synthetic |= {name} if drawn else set()
        words.append(said(name, parts["retrieval"], drawn))
        tables = [retrieval(name, parts["retrieval"][first], drawn)]
        tables.append(
            probes(
                name,
                list(parts["probes"].values()),
                [drawn_of(path) for path in seeds.values()],
                drawn,
            )
        )
        tables.append(zero_shot(name, pd.concat(parts["zeroshot"].values()), drawn))
        for one in tables:
            write(one, folder / "tables")
            names.append(one.name)
        if (found := pairs_found(examples, data)) is not None:
            draw(found, f"pairs_{name}", folder / "figures")
            figures[f"pairs_{name}"] = (
                "reports and the eyes found for them",
                f"{name}: test reports and the first three patients found.",
            )
    draw(curves(histories, synthetic), "pretraining", folder / "figures")
    figures["pretraining"] = (
        "curves of pre-training",
        "Loss per level (nats; dotted: the least it can be) and in-batch accuracy (%), one seed.",
    )
    for kind, rows in collected.items():
        write_text(folder / f"{kind}.csv", pd.concat(rows).to_csv(index=False, lineterminator="\n"))
    photographs = [name for name in figures if name.startswith("pairs_")]
    sections.write(
        folder,
        "RET-CLIP: pre-training on both eyes and a report",
        words,
        names,
        figures,
        photographs,
    )
    return {"tables": names, "figures": list(figures)}


def said(name, tables, drawn):
    """One run in words: its data, and the headline with its ceiling. tables: {seed: retrieval.csv}"""
    rows = pd.concat(tables.values())
    rows = rows[(rows["level"] == "patient") & (rows["direction"] == "text_to_image")]
    mean = 100 * rows[["recall_1", "ceiling_1", "chance_1"]].mean()
    return (
        f"{'SYNTHETIC images. ' if drawn else ''}{name}: {len(tables)} seed(s), {int(rows['n'].iloc[0])} test visits of "
        f"{int(rows['patients'].iloc[0])} patients whom pre-training never saw. The patient of a report is found first in "
        f"{mean['recall_1']:.1f} % of queries (mean over seeds); the most any scorer could expect is {mean['ceiling_1']:.1f} %, since "
        f"reports repeat; chance is {mean['chance_1']:.1f} %. Paper value not available (Du et al., 2024)."
    )


def drawn_of(folder):
    """{network: {metric: (R,)}}: the resampled values that `probe` left beside probes.csv."""
    with np.load(folder / "probes.npz") as file:
        found = {}
        for key in file.files:
            network, _, metric = key.partition("/")
            found.setdefault(network, {})[metric] = file[key]
    return found
