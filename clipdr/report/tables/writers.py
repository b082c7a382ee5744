"""A Table as CSV (tidy: one line per cell), Markdown and LaTeX (booktabs). Input: tables.Table. Output: text, and the three files."""

import re
from html import escape
from pathlib import Path

import pandas as pd

from clipdr.artifacts.files import write_text
from clipdr.report.tables.table import CSV_COLUMNS, MISSING, UNDEFINED

LOOK = {"best": "font-weight:bold", "second": "text-decoration:underline"}


def to_html(table):
    """The table as one <div> that stands in any page; every text of it is escaped, so that none is markup: names of
    rows by great-tables, the rest here.

    The marks of the best and the second best are CSS; a cell carries its interval as a title, to be read on hovering.
    """
    from great_tables import GT, html, loc, style

    columns = list(dict.fromkeys(table.cells["column"]))
    rows = [
        [name, *map(_cell, part.to_dict("records"))]
        for name, part in table.cells.groupby("method", sort=False)
    ]
    frame = pd.DataFrame(rows, columns=["corner", *(f"c{place}" for place in range(len(columns)))])
    titles = dict(
        zip(frame.columns, (html(escape(title)) for title in [table.corner, *columns]), strict=True)
    )
    made = (
        GT(frame, id=f"table-{table.name}")
        .tab_header(title=html(escape(table.caption)))
        .cols_label(titles)
    )
    made = made.fmt(
        lambda cell: cell, columns=list(frame.columns[1:])
    )  # great-tables escapes all but what is formatted
    made = made.cols_align("left", ["corner"]).cols_align("right", list(frame.columns[1:]))
    for note in table.notes:
        made = made.tab_source_note(html(escape(note)))
    made = made.tab_style(style.css("font-weight:bold"), loc.column_labels())
    before, css, after = re.split("(?<=<style>)|(?=</style>)", made.as_raw_html())
    return f"{before}{scoped(css, f'#table-{table.name}')}{after}\n"


def scoped(css, anchor):
    """Style rules in which every selector stands below an anchor: great-tables leaves some bare (tr, td), which would restyle the page.

    css : rules without nesting, without at-rules;  anchor : "#" and an id
    """

    def below(rule):
        selectors = (one.strip() for one in rule[1].split(","))
        return (
            "\n"
            + ", ".join(one if one.startswith(anchor) else f"{anchor} {one}" for one in selectors)
            + " {"
        )

    return re.sub(r"([^{}]+)\{", below, css)


def _cell(cell):
    """One cell: text as printed, its mark, and its 95 % interval as a title where there is one."""
    text, low, high = escape(cell["text"]), cell.get("low"), cell.get("high")
    looks = f' style="{LOOK[cell["mark"]]}"' if cell["mark"] in LOOK else ""
    title = (
        f' title="95 % interval {low:.2f} to {high:.2f}"'
        if pd.notna(low) and pd.notna(high)
        else ""
    )
    return f"<span{looks}{title}>{text}</span>" if looks or title else text


def inert(text):
    """A text that no spreadsheet takes for a formula: a leading = + - @, tab or return is preceded by an apostrophe."""
    return f"'{text}" if re.match(r"[=+\-@\t\r]", text) else text


def to_csv(table):
    """Tidy CSV, one line per cell: value, se, low, high in the units of the table (column scale), four decimals; X and n/a in `value`."""
    frame = table.cells.copy()
    for column in ("value", "se", "low", "high"):
        frame[column] = [
            f"{number:.4f}" if pd.notna(number) else "" for number in frame[column].astype(float)
        ]
    for column in ("n_seeds", "n", "clusters", "resamples", "undefined"):
        frame[column] = [f"{int(number)}" if pd.notna(number) else "" for number in frame[column]]
    frame["value"] = frame["text"].where(frame["text"].isin([MISSING, UNDEFINED]), frame["value"])
    for column in (
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
    ):
        frame[column] = [inert(text) if isinstance(text, str) else "" for text in frame[column]]
    return frame[CSV_COLUMNS].to_csv(index=False, lineterminator="\n")


def grid(table, escape, marks):
    """Header and body as lists of str, escaped and marked; marks: "best", "second" -> format with one place."""
    columns = list(dict.fromkeys(table.cells["column"]))
    body = []
    for method, row in table.cells.groupby("method", sort=False):
        body.append(
            [
                escape(method),
                *(
                    marks.get(mark, "{}").format(escape(text))
                    for text, mark in zip(row["text"], row["mark"], strict=True)
                ),
            ]
        )
    return [escape(table.corner), *map(escape, columns)], body


def _escape_markdown(text):
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.replace("\n", " "))


def to_markdown(table):
    """A pipe table with its caption above and its notes below."""
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
}
LATEX |= {">": r"\textgreater{}", "\n": " ", **{c: f"\\{c}" for c in "&%$#_{}"}}


def _escape_latex(text):
    sign = "$-$" if re.match(r"-\d", text) else ""
    return sign + "".join(LATEX.get(c, c) for c in (text[1:] if sign else text))


def to_latex(table):
    """A table environment for booktabs, ready for \\input."""
    head, body = grid(
        table, _escape_latex, {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
    )
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


WRITERS = {".csv": to_csv, ".md": to_markdown, ".tex": to_latex, ".html": to_html}


def write(table, folder):
    """Writes {name}.csv, .md, .tex and .html into the folder, each beside its final name first."""
    for suffix, writer in WRITERS.items():
        write_text(Path(folder) / f"{table.name}{suffix}", writer(table))
