"""Writers of tables: JSON for programs; CSV, Markdown, LaTeX (booktabs) and HTML for people.

Input: a Table. Output: text, and the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from clipdr.artifacts.files import write_text
from clipdr.report import html
from clipdr.report.tables import views
from clipdr.report.tables.table import CSV_COLUMNS, MISSING, UNDEFINED, Table

TEXTS = (
    "table",
    "method",
    "held_out",
    "metric",
    "scale",
    "unit",
    "selection",
    "mark",
    "degenerate",
    "caption",
)  # columns of a CSV that hold text


def inert(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run (= + - @, tab or return)."""
    return f"'{text}" if re.match(r"[=+\-@\t\r]", text) else text


def to_json(table: Table) -> str:
    """Encode as JSON; see `Table.to_json`."""
    return table.to_json()


def to_html(table: Table) -> str:
    """Render as an HTML file with its own style, without a script; every text is escaped.

    Intervals stand below their values. Best and second best are marked.
    """
    body = html.render("table_page.html", view=views.of_table(table))
    return html.document(table.name, body)


def to_csv(table: Table) -> str:
    """Encode as tidy CSV, one line per cell.

    Returns:
        Text with CSV_COLUMNS. `value`, `se`, `low` and `high` are in the units of the table (column
        `scale`) with four decimals. X and n/a stand in `value`. No cell is a formula for a
        spreadsheet.
    """
    frame = table.cells.reindex(columns=["text", *CSV_COLUMNS])
    frame = frame.assign(table=table.name, caption=table.caption)
    for column in ("value", "se", "low", "high"):
        frame[column] = [
            f"{number:.4f}" if pd.notna(number) else "" for number in frame[column].astype(float)
        ]
    for column in ("n_seeds", "n", "clusters", "resamples", "undefined"):
        frame[column] = [f"{int(number)}" if pd.notna(number) else "" for number in frame[column]]
    frame["value"] = frame["text"].where(frame["text"].isin([MISSING, UNDEFINED]), frame["value"])
    for column in TEXTS:
        frame[column] = [inert(text) if isinstance(text, str) else "" for text in frame[column]]
    return frame[CSV_COLUMNS].to_csv(index=False, lineterminator="\n")


def grid(
    table: Table, escape: Callable[[str], str], marks: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Lay out a table as text.

    Args:
        table: Any table.
        escape: Escapes a text for the format.
        marks: "best" and "second" -> format with one placeholder.

    Returns:
        Titles of the columns, and rows of cells of the same number.
    """
    body = [
        [
            escape(name),
            *(marks.get(cell["mark"], "{}").format(escape(cell["text"])) for cell in cells),
        ]
        for name, cells in table.rows()
    ]
    return [escape(table.corner), *map(escape, table.columns)], body


def _escape_markdown(text: str) -> str:
    """The text with a backslash before every sign that Markdown would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.replace("\n", " "))


def to_markdown(table: Table) -> str:
    """Encode as a pipe table with its caption above and its notes below."""
    head, body = grid(table, _escape_markdown, {"best": "**{}**", "second": "<u>{}</u>"})
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]
    return "\n".join(
        [
            f"**{_escape_markdown(table.caption)}**",
            "",
            *lines,
            "",
            *(f"- {_escape_markdown(note)}" for note in table.notes),
            "",
        ]
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "†": r"\dag{}",
    "≥": r"$\geq$",
    "Δ": r"$\Delta$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\n": " ",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def _escape_latex(text: str) -> str:
    """The text with LaTeX commands for special signs, and a minus sign before a digit."""
    sign = "$-$" if re.match(r"-\d", text) else ""
    return sign + "".join(LATEX.get(letter, letter) for letter in (text[1:] if sign else text))


def to_latex(table: Table) -> str:
    r"""Encode as a table environment for booktabs, ready for \input."""
    marks = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
    head, body = grid(table, _escape_latex, marks)
    lines = [" & ".join(row) + r" \\" for row in (head, *body)]
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_escape_latex(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\scriptsize",
            r"\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{{' '.join(map(_escape_latex, table.notes))}}}",
            r"\end{table}",
            "",
        ]
    )


WRITERS: dict[str, Callable[[Table], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
    ".html": to_html,
}


def write(table: Table, folder: Path | str) -> None:
    """Write NAME.json, .csv, .md, .tex and .html into a folder, each whole or not at all."""
    for suffix, writer in WRITERS.items():
        write_text(Path(folder) / f"{table.name}{suffix}", writer(table))
