"""Verification of the files of the pre-training and of the multimodal system."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.damage import flip, problems_of

from clipdr.artifacts import receipts
from clipdr.artifacts.verify import verify
from clipdr.pretrain.data import patients_table

SISTERS = {  # receipt below the study -> (folder of its files, names of the files)
    "data/patients/odir.receipt.json": ("data/patients", ["odir.csv", "odir.split.json"]),
    "results/pretrain/backbones/odir_0/receipt.json": (
        "results/pretrain/backbones/odir_0",
        ["visual.json", "visual.safetensors"],
    ),
    "results/pretrain/runs/odir/0/provenance.json": (
        "results/pretrain/runs/odir/0",
        ["model.safetensors", "history.csv"],
    ),
    "results/multimodal/models/fused/0/provenance.json": (
        "results/multimodal/models/fused/0",
        ["grading.safetensors"],
    ),
    "results/multimodal/runs/brset_icdr/fused/SYNTHETIC/0/provenance.json": (
        "results/multimodal/runs/brset_icdr/fused/SYNTHETIC/0",
        ["predictions.parquet"],
    ),
}


@pytest.fixture(scope="module")
def sisters(tmp_path_factory):
    """Receipts of the pre-training and of the multimodal system, with the files they name."""
    root = tmp_path_factory.mktemp("sisters")
    for number, (receipt, (folder, names)) in enumerate(SISTERS.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).write_text(f"{number} {name}")
        receipts.write(root / receipt, f"job {number}", root / folder, names)
    return root


def test_sister_systems_sound_files_have_no_problems(sisters):
    problems, count = verify(sisters / "data", sisters / "results")
    assert problems == []
    assert count == sum(1 + len(names) for _, names in SISTERS.values())


@pytest.mark.parametrize(
    "file", [f"{folder}/{name}" for folder, names in SISTERS.values() for name in names]
)
def test_sister_systems_damaged_file_is_named(sisters, tmp_path, file):
    root = Path(shutil.copytree(sisters, tmp_path / "copy"))
    flip(root / file, np.random.default_rng(0))
    assert problems_of(root) == [("damaged", file)]


@pytest.mark.parametrize("receipt", SISTERS)
def test_sister_systems_damaged_receipt_is_named(sisters, tmp_path, receipt):
    root = Path(shutil.copytree(sisters, tmp_path / "copy"))
    flip(root / receipt, np.random.default_rng(0))
    assert problems_of(root) == [("damaged", receipt)]


def test_patients_table_is_found_where_pretrain_writes_it(tmp_path):
    """The receipt of `clipdr pretrain pairs`."""
    table = pd.DataFrame(
        {
            "dataset": ["D", "D"],
            "patient_id": ["1", "2"],
            "left_image": ["D/a", "D/b"],
            "right_image": ["", ""],
            "split": ["train", "test"],
        }
    )
    patients_table.write(table, tmp_path / "data/patients/D.csv", 0)
    assert problems_of(tmp_path) == []
    (tmp_path / "data/patients/D.csv").write_text("")
    (tmp_path / "data/patients/new.csv").write_text("")
    assert problems_of(tmp_path) == [
        ("damaged", "data/patients/D.csv"),
        ("unexpected", "data/patients/new.csv"),
    ]


def test_provenance_that_is_no_receipt_is_skipped(sisters, tmp_path):
    root = Path(shutil.copytree(sisters, tmp_path / "copy"))
    path = root / "results/multimodal/models/clip/0/provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"commit": "", "device": "cpu"}))
    assert problems_of(root) == []
    path.write_text("{")
    assert problems_of(root) == [("damaged", str(path.relative_to(root)))]
