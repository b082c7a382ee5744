"""Label files of BRSET and mBRSET: versions, codings and refused values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clipdr import DataError
from clipdr.multimodal.data import brset_labels

LABELS = Path("labels_original")
ALIASES = {  # version -> renamed columns
    "1.0.0": {},
    "1.0.1": {"insuline": "insulin", "iluminaton": "Illuminaton", "drusens": "drusen"},
    "1.0.2": {
        "insuline": "insulin_use",
        "diabetes_time_y": "diabetes_time",
        "iluminaton": "illumination",
    },
}
INVENTED = {  # columns of BRSET 1.0.0, and an invented row
    "image_id": "img00001",
    "patient_id": "7",
    "camera": "Canon CR",
    "patient_age": "61",
    "comorbidities": "diabetes1 SAH",
    "diabetes_time_y": "12",
    "insuline": "yes",
    "patient_sex": "2",
    "exam_eye": "1",
    "diabetes": "yes",
    "nationality": "Brazil",
    "optic_disc": "1",
    "vessels": "2",
    "macula": "bv",
    "DR_SDRG": "3",
    "DR_ICDR": "2",
    "focus": "1",
    "iluminaton": "1",
    "image_field": "0",
    "artifacts": "2",
    "diabetic_retinopathy": "1",
    "macular_edema": "0",
    "scar": "0",
    "nevus": "0",
    "amd": "0",
    "vascular_occlusion": "0",
    "hypertensive_retinopathy": "0",
    "drusens": "1",
    "hemorrhage": "0",
    "retinal_detachment": "0",
    "myopic_fundus": "0",
    "increased_cup_disc": "0",
    "other": "0",
    "quality": "Inadequate",
}
HEALTHY = INVENTED | {
    "image_id": "img00002",
    "patient_age": "NA",
    "comorbidities": "NA",
    "diabetes_time_y": "",
    "insuline": "",
    "patient_sex": "1",
    "exam_eye": "2",
    "diabetes": "no",
    "macula": "1",
    "DR_ICDR": "0",
    "DR_SDRG": "0",
    "drusens": "0",
    "quality": "Adequate",
}


def brset_file(folder, rows, version="1.0.0"):
    path = folder / ("labels.csv" if version == "1.0.0" else "labels_brset.csv")
    table = pd.DataFrame(rows).rename(columns=ALIASES[version])
    text = table.to_csv(index=False, lineterminator="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return path


@pytest.mark.parametrize("version", ALIASES)
def test_brset_of_every_version_gives_the_same_table(tmp_path, version):
    path = brset_file(tmp_path, [INVENTED, HEALTHY], version)
    first, second = brset_labels.brset(path).to_dict("records")
    keys = ("age", "sex", "eye", "diabetes_years", "insulin")
    assert tuple(first[key] for key in keys) == (61, "female", "right", 12, "yes")
    assert first["hypertension"] == "yes"
    assert first["thyroid_disease"] == "no"
    assert (first["icdr"], first["sdrg"], first["optic_disc"], first["vessels"]) == (2, 3, 0, 1)
    assert np.isnan(first["macula"])
    assert np.isnan(first["image_field"])
    assert first["artifacts"] == 1
    assert first["drusens"] == 1
    assert first["quality"] == "inadequate"
    assert first["image"] == "img00001.jpg"
    assert np.isnan(second["age"])
    assert second["sex"] == "male"
    assert second["eye"] == "left"
    assert second["hypertension"] == ""
    assert second["insulin"] == ""
    assert np.isnan(second["diabetes_years"])
    assert second["version"] == ("1.0.0" if version == "1.0.0" else "1.0.1+")


@pytest.mark.parametrize(
    "cell",
    [
        {"patient_sex": "0"},
        {"DR_ICDR": "5"},
        {"quality": "good"},
        {"exam_eye": "3"},
        {"diabetes": "maybe"},
    ],
)
def test_brset_unknown_value_names_file_row_and_column(tmp_path, cell):
    ((column, value),) = cell.items()
    path = brset_file(tmp_path, [INVENTED, HEALTHY | cell])
    with pytest.raises(DataError, match=rf"labels.csv: row 1, column {column}: value '{value}'"):
        brset_labels.brset(path)


def test_brset_unknown_column_and_duration_without_diabetes_are_refused(tmp_path):
    path = brset_file(tmp_path, [INVENTED | {"iris": "1"}])
    with pytest.raises(DataError, match="column 'iris' is unknown"):
        brset_labels.brset(path)
    path = brset_file(tmp_path, [HEALTHY | {"diabetes_time_y": "4"}])
    with pytest.raises(DataError, match="row 0: a duration without diabetes"):
        brset_labels.brset(path)


def test_mbrset_sex_artifacts_and_quality_have_the_opposite_coding(tmp_path):
    row = dict.fromkeys(brset_labels.MBRSET_DENIED, "0") | {
        "patient": "3",
        "age": "70",
        "sex": "0",
        "dm_time": "9",
        "insulin": "1",
        "systemic_hypertension": "0",
        "file": "3.1.jpg",
        "laterality": "left",
        "final_artifacts": "yes",
        "final_quality": "yes",
        "final_icdr": "",
        "final_edema": "yes",
    }
    other = {"file": "4.1.jpg", "sex": "1", "final_icdr": "4.0", "final_artifacts": "no"}
    path = tmp_path / "labels_mbrset.csv"
    pd.DataFrame([row, row | other]).to_csv(path, index=False)
    first, second = brset_labels.mbrset(path).to_dict("records")
    keys = ("sex", "artifacts", "quality", "icdr", "sdrg")
    assert tuple(first[key] for key in keys) == ("female", 1, "adequate", -1, -1)
    assert (second["sex"], second["artifacts"], second["icdr"]) == ("male", 0, 4)
    assert first["diabetes"] == "yes"
    assert first["insulin"] == "yes"
    assert first["hypertension"] == "no"
    assert first["macular_edema"] == 1


@pytest.mark.realdata
def test_brset_and_mbrset_published_headers_are_read(realdata):
    eyes = brset_labels.brset(realdata / LABELS / "BRSET" / "labels_brset.SYNTHETIC_ROWS.csv")
    assert list(eyes["icdr"]) == [0, 1, 2, 3, 4]
    assert set(eyes["sex"]) == {"male"}
    for name, read in {
        "BRSET/labels_brset": brset_labels.brset,
        "MBRSET/labels_mbrset": brset_labels.mbrset,
    }.items():
        assert read(realdata / LABELS / f"{name}.HEADER_ONLY.csv").empty
