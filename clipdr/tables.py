"""TABLES: methods x held-out domains, as in a paper, from the averages of `evaluate.average`.

Input: averages, the order of methods (rows) and of held-out domains (columns). Output: a Table, written as CSV (tidy: one line per cell,
in the units of the table, with interval and standard error), Markdown, LaTeX (booktabs) and HTML. X = not run, n/a = undefined.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError
from clipdr.domains import DOMAINS
from clipdr.evaluate import AVERAGE
from clipdr.files import write_text
from clipdr.webtable import to_html

MISSING, UNDEFINED = "X", "n/a"


@dataclass(frozen=True)
class Style:
    """How a metric is printed: title, factor (100 = percent), decimals, whether more is better, and its name in full.

    Sensitivity without specificity is no merit, so neither is ranked; nor is an oracle.
    """

    title: str
    factor: int
    decimals: int
    more_is_better: bool | None  # None: not ranked
    meaning: str


STYLES = {
    "auc": Style("AUC", 100, 1, True, "AUC (%, macro one-versus-one)"),
    "accuracy": Style("ACC", 100, 1, True, "Accuracy (%)"),
    "macro_f1": Style("F1", 100, 1, True, "Macro-F1 (%)"),
    "qwk": Style("QWK", 100, 1, True, "Quadratic weighted kappa (%)"),
    "mae": Style("MAE", 1, 3, False, "Mean absolute error (grades; lower is better)"),
}
BY_DOMAIN = (*STYLES, "sensitivity", "specificity")  # metrics with a table by held-out domain
STYLES |= {f"recall_{g}": Style(str(g), 100, 1, True, f"recall of grade {g} (%)") for g in range(len(GRADES))}
STYLES |= {
    "referable_auc": Style("AUC", 100, 1, True, "AUC of referable DR (%)"),
    "sensitivity": Style("Sensitivity", 100, 1, None, "Sensitivity for referable DR at the threshold frozen on source validation (%)"),
    "specificity": Style("Specificity", 100, 1, None, "Specificity for referable DR at the threshold frozen on source validation (%)"),
    "sensitivity_at_spec90": Style("Sens. at 90 % spec. (oracle)", 100, 1, None, "sensitivity at 90 % specificity (%)"),
    "rps": Style("RPS", 100, 2, False, "ranked probability score (x 100; lower is better)"),
}
for _k in range(1, len(GRADES)):
    STYLES[f"ece_{_k}"] = Style(f"ECE ≥{_k}", 100, 1, False, f"expected calibration error of grade >= {_k} (%)")
    STYLES[f"brier_{_k}"] = Style(f"Brier ≥{_k}", 100, 1, False, f"Brier score of grade >= {_k} (x 100)")
SELECTIONS = {
    "source_val": "checkpoint with the highest AUC on the pooled source validation sets; the held-out domain is never looked at",
    "last": "final weights",
    "oracle": "oracle, uses test labels",
}
CSV_COLUMNS = ["table", "method", "held_out", "metric", "value", "se", "n_seeds", "low", "high", "scale", "n", "clusters", "unit"]
CSV_COLUMNS += ["resamples", "undefined", "selection", "mark", "caption"]


@dataclass(frozen=True)
class Table:
    """cells: one row per method and column, in print order: column, text (as printed), mark ("best" | "second" | ""), and CSV_COLUMNS.

    corner : title of the first column, where its rows are not methods
    """

    name: str
    cells: pd.DataFrame
    caption: str
    notes: tuple[str, ...]
    corner: str = "Method"
    protocol: str = ""


def is_synthetic(held_out):
    """Whether a held-out name (a domain, or all_but_<source>) stands for drawn images; a domain of the user's own is not."""
    domain = DOMAINS.get(held_out.removeprefix("all_but_"))
    return domain is not None and domain.synthetic


def by_domain(averages, methods, domains, *, protocol, metric):
    """Methods x held-out domains and their average, one metric.

    averages : as `evaluate.average` returns them
    methods  : rows, in order; domains: held-out names, columns, in order; both as str
    returns    Table; DataError if the averages span other domains than the columns
    """
    caption = f"{STYLES[metric].meaning} on each held-out domain, and their unweighted mean."
    columns = [(domain, domain, metric) for domain in domains] + [("Average", AVERAGE, metric)]
    return _table(f"{protocol}_{metric}", averages, methods, domains, columns, protocol, caption)


