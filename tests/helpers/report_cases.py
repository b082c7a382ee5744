"""Averages and comparisons with known values, as tables and figures read them."""

import re

import numpy as np
import pandas as pd

from clipdr.evaluation.comparison import COMPARISONS

DOMAINS = ["SIM_APTOS", "SIM_IDRID"]
METHODS = ["erm", "ordinal_clip", "clip_dr"]
MEANS = {"erm": (0.70, 0.60), "ordinal_clip": (0.80, 0.75), "clip_dr": (0.90, 0.85)}


def averages(
    means=MEANS,
    domains=DOMAINS,
    seeds=3,
    unit="patient",
    protocol="dg",
    metrics=("auc", "accuracy", "macro_f1", "qwk", "mae"),
):
    """Averages with the same value for every metric; None: not run, then no average either."""
    rows = []
    for method, values in means.items():
        cells = [
            (domain, value)
            for domain, value in zip(domains, values, strict=True)
            if value is not None
        ]
        if len(cells) == len(domains):
            cells.append(("average", np.mean(values)))
        for held_out, value in cells:
            for metric in metrics:
                row = {
                    "protocol": protocol,
                    "method": method,
                    "held_out": held_out,
                    "selection": "source_val",
                    "metric": metric,
                    "mean": value,
                }
                row |= {
                    "se": 0.012 if seeds > 1 else np.nan,
                    "n_seeds": seeds,
                    "low": value - 0.05,
                    "high": value + 0.04,
                    "undefined": 0,
                }
                rows.append(
                    row
                    | {"n": 100, "clusters": 50, "unit": unit, "n_domains": 1, "resamples": 2000}
                )
    return pd.DataFrame(rows)


def compared(p_holm=0.01):
    """Rows of comparisons.csv: erm and coop against clip_dr on two domains and their average."""
    rows = []
    for method, held_out in ((m, d) for m in ("erm", "coop") for d in (*DOMAINS, "average")):
        for metric in ("auc", "qwk"):
            row = {
                "protocol": "dg",
                "held_out": held_out,
                "metric": metric,
                "method": method,
                "reference": "clip_dr",
                "difference": -0.02,
            }
            row |= {
                "low": -0.03,
                "high": 0.01,
                "p": 0.004,
                "p_holm": p_holm if method == "erm" else 0.2,
                "undefined": 0,
                "resamples": 2000,
            }
            row |= {
                "n_seeds": 1,
                "n_seeds_reference": 1,
                "n": 100,
                "clusters": 50,
                "unit": "patient",
                "selection": "source_val",
            }
            rows.append(row)
    return pd.DataFrame(rows)[COMPARISONS]


def texts(table, column):
    """Texts of a column by row."""
    return table.cells[table.cells["column"] == column].set_index("method")["text"].to_dict()


def marks(table, column):
    """Marks of a column by row."""
    return table.cells[table.cells["column"] == column].set_index("method")["mark"].to_dict()


def assert_latex_is_sound(text, rows, columns):
    """Balanced braces, equal rows, no bare special character, only known commands."""
    plain = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for c in plain:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert (
        re.findall(r"\\begin\{(\w+)\}", text)
        == re.findall(r"\\end\{(\w+)\}", text)[::-1]
        == ["table", "tabular"]
    )
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == rows + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert not re.search(r"[#%^~<>±]", plain), "bare special character"
    assert "_" not in plain.replace(r"\label{tab:dg_auc}", "")
    assert plain.count("$") % 2 == 0
    allowed = "begin end centering caption label scriptsize setlength tabcolsep toprule midrule "
    allowed += "bottomrule textbf underline pm par smallskip dag Delta parbox linewidth "
    allowed += "textbackslash textasciitilde textasciicircum textless textgreater"
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= set(allowed.split())
