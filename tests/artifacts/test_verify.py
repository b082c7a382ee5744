"""Receipts and verify: each damaged, missing or unexpected file is named, and no other; single flipped bits, beside `dvc status`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.artifacts import receipts
from clipdr.artifacts.verify import verify
from clipdr.data.preprocessing import prepare
from clipdr.data.synthetic import dataset
from clipdr.training import run

DRAWN = ("SIM_APTOS", "SIM_IDRID", "SIM_RLDR")
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
    """A small study with its receipts: drawn photographs (one of them torn), prepared data, features, one scored run."""
    root = tmp_path_factory.mktemp("study")
    data = root / "data"
    dataset.write(data / "synthetic", list(DRAWN), 16, 64, 0, 1)
    torn = data / "synthetic/images/SIM_RLDR/moderate_npdr"
    torn = sorted(torn.iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:200])
    for domain in DRAWN:
        files = (
            data / "manifests" / f"{domain}.csv",
            data / "store" / f"{domain}.npy",
            data / "rejected" / f"{domain}.csv",
        )
        prepare.prepare(
            domain, data / "synthetic", *files, 32, 1, receipt=data / "receipts" / f"{domain}.json"
        )
    rules = settings(frozen=False, epochs=1)
    manifests = [data / "manifests" / f"{domain}.csv" for domain in DRAWN]
    run.run(
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
    done = clipdr(root, "score", RUN, "--domains", ",".join(DRAWN), "--bootstrap", "20")
    assert done.returncode == 0, done.stderr
    done = clipdr(root, "collect", RUN)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def copy(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "copy"))


def found(root, **options):
    """[(kind, path below the study)] of all problems."""
    problems, _ = verify(root / "data", root / "results", **options)
    return [(problem.kind, str(problem.path.relative_to(root))) for problem in problems]


def flip(path, rng):
    """Flip one bit in place; size, time and inode stay as they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def targets(root):
    """Kinds of files that a bit may flip in -> the files."""
    return {
        "store": sorted(root.glob("data/store/*.npy")),
        "photograph": sorted(root.glob("data/synthetic/images/*/*/*")),
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


def test_a_sound_study_has_no_problems(study):
    problems, count = verify(study / "data", study / "results")
    assert problems == []
    photographs = len(targets(study)["photograph"])
    assert photographs == 93
    assert (
        count == photographs + 6 + 9 + 4 + 3 + 2 + 6
    )  # splits, prepared, train, score, collect, receipts


def test_the_receipt_of_a_domain_says_what_was_prepared(study):
    receipt = json.loads((study / "data/receipts/SIM_RLDR.json").read_text())
    assert receipt["images"] == 30
    assert receipt["rejected"] == 1
    assert receipt["size"] == 32
    assert sum(map(sum, receipt["counts"].values())) == 30
    assert (
        len(receipt["raw"]["files"]) == 31 + 2
    )  # photographs, the rejected one too, and two split files
    assert str(study) not in json.dumps(receipt)


def test_the_same_work_writes_the_same_receipt(study, copy):
    path = copy / "data/receipts/SIM_IDRID.json"
    files = [
        copy / f"data/{name}"
        for name in ("manifests/SIM_IDRID.csv", "store/SIM_IDRID.npy", "rejected/SIM_IDRID.csv")
    ]
    path.unlink()
    prepare.prepare("SIM_IDRID", copy / "data/synthetic", *files, 32, 1, receipt=path)
    assert path.read_bytes() == (study / "data/receipts/SIM_IDRID.json").read_bytes()


def test_a_moved_study_is_verified_where_it_lies(copy):
    moved = copy.rename(copy.with_name("another place"))
    assert found(moved) == []


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
def test_a_missing_file_is_named(copy, file, kind):
    (copy / file).unlink()
    assert found(copy) == [(kind, file)]


@pytest.mark.parametrize("tear", ["emptied", "halved", "last byte cut", "zero-filled", "a folder"])
def test_a_torn_file_is_named(copy, tear):
    """R4, for one file of every kind."""
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
        assert ("damaged", str(path.relative_to(copy))) in found(copy), path
        path.unlink() if tear in torn else path.rmdir()
        path.write_bytes(content)
    assert found(copy) == []


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
def test_an_unexpected_file_is_named(copy, file):
    (copy / file).parent.mkdir(parents=True, exist_ok=True)
    (copy / file).write_text("x")
    assert found(copy) == [("unexpected", file)]


def test_features_have_receipts_beside_them(copy):
    folder = copy / "data/features/tiny"
    folder.mkdir(parents=True)
    np.save(folder / "SIM_APTOS.npy", np.zeros((3, 2), np.float32))
    receipts.write(
        folder / "SIM_APTOS.receipt.json", "features SIM_APTOS", folder, ["SIM_APTOS.npy"]
    )
    assert found(copy) == []
    flip(folder / "SIM_APTOS.npy", np.random.default_rng(1))
    assert found(copy) == [("damaged", "data/features/tiny/SIM_APTOS.npy")]


def test_what_lay_beside_the_photographs_is_no_surprise(copy):
    """A file that was there at preparation is not asked about; hidden and half-written ones and a cut run's state never are."""
    (copy / "data/synthetic/images/SIM_IDRID/nodr/notes.txt").write_text("seen")
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
    assert found(copy) == []


def test_a_missing_receipt_leaves_files_that_none_names(copy):
    (copy / "data/receipts/SIM_RLDR.json").unlink()
    expected = ["manifests/SIM_RLDR.csv", "rejected/SIM_RLDR.csv", "store/SIM_RLDR.npy"]
    assert found(copy) == [("unexpected", f"data/{name}") for name in expected]


def test_a_file_that_cannot_be_read_is_damaged(copy, monkeypatch):
    """As a disk with a bad sector answers."""
    from clipdr.artifacts import verify as module

    bad = copy / "data/store/SIM_RLDR.npy"

    def digest(path):
        if path == bad:
            raise OSError(5, "Input/output error")
        return receipts.digest(path)

    monkeypatch.setattr(module, "digest", digest)
    problems, _ = verify(copy / "data", copy / "results")
    assert [(problem.kind, problem.path) for problem in problems] == [("damaged", bad)]
    assert "cannot be read (Input/output error)" in str(problems[0])


def test_photographs_may_have_moved_or_be_left_out(copy):
    raw = copy / "data/synthetic"
    raw.rename(copy / "elsewhere")
    assert found(copy) == [("missing", "data/synthetic")] * 3
    assert found(copy, raw=copy / "elsewhere") == []
    assert found(copy, with_raw=False) == []


def test_no_receipts_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no receipts"):
        verify(tmp_path / "data", tmp_path / "results")


def test_the_command_names_files_in_one_line_each_and_fails(copy):
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
    """R5. The flipped file, and no other, is named; file times are as before, so that only its content can tell."""
    rng = np.random.default_rng(count)
    kinds = list(targets(copy).values())
    caught = 0
    for number in range(count):
        path = Path(rng.choice([str(file) for file in kinds[number % len(kinds)]]))
        before = path.read_bytes()
        flip(path, rng)
        assert path.read_bytes() != before
        caught += found(copy) == [("damaged", str(path.relative_to(copy)))]
        path.write_bytes(before)
    assert caught == count


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.nightly)])
def test_dvc_status_trusts_size_and_time(copy, count):
    """The reason for verify: the same kind of flips in files that DVC tracks. Should DVC ever see them, this says so."""
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
        for kind in ("store", "photograph", "manifest", "weights", "predictions")
        for file in kinds[kind]
    ]
    dvc("init", "--no-scm", "-q")
    dvc("add", "-q", "data/store", "data/synthetic", "data/manifests", "results/runs")
    before = {path: path.read_bytes() for path in files}
    seen, by_verify = 0, 0
    for start in range(0, count, len(files)):
        flipped = [files[place] for place in rng.permutation(len(files))[: count - start]]
        for path in flipped:
            flip(path, rng)
        seen += "up to date" not in dvc("status")
        by_verify += len(
            set(found(copy)) & {("damaged", str(path.relative_to(copy))) for path in flipped}
        )
        for path in flipped:
            times = path.stat()
            with path.open("r+b") as file:
                file.write(before[path])
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (by_verify, seen) == (count, 0)
    changed = kinds["manifest"][0]
    changed.write_bytes(changed.read_bytes() + b" ")
    assert "manifests" in dvc("status")  # the measurement can fail: a file of another size is seen
