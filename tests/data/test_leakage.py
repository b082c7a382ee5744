"""Leakage check: shared names and patients, and folds that are refused.

Each protection is also taken away.
"""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.copies import COPIES, SPLITS, packed, rows
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.data import leakage
from clipdr.data.splits import fold


def test_patients_in_two_splits_are_found():
    manifest = pd.concat(
        [
            rows(["RLDR/nodr/1_left.jpg", "RLDR/nodr/1_right.jpg"], patients=["1", "1"]),
            rows(["RLDR/nodr/2_left.jpg", "RLDR/nodr/2_right.jpg"], ["train", "val"], ["2", "2"]),
            rows(["DEEPDR/nodr/2_l1.jpg"], patients=["2"]),
            rows(["IDRID/nodr/IDRiD_1.jpg", "IDRID/nodr/IDRiD_2.jpg"], ["train", "val"], ["", ""]),
        ],
        ignore_index=True,
    )
    assert leakage.same_patient(manifest).tolist() == [[2, 3]]


def test_only_rldr_and_eyepacs_share_names_and_patients(monkeypatch):
    images = [
        "RLDR/nodr/1_left.jpg",
        "EYEPACS/Images/1_left.jpeg",
        "EYEPACS/Images/1_right.jpeg",
        "DEEPDR/nodr/1_left.jpg",
    ]
    manifest = rows(images, patients=["1"] * 4)
    assert leakage.same_name(manifest).tolist() == [[0, 1]]
    assert leakage.same_patient(manifest).tolist() == [[0, 1], [0, 2]]
    monkeypatch.setattr(leakage, "SAME_PATIENTS", {})
    assert leakage.same_name(manifest).tolist() == leakage.same_patient(manifest).tolist() == []


def test_equal_names_in_both_splits_of_idrid_are_no_copies():
    manifest = rows(["IDRID/pdr/IDRiD_001.jpg", "IDRID/nodr/IDRiD_001.jpg"], ["train", "val"])
    assert len(leakage.same_name(manifest)) == len(leakage.same_patient(manifest)) == 0


@pytest.fixture
def leaking(eyes, tmp_path):
    """A data folder of two domains with leakage.

    Three test images of SIM_RLDR are copies, one flipped, of training images of SIM_APTOS.
    """
    for domain, images in {
        "SIM_APTOS": eyes[:12],
        "SIM_RLDR": [
            *eyes[60:69],
            *eyes[:2],
            COPIES["flipped h"](eyes[2], None),
        ],
    }.items():
        manifest, squares = packed(images, tmp_path, domain)
        manifest["split"] = ["train", "train", "train", *["val", "train"] * 10][: len(manifest)]
        for folder in ("manifests", "store"):
            (tmp_path / folder).mkdir(exist_ok=True)
        manifest.to_csv(tmp_path / "manifests" / f"{domain}.csv", index=False)
        np.save(tmp_path / "store" / f"{domain}.npy", squares)
    return tmp_path


