"""TABLES: methods x held-out domains, as in a paper, from the averages of `evaluate.average`.

Input: averages, the order of methods (rows) and of held-out domains (columns). Output: a Table, written as CSV (tidy: one line per cell,
in the units of the table, with interval and standard error), Markdown and LaTeX (clipdr.report.tables.writers). X = not run, n/a = undefined.
"""

from functools import partial

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT
from clipdr.evaluation.aggregate import average
from clipdr.evaluation.schema import AS_HEADLINE, AVERAGE, HEADLINE, POOLED
from clipdr.report.labels import BY_DOMAIN, PROTOCOLS, RULES, STYLES
from clipdr.report.tables.notes import DAGGER, NOTHING, Remarks, notes, remarks
from clipdr.report.tables.table import CSV_COLUMNS, MISSING, UNDEFINED, Table
from clipdr.report.tables.writers import WRITERS, write

__all__ = [
    "TABLES",
    "WRITERS",
    "Remarks",
    "Table",
    "by_domain",
    "headline",
    "is_synthetic",
    "remarks",
    "write",
]


HEADLINES = ("auc", "accuracy", "macro_f1", "qwk")


def by_domain(averages, methods, domains, remarks=NOTHING, *, protocol, metric):
    """Methods x held-out domains (under esdg: x sources) and their average, one metric.

    averages : as `evaluate.average` returns them
    methods  : rows, in order; domains: held-out names, columns, in order; both as str
    returns    Table; DataError if the averages span other domains than the columns
    """
    what, over = PROTOCOLS[protocol]
    caption = f"{STYLES[metric].meaning} {what}, and the unweighted mean over the {over}."
    prefix = HELD_OUT[protocol].format("")
    columns = [(domain.removeprefix(prefix), domain, metric) for domain in domains] + [
        ("Average", AVERAGE, metric)
    ]
    return _table(
        f"{protocol}_{metric}", averages, methods, domains, columns, protocol, caption, remarks
    )


def headline(
    averages, methods, domains, remarks=NOTHING, *, protocol, metrics=HEADLINES, name=None
):
    """Methods x metrics: the unweighted mean over the held-out domains. Arguments as `by_domain`."""
    meanings = ", ".join(
        STYLES[metric].meaning.replace(" (%, ", " (").removesuffix(" (%)") for metric in metrics
    )
    caption = f"Unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}, in %: {meanings}."
    columns = [(STYLES[metric].title, AVERAGE, metric) for metric in metrics]
    return _table(name or protocol, averages, methods, domains, columns, protocol, caption, remarks)


def ablation(averages, methods, domains, remarks=NOTHING, *, protocol, metric="auc"):
    """As `headline`, with the difference to the first row, the full method, in one metric."""
    table = headline(averages, methods, domains, remarks, protocol=protocol, name="ablation")
    own = table.cells[(table.cells["metric"] == metric)].set_index("method")
    title = f"Δ {STYLES[metric].title}"
    first = own["value"].get(methods[0], np.nan)
    differences = _differences(
        own, {method: (value, first) for method, value in own["value"].items()}, title, metric
    )
    cells = _in_order(pd.concat([table.cells, differences], ignore_index=True), methods)
    caption = table.caption.rstrip(".") + f"; {title}: difference to {methods[0]}, in points."
    return Table(
        "ablation",
        cells.assign(table="ablation", caption=caption),
        caption,
        table.notes,
        protocol=protocol,
    )


