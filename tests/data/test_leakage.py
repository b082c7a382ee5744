"""Leaks: copies planted by every way they come about, the real ones, and folds that are refused; each protection is also taken away.

The photographs are drawn (clipdr.data.synthetic.dataset), two eyes of each patient; real ones under the marker realdata.
"""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.paths import ROOT
from PIL import Image

from clipdr import DataError
from clipdr.data import duplicates
from clipdr.data import leakage as gate
from clipdr.data.manifest import DTYPES
from clipdr.data.preprocessing import prepare
from clipdr.data.splits import fold
from clipdr.data.synthetic import dataset
from clipdr.report.tables import benchmark, notes
from clipdr.report.tables import table as table_module

SIDE = 96
SPLITS = {"train": "train", "val": "crossval"}


def reencoded(picture, rng, quality=None):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality or int(rng.integers(50, 91)))
    return Image.open(file)


def resized(picture, rng):
    factor = rng.uniform(0.5, 0.9)
    return picture.resize(
        (round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS
    )


def cropped(picture, rng):
    """5 % of each side cut off, at one or the other end."""
    width, height = round(0.95 * picture.width), round(0.95 * picture.height)
    left, top = (
        rng.integers(0, 2) * (picture.width - width),
        rng.integers(0, 2) * (picture.height - height),
    )
    return picture.crop((left, top, left + width, top + height))


COPIES = {
    "renamed": lambda picture, rng: picture,
    "reencoded": reencoded,
    "resized": resized,
    "cropped": cropped,
    "flipped h": lambda picture, rng: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "flipped v": lambda picture, rng: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "several": lambda picture, rng: reencoded(resized(cropped(picture, rng), rng), rng),
}


def packed(pictures, folder, domain, split="train", patient=""):
    """Manifest and store of pictures that are written and prepared as a domain's photographs are."""
    rows, squares = [], []
    for number, picture in enumerate(pictures):
        path = folder / f"{domain}_{number}.png"
        picture.save(path)
        prepared = prepare.prepare_image(path, domain, SIDE)
        assert not prepared.reason
        squares.append(prepared.image)
        known = {
            "image": f"{domain}/nodr/{number}.png",
            "row": number,
            "domain": domain,
            "grade": number % 5,
            "split": split,
        }
        disc = dict(zip(["cx", "cy", "r", "w", "h"], prepared.disc, strict=True))
        facts = {"flag": prepared.flag, "sha256": prepared.sha256, "phash": prepared.phash}
        rows.append(
            {column: "" if kind is str else 0 for column, kind in DTYPES.items()}
            | known
            | disc
            | facts
            | {"patient": patient}
        )
    return pd.DataFrame(rows).astype(DTYPES), np.stack(squares)


def rows(images, split="train", patients=None):
    """Manifest rows without pixels: names, splits and patients of one or several domains."""
    frame = pd.DataFrame({"image": images, "domain": [image.split("/")[0] for image in images]})
    return frame.assign(split=split, patient=patients or "", grade=0)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """100 drawn photographs of 50 patients in two styles."""
    raw = tmp_path_factory.mktemp("raw")
    dataset.write(raw, ["SIM_APTOS", "SIM_RLDR"], 50, 160, 7, 1)
    paths = sorted((raw / "images").rglob("*.*"))
    return [Image.open(path).convert("RGB") for path in paths[:50] + paths[-50:]]


@pytest.fixture(scope="session")
def originals(photographs, tmp_path_factory):
    return packed(photographs, tmp_path_factory.mktemp("originals"), "SIM_APTOS")


@pytest.fixture(scope="session")
def planted(photographs, originals, tmp_path_factory):
    """{kind of copy: pairs found in the originals and their copies, which are another domain's training photographs}"""
    found, rng = {}, np.random.default_rng(0)
    for kind, change in COPIES.items():
        folder = tmp_path_factory.mktemp("copies")
        manifest, squares = packed(
            [change(picture, rng) for picture in photographs], folder, "SIM_RLDR"
        )
        found[kind] = gate.find(
            {"SIM_APTOS": originals[0], "SIM_RLDR": manifest},
            {"SIM_APTOS": originals[1], "SIM_RLDR": squares},
        )[0]
    return found


def matched(pairs):
    """Bool per pair: a copy and its own original."""
    return pairs["image_a"].str.removeprefix("SIM_APTOS") == pairs["image_b"].str.removeprefix(
        "SIM_RLDR"
    )


@pytest.mark.parametrize("kind", COPIES)
def test_planted_copies_are_found_and_nothing_else(planted, kind):
    pairs = planted[kind]
    assert matched(pairs).all()
    assert len(pairs) >= (100 if kind == "renamed" else 97), f"recall {len(pairs)} %"
    assert set(pairs["kind"]) == ({"exact"} if kind == "renamed" else {"near"})


def test_without_the_pixels_only_unchanged_copies_are_found(planted, originals):
    """Twin: hashes of files and pixels alone miss every changed copy."""
    for kind, pairs in planted.items():
        assert (pairs["kind"] == "exact").sum() == (100 if kind == "renamed" else 0)


def test_two_eyes_of_a_patient_are_not_copies(originals):
    pairs, _ = gate.find({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert pairs.empty


def test_without_the_second_look_there_are_false_alarms(originals, monkeypatch):
    """Twin: fingerprints at half the correlation, and pairs believed unseen."""
    monkeypatch.setattr(duplicates, "PROPOSE", 0.4)
    _, asked = gate.find({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert asked > 20
    monkeypatch.setattr(duplicates, "CONFIRM", -1.0)
    pairs, _ = gate.find({"SIM_APTOS": originals[0]}, {"SIM_APTOS": originals[1]})
    assert len(pairs) == asked


def test_likeness_is_the_best_of_four_flips():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, duplicates.COARSE, duplicates.COARSE)).astype(np.float32)
    flipped = [
        b[:, ::rows, ::columns].reshape(30, -1) for rows, columns in duplicates.FLIPS.values()
    ]
    expected = np.maximum.reduce([a.reshape(30, -1) @ flip.T for flip in flipped])
    np.testing.assert_allclose(
        duplicates.likeness(
            *(np.stack([duplicates.parities(one) for one in many]) for many in (a, b))
        ),
        expected,
        atol=1e-3,
    )


@pytest.mark.parametrize("block", [7, 2048])
def test_blocks_change_no_pair(originals, monkeypatch, block):
    _, _, prints = duplicates.looked_at(originals[0], {"SIM_APTOS": originals[1]})
    prints[[90, 40]] = prints[[3, 4]]
    prints[90, [1, 3]] *= -1  # flipped along columns
    prints[40, [2, 3]] *= -1  # along rows
    monkeypatch.setattr(duplicates, "BLOCK", block)
    assert duplicates.propose(prints).tolist() == [[3, 90], [4, 40]]
    assert duplicates.propose(prints, np.array([3, 4]), prints[[3, 4]]).tolist() == [
        [3, 90],
        [4, 40],
    ]


@pytest.mark.parametrize("flip", duplicates.FLIPS)
def test_the_flip_is_named(originals, flip):
    squares, (down, across) = originals[1], duplicates.FLIPS[flip]
    where = duplicates.View(SIDE / 2, SIDE / 2, 0.75 * SIDE / 2)
    value, found = duplicates.agreement(squares[0], where, squares[0][::down, ::across], where)
    assert found == flip
    assert value > 0.99


def test_a_dark_picture_is_like_nothing():
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    where = duplicates.view(0, 0, 0, "no_disc", SIDE)
    prints = np.stack([duplicates.fingerprint(black, where)] * 2)
    assert len(duplicates.propose(prints)) == 0
    assert abs(duplicates.agreement(black, where, black, where)[0]) < 0.01


def test_patients_in_two_splits_are_found_and_others_not():
    manifest = pd.concat(
        [
            rows(["RLDR/nodr/1_left.jpg", "RLDR/nodr/1_right.jpg"], patients=["1", "1"]),
            rows(["RLDR/nodr/2_left.jpg", "RLDR/nodr/2_right.jpg"], ["train", "val"], ["2", "2"]),
            rows(["DEEPDR/nodr/2_l1.jpg"], patients=["2"]),
            rows(["IDRID/nodr/IDRiD_1.jpg", "IDRID/nodr/IDRiD_2.jpg"], ["train", "val"], ["", ""]),
        ],
        ignore_index=True,
    )
    assert gate.same_patient(manifest).tolist() == [[2, 3]]


def test_rldr_and_eyepacs_share_names_and_patients_other_data_sets_do_not(monkeypatch):
    images = [
        "RLDR/nodr/1_left.jpg",
        "EYEPACS/Images/1_left.jpeg",
        "EYEPACS/Images/1_right.jpeg",
        "DEEPDR/nodr/1_left.jpg",
    ]
    manifest = rows(images, patients=["1"] * 4)
    assert gate.same_name(manifest).tolist() == [[0, 1]]
    assert gate.same_patient(manifest).tolist() == [[0, 1], [0, 2]]
    monkeypatch.setattr(
        gate, "SAME_PATIENTS", {}
    )  # twin: nobody knows that the two share their patients
    assert gate.same_name(manifest).tolist() == gate.same_patient(manifest).tolist() == []


def test_equal_names_in_both_splits_of_idrid_are_not_copies():
    manifest = rows(["IDRID/pdr/IDRiD_001.jpg", "IDRID/nodr/IDRiD_001.jpg"], ["train", "val"])
    assert len(gate.same_name(manifest)) == len(gate.same_patient(manifest)) == 0


@pytest.fixture
def leaking(photographs, tmp_path):
    """A data folder of two domains: three test photographs of SIM_RLDR are copies, one flipped, of training photographs of SIM_APTOS."""
    for domain, pictures in {
        "SIM_APTOS": photographs[:12],
        "SIM_RLDR": [
            *photographs[60:69],
            *photographs[:2],
            COPIES["flipped h"](photographs[2], None),
        ],
    }.items():
        manifest, squares = packed(pictures, tmp_path, domain)
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


def test_a_leaking_fold_is_refused_in_one_line_unless_leaks_are_allowed(leaking):
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
    for part in (
        "3 pairs (2 exact, 1 near)",
        "SIM_APTOS/nodr/0.png (train)",
        "SIM_RLDR/nodr/9.png (test)",
        "leaks.csv",
        "allow_leaks: true",
    ):
        assert part in refused.stderr
    assert not report.exists()
    allowed = clipdr("gate", "dg", "SIM_RLDR", *study, "--allow-leaks")
    assert allowed.returncode == 0, allowed.stderr
    content = json.loads(report.read_text())
    assert content["verdict"] == "3 pairs (2 exact, 1 near)"
    assert len(content["leaks"]["first"]) == 3


def test_without_the_gate_the_copies_are_trained_on_and_tested(leaking):
    """Twin: the fold itself sees names only, and hands the copies to both sides."""
    manifests = {
        domain: pd.read_csv(leaking / "manifests" / f"{domain}.csv")
        for domain in ("SIM_APTOS", "SIM_RLDR")
    }
    parts = fold(pd.concat(manifests.values()), "dg", "SIM_RLDR")
    assert len(set(parts["train"]["sha256"]) & set(parts["test"]["sha256"])) == 2


def pair(kind, image_a, image_b):
    return dict.fromkeys(gate.COLUMNS, "") | {"kind": kind, "image_a": image_a, "image_b": image_b}


def test_the_report_keeps_apart_what_leaks_and_what_does_not():
    parts = {
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
    report = gate.check(pairs, parts)
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
    with pytest.raises(DataError, match=r"1 pair \(1 near\) between"):
        gate.refuse(report, "dg/IDRID", "leaks.csv")
    sound = gate.check(pairs[pairs["image_b"] != "IDRID/a/1.png"], parts)
    assert sound["verdict"] == ""
    gate.refuse(sound, "dg/IDRID", "leaks.csv")


def test_the_list_of_leaks_is_read_as_it_was_written(planted, tmp_path):
    for name, pairs in {"some": planted["cropped"], "none": planted["cropped"].iloc[:0]}.items():
        pairs.to_csv(tmp_path / name, index=False)
        pd.testing.assert_frame_equal(gate.read(tmp_path / name), pairs, check_dtype=name == "some")
    with pytest.raises(DataError, match="clipdr leaks"):
        gate.read(tmp_path / "missing.csv")
    (tmp_path / "other").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="columns"):
        gate.read(tmp_path / "other")


def test_tables_of_leaky_runs_say_so_everywhere(tmp_path):
    cells = pd.DataFrame(
        {column: [""] for column in ["column", "text", *table_module.CSV_COLUMNS]}
        | {"method": ["erm"], "column": ["IDRID"], "text": ["50.0"]}
    )
    for column in (
        "value",
        "se",
        "low",
        "high",
        "n_seeds",
        "n",
        "clusters",
        "resamples",
        "undefined",
    ):
        cells[column] = np.nan
    table = table_module.Table(
        "dg_auc", cells.assign(caption="AUC."), "AUC.", ("Seeds: 1.",), protocol="dg"
    )
    runs = [tmp_path / "runs" / "dg" / "erm" / domain / "0" for domain in ("IDRID", "APTOS")]
    (tmp_path / "gate" / "dg").mkdir(parents=True)
    (tmp_path / "gate" / "dg" / "IDRID.json").write_text(
        json.dumps({"verdict": "3 pairs (3 near)"})
    )
    found = notes.found(tmp_path, runs)
    assert found == {"IDRID": "3 pairs (3 near)", "APTOS": None}
    assert notes.found(tmp_path, []) == {}
    benchmark.write(notes.marked(table, found), tmp_path)
    for suffix in (".csv", ".md", ".tex"):
        assert "LEAKY: AUC." in (tmp_path / f"dg_auc{suffix}").read_text()
    for suffix in (".md", ".tex"):
        assert "IDRID: 3 pairs (3 near)" in (tmp_path / f"dg_auc{suffix}").read_text()
        assert "not looked for: APTOS" in (tmp_path / f"dg_auc{suffix}").read_text()
    assert notes.marked(table, {"IDRID": "", "APTOS": ""}).caption == "AUC."


def official(realdata, *domains):
    """Manifest rows of the official split files."""
    found = []
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
            found.append(rows(images, split, pd.Series(images).str.extract(pattern)[0].to_list()))
    return pd.concat(found, ignore_index=True)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("domain", "patients"),
    [("RLDR", 29), ("DEEPDR", 0), ("EYEPACS", 0), ("MESSIDOR", 0), ("IDRID", 0)],
)
def test_patients_that_straddle_the_official_splits(realdata, domain, patients):
    manifest = official(realdata, domain)
    pairs = gate.same_patient(manifest)
    assert manifest.loc[pairs[:, 0], "patient"].nunique() == patients


@pytest.mark.realdata
def test_all_of_rldr_is_found_in_eyepacs_by_name(realdata):
    assert len(gate.same_name(official(realdata, "RLDR", "EYEPACS"))) == 1593


@pytest.fixture
def real(realdata):
    """Pairs found in the real photographs of five domains at 128 px, whose manifests are without names that mean anything."""
    manifests, stores = {}, {}
    for domain in ("APTOS", "EYEPACS", "IDRID", "MESSIDOR", "RLDR"):
        lines = []
        for split, word in SPLITS.items():
            text = (realdata / "gdrbench" / "splits" / f"{domain}_{word}.txt").read_text()
            lines += [
                (line.rsplit(" ", 1)[0], int(line[-1]), split) for line in text.split("\n") if line
            ]
        prepared = [
            prepare.prepare_image(realdata / "gdrbench" / "images" / image, domain, 128)
            for image, _, _ in lines
        ]
        stores[domain] = np.stack([one.image for one in prepared])
        facts = pd.DataFrame([[*one.disc, one.flag, one.sha256, one.phash] for one in prepared])
        facts.columns = ["cx", "cy", "r", "w", "h", "flag", "sha256", "phash"]
        frame = pd.DataFrame(lines, columns=["image", "grade", "split"]).assign(
            domain=domain, patient="", row=range(len(lines))
        )
        manifests[domain] = frame.join(facts)
    return manifests, gate.find(manifests, stores)[0]


@pytest.mark.realdata
def test_the_copies_among_real_photographs(real):
    """RLDR in EYEPACS: as many as share a name. APTOS and IDRID: pairs looked at one by one, two of them not equal but one eye's."""
    manifests, pairs = real
    stems = [
        set(manifests[domain]["image"].str.extract(r"/([^/]+)\.\w+$")[0])
        for domain in ("RLDR", "EYEPACS")
    ]
    both = pairs[
        (pairs["domain_a"] == "EYEPACS")
        & (pairs["domain_b"] == "RLDR")
        & pairs["kind"].isin(["exact", "near"])
    ]
    assert len(both) == len(stems[0] & stems[1]) == 21
    within = pairs[(pairs["domain_a"] == pairs["domain_b"]) & pairs["kind"].isin(["exact", "near"])]
    assert within.groupby(["kind", "domain_a"]).size().to_dict() == {
        ("exact", "APTOS"): 3,
        ("exact", "IDRID"): 1,
        ("near", "APTOS"): 1,
        ("near", "IDRID"): 1,
    }
    assert len(both) + len(within) == pairs["kind"].isin(["exact", "near"]).sum()
