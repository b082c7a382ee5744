"""Patients table: checks that name the row, splits by patient."""

import pandas as pd
import pytest

from clipdr import DataError
from clipdr.pretrain.data import (
    patients_table,
)


def table(**columns):
    rows = {
        "dataset": "A",
        "patient_id": ["1", "2", "3"],
        "left_image": ["a", "b", ""],
        "right_image": ["c", "", "d"],
        "text": "x",
        "language": "en",
    }
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"left_image": ["a", "b", ""], "right_image": ["c", "", ""]}, "row 4: neither"),
        ({"left_image": ["a", "b", "d"]}, "row 4: the same file"),
        (
            {"patient_id": ["1", "2", "2"]},
            "row 4: a .dataset, patient_id, visit_id. that an earlier row has",
        ),
        ({"split": ["train", "dev", "test"]}, "row 3: a split other than"),
        (
            {
                "patient_id": ["1", "2", "2"],
                "visit_id": ["", "a", "b"],
                "split": ["train", "val", "test"],
            },
            "row 3: a patient in two splits",
        ),
        ({"split": ["train", "", "test"]}, "row 3: no split"),
        ({"text": ["x", "y 20200101", "z"]}, "row 3: possible identifier"),
    ],
)
def test_finish_of_a_wrong_table_names_the_row(columns, message):
    with pytest.raises(DataError, match=message):
        patients_table.finish(table(**columns), 0)


def test_splits_are_by_patient_stratified_and_sealed():
    many = pd.DataFrame(
        {
            "patient_id": [str(i // 2) for i in range(400)],
            "visit_id": [str(i % 2) for i in range(400)],
        }
    )
    many = many.assign(
        dataset="A",
        left_image=[f"i{i}" for i in range(400)],
        right_image="",
        text="x",
        language="en",
    )
    many["D"] = [str(int(i // 2 < 60)) for i in range(400)]
    done = patients_table.finish(many, 3)
    record = patients_table.split_record(done, 3)
    assert record["counts"] == {"train": 140, "val": 20, "test": 40}
    assert done.groupby("patient_id")["split"].nunique().max() == 1
    sick = done[done["D"] == "1"].drop_duplicates("patient_id")["split"].value_counts()
    assert dict(sick) == {"train": 42, "test": 12, "val": 6}
    assert (
        record["sha256"]
        == patients_table.split_record(patients_table.finish(many, 3), 3)["sha256"]
        != patients_table.split_record(patients_table.finish(many, 4), 4)["sha256"]
    )
