"""The report of the multimodal system: retrieval with its ceilings, the leaky protocol under its label, controls, canaries, examples.

Input: files of model folders and run folders. Output: {results}/report.html (opens offline), section.html (its body, for another page),
tables/*.csv, figures/*.svg. No model is loaded. A recall without its ceiling and a multimodal claim without its four controls are refused.
"""

import io
import json
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from clipdr import DataError, evaluate
from clipdr.exhibits import uri
from clipdr.figures import COLOURS, style, titled
from clipdr.figures import write as write_figure
from clipdr.files import write_text
from clipdr.multimodal import packing
from clipdr.multimodal.controls import LEAKY, WHY
from clipdr.operating import MEASURES
from clipdr.retrieval import K

LOOKS = Path(__file__).parents[1]  # of page.css
SCALES = {"brset_icdr": "ICDR", "brset_sdrg": "SDRG"}
SHOWN = ("accuracy", "macro_f1", "qwk", "sensitivity", "specificity", "ece_2", "rps")
THUMBNAIL = 96
NOT_RUN = ("zero-shot CLIP", "BiomedCLIP", "FLAIR (pre-trained on BRSET and DeepEyeNet: not zero-shot there)")
PUBLISHED = (
    "Published (Samanta et al., 2025, abstract): BRSET text to image R@1 99.94 %, fine-tuned CLIP 1.29 %; DeepEyeNet zero-shot R@1 "
    "93.95 %, CLIP 0.22 %; accuracy ICDR 97.97 %, SDRG 97.05 %. Always answering grade 0 gives 93.51 and 93.52 % on BRSET."
)
NOT_SKILL = (
    "A strict text-to-image Recall@1 of 99.94 % on BRSET exceeds the largest value any scorer of (text, image) can reach with text built "
    "from the label table (70.3 % when every column is verbalised). We do not treat it as retrieval skill. We reach a value of that size "
    "only with the leaky fused protocol, which also scores near 100 % on noise. Which mechanism the authors used cannot be told from the "
    "abstract."
)
NEEDED = [f"{name}_{k}" for name in ("recall", "ceiling", "chance", "equivalent") for k in K] + ["n", "patients", "kind"]


def percent(value, decimals=1):
    return "n/a" if value is None or pd.isna(value) else f"{100 * value:.{decimals}f}"


def retrieval_table(rows, broken=()):
    """Rows of retrieval.csv as printed cells; `broken`: models whose canary failed, marked in every row.

    Raises DataError for a recall without its ceiling, chance and size, and for a leaky row: it belongs into the table of its own.
    """
    made = []
    for row in rows:
        if absent := [name for name in NEEDED if pd.isna(row.get(name, np.nan))]:
            raise DataError(f"report: a recall of {row.get('mode')} without its {absent[0]}: print them together or not at all")
        if row["leaky"]:
            raise DataError(f"report: {row['mode']} is leaky and stays out of the main table")
        strict = [f"{percent(row[f'recall_{k}'])} ({percent(row[f'recall_{k}_low'])} to {percent(row[f'recall_{k}_high'])})" for k in K]
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
    folders = sorted(path.parent for path in (Path(results) / "runs" / protocol).glob(f"*/{held_out}/*/scores.csv"))
    if not folders:
        return []
    averages = evaluate.average(evaluate.collect(folders), evaluate.collect_draws(folders))
    averages = averages[averages["held_out"] == held_out]
    made = []
    for method, part in averages.groupby("method", sort=False):
        cells = part.set_index("metric")
        row = {"method": method, "eyes": int(cells["n"].iloc[0]), "patients": int(cells["clusters"].iloc[0])}
        extra = pd.concat([pd.read_csv(folder / "further.csv") for folder in folders if folder.parts[-3] == method])
        extra = extra[extra["stratum"] == "all"].groupby("metric")[["value", "low", "high"]].mean()
        for name, cell in extra.iterrows():
            row[f"{name.replace('_', ' ')} %"] = f"{percent(cell['value'])} ({percent(cell['low'])} to {percent(cell['high'])})"
        for name in SHOWN:
            one = cells.loc[name]
            row[f"{name} %"] = f"{percent(one['mean'])} ({percent(one['low'])} to {percent(one['high'])})"
        made.append(row | {f"recall {g} %": percent(cells.loc[f"recall_{g}", "mean"]) for g in range(5)})
    return made


def draws_of(results, protocol, held_out):
    """{method: (metrics, R)} of the lowest seed of each run of one scale, for paired differences."""
    folders = sorted(path.parent for path in (Path(results) / "runs" / protocol).glob(f"*/{held_out}/*/draws.npz"))
    found = {}
    for (_, method, _, _), draws in evaluate.collect_draws(folders).items():
        found.setdefault(method, draws[f"source_val/{held_out}"])
    return found


