"""Fetching of datasets that the user was given, and of GDRBench's split files."""

import dataclasses
import hashlib
import tarfile
from pathlib import Path

import pytest
from helpers import http_server, raw_layouts
from helpers.downloads import files, one_line, pack

from clipdr import DataError
from clipdr.data.domains import REAL, SPLITS
from clipdr.data.sources import fetch


def test_by_hand_empty_folder_prints_the_steps(tmp_path, capsys):
    with pytest.raises(DataError, match=r"FGADR is not complete: .* is empty or missing") as error:
        fetch.fetch("FGADR", tmp_path / "raw")
    one_line(error)
    printed = capsys.readouterr().out
    assert REAL["FGADR"].page in printed
    assert str(tmp_path / "raw" / "FGADR") in printed
    assert "(now: 0)" in printed
    assert files(tmp_path / "raw") == {}


@pytest.mark.parametrize("name", ["FGADR", "IDRID", "MESSIDOR", "RLDR"])
def test_by_hand_archives_are_unpacked(originals, tmp_path, name, capsys, small):
    """Archives in the folder are unpacked and kept, and the next step is printed."""
    folder = tmp_path / "raw" / name
    folder.mkdir(parents=True)
    if name == "MESSIDOR":
        data = pack(originals / name / "IMAGES", tmp_path / "IMAGES.zip").read_bytes()
        for number in range(4):
            step = len(data) // 4 + 1
            (folder / f"IMAGES.zip.{number + 1:03d}").write_bytes(
                data[number * step : (number + 1) * step]
            )
        (folder / "messidor_data.csv").write_bytes(
            (originals / name / "messidor_data.csv").read_bytes()
        )
    elif name == "RLDR":
        with tarfile.open(folder / "retinal-lesions.tar.gz", "w:gz") as file:
            file.add(originals / name, ".")
    else:
        pack(originals / name, folder / "given.zip")
    fetch.fetch(name, tmp_path / "raw")
    assert f"{name} is complete" in capsys.readouterr().out
    before = files(folder)
    assert {Path(path).name for path in files(originals / name)} <= {
        Path(path).name for path in before
    }
    fetch.fetch(name, tmp_path / "raw")
    assert files(folder) == before
    assert not (tmp_path / "raw/.fetch").exists()


def test_by_hand_broken_or_incomplete_files_are_named(originals, tmp_path, small):
    folder = tmp_path / "raw/FGADR"
    pack(originals / "FGADR", folder / "given.zip")
    (folder / "given.zip").write_bytes((folder / "given.zip").read_bytes()[:-500])
    with pytest.raises(DataError, match=r"given\.zip: broken archive") as error:
        fetch.fetch("FGADR", tmp_path / "raw")
    one_line(error)
    assert list(files(folder)) == ["given.zip"]
    (folder / "given.zip").unlink()
    some = sorted(files(originals / "FGADR").items())[:3]
    for path, content in some:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    with pytest.raises(DataError, match=r"lacks \d+ of 12 images"):
        fetch.fetch("FGADR", tmp_path / "raw")


def test_by_hand_existing_file_is_not_overwritten(originals, tmp_path, small):
    folder = tmp_path / "raw/FGADR"
    pack(originals / "FGADR", folder / "given.zip")
    mine = folder / "Seg-set/DR_Seg_Grading_Label.csv"
    mine.parent.mkdir()
    mine.write_text("my own grades")
    with pytest.raises(DataError, match="it exists with other content"):
        fetch.fetch("FGADR", tmp_path / "raw")
    assert mine.read_text() == "my own grades"


def test_by_hand_7z_names_the_command(tmp_path):
    (tmp_path / "FGADR").mkdir()
    (tmp_path / "FGADR" / "Seg-set.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(90))
    with pytest.raises(DataError, match="7z x -o"):
        fetch.fetch("FGADR", tmp_path)


def test_fetch_processed_layout_is_complete(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        REAL,
        "APTOS",
        dataclasses.replace(
            REAL["APTOS"], counts={"train": (8, 0, 0, 0, 0), "val": (4, 0, 0, 0, 0)}
        ),
    )
    raw_layouts.build("APTOS", tmp_path, layout="gdrbench")
    fetch.fetch("APTOS", tmp_path)
    assert "APTOS is complete. Next: clipdr prepare APTOS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"), [("SIM_APTOS", "synthesize"), ("NOWHERE", "use one of APTOS")]
)
def test_fetch_unknown_or_synthetic_name_is_refused(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        fetch.fetch(name, tmp_path)


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_splits_mirror_gives_all_files(server, originals, official, tmp_path, kind):
    server.share(originals / "splits", "/splits")
    raw = tmp_path / "raw"
    for _ in range(2):  # the second finds them all
        fetch.fetch("splits", raw, str(originals) if kind == "folder" else server.url)
        assert files(raw) == {f"splits/{k}": v for k, v in files(originals / "splits").items()}
    assert len(server.asked) == (16 if kind == "http" else 0)


def test_splits_other_than_the_official_are_refused(originals, tmp_path):
    with pytest.raises(DataError, match="wrong bytes"):
        fetch.fetch("splits", tmp_path / "raw", str(originals))
    assert not (tmp_path / "raw/splits").exists()


def test_splits_existing_file_is_not_overwritten(originals, official, tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/APTOS_train.txt").write_text("mine\n")
    with pytest.raises(DataError, match=r"APTOS_train\.txt is not the file of GDRBench"):
        fetch.fetch("splits", tmp_path, str(originals))
    assert (tmp_path / "splits/APTOS_train.txt").read_text() == "mine\n"


@pytest.mark.realdata
def test_splits_checksums_are_those_of_the_official_files(realdata):
    folder = realdata / "labels_original/GDRBENCH_splits"
    assert {source.file: source.sha256 for source in SPLITS} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.txt")
    }


@pytest.mark.slow
def test_fetch_then_prepare_all_eight_datasets(server, originals, official, tmp_path):
    """Every image that the split files name is fetched from an http mirror and prepared."""
    import pandas as pd
    from typer.testing import CliRunner

    from clipdr.cli.main import app

    for name in REAL:
        pack(originals / name, tmp_path / "mirror" / name / f"{name}.zip")
        http_server.sums(tmp_path / "mirror" / name)
    server.share(tmp_path / "mirror")
    server.share(originals / "splits", "/splits")
    raw, data = tmp_path / "raw", tmp_path / "data"
    for name in [*REAL, "splits"]:
        run(CliRunner(), app, "fetch", name, "--raw", raw, "--mirror", server.url)
    for name in REAL:
        run(CliRunner(), app, "prepare", name, "--raw", raw, "--data", data, "--size", 64)
        listed = sum(
            len((originals / f"splits/{name}_{word}.txt").read_text().splitlines())
            for word in ("train", "crossval")
        )
        assert len(pd.read_csv(data / "manifests" / f"{name}.csv")) == listed == 12


def run(runner, app, *arguments):
    done = runner.invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