def headline(averages, methods, domains, *, protocol, metrics=("auc", "accuracy", "macro_f1", "qwk")):
    """Methods x metrics: the unweighted mean over the held-out domains. Arguments as `by_domain`."""
    meanings = ", ".join(STYLES[metric].meaning.replace(" (%, ", " (").removesuffix(" (%)") for metric in metrics)
    caption = f"Unweighted mean over the {len(domains)} held-out domains, in %: {meanings}."
    columns = [(STYLES[metric].title, AVERAGE, metric) for metric in metrics]
    return _table(protocol, averages, methods, domains, columns, protocol, caption)


# name of the file -> f(averages, methods, domains) -> Table
TABLES = {"dg": partial(headline, protocol="dg")}
TABLES |= {f"dg_{metric}": partial(by_domain, protocol="dg", metric=metric) for metric in BY_DOMAIN}


def _table(name, averages, methods, domains, columns, protocol, caption):
    """columns: (title, held_out, metric) of each."""
    rows = averages[averages["protocol"] == protocol]
    if rows["selection"].nunique() > 1:
        raise DataError(f"table {name}: averages of several selections; average one at a time")
    spans = set(rows.loc[rows["held_out"] != AVERAGE, "held_out"])
    if spans - set(domains):
        raise DataError(f"table {name}: averages span {', '.join(sorted(spans - set(domains)))} too; score the domains of the table only")
    known = rows.set_index(["method", "held_out", "metric"])
    cells = pd.concat([_column(known, methods, domains, *column) for column in columns], ignore_index=True)
    if any(map(is_synthetic, domains)):
        caption = f"SYNTHETIC images: {caption}"
    order = {title: place for place, (title, _, _) in enumerate(columns)}
    place = cells["method"].map({method: row for row, method in enumerate(methods)}) * len(order) + cells["column"].map(order)
    cells = cells.assign(table=name, caption=caption).iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)
    return Table(name, cells, caption, _notes(cells, rows[rows["held_out"].isin(domains)]), protocol=protocol)


def leaks(results, runs, protocol):
    """What training knew of the test images, per held-out domain of the runs: "27 pairs (...)", "" nothing, None nobody looked."""
    found = {}
    for held_out in dict.fromkeys(run.parts[-2] for run in map(Path, runs) if run.parts[-4] == protocol):
        path = Path(results) / "gate" / protocol / f"{held_out}.json"
        found[held_out] = json.loads(path.read_text())["verdict"] if path.is_file() else None
    return found


def marked(table, leaks):
    """The table, LEAKY in its caption and with a note if training knew test images. leaks : as `leaks` returns them"""
    leaky = [f"{held_out}: {text}" for held_out, text in leaks.items() if text]
    unknown = [held_out for held_out, text in leaks.items() if text is None]
    notes = table.notes
    if leaky:
        notes += (f"LEAKY: training or validation holds photographs or patients of the test set ({'; '.join(leaky)}).",)
    if unknown:
        notes += (f"Leaks between training and test were not looked for: {', '.join(unknown)} (clipdr leaks, clipdr gate).",)
    caption = f"LEAKY: {table.caption}" if leaky else table.caption
    return replace(table, caption=caption, cells=table.cells.assign(caption=caption), notes=notes)


def _column(known, methods, domains, title, held_out, metric):
    """The cells of one column, with marks: the best printed value and the next, ties share the mark; at least two methods needed."""
    style, cells = STYLES[metric], []
    for method in methods:
        run_on = [domain for domain in domains if (method, domain, metric) in known.index]
        complete = held_out != AVERAGE or len(run_on) == len(domains)
        cell = {"column": title, "method": method, "held_out": held_out, "metric": metric, "text": MISSING}
        if complete and (method, held_out, metric) in known.index:
            row = known.loc[(method, held_out, metric)]
            cell |= row[["n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection"]].to_dict()
            cell |= {key: style.factor * row[source] for key, source in (("value", "mean"), ("se", "se"), ("low", "low"), ("high", "high"))}
            cell |= {"scale": "percent" if style.factor == 100 else "grades", "text": _printed(cell, style)}
        cells.append(cell)
    cells = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS])
    printed = pd.Series([float(f"{value:.{style.decimals}f}") for value in cells["value"].astype(float)])  # as the reader sees it
    ranked = sorted(printed.dropna().unique(), reverse=bool(style.more_is_better))
    enough = printed.notna().sum() > 1 and style.more_is_better is not None
    marks = dict(zip(ranked, ("best", "second"), strict=False)) if enough else {}
    return cells.assign(mark=[marks.get(value, "") for value in printed])