def claim(draws, method, metric="qwk"):
    """(sentence, rows of differences). The sentence that several modalities help is written only as baselines.helps allows.

    Raises DataError where one of the four controls is absent.
    """
    from clipdr.multimodal.baselines import helps

    named = {name.replace(f"{method}_shuffled_at_test", "shuffled_at_test"): one for name, one in draws.items()}
    found = helps(named, method, metric)
    rows = []
    for name, one in found.items():
        if isinstance(one, dict):
            value, low, high = (f"{100 * one[key]:.1f}" for key in ("difference", "low", "high"))
            rows.append({"difference": name, f"{metric} x 100": f"{value} ({low} to {high})", "p": f"{one['p']:.3f}"})
    said = f"{method}: several modalities help" if found["helps"] else f"{method}: these runs do NOT show that several modalities help"
    return f"{said} ({metric.upper()}, paired bootstrap of patients).", rows


def recall_figure(rows, leaky, synthetic):
    """Strict text-to-image R@1 of every mode beside its ceiling; leaky bars stand apart, under a title that says so."""
    from matplotlib.figure import Figure

    honest = [row for row in rows if row["direction"] == "text_to_image" and row["mode"] in ("dual", "rerank")]
    leaky = [row for row in leaky if row["direction"] == "text_to_image"]
    with style():
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True, width_ratios=[max(len(honest), 1), max(len(leaky), 1)])
        for axis, some, title in zip(
            panels, (honest, leaky), ("Honest: one tower per vector", f"{LEAKY}: fused_paper, not retrieval"), strict=True
        ):
            at = np.arange(len(some))
            ceiling = [100 * row.get("honest_ceiling_1", row["ceiling_1"]) for row in some]
            axis.bar(at, [100 * row["recall_1"] for row in some], 0.55, color="#A3262A" if some is leaky else COLOURS[0])
            axis.hlines(ceiling, at - 0.35, at + 0.35, color="black", linewidth=1, label="ceiling of these texts")
            axis.set_xticks(at, [f"{row['model']}\n{row['mode']}" for row in some])
            axis.set_title(title, color="#A3262A" if some is leaky else "black")
        panels[0].set_ylabel("strict text to image R@1 (%)")
        if honest:
            panels[0].legend(frameon=False)
        titled(figure, "recall beside its ceiling", synthetic)
    return figure


def curve_figure(rows, synthetic):
    """QWK of both scales against the share of test eyes without a modality."""
    from matplotlib.figure import Figure

    rows = pd.DataFrame(rows)
    with style():
        figure = Figure(figsize=(4.8, 2.4), layout="constrained")
        axis = figure.subplots()
        for number, ((model, modality, scale), part) in enumerate(rows.groupby(["model", "modality", "scale"])):
            axis.plot(
                100 * part["share"], 100 * part["qwk"], marker="o", markersize=3, color=COLOURS[number % len(COLOURS)],
                label=f"{model}, {scale.upper()}, {modality} absent",
            )  # fmt: skip
        axis.set_xlabel("test eyes without the modality (%)")
        axis.set_ylabel("QWK x 100")
        axis.legend(frameon=False, fontsize=6)
        titled(figure, "grades where a modality is missing", synthetic)
    return figure


