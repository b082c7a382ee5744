"""The DG protocol, on GDRBench's counts: who trains, who validates, who is tested."""

import pandas as pd
import pytest

from clipdr import DataError, readers
from clipdr.domains import DOMAINS
from clipdr.folds import fold, kept_twice, leak_free, source_domains

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
        (domain, split, grade, f"{domain}/x/{domain}{split}{grade}_{number}.png")
        for domain in SIX
        for split, counts in DOMAINS[domain].counts.items()
        for grade, count in enumerate(counts)
        for number in range(count)
    ]
    return pd.DataFrame(rows, columns=["domain", "split", "grade", "image"])


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


def twins(rldr="train", eyepacs="test"):
    """Parts with photograph 1_left of RLDR and of EYEPACS in the parts named, and others."""
    rows = {name: [("IDRID", f"IDRID/nodr/{name}.jpg", 0)] for name in ("train", "val", "test")}
    rows[rldr].append(("RLDR", "RLDR/pdr/1_left.jpg", 4))
    rows[eyepacs] += [("EYEPACS", "EYEPACS/Images/1_left.jpeg", 3), ("EYEPACS", "EYEPACS/Images/11_left.jpeg", 0)]
    return {name: pd.DataFrame(part, columns=["domain", "image", "grade"]) for name, part in rows.items()}


@pytest.mark.parametrize(("rldr", "eyepacs"), [("train", "test"), ("val", "test"), ("test", "train"), ("test", "val")])
def test_what_rldr_holds_leaves_eyepacs_on_the_other_side(rldr, eyepacs):
    parts = leak_free(twins(rldr, eyepacs))
    assert parts[eyepacs].image.tolist() == [f"IDRID/nodr/{eyepacs}.jpg", "EYEPACS/Images/11_left.jpeg"]
    assert len(parts[rldr]) == 2 and kept_twice(parts) == {"train": 0, "val": 0, "test": 0}


@pytest.mark.parametrize(("rldr", "eyepacs"), [("train", "train"), ("train", "val"), ("test", "test")])
def test_both_copies_stay_on_one_side_and_are_counted(rldr, eyepacs):
    parts = leak_free(twins(rldr, eyepacs))
    assert sum(map(len, parts.values())) == 6
    assert sum(kept_twice(parts).values()) == (rldr == eyepacs)


@pytest.mark.realdata
def test_the_leak_rule_leaves_the_published_numbers_of_eyepacs(realdata, tmp_path):
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    manifest = pd.concat(pd.DataFrame(readers.split_files(tmp_path, name)).assign(domain=name) for name in ("RLDR", "EYEPACS", "IDRID"))
    tested = fold(manifest.reset_index(drop=True), "dg", "EYEPACS")["test"]
    assert tested.grade.value_counts().sort_index().tolist() == [65272, 6021, 12176, 1831, 1804] and len(tested) == 87104
    trained = fold(manifest.reset_index(drop=True), "dg", "RLDR")
    assert [(trained[name].domain == "EYEPACS").sum() for name in ("train", "val")] == [34147, 52957]
    both = kept_twice(fold(manifest.reset_index(drop=True), "dg", "IDRID"))
    assert both["test"] == 0 and both["train"] + both["val"] > 0