def selection(averages, methods, domains, remarks=NOTHING, *, protocol, metric="auc"):
    """Methods x rules of model selection, the mean over the held-out domains in one metric, and oracle minus source validation.

    averages : of every rule of RULES that was run, one below the other
    """
    rows = averages[averages["protocol"] == protocol]
    parts, said = {}, {}
    for rule, title in RULES.items():
        of_rule = rows[rows["selection"].isin(AS_HEADLINE.get(rule, (rule,)))]
        if len(of_rule):
            one = _table(
                "selection",
                of_rule,
                methods,
                domains,
                [(title, AVERAGE, metric)],
                protocol,
                "",
                remarks,
            )
            parts[rule] = (
                one.cells.assign(mark="") if rule == "oracle" else one.cells
            )  # a bound is not ranked
            said |= dict.fromkeys(one.notes)
    if {"oracle", HEADLINE} <= set(parts):
        value = {rule: parts[rule].set_index("method")["value"] for rule in ("oracle", HEADLINE)}
        pairs = {method: (value["oracle"][method], value[HEADLINE][method]) for method in methods}
        parts["gap"] = _differences(
            parts[HEADLINE].set_index("method"), pairs, "oracle - source val", metric
        )
    over = f"unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}"
    caption = f"{STYLES[metric].meaning}: rules of model selection side by side, {over}."
    if any(map(is_synthetic, domains)):
        caption = f"SYNTHETIC images: {caption}"
    cells = _in_order(pd.concat(parts.values(), ignore_index=True), methods)
    return Table(
        "selection",
        cells.assign(table="selection", caption=caption),
        caption,
        tuple(said),
        protocol=protocol,
    )


def by_target(averages, methods, domains, remarks=NOTHING, *, protocol, metric):
    """Methods x the single domains that were tested, each the mean over the sources other than it. averages: of `target_averages`."""
    sources = [name.removeprefix("all_but_") for name in domains]
    targets = sorted(
        dict.fromkeys(averages["held_out"]), key=[*sources, *averages["held_out"]].index
    )  # sources first
    caption = f"{STYLES[metric].meaning} on each tested domain, the unweighted mean over the {PROTOCOLS[protocol][1]} other than it."
    columns = [(target, target, metric) for target in targets]
    everywhere = Remarks(
        {
            (method, target): why
            for (method, _), why in remarks.degenerate.items()
            for target in targets
        },
        remarks.samplers,
    )
    return _table(
        f"{protocol}_targets", averages, methods, targets, columns, protocol, caption, everywhere
    )


def target_averages(scores, draws):
    """Averages over the held-out names of one protocol, of every single test domain; held_out is that domain."""
    tested = scores.loc[(scores["split"] == "test") & (scores["domain"] != POOLED), "domain"]
    parts = [(domain, average(scores, draws, domain=domain)) for domain in dict.fromkeys(tested)]
    return pd.concat(
        [part[part["held_out"] == AVERAGE].assign(held_out=domain) for domain, part in parts],
        ignore_index=True,
    )


def rule_averages(scores, draws, rules=(HEADLINE,)):
    """Averages under each rule of selection that was run, one below the other."""
    parts = [average(scores, draws, rule) for rule in rules]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


# name of the file -> f(averages, methods, domains, remarks) -> Table; its keyword `protocol` says whose averages it wants
TABLES = {}
for _protocol in PROTOCOLS:
    TABLES[_protocol] = partial(headline, protocol=_protocol)
    TABLES |= {
        f"{_protocol}_{metric}": partial(by_domain, protocol=_protocol, metric=metric)
        for metric in BY_DOMAIN
    }
TABLES |= {
    "ablation": partial(ablation, protocol="dg"),
    "selection": partial(selection, protocol="dg"),
}
TABLES |= {"esdg_targets": partial(by_target, protocol="esdg", metric="auc")}
READS = {
    "selection": partial(rule_averages, rules=tuple(RULES)),
    "esdg_targets": target_averages,
}  # f(scores, draws); else rule_averages


def _differences(cells, pairs, title, metric):
    """A column of differences, {method: (a, b)} -> a - b in points, beside the cells of the same methods; "" where one is not known."""
    style, rows = STYLES[metric], []
    for method, (one, other) in pairs.items():
        row = {
            "column": title,
            "method": method,
            "held_out": AVERAGE,
            "metric": metric,
            "text": MISSING,
            "mark": "",
            "degenerate": "",
        }
        if pd.notna(one) and pd.notna(other):
            row |= {
                "value": one - other,
                "text": f"{one - other:+.{style.decimals}f}",
                "scale": "points",
            }
            row |= cells.loc[method, ["n_seeds", "n", "clusters", "unit"]].to_dict()
        rows.append(row)
    return pd.DataFrame(rows, columns=["column", "text", *CSV_COLUMNS])