def thumbnail(store, row):
    """A photograph of the store as a data URI of a small JPEG."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(store[row]))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    picture.save(buffer, "JPEG", quality=85)
    return uri("jpeg", buffer.getvalue())


def read_rows(folders, name):
    """Rows of a CSV of every model folder that has it, as dicts."""
    found = []
    for folder in map(Path, folders):
        if (folder / name).is_file() and (folder / name).read_text().strip():
            rows = pd.read_csv(folder / name, keep_default_na=True).to_dict("records")
            found += [{"model": folder.parent.name} | row for row in rows]
    return found


def collect(folders, held_out, data, results, photographs):
    """All that the template shows, by name; tables and figures as values."""
    results, folders = Path(results), [Path(folder) for folder in folders]
    known = [json.loads((folder / "settings.json").read_text()) for folder in folders]
    canaries = read_rows(folders, "canaries.csv")
    broken = {row["model"] for row in canaries if not row["passed"] and not row["leaky"]}
    retrieval, leaky = read_rows(folders, "retrieval.csv"), read_rows(folders, "leaky.csv")
    shown = {
        "retrieval": retrieval_table(retrieval, broken), "leaky": leaky_table(leaky), "canaries": canaries,
        "grades": {title: grading_table(results, protocol, held_out) for protocol, title in SCALES.items()},
        "claims": claims(results, held_out, folders), "attribution": rounded(read_rows(folders, "attribution.csv")),
        "transfers": retrieval_table(transfers(folders), broken), "ceilings": ceilings(results), "noise": noise(results),
        "examples": examples(folders, data, known, photographs), "why": WHY, "not_skill": NOT_SKILL, "published": PUBLISHED,
        "not_run": NOT_RUN, "synthetic": held_out == "SYNTHETIC",
        "warnings": [f"{name}: a canary failed; its numbers are marked and must not be used." for name in sorted(broken)],
    }  # fmt: skip
    figures = {"multimodal_recall": recall_figure(retrieval, leaky, shown["synthetic"])}
    if curves := read_rows(folders, "curves.csv"):
        figures["multimodal_curves"] = curve_figure(curves, shown["synthetic"])
    return shown, figures


def claims(results, held_out, folders):
    """[(sentence, rows)] per scale, of each model that reads rows and has its four controls; a model without them makes no claim."""
    from clipdr.multimodal.baselines import CONTROLS

    found = []
    for protocol, title in SCALES.items():
        draws = draws_of(results, protocol, held_out)
        for name in dict.fromkeys(folder.parent.name for folder in folders):
            needed = {control.replace("shuffled_at_test", f"{name}_shuffled_at_test") for control in CONTROLS}
            if name in draws and needed <= set(draws):
                said, rows = claim(draws, name)
                found.append((f"{title}: {said}", rows))
    return found


def transfers(folders):
    names = sorted({path.name for folder in folders for path in Path(folder).glob("transfer_*.csv")})
    return [row | {"leaky": False, "mode": f"{row['mode']}, {row['dataset']}"} for name in names for row in read_rows(folders, name)]


def rounded(rows):
    return [{key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]


def ceilings(results):
    rows = []
    for path in sorted(Path(results).glob("ceilings_*.csv")):
        for row in pd.read_csv(path).to_dict("records"):
            ends = {f"C_{k} %": percent(row[f"ceiling_{k}"]) for k in K}
            rows.append(
                {"table": path.stem.removeprefix("ceilings_"), **{key: row[key] for key in ("content", "part", "n", "distinct")}, **ends}
            )
    return rows


def noise(results):
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


def examples(folders, data, known, photographs):
    """Queries of the first model that has them, with the photographs they retrieve where these may be shown."""
    for folder, about in zip(folders, known, strict=True):
        if (Path(folder) / "examples.json").is_file():
            found = json.loads((Path(folder) / "examples.json").read_text())
            store = packing.open_pack(data, about["name"])[1] if photographs else None
            for one in found:
                for item in one["items"]:
                    item["source"] = Markup(thumbnail(store, item["row"])) if photographs else ""
            return found
    return []


def write(folders, held_out, data, results, photographs=True):
    """Write the report, its sections here and in the study's page, tables and figures; returns a line about them."""
    from clipdr.multimodal import insert

    results = Path(results)
    shown, figures = collect(folders, held_out, data, results, photographs)
    parts = {name: shown[name] for name in ("retrieval", "leaky", "canaries", "transfers", "ceilings")}
    for name, rows in (parts | {title.lower(): rows for title, rows in shown["grades"].items()}).items():
        frame = pd.DataFrame(rows).assign(trained_on="SYNTHETIC" if shown["synthetic"] else held_out)
        write_text(results / "tables" / f"multimodal_{name}.csv", frame.to_csv(index=False))
    for name, figure in figures.items():
        write_figure(figure, name, results / "figures", (".svg", ".png"))
    insert.write(results, shown, figures)
    drawn = {}
    for key, name in {"figure": "multimodal_recall", "curves": "multimodal_curves"}.items():
        path = results / "figures" / f"{name}.svg"
        drawn[key] = Markup(f'<figure><img src="{uri("svg+xml", path.read_bytes())}" alt="{name}"></figure>') if name in figures else ""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = (Path(__file__).parent / "section.html").read_text(encoding="utf-8")
    section = environment.from_string(template).render(shown | drawn)
    write_text(results / "section.html", section)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}"><title>clipdr: multimodal</title>'
    style_sheet = (LOOKS / "page.css").read_text(encoding="utf-8")
    write_text(
        results / "report.html",
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{style_sheet}</style></head><body>{section}</body></html>\n',
    )
    return f"{results / 'report.html'}: {len(shown['retrieval'])} rows of retrieval, {len(MEASURES)} measures per run"
