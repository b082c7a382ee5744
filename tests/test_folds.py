"""The DG protocol, on GDRBench's counts: who trains, who validates, who is tested."""

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.domains import DOMAINS
from clipdr.folds import fold, source_domains

SIX = ["APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR"]
TABLE = {  # held out: train, val, test (Che et al., 2023, official split files)
    "APTOS": (6132, 1563, 3662),
    "DEEPDR": (7453, 1904, 2000),
    "FGADR": (7599, 1916, 1842),
    "IDRID": (8640, 2201, 516),
    "MESSIDOR": (7669, 1944, 1744),
    "RLDR": (7772, 1992, 1593),
}


@pytest.fixture(scope="module")
def manifest():
    rows = [
        (domain, split, grade)
        for domain in SIX
        for split, counts in DOMAINS[domain].counts.items()
        for grade, count in enumerate(counts)
        for _ in range(count)
    ]
    return pd.DataFrame(rows, columns=["domain", "split", "grade"])


@pytest.mark.parametrize("held_out", SIX)
def test_dg_counts_are_the_benchmarks(manifest, held_out):
    parts = fold(manifest, "dg", held_out)
    assert tuple(len(parts[name]) for name in ("train", "val", "test")) == TABLE[held_out]


@pytest.mark.parametrize("held_out", SIX)
def test_the_held_out_domain_is_tested_and_nothing_else(manifest, held_out):
    parts = fold(manifest, "dg", held_out)
    assert set(parts["test"].domain) == {held_out}
    assert held_out not in set(parts["train"].domain) | set(parts["val"].domain)
    assert set(parts["train"].split) == {"train"}
    assert set(parts["val"].split) == {"val"}
    assert source_domains(parts) == [domain for domain in SIX if domain != held_out]


def test_an_unknown_protocol_and_an_empty_part_are_named(manifest):
    with pytest.raises(DataError, match="lodo"):
        fold(manifest, "lodo", "APTOS")
    with pytest.raises(DataError, match="no test image"):
        fold(manifest, "dg", "DDR")
