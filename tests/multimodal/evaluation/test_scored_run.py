"""Run folders of the multimodal system: their provenance is the receipt of all other files."""

import shutil

import numpy as np
from helpers.damage import flip

from clipdr.artifacts import receipts
from clipdr.artifacts.verify import verify
from clipdr.multimodal.evaluation.scored_run import WRITTEN


def test_write_run_provenance_names_every_other_file(results):
    folders = sorted((results / "runs").glob("*/*/*/*"))
    assert folders
    for folder in folders:
        receipt = receipts.read(folder / "provenance.json")
        assert {path.name for path in receipt.files} == set(WRITTEN)
        assert {path.name for path in folder.iterdir()} == {*WRITTEN, "provenance.json"}


def test_verify_damaged_run_of_the_multimodal_system_is_named(results, tmp_path):
    runs = shutil.copytree(results / "runs", tmp_path / "results/multimodal/runs")
    assert verify(tmp_path / "data", tmp_path / "results")[0] == []
    path = sorted(runs.glob("*/*/*/*/predictions.parquet"))[0]
    flip(path, np.random.default_rng(0))
    problems, _ = verify(tmp_path / "data", tmp_path / "results")
    assert [(problem.kind, problem.path) for problem in problems] == [("damaged", path)]
