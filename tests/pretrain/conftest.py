"""Fixtures of the pre-training tests: a small trained run and its backbone folder."""

import pytest
from helpers import patients as cohort

from clipdr.pretrain import backbone_folder, run
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.settings import rules


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(folder of data, run folder, table) of a toy cohort of 60 patients."""
    data = tmp_path_factory.mktemp("cohort")
    path = cohort.make(data, patients=60, monocular=3)
    run.train(data / "run", path, data, rules("small", cohort.TINY))
    return data, data / "run", patients_table.read(path)


@pytest.fixture(scope="session")
def exported(trained):
    return backbone_folder.export(trained[1], trained[0] / "backbone").path


@pytest.fixture(scope="session")
def spec(exported):
    return {"name": "ours", "image": f"folder/{exported}", "weights": "random", "text": "own"}
