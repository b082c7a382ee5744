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

from clipdr.artifacts.files import write_text
from clipdr.evaluation import aggregate
from clipdr.evaluation.operating_point import MEASURES
from clipdr.multimodal.data import packing
from clipdr.multimodal.evaluation.leaky_protocol import WHY
from clipdr.multimodal.report.figures import curve_figure, recall_figure
from clipdr.multimodal.report.tables import (
    ceilings,
    grading_table,
    leaky_table,
    noise,
    retrieval_table,
    rounded,
)
from clipdr.report.figures.style import write as write_figure
from clipdr.report.page import sections
from clipdr.report.page.images import uri
from clipdr.report.tables import table as table_module
from clipdr.report.tables import writers
from clipdr.report.tables.table import Table

TABLES = {  # name -> where it is kept, columns that name a row, title of that column, caption
    "retrieval": (
        lambda shown: shown["retrieval"],
        ("model", "mode", "direction", "text"),
        "Retrieval",
        "Retrieval of every honest mode.",
    ),
    "leaky": (
        lambda shown: shown["leaky"],
        ("status", "mode", "direction"),
        "Protocol",
        "LEAKY: the fused protocol, no retrieval.",
    ),
    "icdr": (
        lambda shown: shown["grades"]["ICDR"],
        ("method",),
        "Method",
        "ICDR grades: every run and control.",
    ),
    "sdrg": (
        lambda shown: shown["grades"]["SDRG"],
        ("method",),
        "Method",
        "SDRG grades: every run and control.",
    ),
}
FIGURES = {
    "multimodal_recall": (
        "recall of each mode beside its ceiling",
        "Strict text to image R@1 (%) and its ceiling (line); right: the LEAKY fused protocol.",
    ),
    "multimodal_curves": (
        "QWK where a modality is missing",
        "QWK x 100 against the share of test eyes (%) without the modality.",
    ),
}


def table(name, rows, keys, corner, caption, synthetic):
    """Rows of printed cells (dicts of the same keys) -> Table; the columns `keys` become the name of the row."""
    cells = [
        {
            "column": column,
            "text": str(text),
            "method": ", ".join(str(row[key]) for key in keys),
            "mark": "",
            "degenerate": "",
        }
        for row in rows
        for column, text in row.items()
        if column not in keys
    ]
    caption = f"{'SYNTHETIC images: ' if synthetic else ''}{caption}"
    frame = pd.DataFrame(cells, columns=["column", "text", *table_module.CSV_COLUMNS]).assign(
        table=name, caption=caption
    )
    notes = (
        "95 % intervals over patients in brackets. C_k: the most that any scorer of these texts can expect.",
    )
    return Table(name, frame, caption, notes if name == "retrieval" else (), corner)


def write_tables(results, shown, figures):
    """Write the tables and section.json below `results`; photographs stay in report.html."""
    made = []
    for name, (rows_of, keys, corner, caption) in TABLES.items():
        if rows := rows_of(shown):
            writers.write(
                table(name, rows, keys, corner, caption, shown["synthetic"]), results / "tables"
            )
            made.append(name)
    words = (
        ["SYNTHETIC eyes: these numbers say nothing about patients."] if shown["synthetic"] else []
    )
    words += [
        *shown["warnings"],
        *(said for said, _ in shown["claims"]),
        shown["not_skill"],
        shown["published"],
    ]
    words.append(
        f"Canaries, ceilings, examples, attribution, transfer: {results.name}/report.html."
    )
    sections.write(
        results,
        "Image, narrative and structured data in one transformer",
        words,
        made,
        {name: FIGURES[name] for name in figures},
    )


LOOKS = Path(__file__).parents[2] / "report" / "page" / "templates"  # of page.css
SCALES = {"brset_icdr": "ICDR", "brset_sdrg": "SDRG"}
THUMBNAIL = 96
NOT_RUN = (
    "zero-shot CLIP",
    "BiomedCLIP",
    "FLAIR (pre-trained on BRSET and DeepEyeNet: not zero-shot there)",
)
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


def draws_of(results, protocol, held_out):
    """{method: (metrics, R)} of the lowest seed of each run of one scale, for paired differences."""
    folders = sorted(
        path.parent
        for path in (Path(results) / "runs" / protocol).glob(f"*/{held_out}/*/draws.npz")
    )
    found = {}
    for (_, method, _, _), draws in aggregate.collect_draws(folders).items():
        found.setdefault(method, draws[f"source_val/{held_out}"])
    return found


def claim(draws, method, metric="qwk"):
    """(sentence, rows of differences). The sentence that several modalities help is written only as baselines.multimodal_gain allows.

    Raises DataError where one of the four controls is absent.
    """
    from clipdr.multimodal.evaluation.baselines import multimodal_gain

    named = {
        name.replace(f"{method}_shuffled_at_test", "shuffled_at_test"): one
        for name, one in draws.items()
    }
    found = multimodal_gain(named, method, metric)
    rows = []
    for name, one in found.items():
        if isinstance(one, dict):
            value, low, high = (f"{100 * one[key]:.1f}" for key in ("difference", "low", "high"))
            rows.append(
                {
                    "difference": name,
                    f"{metric} x 100": f"{value} ({low} to {high})",
                    "p": f"{one['p']:.3f}",
                }
            )
    said = (
        f"{method}: several modalities help"
        if found["helps"]
        else f"{method}: these runs do NOT show that several modalities help"
    )
    return f"{said} ({metric.upper()}, paired bootstrap of patients).", rows


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
    canaries = read_rows(folders, "sanity_checks.csv")
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
    from clipdr.multimodal.evaluation.baselines import CONTROLS

    found = []
    for protocol, title in SCALES.items():
        draws = draws_of(results, protocol, held_out)
        for name in dict.fromkeys(folder.parent.name for folder in folders):
            needed = {
                control.replace("shuffled_at_test", f"{name}_shuffled_at_test")
                for control in CONTROLS
            }
            if name in draws and needed <= set(draws):
                said, rows = claim(draws, name)
                found.append((f"{title}: {said}", rows))
    return found


def transfers(folders):
    names = sorted(
        {path.name for folder in folders for path in Path(folder).glob("transfer_*.csv")}
    )
    return [
        row | {"leaky": False, "mode": f"{row['mode']}, {row['dataset']}"}
        for name in names
        for row in read_rows(folders, name)
    ]


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

    results = Path(results)
    shown, figures = collect(folders, held_out, data, results, photographs)
    parts = {
        name: shown[name] for name in ("retrieval", "leaky", "canaries", "transfers", "ceilings")
    }
    for name, rows in (
        parts | {title.lower(): rows for title, rows in shown["grades"].items()}
    ).items():
        frame = pd.DataFrame(rows).assign(
            trained_on="SYNTHETIC" if shown["synthetic"] else held_out
        )
        write_text(results / "tables" / f"multimodal_{name}.csv", frame.to_csv(index=False))
    for name, figure in figures.items():
        write_figure(figure, name, results / "figures", (".svg", ".png"))
    write_tables(results, shown, figures)
    drawn = {}
    for key, name in {"figure": "multimodal_recall", "curves": "multimodal_curves"}.items():
        path = results / "figures" / f"{name}.svg"
        drawn[key] = (
            Markup(f'<figure><img src="{uri("svg+xml", path.read_bytes())}" alt="{name}"></figure>')
            if name in figures
            else ""
        )
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
