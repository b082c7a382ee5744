"""The protocols, on GDRBench's counts: who trains, who validates, who is tested."""

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


POOLS = {  # source: test (Che et al., 2023), RLDR's photographs not yet taken out of EYEPACS
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
    with pytest.raises(DataError, match="'lodo' is unknown"):
        fold(manifest, "lodo", "APTOS")
    with pytest.raises(DataError, match="no test image"):
        fold(manifest, "dg", "DDR")


@pytest.mark.parametrize("source", SIX)
def test_esdg_trains_on_one_and_tests_all_others(everything, source):
    parts = fold(everything, "esdg", f"all_but_{source}")
    counts = DOMAINS[source].counts
    assert (len(parts["train"]), len(parts["val"])) == (sum(counts["train"]), sum(counts["val"]))
    assert set(parts["train"].domain) | set(parts["val"].domain) == {source}
    assert source not in set(parts["test"].domain) and parts["test"].domain.nunique() == 7
    if source != "RLDR":
        assert len(parts["test"]) == POOLS[source]
    assert source_domains(parts) == [source]


@pytest.mark.parametrize("held_out", SIX)
def test_lodo_crossval_is_dg_tested_on_crossval_files(manifest, held_out):
    ours, dg = fold(manifest, "lodo_crossval", held_out), fold(manifest, "dg", held_out)
    assert ours["train"].equals(dg["train"]) and ours["val"].equals(dg["val"])
    assert len(ours["test"]) == sum(DOMAINS[held_out].counts["val"])
    assert set(ours["test"].split) == {"val"}


@pytest.fixture
def eyes():
    """40 patients of domain A, two eyes each; the last 8 are in the crossval files, patient 0 in both; and an image of another domain."""
    rows = [
        ("A", "val" if patient >= 32 else "train", (patient + eye) % 5, f"p{patient}")
        for patient in range(40)
        for eye in range(2)
    ]
    rows += [("A", "val", 0, "p0"), ("B", "train", 0, "p1")]
    return pd.DataFrame(rows, columns=["domain", "split", "grade", "patient"]).assign(
        image=lambda rows: [f"A/x/{n}.png" for n in rows.index]
    )


def test_within_splits_a_domains_own_train_files_by_patient(eyes):
    parts = fold(eyes, "within", "A")
    assert set().union(*(set(part.domain) for part in parts.values())) == {"A"}
    patients = {name: set(part.patient) for name, part in parts.items()}
    assert (
        not patients["train"] & patients["val"]
        and not (patients["train"] | patients["val"]) & patients["test"]
    )
    assert "p0" in patients["test"] and len(parts["test"]) == 17
    assert len(patients["train"]) + len(patients["val"]) == 31
    assert 10 <= len(parts["val"]) <= 16
    assert set(parts["val"].grade) == set(parts["train"].grade) == set(range(5))
    again = fold(eyes, "within", "A")
    assert all(part.equals(again[name]) for name, part in parts.items())


def test_within_images_without_a_patient_stand_for_themselves(manifest):
    parts = fold(manifest, "within", "IDRID")
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 330,
        "val": 83,
        "test": 103,
    }


def test_every_protocol_names_what_it_holds_out():
    assert set(PROTOCOLS) == set(HELD_OUT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_test_images_are_in_no_other_part(everything, protocol):
    parts = fold(everything, protocol, HELD_OUT[protocol].format("IDRID"))
    assert not set(parts["test"].image) & (set(parts["train"].image) | set(parts["val"].image))
    assert not set(parts["train"].image) & set(parts["val"].image)


def twins(rldr="train", eyepacs="test"):
    """Parts with photograph 1_left of RLDR and of EYEPACS in the parts named, and others."""
    rows = {name: [("IDRID", f"IDRID/nodr/{name}.jpg", 0, "")] for name in ("train", "val", "test")}
    rows[rldr].append(("RLDR", "RLDR/pdr/1_left.jpg", 4, "1"))
    rows[eyepacs] += [
        ("EYEPACS", f"EYEPACS/Images/{name}.jpeg", 3, name.split("_")[0])
        for name in ("1_left", "1_right", "11_left")
    ]
    return {
        name: pd.DataFrame(part, columns=["domain", "image", "grade", "patient"])
        for name, part in rows.items()
    }


@pytest.mark.parametrize(
    ("rldr", "eyepacs"), [("train", "test"), ("val", "test"), ("test", "train"), ("test", "val")]
)
def test_what_rldr_holds_leaves_eyepacs_on_the_other_side_with_the_fellow_eye(rldr, eyepacs):
    parts = leak_free(twins(rldr, eyepacs))
    assert parts[eyepacs].image.tolist() == [
        f"IDRID/nodr/{eyepacs}.jpg",
        "EYEPACS/Images/11_left.jpeg",
    ]
    assert len(parts[rldr]) == 2


@pytest.mark.parametrize(
    ("rldr", "eyepacs"), [("train", "train"), ("train", "val"), ("test", "test")]
)
def test_both_copies_stay_on_one_side(rldr, eyepacs):
    parts = leak_free(twins(rldr, eyepacs))
    assert sum(map(len, parts.values())) == 7


@pytest.mark.realdata
def test_the_leak_rule_leaves_the_known_numbers_of_eyepacs(realdata, tmp_path):
    (tmp_path / "splits").symlink_to((realdata / "labels_original/GDRBENCH_splits").resolve())
    listed = {
        name: pd.DataFrame(gdrbench.split_files(tmp_path, name)).assign(domain=name)
        for name in ("RLDR", "EYEPACS", "IDRID")
    }
    manifest = pd.concat(listed.values(), ignore_index=True)
    patient = manifest.image.str.extract(r"/(\d+)_(?:left|right)\.", expand=False).fillna("")
    tested = fold(manifest.assign(patient=patient), "dg", "EYEPACS")["test"]
    assert (
        tested.grade.value_counts().sort_index().tolist() == [65047, 5875, 11418, 1644, 1703]
        and len(tested) == 85687
    )
    tested = fold(manifest.assign(patient=""), "dg", "EYEPACS")["test"]  # by photograph alone
    assert (
        tested.grade.value_counts().sort_index().tolist() == [65272, 6021, 12176, 1831, 1804]
        and len(tested) == 87104
    )
    trained = fold(manifest.assign(patient=""), "dg", "RLDR")
    assert [(trained[name].domain == "EYEPACS").sum() for name in ("train", "val")] == [
        34147,
        52957,
    ]
