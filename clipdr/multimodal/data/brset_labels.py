"""Label files of BRSET (1.0.0, 1.0.1, 1.0.2) and mBRSET as eye tables.

The codings of sex, artifacts and quality differ between the two data sets, so each layout states
its own.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.multimodal.data.eye_table import COMORBIDITIES, FLAGS, make_table
from clipdr.multimodal.data.label_cells import BLANK, GRADE, decode_layout, read_cells

YES_NO = {"yes": "yes", "no": "no", **dict.fromkeys(BLANK, "")}
ONE_ZERO = {"1": "yes", "0": "no"} | YES_NO
BIT = {"0": 0.0, "1": 1.0}
PRESENT = {"no": 0.0, "yes": 1.0, "": None, "NA": None}  # mBRSET
NORMAL = {"1": 0.0, "2": 1.0, "bv": None, "": None}  # BRSET: 1 normal, 2 abnormal; one row 'bv'
GOOD = {"1": 0.0, "2": 1.0, "0": None, "": None}  # BRSET: 1 good, 2 bad; two rows of 1.0.1 hold 0
BRSET_SEX = {"1": "male", "2": "female", **dict.fromkeys(BLANK, "")}
# comorbidity -> its words in the free text of BRSET (SAH: systemic arterial hypertension)
WORD_LISTS = {
    "hypertension": r"hypertens|\bsah\b|\bhas\b",
    "heart_disease": r"heart|cardi|coronar|infarct|arrhythm|stent",
    "dyslipidaemia": r"dyslipid|cholesterol|hyperlipid",
    "thyroid_disease": r"thyroid",
}
BRSET = {  # canonical column -> its names over the versions, and the coding
    "image": (("image_id",), str),
    "patient": (("patient_id",), str),
    "camera": (("camera",), str),
    "age": (("patient_age",), float),
    "sex": (("patient_sex",), BRSET_SEX),
    "eye": (("exam_eye",), {"1": "right", "2": "left"}),
    "diabetes": (("diabetes",), YES_NO),
    "diabetes_years": (("diabetes_time_y", "diabetes_time"), float),
    "insulin": (("insuline", "insulin", "insulin_use"), YES_NO),
    "comorbidities": (("comorbidities",), str),
    "optic_disc": (("optic_disc",), NORMAL),
    "vessels": (("vessels",), NORMAL),
    "macula": (("macula",), NORMAL),
    "icdr": (("DR_ICDR",), GRADE),
    "sdrg": (("DR_SDRG",), GRADE),
    "focus": (("focus",), GOOD),
    "illumination": (("illumination", "iluminaton", "Illuminaton"), GOOD),
    "image_field": (("image_field",), GOOD),
    "artifacts": (("artifacts",), GOOD),
    "quality": (("quality",), {"Adequate": "adequate", "Inadequate": "inadequate"}),
    **{name: ((name,) if name != "drusens" else ("drusens", "drusen"), BIT) for name in FLAGS},
}
MBRSET = {
    "image": (("file",), str),
    "patient": (("patient",), str),
    "age": (("age",), float),
    "sex": (("sex",), {"0": "female", "1": "male"}),  # BRSET: 2 female, 1 male
    "eye": (("laterality",), {"left": "left", "right": "right", "L": "left", "R": "right", "": ""}),
    "diabetes_years": (("dm_time",), float),
    "insulin": (("insulin",), ONE_ZERO),
    "hypertension": (("systemic_hypertension",), ONE_ZERO),
    "icdr": (("final_icdr",), GRADE | {"": -1, "NA": -1}),
    "macular_edema": (("final_edema",), PRESENT),
    "artifacts": (("final_artifacts",), PRESENT),  # yes: present; BRSET: 2 bad
    "quality": (
        ("final_quality",),
        {"yes": "adequate", "no": "inadequate", "": "", "NA": ""},  # yes: good
    ),
}
MBRSET_DENIED = (  # known columns that no model may read
    "insulin_time",
    "oraltreatment_dm",
    "insurance",
    "educational_level",
    "alcohol_consumption",
    "smoking",
    "obesity",
    "vascular_disease",
    "acute_myocardial_infarction",
    "nephropathy",
    "neuropathy",
    "diabetic_foot",
)


def brset(path: str | Path, version: str = "") -> pd.DataFrame:
    """Read the labels of BRSET.

    Eye sides before version 1.0.2 are not reliable, so every row states the version.

    Args:
        path: `labels.csv` (1.0.0) or `labels_brset.csv` (later).
        version: Version of the release. Default: "1.0.0" or "1.0.1+", by the file name.

    Returns:
        Eye table. `image` is a path below the folder of images.

    Raises:
        DataError: If a column or value is unknown, or a row has a duration without diabetes.
    """
    version = version or ("1.0.0" if Path(path).name == "labels.csv" else "1.0.1+")
    rows = decode_layout(read_cells(path), BRSET, ("nationality",), path)
    free_text = rows.pop("comorbidities")
    for name in COMORBIDITIES:
        stated = free_text.str.contains(WORD_LISTS[name], case=False, regex=True)
        rows[name] = stated.map({True: "yes", False: "no"}).mask(free_text.isin(BLANK), "")
    stray = (rows["diabetes"] == "no") & rows["diabetes_years"].notna()
    if stray.any():
        raise DataError(
            f"{path}: row {int(stray.idxmax())}: a duration without diabetes is not allowed, "
            "because BRSET leaves it blank. Correct the table."
        )
    rows["image"] = rows["image"].where(
        rows["image"].str.contains(r"\.\w+$"), rows["image"] + ".jpg"
    )
    return make_table(rows.astype({"age": float, "diabetes_years": float}), "BRSET", version, path)


def mbrset(path: str | Path, version: str = "1.0") -> pd.DataFrame:
    """Read the labels of mBRSET, where every patient has diabetes and no SDRG grade.

    Args:
        path: Label file.
        version: Version of the release.

    Returns:
        Eye table. `image` is a path below the folder of images.

    Raises:
        DataError: If a column or value is unknown.
    """
    rows = decode_layout(read_cells(path), MBRSET, MBRSET_DENIED, path).assign(diabetes="yes")
    return make_table(rows.astype({"age": float, "diabetes_years": float}), "MBRSET", version, path)