def _in_order(cells, methods):
    """Cells of several columns sorted by the rows of the table, columns in the order they came in."""
    place = cells["method"].map({method: row for row, method in enumerate(methods)})
    return cells.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)


def _table(name, averages, methods, domains, columns, protocol, caption, remarks):
    """columns: (title, held_out, metric) of each."""
    rows = averages[averages["protocol"] == protocol]
    if rows["selection"].replace("swad", HEADLINE).nunique() > 1:
        raise DataError(f"table {name}: averages of several selections; average one at a time")
    spans = set(rows.loc[rows["held_out"] != AVERAGE, "held_out"])
    if spans - set(domains):
        raise DataError(
            f"table {name}: averages span {', '.join(sorted(spans - set(domains)))} too; score the domains of the table only"
        )
    known = rows.set_index(["method", "held_out", "metric"])
    cells = pd.concat(
        [_column(known, methods, domains, remarks, *column) for column in columns],
        ignore_index=True,
    )
    if any(map(is_synthetic, domains)):
        caption = f"SYNTHETIC images: {caption}"
    cells = _in_order(cells, methods).assign(table=name, caption=caption)
    return Table(
        name,
        cells,
        caption,
        notes(cells, rows[rows["held_out"].isin(domains)], remarks),
        protocol=protocol,
    )


def _column(known, methods, domains, remarks, title, held_out, metric):
    """The cells of one column, with marks: the best printed value and the next, ties share the mark; at least two methods needed.

    A cell in which a method is not itself (degenerate; of a mean: in any of its cells) is printed with a dagger and not ranked.
    """
    style, cells = STYLES[metric], []
    for method in methods:
        run_on = [domain for domain in domains if (method, domain, metric) in known.index]
        complete = held_out != AVERAGE or len(run_on) == len(domains)
        cell = {
            "column": title,
            "method": method,
            "held_out": held_out,
            "metric": metric,
            "text": MISSING,
            "degenerate": "",
        }
        if complete and (method, held_out, metric) in known.index:
            row = known.loc[(method, held_out, metric)]
            cell |= row[
                ["n_seeds", "n", "clusters", "unit", "resamples", "undefined", "selection"]
            ].to_dict()
            cell |= {
                key: style.factor * row[source]
                for key, source in (
                    ("value", "mean"),
                    ("se", "se"),
                    ("low", "low"),
                    ("high", "high"),
                )
            }
            cell["degenerate"] = remarks.why(method, domains if held_out == AVERAGE else [held_out])
            cell |= {
                "scale": "percent" if style.factor == 100 else "grades",
                "text": _printed(cell, style),
            }
        cells.append(cell)
    cells = pd.DataFrame(cells, columns=["column", "text", *CSV_COLUMNS])
    printed = pd.Series(
        [float(f"{value:.{style.decimals}f}") for value in cells["value"].astype(float)]
    )  # as the reader sees it
    printed = printed.where(cells["degenerate"] == "")
    ranked = sorted(printed.dropna().unique(), reverse=bool(style.more_is_better))
    enough = printed.notna().sum() > 1 and style.more_is_better is not None
    marks = dict(zip(ranked, ("best", "second"), strict=False)) if enough else {}
    return cells.assign(mark=[marks.get(value, "") for value in printed])


def _printed(cell, style):
    if np.isnan(cell["value"]):
        return UNDEFINED
    spread = f" ± {cell['se']:.{style.decimals}f}" if cell["n_seeds"] > 1 else ""
    return f"{cell['value']:.{style.decimals}f}{spread}{DAGGER if cell['degenerate'] else ''}"
