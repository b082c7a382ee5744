"""The multimodal system in the study's own page: the main tables with their ceilings and the figures; the rest is in its own report.html.

Input: what clipdr.multimodal.exhibits collected. Output: {results}/tables/{retrieval,leaky,icdr,sdrg}.{csv,md,tex,html} and section.json.
"""

import pandas as pd

from clipdr import sections, typeset
from clipdr.tables import Table

TABLES = {  # name -> where it is kept, columns that name a row, title of that column, caption
    "retrieval": (lambda shown: shown["retrieval"], ("model", "mode", "direction", "text"), "Retrieval", "Retrieval of every honest mode."),
    "leaky": (lambda shown: shown["leaky"], ("status", "mode", "direction"), "Protocol", "LEAKY: the fused protocol, no retrieval."),
    "icdr": (lambda shown: shown["grades"]["ICDR"], ("method",), "Method", "ICDR grades: every run and control."),
    "sdrg": (lambda shown: shown["grades"]["SDRG"], ("method",), "Method", "SDRG grades: every run and control."),
}
FIGURES = {
    "multimodal_recall": (
        "recall of each mode beside its ceiling",
        "Strict text to image R@1 (%) and its ceiling (line); right: the LEAKY fused protocol.",
    ),
    "multimodal_curves": ("QWK where a modality is missing", "QWK x 100 against the share of test eyes (%) without the modality."),
}


def table(name, rows, keys, corner, caption, synthetic):
    """Rows of printed cells (dicts of the same keys) -> Table; the columns `keys` become the name of the row."""
    cells = [
        {"column": column, "text": str(text), "method": ", ".join(str(row[key]) for key in keys), "mark": "", "degenerate": ""}
        for row in rows
        for column, text in row.items()
        if column not in keys
    ]
    caption = f"{'SYNTHETIC images: ' if synthetic else ''}{caption}"
    frame = pd.DataFrame(cells, columns=["column", "text", *typeset.CSV_COLUMNS]).assign(table=name, caption=caption)
    notes = ("95 % intervals over patients in brackets. C_k: the most that any scorer of these texts can expect.",)
    return Table(name, frame, caption, notes if name == "retrieval" else (), corner)


def write(results, shown, figures):
    """Write the tables and section.json below `results`; photographs stay in report.html."""
    made = []
    for name, (rows_of, keys, corner, caption) in TABLES.items():
        if rows := rows_of(shown):
            typeset.write(table(name, rows, keys, corner, caption, shown["synthetic"]), results / "tables")
            made.append(name)
    words = ["SYNTHETIC eyes: these numbers say nothing about patients."] if shown["synthetic"] else []
    words += [*shown["warnings"], *(said for said, _ in shown["claims"]), shown["not_skill"], shown["published"]]
    words.append(f"Canaries, ceilings, examples, attribution, transfer: {results.name}/report.html.")
    sections.write(
        results, "Image, narrative and structured data in one transformer", words, made, {name: FIGURES[name] for name in figures}
    )
