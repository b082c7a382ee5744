"""Custom datasets: a CSV becomes a domain, and every malformed cell is named."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.paths import ROOT
from helpers.raw_layouts import save

from clipdr import DataError
from clipdr.data.manifest import read_manifest
from clipdr.data.preprocessing.prepare import prepare
from clipdr.data.sources import custom

IMAGES = ["a/1.jpg", "a/2.jpg", "b c/3.png", "4.PNG"]


@pytest.fixture
def folder(tmp_path):
    for number, image in enumerate(IMAGES):
        save(tmp_path / image, "APTOS", number + 1, "left", number)
    return tmp_path


def write(folder, content):
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_read_full_table_is_used_as_it_is(folder):
    lines = [
        "grade, image ,eye,patient,split,camera",
        '0,a/1.jpg,left,p 1,train,"Topcon, old"',
        "4,b c/3.png,,,val,",
        "",
        "1,a/2.jpg,right,p 1,train,",
    ]
    reading = custom.read(write(folder, "\ufeff" + "\r\n".join(lines)), "MYCLINIC")
    assert reading.records.to_numpy().tolist() == [
        ["MYCLINIC/a/1.jpg", "a/1.jpg", 0, "MYCLINIC", "train", "p 1", "left", "Topcon, old"],
        ["MYCLINIC/b c/3.png", "b c/3.png", 4, "MYCLINIC", "val", "", "", ""],
        ["MYCLINIC/a/2.jpg", "a/2.jpg", 1, "MYCLINIC", "train", "p 1", "right", ""],
    ]
    assert reading.problems.empty
    assert reading.lists == [folder / "table.csv"]


def cohort(patients=200):
    rows = [
        (f"{number}_{eye}.png", f"p{number}", (number * 7 + eye) % 5 if number % 3 else 0)
        for number in range(patients)
        for eye in (0, 1)
    ]
    return pd.DataFrame(rows, columns=["image", "patient", "grade"])


def test_draw_splits_is_stratified_and_independent_of_order():
    frame = cohort()
    frame["split"] = custom.draw_splits(frame)
    assert frame.groupby("patient")["split"].nunique().eq(1).all()
    assert 0.18 < frame["split"].eq("val").mean() < 0.22
    shares = frame.groupby(frame.groupby("patient")["grade"].transform("max"))["split"].agg(
        lambda part: part.eq("val").mean()
    )
    assert shares.between(0.1, 0.3).all()
    assert frame[frame["split"] == "val"]["grade"].nunique() == 5
    shuffled = frame.sample(frac=1, random_state=3)
    assert custom.draw_splits(shuffled.reset_index(drop=True)) == shuffled["split"].tolist()


def test_draw_splits_image_without_patient_counts_as_one():
    frame = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(50)],
            "patient": "",
            "grade": [n % 5 for n in range(50)],
        }
    )
    assert custom.draw_splits(frame).count("val") == 10


def test_read_table_without_splits_prints_a_note(folder, capsys):
    rows = "".join(f"{image},{number}\n" for number, image in enumerate(IMAGES))
    reading = custom.read(write(folder, f"image,grade\n{rows}"), "MYCLINIC")
    printed = capsys.readouterr().out
    assert printed.startswith("MYCLINIC: ")
    assert "0 of 4 images were assigned" in printed
    assert "4 images name no patient" in printed
    assert reading.records["split"].tolist() == ["train"] * 4


HEAD = "image,grade,patient,eye,split,camera\n"
FINE = "a/1.jpg,0,p1,left,train,\na/2.jpg,1,p2,,val,\n"
MALFORMED = {  # table, words of the message
    "no file": (None, ["no such file", "own:"]),
    "not UTF-8": (b"image,grade\na/1.jpg,\xff", ["byte 20", "UTF-8"]),
    "empty": ("\n\n", ["empty", "image, grade"]),
    "no rows": ("image,grade\n", ["no row below the header"]),
    "semicolons": ("image;grade\na/1.jpg;0\n", ["row 1", "commas"]),
    "tabs": ("image\tgrade\na/1.jpg\t0\n", ["row 1", "commas"]),
    "no image column": ("path,grade\na/1.jpg,0\n", ["row 1", "no column `image`"]),
    "no grade column": ("image,label\na/1.jpg,0\n", ["row 1", "no column `grade`"]),
    "capitals": ("image,Grade\na/1.jpg,0\n", ["no column `grade`", "lower case"]),
    "unknown column": ("image,grade,patiant\na/1.jpg,0,1\n", ["row 1", "'patiant'", "patient"]),
    "column twice": ("image,grade,grade\na/1.jpg,0,0\n", ["row 1", "`grade`", "twice"]),
    "long row": (
        "image,grade,camera\na/1.jpg,0,Topcon, old\n",
        ["row 2", "4 cells under 3", "quotes"],
    ),
    "short row": ("image,grade,camera\na/1.jpg,0,x\na/2.jpg,1\n", ["row 3", "2 cells under 3"]),
    "open quote": ('image,grade\n"a/1.jpg,0\n', ["not a CSV"]),
    "empty path": (HEAD + FINE + ",0,,,train,\n", ["row 4, column image", "''", "Write its path"]),
    "absolute path": (
        HEAD + "/etc/passwd,0,,,train,\n",
        ["row 2, column image", "'/etc/passwd'", "relative"],
    ),
    "drive": (HEAD + "C:/x.jpg,0,,,train,\n", ["row 2, column image", "relative"]),
    "climbing path": (HEAD + "a/../../x.jpg,0,,,train,\n", ["row 2, column image", "leaves"]),
    "back-slashes": (HEAD + "a\\1.jpg,0,,,train,\n", ["row 2, column image", "forward slashes"]),
    "no image": (
        HEAD + FINE + "a/9.jpg,0,,,train,\n",
        ["row 4, column image", "'a/9.jpg'", "no such file"],
    ),
    "a folder": (HEAD + "a,0,,,train,\n", ["row 2, column image", "no such file"]),
    "twice": (
        HEAD + FINE + "a/1.jpg,0,p1,left,train,\n",
        ["row 4, column image", "'a/1.jpg'", "first in row 2"],
    ),
    "no grade": (HEAD + FINE + "4.PNG,,,,train,\n", ["row 4, column grade", "''", "0, 1, 2, 3, 4"]),
    "grade 5": (HEAD + "4.PNG,5,,,train,\n", ["row 2, column grade", "'5'"]),
    "grade -1": (HEAD + "4.PNG,-1,,,train,\n", ["row 2, column grade", "'-1'"]),
    "grade in words": (HEAD + "4.PNG,mild,,,train,\n", ["row 2, column grade", "'mild'"]),
    "grade of a float": (HEAD + "4.PNG,2.0,,,train,\n", ["row 2, column grade", "'2.0'"]),
    "eye": (HEAD + "4.PNG,0,,OD,train,\n", ["row 2, column eye", "'OD'", "left, right"]),
    "split": (HEAD + "4.PNG,0,,,test,\n", ["row 2, column split", "'test'", "train, val"]),
    "split left out": (HEAD + FINE + "4.PNG,0,,,,\n", ["row 4, column split", "every row"]),
    "one split": (HEAD + "4.PNG,0,,,train,\n", ["column split", "no row has 'val'"]),
    "patient on both sides": (
        HEAD + FINE + "4.PNG,0,p1,,val,\n",
        ["row 4, column split", "patient p1", "'train'", "row 2"],
    ),
    "line break": (
        HEAD + FINE + '4.PNG,0,"p\n3",,val,\n',
        ["row 4, column patient", "control characters"],
    ),
    "many": (HEAD + "4.PNG,7,,OD,no,\n", ["row 2, column grade", "2 more cells are wrong"]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_read_malformed_cell_is_named_with_its_remedy(folder, name):
    content, words = MALFORMED[name]
    path = folder / "table.csv" if content is None else write(folder, content)
    with pytest.raises(DataError) as caught:
        custom.read(path, "MYCLINIC")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["table.csv", *words]), message


def test_prepare_custom_table_is_prepared(folder, tmp_path, capsys):
    rows = "".join(f"{image},{number}\n" for number, image in enumerate(IMAGES))
    out = tmp_path / "out"
    files = [out / "MYCLINIC.csv", out / "MYCLINIC.npy", out / "rejected.csv"]
    prepare(
        "MYCLINIC",
        Path("nowhere"),
        *files,
        48,
        1,
        complete=True,
        table=write(folder, f"image,grade\n{rows}"),
    )
    manifest = read_manifest(files[0])
    assert manifest["image"].tolist() == [f"MYCLINIC/{image}" for image in IMAGES]
    assert set(manifest["domain"]) == {"MYCLINIC"}
    assert "MYCLINIC: 4 images prepared, 0 rejected" in capsys.readouterr().out


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/own_data.md").read_text(), re.S)


@pytest.mark.slow
def test_tutorial_commands_run(tmp_path):
    """The blocks of docs/own_data.md run in a copy of the root of the repository."""
    for name in ("clipdr", "workflow", "docs", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    script, study = blocks("python")[0], blocks("yaml")[0]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env=environment())
    (tmp_path / "clinic/study.yaml").write_text(study)
    assert list(yaml.safe_load(study)["own"]) == ["MYCLINIC"]
    for command in "".join(blocks("bash")).splitlines():
        if command and "--cores all" not in command:  # the training itself is tested elsewhere
            done = subprocess.run(
                command.split(), cwd=tmp_path, capture_output=True, text=True, env=environment()
            )
            assert done.returncode == 0, done.stdout + done.stderr
            output = done.stdout + done.stderr
            if "prepare" in command:
                assert "MYCLINIC: 40 images prepared, 0 rejected" in output
    assert "MYCLINIC" in output
    assert "prepare" in output
    assert "train" in output
    manifest = read_manifest(tmp_path / "data/manifests/MYCLINIC.csv")
    assert manifest.groupby("patient")["split"].nunique().eq(1).all()
    assert set(manifest["split"]) == {"train", "val"}


def environment():
    import os

    folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([folder, os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
