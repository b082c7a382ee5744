"""Train, validation and test splits of every protocol, on GDRBench's counts."""

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.data.domains import DOMAINS
from clipdr.data.protocols import HELD_OUT
from clipdr.data.sources import gdrbench
from clipdr.data.splits import PROTOCOLS, fold, leak_free, source_domains

SIX = ["APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR"]
TABLE = {  # held out: train, val, test (Che et al., 2023, official split files)
    "APTOS": (6132, 1563, 3662),
    "DEEPDR": (7453, 1904, 2000),
    "FGADR": (7599, 1916, 1842),
    "IDRID": (8640, 2201, 516),
    "MESSIDOR": (7669, 1944, 1744),
    "RLDR": (7772, 1992, 1593),
}


POOLS = {  # source: test images (Che et al., 2023), RLDR's images still among EYEPACS's
    "APTOS": 108913,
    "DEEPDR": 110575,
    "FGADR": 110733,
    "IDRID": 112059,
    "MESSIDOR": 110831,
    "RLDR": 110982,
}


def table(domains):
    rows = [
        (domain, split, grade, f"{domain}/x/{domain}{split}{grade}_{number}.png")
        for domain in domains
        for split, counts in DOMAINS[domain].counts.items()
        for grade, count in enumerate(counts)
        for number in range(count)
    ]
    return pd.DataFrame(rows, columns=["domain", "split", "grade", "image"]).assign(patient="")


@pytest.fixture(scope="module")
def manifest():
    return table(SIX)


@pytest.fixture(scope="module")
def everything():
    return table([*SIX, "DDR", "EYEPACS"])


@pytest.mark.parametrize("held_out", SIX)
def test_dg_counts_equal_the_benchmarks(manifest, held_out):
    splits = fold(manifest, "dg", held_out)
    assert tuple(len(splits[name]) for name in ("train", "val", "test")) == TABLE[held_out]


@pytest.mark.parametrize("held_out", SIX)
def test_dg_tests_the_held_out_domain_only(manifest, held_out):
    splits = fold(manifest, "dg", held_out)
    assert set(splits["test"].domain) == {held_out}
    assert held_out not in set(splits["train"].domain) | set(splits["val"].domain)
    assert set(splits["train"].split) == {"train"}
    assert set(splits["val"].split) == {"val"}
    assert source_domains(splits) == [domain for domain in SIX if domain != held_out]


def test_unknown_protocol_and_empty_split_are_refused(manifest):
    with pytest.raises(DataError, match="'lodo' is unknown"):
        fold(manifest, "lodo", "APTOS")
    with pytest.raises(DataError, match="no test image"):
        fold(manifest, "dg", "DDR")


@pytest.mark.parametrize("source", SIX)
def test_esdg_trains_on_one_domain_and_tests_the_others(everything, source):
    splits = fold(everything, "esdg", f"all_but_{source}")
    counts = DOMAINS[source].counts
    assert (len(splits["train"]), len(splits["val"])) == (sum(counts["train"]), sum(counts["val"]))
    assert set(splits["train"].domain) | set(splits["val"].domain) == {source}
    assert source not in set(splits["test"].domain)
    assert splits["test"].domain.nunique() == 7
    if source != "RLDR":
        assert len(splits["test"]) == POOLS[source]
    assert source_domains(splits) == [source]


@pytest.mark.parametrize("held_out", SIX)
def test_lodo_crossval_equals_dg_tested_on_crossval_files(manifest, held_out):
    ours, dg = fold(manifest, "lodo_crossval", held_out), fold(manifest, "dg", held_out)
    assert ours["train"].equals(dg["train"])
    assert ours["val"].equals(dg["val"])
    assert len(ours["test"]) == sum(DOMAINS[held_out].counts["val"])
    assert set(ours["test"].split) == {"val"}


@pytest.fixture
def eyes():
    """40 patients of domain A with two eyes each, and one image of another domain.

    The last 8 patients are in the crossval files, patient 0 in both.
    """
    rows = [
        ("A", "val" if patient >= 32 else "train", (patient + eye) % 5, f"p{patient}")
        for patient in range(40)
        for eye in range(2)
    ]
    rows += [("A", "val", 0, "p0"), ("B", "train", 0, "p1")]
    return pd.DataFrame(rows, columns=["domain", "split", "grade", "patient"]).assign(
        image=lambda rows: [f"A/x/{n}.png" for n in rows.index]
    )


