"""Label files of DeepEyeNet and ODIR, and of a custom dataset."""

import json

import numpy as np
import pytest

from clipdr import DataError
from clipdr.multimodal.data import label_files


def test_deepeyenet_three_files_give_splits_keywords_and_description(tmp_path):
    entry = {"keywords": "Drusen, AMD", "clinical-description": "a  65-year-old man,  dry AMD."}
    for split in ("train", "valid", "test"):
        (tmp_path / f"DeepEyeNet_{split}.json").write_text(
            json.dumps([{f"eyenet0420/{split}_set/{n}.jpg": entry} for n in range(2)])
        )
    eyes = label_files.deepeyenet(tmp_path)
    assert list(eyes["split"]) == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert eyes["keywords"][0] == "amd|drusen"
    assert eyes["description"][0] == "a 65-year-old man, dry AMD."
    assert (eyes["icdr"] == -1).all()


def test_custom_dataset_absent_columns_are_missing_unknown_refused(tmp_path):
    (tmp_path / "own.csv").write_text(
        "image,patient,eye,icdr,age\na.jpg,1,left,3,50\nb.jpg,1,right,,\n"
    )
    eyes = label_files.SOURCES["custom"](tmp_path / "own.csv")
    assert list(eyes["icdr"]) == [3, -1]
    assert np.isnan(eyes["age"][1])
    assert (eyes["sdrg"] == -1).all()
    assert label_files.SOURCES["own"] is label_files.SOURCES["custom"]
    (tmp_path / "bad.csv").write_text("image,gender\na.jpg,1\n")
    with pytest.raises(DataError, match="'gender' is unknown"):
        label_files.custom(tmp_path / "bad.csv")


@pytest.mark.realdata
def test_odir_one_row_per_patient_becomes_one_row_per_eye(realdata):
    eyes = label_files.odir(realdata / "odir" / "full_df.csv")
    assert len(eyes) == 1600
    counts = {0: 962, 1: 213, 2: 393, 3: 21, -1: 11}
    assert eyes["icdr"].value_counts().to_dict() == counts