def clipdr(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "clipdr", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_leaking_fold_is_refused_unless_leaks_are_allowed(leaking):
    study = ["--domains", "SIM_APTOS,SIM_RLDR", "--data", leaking, "--results", leaking]
    listed = clipdr("leaks", *study)
    assert listed.returncode == 0, listed.stderr
    assert (
        "SIM_APTOS and SIM_RLDR: 2 (equal file or equal pixels), 2 with two grades" in listed.stdout
    )
    report = leaking / "gate" / "dg" / "SIM_RLDR.json"
    refused = clipdr("gate", "dg", "SIM_RLDR", *study)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    for piece in (
        "3 pairs (2 exact, 1 near)",
        "SIM_APTOS/nodr/0.png (train)",
        "SIM_RLDR/nodr/9.png (test)",
        "leaks.csv",
        "allow_leaks: true",
    ):
        assert piece in refused.stderr
    assert not report.exists()
    allowed = clipdr("gate", "dg", "SIM_RLDR", *study, "--allow-leaks")
    assert allowed.returncode == 0, allowed.stderr
    content = json.loads(report.read_text())
    assert content["verdict"] == "3 pairs (2 exact, 1 near)"
    assert len(content["leaks"]["first"]) == 3


def test_fold_without_the_check_tests_copies_of_training_images(leaking):
    """The fold itself compares names only, so that the copies are on both sides."""
    manifests = {
        domain: pd.read_csv(leaking / "manifests" / f"{domain}.csv")
        for domain in ("SIM_APTOS", "SIM_RLDR")
    }
    splits = fold(pd.concat(manifests.values()), "dg", "SIM_RLDR")
    assert len(set(splits["train"]["sha256"]) & set(splits["test"]["sha256"])) == 2


def pair(kind, image_a, image_b):
    return dict.fromkeys(leakage.COLUMNS, "") | {
        "kind": kind,
        "image_a": image_a,
        "image_b": image_b,
    }


def test_report_separates_leaks_warnings_and_copies_in_test():
    splits = {
        "train": rows(["APTOS/a/1.png", "APTOS/a/2.png"]),
        "val": rows(["APTOS/a/3.png"], "val"),
        "test": rows(["IDRID/a/1.png", "IDRID/a/2.png"]),
    }
    pairs = pd.DataFrame(
        [
            pair("exact", "APTOS/a/1.png", "APTOS/a/2.png"),  # within training
            pair("near", "APTOS/a/1.png", "APTOS/a/3.png"),
            pair("near", "APTOS/a/3.png", "IDRID/a/1.png"),
            pair("exact", "IDRID/a/1.png", "IDRID/a/2.png"),
            pair("exact", "APTOS/a/1.png", "DDR/a/1.png"),  # not in this fold
        ]
    )
    report = leakage.check(pairs, splits)
    assert report["leaks"]["pairs"] == {"near": 1}
    assert report["leaks"]["first"] == [
        {
            "kind": "near",
            "image_a": "APTOS/a/3.png",
            "part_a": "val",
            "image_b": "IDRID/a/1.png",
            "part_b": "test",
        }
    ]
    assert report["warnings"]["pairs"] == {"near": 1}
    assert report["twice_in_test"]["pairs"] == {"exact": 1}
    with pytest.raises(DataError, match=r"test share 1 pair \(1 near\)\. First"):
        leakage.refuse(report, "dg/IDRID", "leaks.csv")
    sound = leakage.check(pairs[pairs["image_b"] != "IDRID/a/1.png"], splits)
    assert sound["verdict"] == ""
    leakage.refuse(sound, "dg/IDRID", "leaks.csv")


def test_list_of_pairs_is_read_as_it_was_written(planted, tmp_path):
    for name, pairs in {"some": planted["cropped"], "none": planted["cropped"].iloc[:0]}.items():
        pairs.to_csv(tmp_path / name, index=False)
        pd.testing.assert_frame_equal(
            leakage.read_pairs(tmp_path / name), pairs, check_dtype=name == "some"
        )
    with pytest.raises(DataError, match="clipdr leaks"):
        leakage.read_pairs(tmp_path / "missing.csv")
    (tmp_path / "other").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns"):
        leakage.read_pairs(tmp_path / "other")


def official(realdata, *domains):
    """Manifest rows of the official split files."""
    listed = []
    for domain in domains:
        for split, word in SPLITS.items():
            lines = (
                (realdata / "labels_original" / "GDRBENCH_splits" / f"{domain}_{word}.txt")
                .read_text()
                .split("\n")
            )
            images = [line.rsplit(" ", 1)[0] for line in lines if line]
            pattern = (
                r"/(\d+)_(?:left|right)\."
                if domain in ("RLDR", "EYEPACS")
                else r"/(\d+)_[lr]\d+\."
                if domain == "DEEPDR"
                else r"/()"
            )
            listed.append(rows(images, split, pd.Series(images).str.extract(pattern)[0].to_list()))
    return pd.concat(listed, ignore_index=True)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("domain", "patients"),
    [("RLDR", 29), ("DEEPDR", 0), ("EYEPACS", 0), ("MESSIDOR", 0), ("IDRID", 0)],
)
def test_patients_in_both_official_splits_are_found(realdata, domain, patients):
    manifest = official(realdata, domain)
    pairs = leakage.same_patient(manifest)
    assert manifest.loc[pairs[:, 0], "patient"].nunique() == patients


@pytest.mark.realdata
def test_rldr_is_found_in_eyepacs_by_name(realdata):
    assert len(leakage.same_name(official(realdata, "RLDR", "EYEPACS"))) == 1593