def _printed(cell, style):
    if np.isnan(cell["value"]):
        return UNDEFINED
    spread = f" ± {cell['se']:.{style.decimals}f}" if cell["n_seeds"] > 1 else ""
    return f"{cell['value']:.{style.decimals}f}{spread}"


def _notes(cells, rows):
    """Sentences under the table: what a reader must know to trust or doubt a number. rows: the averages of the single domains."""
    notes = [f"Selection: {name} ({SELECTIONS.get(name, 'a rule of this study')})." for name in rows["selection"].unique()]
    seeds = sorted({int(n) for n in cells["n_seeds"].dropna()})
    if seeds:
        many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        spread = "mean ± standard error over seeds" if seeds[-1] > 1 else "no spread over seeds is known, the CSV has intervals"
        notes.append(f"Seeds: {many}; {spread}.")
    resamples = sorted({int(n) for n in rows["resamples"]})
    if resamples and resamples[-1]:
        unknown = dict.fromkeys(rows.loc[(rows["unit"] != "patient") & (rows["held_out"] != AVERAGE), "held_out"])
        by_image = f"; {', '.join(unknown)} by image: interval too narrow" if unknown else ""
        notes.append(f"Intervals (95 %, in the CSV): {resamples[-1]} bootstrap resamples by patient{by_image}.")
    if (cells["mark"] == "best").any():
        notes.append("Best in bold, second underlined, ties share the mark.")
    if (cells["text"] == MISSING).any():
        notes.append(f"{MISSING}: not run.")
    if (cells["text"] == UNDEFINED).any():
        notes.append(f"{UNDEFINED}: undefined.")
    return tuple(notes)


def inert(text):
    """A text that no spreadsheet takes for a formula: a leading = + - @, tab or return is preceded by an apostrophe."""
    return f"'{text}" if re.match(r"[=+\-@\t\r]", text) else text


def to_csv(table):
    """Tidy CSV, one line per cell: value, se, low, high in the units of the table (column scale), four decimals; X and n/a in `value`."""
    frame = table.cells.copy()
    for column in ("value", "se", "low", "high"):
        frame[column] = [f"{number:.4f}" if pd.notna(number) else "" for number in frame[column].astype(float)]
    for column in ("n_seeds", "n", "clusters", "resamples", "undefined"):
        frame[column] = [f"{int(number)}" if pd.notna(number) else "" for number in frame[column]]
    frame["value"] = frame["text"].where(frame["text"].isin([MISSING, UNDEFINED]), frame["value"])
    for column in ("table", "method", "held_out", "metric", "scale", "unit", "selection", "mark", "caption"):
        frame[column] = [inert(text) if isinstance(text, str) else "" for text in frame[column]]
    return frame[CSV_COLUMNS].to_csv(index=False, lineterminator="\n")


def grid(table, escape, marks):
    """Header and body as lists of str, escaped and marked; marks: "best", "second" -> format with one place."""
    columns = list(dict.fromkeys(table.cells["column"]))
    body = []
    for method, row in table.cells.groupby("method", sort=False):
        body.append(
            [escape(method), *(marks.get(mark, "{}").format(escape(text)) for text, mark in zip(row["text"], row["mark"], strict=True))]
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
        [f"**{_escape_markdown(table.caption)}**", "", *lines, "", *(f"- {_escape_markdown(note)}" for note in table.notes), ""]
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    "≥": r"$\geq$",
}
LATEX |= {"≥": r"$\geq$", ">": r"\textgreater{}", "\n": " ", **{c: f"\\{c}" for c in "&%$#_{}"}}


def _escape_latex(text):
    sign = "$-$" if re.match(r"-\d", text) else ""
    return sign + "".join(LATEX.get(c, c) for c in (text[1:] if sign else text))


def to_latex(table):
    """A table environment for booktabs, ready for \\input."""
    head, body = grid(table, _escape_latex, {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"})
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