def test_within_splits_own_train_files_by_patient(eyes):
    splits = fold(eyes, "within", "A")
    assert set().union(*(set(rows.domain) for rows in splits.values())) == {"A"}
    patients = {name: set(rows.patient) for name, rows in splits.items()}
    assert not patients["train"] & patients["val"]
    assert not (patients["train"] | patients["val"]) & patients["test"]
    assert "p0" in patients["test"]
    assert len(splits["test"]) == 17
    assert len(patients["train"]) + len(patients["val"]) == 31
    assert 10 <= len(splits["val"]) <= 16
    assert set(splits["val"].grade) == set(splits["train"].grade) == set(range(5))
    again = fold(eyes, "within", "A")
    assert all(rows.equals(again[name]) for name, rows in splits.items())


def test_within_unknown_patients_are_single_images(manifest):
    splits = fold(manifest, "within", "IDRID")
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 330,
        "val": 83,
        "test": 103,
    }


def test_every_protocol_has_a_held_out_name():
    assert set(PROTOCOLS) == set(HELD_OUT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_test_images_are_in_no_other_split(everything, protocol):
    splits = fold(everything, protocol, HELD_OUT[protocol].format("IDRID"))
    assert not set(splits["test"].image) & (set(splits["train"].image) | set(splits["val"].image))
    assert not set(splits["train"].image) & set(splits["val"].image)


def copies(rldr="train", eyepacs="test"):
    """Splits with image 1_left of RLDR and of EYEPACS in the named splits, and other images."""
    rows = {name: [("IDRID", f"IDRID/nodr/{name}.jpg", 0, "")] for name in ("train", "val", "test")}
    rows[rldr].append(("RLDR", "RLDR/pdr/1_left.jpg", 4, "1"))
    rows[eyepacs] += [
        ("EYEPACS", f"EYEPACS/Images/{name}.jpeg", 3, name.split("_")[0])
        for name in ("1_left", "1_right", "11_left")
    ]
    return {
        name: pd.DataFrame(listed, columns=["domain", "image", "grade", "patient"])
        for name, listed in rows.items()
    }


@pytest.mark.parametrize(
    ("rldr", "eyepacs"), [("train", "test"), ("val", "test"), ("test", "train"), ("test", "val")]
)
def test_rldr_copies_and_fellow_eyes_leave_eyepacs_on_the_other_side(rldr, eyepacs):
    splits = leak_free(copies(rldr, eyepacs))
    assert splits[eyepacs].image.tolist() == [
        f"IDRID/nodr/{eyepacs}.jpg",
        "EYEPACS/Images/11_left.jpeg",
    ]
    assert len(splits[rldr]) == 2


@pytest.mark.parametrize(
    ("rldr", "eyepacs"), [("train", "train"), ("train", "val"), ("test", "test")]
)
def test_both_copies_on_one_side_stay(rldr, eyepacs):
    splits = leak_free(copies(rldr, eyepacs))
    assert sum(map(len, splits.values())) == 7


@pytest.mark.realdata
def test_leak_free_leaves_the_expected_numbers_of_eyepacs(realdata, tmp_path):
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    listed = {
        name: pd.DataFrame(gdrbench.split_files(tmp_path, name)).assign(domain=name)
        for name in ("RLDR", "EYEPACS", "IDRID")
    }
    manifest = pd.concat(listed.values(), ignore_index=True)
    patient = manifest.image.str.extract(r"/(\d+)_(?:left|right)\.", expand=False).fillna("")
    tested = fold(manifest.assign(patient=patient), "dg", "EYEPACS")["test"]
    assert tested.grade.value_counts().sort_index().tolist() == [65047, 5875, 11418, 1644, 1703]
    assert len(tested) == 85687
    tested = fold(manifest.assign(patient=""), "dg", "EYEPACS")["test"]  # by image alone
    assert tested.grade.value_counts().sort_index().tolist() == [65272, 6021, 12176, 1831, 1804]
    assert len(tested) == 87104
    trained = fold(manifest.assign(patient=""), "dg", "RLDR")
    assert [(trained[name].domain == "EYEPACS").sum() for name in ("train", "val")] == [
        34147,
        52957,
    ]
