"""Benchmark tables: methods x held-out domains, methods x metrics, ablation and model selection.

Input: averages of `aggregate.average`, the order of methods (rows) and of held-out domains
(columns). Output: a Table. X means not run, n/a undefined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clipdr.data.domains import is_synthetic
from clipdr.data.protocols import HELD_OUT
from clipdr.evaluation import aggregate
from clipdr.evaluation.aggregate import average
from clipdr.evaluation.schema import AVERAGE, HEADLINE, POOLED, rules_of
from clipdr.report.labels import BY_DOMAIN, PROTOCOLS, RULES, STYLES
from clipdr.report.tables.averages import averages_table, differences, in_order
from clipdr.report.tables.notes import NOTHING, Remarks
from clipdr.report.tables.table import Entry, Table

HEADLINES = ("auc", "accuracy", "macro_f1", "qwk")


def by_domain(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str,
) -> Table:
    """Methods x held-out domains (under esdg: x sources) and their average, one metric.

    Args:
        averages: As `aggregate.average` returns them.
        methods: Rows, in order.
        domains: Held-out names, columns, in order.
        remarks: Of the runs.
        protocol: Protocol of the table.
        metric: A key of labels.STYLES.

    Raises:
        DataError: If the averages span other domains than the columns.
    """
    what, over = PROTOCOLS[protocol]
    caption = f"{STYLES[metric].meaning} {what}, and the unweighted mean over the {over}."
    prefix = HELD_OUT[protocol].format("")
    columns = [(domain.removeprefix(prefix), domain, metric) for domain in domains]
    columns.append(("Average", AVERAGE, metric))
    name = f"{protocol}_{metric}"
    return averages_table(name, averages, methods, domains, columns, protocol, caption, remarks)


def headline(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metrics: Sequence[str] = HEADLINES,
    name: str | None = None,
) -> Table:
    """Methods x metrics: the unweighted mean over the held-out domains.

    Args:
        averages: As for `by_domain`.
        methods: Rows, in order.
        domains: Held-out names that the mean is over.
        remarks: Of the runs.
        protocol: Protocol of the table.
        metrics: Columns, in order.
        name: Name of the table; the protocol where it is None.
    """
    meanings = ", ".join(
        STYLES[metric].meaning.replace(" (%, ", " (").removesuffix(" (%)") for metric in metrics
    )
    caption = f"Unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}, in %: {meanings}."
    columns = [(STYLES[metric].title, AVERAGE, metric) for metric in metrics]
    return averages_table(
        name or protocol, averages, methods, domains, columns, protocol, caption, remarks
    )


def ablation(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str = "auc",
) -> Table:
    """As `headline`, with the difference to the first row, the full method, in one metric."""
    table = headline(averages, methods, domains, remarks, protocol=protocol, name="ablation")
    cells = table.cells[(table.cells["metric"] == metric)].set_index("method")
    title = f"Δ {STYLES[metric].title}"
    full = cells["value"].get(methods[0], np.nan)
    pairs = {str(method): (value, full) for method, value in cells["value"].items()}
    column = differences(cells, pairs, title, metric)
    caption = table.caption.rstrip(".") + f"; {title}: difference to {methods[0]}, in points."
    cells = in_order(pd.concat([table.cells, column], ignore_index=True), methods)
    return Table.of("ablation", cells, caption, table.notes, protocol=protocol)


def selection(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str = "auc",
) -> Table:
    """Methods x rules of model selection, and oracle minus source validation, one metric.

    Each value is the mean over the held-out domains. The oracle is an upper bound and is not
    ranked.

    Args:
        averages: Of every rule of labels.RULES that was run, one below the other.
        methods: Rows, in order.
        domains: Held-out names that the mean is over.
        remarks: Of the runs.
        protocol: Protocol of the table.
        metric: A key of labels.STYLES.
    """
    rows = averages[averages["protocol"] == protocol]
    parts: dict[str, pd.DataFrame] = {}
    sentences: dict[str, None] = {}
    for rule, title in RULES.items():
        of_rule = rows[rows["selection"].isin(rules_of(rule))]
        if of_rule.empty:
            continue
        columns = [(title, AVERAGE, metric)]
        table = averages_table(
            "selection", of_rule, methods, domains, columns, protocol, "", remarks
        )
        parts[rule] = table.cells.assign(mark="") if rule == "oracle" else table.cells
        sentences |= dict.fromkeys(table.notes)
    if {"oracle", HEADLINE} <= set(parts):
        value = {rule: parts[rule].set_index("method")["value"] for rule in ("oracle", HEADLINE)}
        pairs = {method: (value["oracle"][method], value[HEADLINE][method]) for method in methods}
        cells = parts[HEADLINE].set_index("method")
        parts["gap"] = differences(cells, pairs, "oracle - source val", metric)
    over = f"unweighted mean over the {len(domains)} {PROTOCOLS[protocol][1]}"
    caption = f"{STYLES[metric].meaning}: rules of model selection side by side, {over}."
    cells = in_order(pd.concat(parts.values(), ignore_index=True), methods)
    synthetic = any(map(is_synthetic, domains))
    return Table.of(
        "selection", cells, caption, [*sentences], protocol=protocol, synthetic=synthetic
    )


def by_target(
    averages: pd.DataFrame,
    methods: Sequence[str],
    domains: Sequence[str],
    remarks: Remarks = NOTHING,
    *,
    protocol: str,
    metric: str,
) -> Table:
    """Methods x tested domains, each the mean over the sources other than it.

    Args:
        averages: As `target_averages` returns them.
        methods: Rows, in order.
        domains: Held-out names of the runs; their sources are the first columns.
        remarks: Of the runs. A method that is degenerate for one source is degenerate in every
            column.
        protocol: Protocol of the table.
        metric: A key of labels.STYLES.
    """
    sources = [name.removeprefix("all_but_") for name in domains]
    order = [*sources, *averages["held_out"]]
    targets = sorted(dict.fromkeys(averages["held_out"]), key=order.index)
    caption = (
        f"{STYLES[metric].meaning} on each tested domain, the unweighted mean over the "
        f"{PROTOCOLS[protocol][1]} other than it."
    )
    columns = [(target, target, metric) for target in targets]
    reasons = [(method, why) for (method, _), why in remarks.degenerate.items()]
    everywhere = {(method, target): why for method, why in reasons for target in targets}
    everywhere = Remarks(everywhere, remarks.samplers)
    name = f"{protocol}_targets"
    return averages_table(name, averages, methods, targets, columns, protocol, caption, everywhere)


def target_averages(scores: pd.DataFrame, draws: Mapping[Any, Any]) -> pd.DataFrame:
    """Averages of every single test domain over the held-out names of one protocol.

    Args:
        scores: Rows of all runs (`aggregate.collect`).
        draws: Bootstrap draws of all runs (`aggregate.collect_draws`).

    Returns:
        As `aggregate.average`; `held_out` is the tested domain.
    """
    tested = scores.loc[(scores["split"] == "test") & (scores["domain"] != POOLED), "domain"]
    parts = [(domain, average(scores, draws, domain=domain)) for domain in dict.fromkeys(tested)]
    return pd.concat(
        [part[part["held_out"] == AVERAGE].assign(held_out=domain) for domain, part in parts],
        ignore_index=True,
    )


def rule_averages(
    scores: pd.DataFrame, draws: Mapping[Any, Any], rules: Iterable[str] = (HEADLINE,)
) -> pd.DataFrame:
    """Averages under each rule of selection that was run; arguments as `target_averages`."""
    parts = [average(scores, draws, rule) for rule in rules]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def read_averages(
    runs: list[Path], _results: Path, rules: Iterable[str] = (HEADLINE,)
) -> pd.DataFrame:
    """Read scored runs as `rule_averages`."""
    draws = aggregate.collect_draws(runs, selection=None)
    return rule_averages(aggregate.collect(runs), draws, rules)


def read_targets(runs: list[Path], _results: Path) -> pd.DataFrame:
    """Read scored runs as `target_averages`."""
    return target_averages(aggregate.collect(runs), aggregate.collect_draws(runs, selection=None))


def _entries() -> dict[str, Entry]:
    """{name of the file: Entry} of all benchmark tables."""
    entries = {}
    for protocol in PROTOCOLS:
        make = partial(headline, protocol=protocol)
        entries[protocol] = Entry(make, protocol, "benchmark", read_averages)
        for metric in BY_DOMAIN:
            section = "referable" if metric in ("sensitivity", "specificity") else "benchmark"
            make = partial(by_domain, protocol=protocol, metric=metric)
            entries[f"{protocol}_{metric}"] = Entry(make, protocol, section, read_averages)
    rules = partial(read_averages, rules=tuple(RULES))
    targets = partial(by_target, protocol="esdg", metric="auc")
    return entries | {
        "ablation": Entry(partial(ablation, protocol="dg"), "dg", "benchmark", read_averages),
        "selection": Entry(partial(selection, protocol="dg"), "dg", "selection", rules),
        "esdg_targets": Entry(targets, "esdg", "benchmark", read_targets),
    }


TABLES = _entries()
