"""Synthetic pre-training set."""

import numpy as np
import pytest

from clipdr import DataError
from clipdr.pretrain.data import (
    patients_table,
    synthetic_patients,
)


def test_synthetic_patients_are_disjoint_from_the_benchmark(tmp_path):
    """Cameras vary, single eyes have a sentence with their grade, benchmark seeds are refused."""
    table = synthetic_patients.generate(tmp_path / "raw", tmp_path / "data", 12, 48, 1000, size=96)
    done = patients_table.finish(table, 0)
    assert done["patient_id"].nunique() == 12
    assert set(done["visit_id"]) <= {
        "report",
        "left",
        "right",
    }
    single = done[done["visit_id"] == "left"]
    assert (single["right_image"] == "").all()
    assert single["text"].str.len().gt(10).all()
    assert synthetic_patients.camera(np.random.default_rng(1)) != synthetic_patients.camera(
        np.random.default_rng(2)
    )
    with pytest.raises(DataError, match="seeds below 1000"):
        synthetic_patients.generate(tmp_path, tmp_path, 12, 48, 0)
