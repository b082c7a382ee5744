"""Verification: every damaged, missing or unexpected file is named, and no other file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.damage import flip, problems_of
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.verify import verify
from clipdr.data.preprocessing import prepare
from clipdr.data.synthetic import dataset
from clipdr.training import run

DOMAINS = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
RUN = "results/runs/dg/zero_shot/SIM_APTOS/0"


def clipdr(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "clipdr", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, settings):
    """A small study with receipts: synthetic images (one torn), prepared data, one scored run."""
    root = tmp_path_factory.mktemp("study")
    data = root / "data"
    dataset.write(data / "synthetic", list(DOMAINS), 16, 64, 0, 1)
    torn = data / "synthetic/images/SIM_RLDR/moderate_npdr"
    torn = sorted(torn.iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:200])
    for domain in DOMAINS:
        files = (
            data / "manifests" / f"{domain}.csv",
            data / "store" / f"{domain}.npy",
            data / "rejected" / f"{domain}.csv",
        )
        prepare.prepare(
            domain, data / "synthetic", *files, 32, 1, receipt=data / "receipts" / f"{domain}.json"
        )
    rules = settings(frozen=False, epochs=1)
    manifests = [data / "manifests" / f"{domain}.csv" for domain in DOMAINS]
    run.train(
        rules,
        "dg",
        "erm",
        "SIM_APTOS",
        0,
        manifests=manifests,
        data=data,
        folder=root / RUN,
        device="cpu",
    )
    done = clipdr(root, "score", RUN, "--domains", ",".join(DOMAINS), "--bootstrap", "20")
    assert done.returncode == 0, done.stderr
    done = clipdr(root, "collect", RUN)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def copy(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "copy"))


def targets(root):
    """Kinds of files that a bit may flip in -> the files."""
    return {
        "store": sorted(root.glob("data/store/*.npy")),
        "image": sorted(root.glob("data/synthetic/images/*/*/*")),
        "split": sorted(root.glob("data/synthetic/splits/*.txt")),
        "manifest": sorted(root.glob("data/manifests/*.csv")),
        "weights": [root / RUN / "model.safetensors"],
        "predictions": [root / RUN / "predictions.parquet"],
        "scores": [
            root / RUN / "scores.csv",
            root / RUN / "draws.npz",
            root / RUN / "operating.json",
            root / "results/scores.csv",
        ],
        "receipt": [
            *sorted(root.glob("data/receipts/*.json")),
            root / RUN / "provenance.json",
            root / RUN / "scores.receipt.json",
        ],
    }


def test_sound_study_has_no_problems(study):
    problems, count = verify(study / "data", study / "results")
    assert problems == []
    images = len(targets(study)["image"])
    assert images == 93
    assert (
        count == images + 6 + 9 + 4 + 3 + 2 + 6
    )  # splits, prepared, train, score, collect, receipts


def test_receipt_of_a_domain_states_what_was_prepared(study):
    receipt = json.loads((study / "data/receipts/SIM_RLDR.json").read_text())
    assert receipt["images"] == 30
    assert receipt["rejected"] == 1
    assert receipt["size"] == 32
    assert sum(map(sum, receipt["counts"].values())) == 30
    assert (
        len(receipt["raw"]["files"]) == 31 + 2
    )  # images, the rejected one too, and two split files
    assert str(study) not in json.dumps(receipt)


def test_same_job_writes_the_same_receipt(study, copy):
    path = copy / "data/receipts/SIM_IDRID.json"
    files = [
        copy / f"data/{name}"
        for name in ("manifests/SIM_IDRID.csv", "store/SIM_IDRID.npy", "rejected/SIM_IDRID.csv")
    ]
    path.unlink()
    prepare.prepare("SIM_IDRID", copy / "data/synthetic", *files, 32, 1, receipt=path)
    assert path.read_bytes() == (study / "data/receipts/SIM_IDRID.json").read_bytes()


def test_moved_study_is_verified_where_it_lies(copy):
    moved = copy.rename(copy.with_name("another folder"))
    assert problems_of(moved) == []


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("data/store/SIM_APTOS.npy", "missing"),
        ("data/manifests/SIM_APTOS.csv", "missing"),
        ("data/rejected/SIM_RLDR.csv", "missing"),
        (f"{RUN}/model.safetensors", "missing"),
        (f"{RUN}/draws.npz", "missing"),
        ("results/summary.json", "missing"),
        ("data/synthetic/splits/SIM_RLDR_train.txt", "missing"),
    ],
)
def test_missing_file_is_named(copy, file, kind):
    (copy / file).unlink()
    assert problems_of(copy) == [(kind, file)]


@pytest.mark.parametrize("tear", ["emptied", "halved", "last byte cut", "zero-filled", "a folder"])
def test_torn_file_is_named(copy, tear):
    """One file of every kind."""
    for files in targets(copy).values():
        path, content = files[0], files[0].read_bytes()
        torn = {
            "emptied": b"",
            "halved": content[: len(content) // 2],
            "last byte cut": content[:-1],
            "zero-filled": bytes(len(content)),
        }
        path.unlink()
        path.write_bytes(torn[tear]) if tear in torn else path.mkdir()
        assert ("damaged", str(path.relative_to(copy))) in problems_of(copy), path
        path.unlink() if tear in torn else path.rmdir()
        path.write_bytes(content)
    assert problems_of(copy) == []


@pytest.mark.parametrize(
    "file",
    [
        "data/manifests/SIM_OTHER.csv",
        "data/features/demo/SIM_APTOS.npy",
        "results/runs/dg/erm/SIM_APTOS/1/predictions.parquet",
        "results/tables/dg.csv",
        "data/synthetic/images/SIM_APTOS/nodr/new.png",
    ],
)
def test_unexpected_file_is_named(copy, file):
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    (copy / file).write_text("x")
    assert problems_of(copy) == [("unexpected", file)]


def test_features_have_receipts_beside_them(copy):
    folder = copy / "data/features/tiny"
    folder.mkdir(parents=True)
    np.save(folder / "SIM_APTOS.npy", np.zeros((3, 2), np.float32))
    receipts.write(
        folder / "SIM_APTOS.receipt.json", "features SIM_APTOS", folder, ["SIM_APTOS.npy"]
    )
    assert problems_of(copy) == []
    flip(folder / "SIM_APTOS.npy", np.random.default_rng(1))
    assert problems_of(copy) == [("damaged", "data/features/tiny/SIM_APTOS.npy")]


def test_file_that_existed_at_preparation_is_expected(copy):
    """Hidden and half-written files and the state of an interrupted run are never reported."""
    (copy / "data/synthetic/images/SIM_IDRID/nodr/notes.txt").write_text("notes")
    files = [
        copy / f"data/{name}"
        for name in ("manifests/SIM_IDRID.csv", "store/SIM_IDRID.npy", "rejected/SIM_IDRID.csv")
    ]
    prepare.prepare(
        "SIM_IDRID",
        copy / "data/synthetic",
        *files,
        32,
        1,
        receipt=copy / "data/receipts/SIM_IDRID.json",
    )
    (copy / "data/store/.SIM_IDRID.npy.part").write_text("")
    (copy / "results/runs/dg/erm/SIM_APTOS/1").mkdir(parents=True)
    (copy / "results/runs/dg/erm/SIM_APTOS/1/resume.pt").write_text("")
    assert problems_of(copy) == []


def test_missing_receipt_leaves_unexpected_files(copy):
    (copy / "data/receipts/SIM_RLDR.json").unlink()
    expected = ["manifests/SIM_RLDR.csv", "rejected/SIM_RLDR.csv", "store/SIM_RLDR.npy"]
    assert problems_of(copy) == [("unexpected", f"data/{name}") for name in expected]


def test_file_that_cannot_be_read_is_damaged(copy, monkeypatch):
    """A disk with a bad sector gives this error."""
    bad = copy / "data/store/SIM_RLDR.npy"

    def digest(path):
        if path == bad:
            raise OSError(5, "Input/output error")
        return receipts.digest(path)

    monkeypatch.setattr("clipdr.artifacts.verify.digest", digest)
    problems, _ = verify(copy / "data", copy / "results")
    assert [(problem.kind, problem.path) for problem in problems] == [("damaged", bad)]
    assert "cannot be read (Input/output error)" in str(problems[0])


def test_images_that_moved_are_named_unless_skipped(copy):
    raw = copy / "data/synthetic"
    raw.rename(copy / "elsewhere")
    assert problems_of(copy) == [("missing", "data/synthetic")] * 3
    assert problems_of(copy, raw=copy / "elsewhere") == []
    assert problems_of(copy, with_raw=False) == []


def test_study_without_receipts_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no receipts"):
        verify(tmp_path / "data", tmp_path / "results")


def test_command_prints_one_line_per_problem_and_fails(copy):
    assert clipdr(copy, "verify").returncode == 0
    flip(copy / "data/store/SIM_APTOS.npy", np.random.default_rng(0))
    (copy / RUN / "history.csv").unlink()
    done = clipdr(copy, "verify")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["damaged", "data/store/SIM_APTOS.npy"],
        ["missing", f"{RUN}/history.csv"],
    ]
    assert all("dvc checkout" in line for line in lines)
    assert "2 problems" in done.stderr


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_every_flipped_bit_is_found(copy, count):
    """Only the flipped file is named; file times stay, so that only its content can tell."""
    rng = np.random.default_rng(count)
    kinds = list(targets(copy).values())
    caught = 0
    for number in range(count):
        path = Path(rng.choice([str(file) for file in kinds[number % len(kinds)]]))
        before = path.read_bytes()
        flip(path, rng)
        assert path.read_bytes() != before
        caught += problems_of(copy) == [("damaged", str(path.relative_to(copy)))]
        path.write_bytes(before)
    assert caught == count


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.nightly)])
def test_dvc_status_trusts_size_and_time(copy, count):
    """DVC detects no such flip in the files it tracks; if it ever does, this test fails."""
    rng = np.random.default_rng(count)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(copy),
        "DVC_SITE_CACHE_DIR": str(copy / ".site"),
        "DVC_NO_ANALYTICS": "1",
    }

    def dvc(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    kinds = targets(copy)
    files = [
        file
        for kind in ("store", "image", "manifest", "weights", "predictions")
        for file in kinds[kind]
    ]
    dvc("init", "--no-scm", "-q")
    dvc("add", "-q", "data/store", "data/synthetic", "data/manifests", "results/runs")
    before = {path: path.read_bytes() for path in files}
    by_dvc, by_verify = 0, 0
    for start in range(0, count, len(files)):
        flipped = [files[index] for index in rng.permutation(len(files))[: count - start]]
        for path in flipped:
            flip(path, rng)
        by_dvc += "up to date" not in dvc("status")
        by_verify += len(
            set(problems_of(copy)) & {("damaged", str(path.relative_to(copy))) for path in flipped}
        )
        for path in flipped:
            times = path.stat()
            with path.open("r+b") as file:
                file.write(before[path])
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (by_verify, by_dvc) == (count, 0)
    changed = kinds["manifest"][0]
    changed.write_bytes(changed.read_bytes() + b" ")
    assert "manifests" in dvc("status")  # a file of another size is detected
