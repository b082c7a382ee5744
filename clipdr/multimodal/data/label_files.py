"""One reader per original label layout -> the canonical eye table of clipdr.multimodal.data.eye_table.

Input: label files as published: BRSET (1.0.0, 1.0.1, 1.0.2), mBRSET, DeepEyeNet, ODIR; patients of the synthetic generator; a CSV of
canonical columns. Output: eye tables whose `image` is a path below the data set's folder of photographs.
An unknown column or value is an error that names file, row (0 = first data row) and column. Codings differ between BRSET and mBRSET (sex,
artifacts, quality): each reader states its own.
"""

import json
from pathlib import Path

import pandas as pd

from clipdr import DataError
from clipdr.data.sources.odir import keywords, stated_grade
from clipdr.multimodal.data.eye_table import COMORBIDITIES, FLAGS, NUMBERS, table

GONE = (
    "",
    "NA",
    "nan",
    "NaN",
    "unknown",
    "other",
)  # what stands where a number or an answer is missing
YES_NO = {"yes": "yes", "no": "no", **dict.fromkeys(GONE, "")}
ONE_ZERO = {"1": "yes", "0": "no"} | YES_NO
GRADE = {str(grade): grade for grade in range(5)}
BIT = {"0": 0.0, "1": 1.0}
PRESENT = {"no": 0.0, "yes": 1.0, "": None, "NA": None}  # mBRSET
NORMAL = {
    "1": 0.0,
    "2": 1.0,
    "bv": None,
    "": None,
}  # BRSET: 1 normal, 2 abnormal; one row holds 'bv'
GOOD = {"1": 0.0, "2": 1.0, "0": None, "": None}  # BRSET: 1 good, 2 bad; two rows of 1.0.1 hold 0
WORD_LISTS = {  # comorbidity -> words that say so in BRSET's free text (SAH: systemic arterial hypertension)
    "hypertension": r"hypertens|\bsah\b|\bhas\b",
    "heart_disease": r"heart|cardi|coronar|infarct|arrhythm|stent",
    "dyslipidaemia": r"dyslipid|cholesterol|hyperlipid",
    "thyroid_disease": r"thyroid",
}
BRSET = {  # canonical column -> its names over the versions, and the coding; NUMBER: years
    "image": (("image_id",), str), "patient": (("patient_id",), str), "camera": (("camera",), str),
    "age": (("patient_age",), float), "sex": (("patient_sex",), {"1": "male", "2": "female", **dict.fromkeys(GONE, "")}),
    "eye": (("exam_eye",), {"1": "right", "2": "left"}),
    "diabetes": (("diabetes",), YES_NO), "diabetes_years": (("diabetes_time_y", "diabetes_time"), float),
    "insulin": (("insuline", "insulin", "insulin_use"), YES_NO), "comorbidities": (("comorbidities",), str),
    "optic_disc": (("optic_disc",), NORMAL), "vessels": (("vessels",), NORMAL), "macula": (("macula",), NORMAL),
    "icdr": (("DR_ICDR",), GRADE), "sdrg": (("DR_SDRG",), GRADE),
    "focus": (("focus",), GOOD), "illumination": (("illumination", "iluminaton", "Illuminaton"), GOOD),
    "image_field": (("image_field",), GOOD), "artifacts": (("artifacts",), GOOD),
    "quality": (("quality",), {"Adequate": "adequate", "Inadequate": "inadequate"}),
    **{name: ((name,) if name != "drusens" else ("drusens", "drusen"), BIT) for name in FLAGS},
}  # fmt: skip
MBRSET = {
    "image": (("file",), str), "patient": (("patient",), str), "age": (("age",), float),
    "sex": (("sex",), {"0": "female", "1": "male"}),  # BRSET: 2 female, 1 male
    "eye": (("laterality",), {"left": "left", "right": "right", "L": "left", "R": "right", "": ""}),
    "diabetes_years": (("dm_time",), float), "insulin": (("insulin",), ONE_ZERO), "hypertension": (("systemic_hypertension",), ONE_ZERO),
    "icdr": (("final_icdr",), GRADE | {"": -1, "NA": -1}), "macular_edema": (("final_edema",), PRESENT),
    "artifacts": (("final_artifacts",), PRESENT),  # yes: present; BRSET: 2 bad
    "quality": (("final_quality",), {"yes": "adequate", "no": "inadequate", "": "", "NA": ""}),  # yes: good
}  # fmt: skip
MBRSET_DENIED = (  # known, and kept from every model
    "insulin_time", "oraltreatment_dm", "insurance", "educational_level", "alcohol_consumption", "smoking", "obesity", "vascular_disease",
    "acute_myocardial_infarction", "nephropathy", "neuropathy", "diabetic_foot",
)  # fmt: skip
ODIR_COLUMNS = (
    "ID",
    "Patient Age",
    "Patient Sex",
    "Left-Fundus",
    "Right-Fundus",
    "Left-Diagnostic Keywords",
    "Right-Diagnostic Keywords",
)


def raw(path):
    """A label file as text cells: byte-order mark and CRLF dropped; ".0" behind whole numbers too. DataError where there is none."""
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from None
    return cells.apply(
        lambda column: column.str.strip().str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    )


def decoded(cells, layout, ignored, path):
    """Raw cells -> frame of canonical columns by a layout (BRSET, MBRSET)."""
    made, used = {}, set(ignored)
    for name, (aliases, coding) in layout.items():
        here = [alias for alias in aliases if alias in cells]
        if len(here) != 1:
            raise DataError(
                f"{path}: {'no' if not here else 'more than one'} column {' or '.join(aliases)}; is this the published label file?"
            )
        used.add(here[0])
        made[name] = [
            _value(cell, coding, path, row, here[0]) for row, cell in enumerate(cells[here[0]])
        ]
    if unknown := [name for name in cells if name not in used]:
        raise DataError(
            f"{path}: column {unknown[0]!r} is unknown; say in multimodal/sources.py what it is before it is read"
        )
    return pd.DataFrame(made, dtype=object)


def _value(cell, coding, path, row, column):
    if coding is str:
        return cell
    if isinstance(coding, dict) and cell in coding:
        return coding[cell]
    if coding is float and cell in GONE:
        return None
    try:
        if coding is float:
            return float(cell)
    except ValueError:
        pass
    raise DataError(
        f"{path}: row {row}, column {column}: value {cell!r} is unknown; look it up in the data set's description"
    )


def brset(path, version=""):
    """BRSET's labels.csv (1.0.0) or labels_brset.csv (later). Sides before 1.0.2 are not reliable: the version stands in every row."""
    version = version or ("1.0.0" if Path(path).name == "labels.csv" else "1.0.1+")
    rows = decoded(raw(path), BRSET, ("nationality",), path)
    told = rows.pop("comorbidities")
    for name in COMORBIDITIES:
        says = told.str.contains(WORD_LISTS[name], case=False, regex=True)
        rows[name] = says.map({True: "yes", False: "no"}).mask(told.isin(GONE), "")
    stray = (rows["diabetes"] == "no") & rows["diabetes_years"].notna()
    if stray.any():
        raise DataError(
            f"{path}: row {int(stray.idxmax())}: a duration without diabetes; BRSET leaves it blank, correct the table"
        )
    rows["image"] = rows["image"].where(
        rows["image"].str.contains(r"\.\w+$"), rows["image"] + ".jpg"
    )
    return table(rows.astype({"age": float, "diabetes_years": float}), "BRSET", version, path)


def mbrset(path, version="1.0"):
    """mBRSET's labels: every patient is diabetic, no SDRG."""
    rows = decoded(raw(path), MBRSET, MBRSET_DENIED, path).assign(diabetes="yes")
    return table(rows.astype({"age": float, "diabetes_years": float}), "MBRSET", version, path)


def deepeyenet(folder, version=""):
    """DeepEyeNet_{train,valid,test}.json of a folder: lists of {path: {"keywords", "clinical-description"}}; no patients, sides, grades."""
    rows = []
    for part, name in {"train": "train", "valid": "val", "test": "test"}.items():
        path = Path(folder) / f"DeepEyeNet_{part}.json"
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            for place, entry in enumerate(entries):
                ((image, said),) = entry.items()
                if set(said) != {"keywords", "clinical-description"}:
                    raise DataError(
                        f"{path}: entry {place}: keys {sorted(said)}, expected keywords and clinical-description"
                    )
                words = "|".join(sorted_keywords(said["keywords"]))
                rows.append(
                    {
                        "image": image,
                        "split": name,
                        "keywords": words,
                        "description": " ".join(said["clinical-description"].split()),
                    }
                )
        except (OSError, ValueError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not DeepEyeNet's list of one-key objects ({error})") from None
    return table(pd.DataFrame(rows), "DEEPEYENET", version, folder)


def sorted_keywords(cell):
    """Keywords in lower case, sorted, so that their order says nothing. A word said twice stays twice."""
    return sorted(keyword.lower() for keyword in keywords(cell))


def odir(path, version=""):
    """ODIR-5K's full_df.csv: one row per patient -> one per eye. The grade is derived from the keywords; the label columns are not read."""
    cells = raw(path)
    if missing := [name for name in ODIR_COLUMNS if name not in cells]:
        raise DataError(f"{path}: no column {missing[0]!r}; is this ODIR's full_df.csv?")
    rows = []
    for patient in cells.to_dict("records"):
        for side in ("left", "right"):
            words = sorted_keywords(patient[f"{side.capitalize()}-Diagnostic Keywords"])
            rows.append({
                "image": patient[f"{side.capitalize()}-Fundus"], "patient": patient["ID"], "eye": side, "keywords": "|".join(words),
                "age": float(patient["Patient Age"]), "sex": patient["Patient Sex"].lower(), "icdr": stated_grade(words),
            })  # fmt: skip
    return table(pd.DataFrame(rows), "ODIR", version, path)


def synthetic(domain, patients, seed):
    """Eyes of the synthetic generator: what `record` says of a patient, and as findings what is drawn. Image: path below images/."""
    from clipdr.data.synthetic import patients as people

    rows = []
    for patient in people.cohort(domain, patients, seed):
        known = people.record(patient, seed)
        for side, grade in patient.grades.items():
            eye = people.eye(domain, patient.number, side, grade, seed)
            row = {
                name: known[name]
                for name in ("patient", "sex", "diabetes", "insulin", "hypertension")
            }
            row |= {
                name: float(known[name]) if known[name] != "" else None
                for name in ("age", "diabetes_years")
            }
            row |= {
                "image": known[f"image_{side}"],
                "eye": side,
                "icdr": grade,
                "sdrg": known[f"sdrg_{side}"],
                "camera": domain,
            }
            rows.append(row | _drawn(eye))
    made = pd.DataFrame(rows).astype({"age": float, "diabetes_years": float})
    return table(
        made.assign(patient=domain + "_" + made["patient"]), "SYNTHETIC", "", f"synthetic {domain}"
    )


def _drawn(eye):
    """Anatomy, flags and keywords of an Eye: what its photograph shows."""
    f, flags = eye.findings, dict.fromkeys(FLAGS, 0.0)
    flags |= {
        "diabetic_retinopathy": float(f.microaneurysms > 0 or f != type(f)()),
        "macular_edema": float("macular" in f.exudates),
    }
    flags |= {"scar": float(f.laser), "increased_cup_disc": float(eye.cup > 0.5)}
    counts = {
        "haemorrhages": sum(map(bool, f.haemorrhages)),
        "exudates": len(f.exudates),
        "venous beading": len(f.beading),
    }
    counts |= {"new vessels": len(f.vessels), "preretinal haemorrhage": len(f.preretinal)}
    words = [
        f"{name} at {count} site{'s' * (count > 1)}" for name, count in counts.items() if count
    ]
    words += ["new vessels of the disc"] * f.disc_vessels + ["vitreous haemorrhage"] * f.vitreous
    words += ["cotton-wool spots"] * (f.cotton_wool > 0) + ["tessellated fundus"] * (
        eye.tessellation > 0.6
    )
    words += ["dark fundus"] * (eye.pigment > 2 / 3) + ["pale fundus"] * (eye.pigment < 1 / 3)
    anatomy = {
        "optic_disc": float(f.disc_vessels or eye.cup > 0.5),
        "vessels": float(bool(f.beading or f.irma or f.vessels)),
        "macula": flags["macular_edema"],
    }
    return flags | anatomy | {"keywords": "|".join(sorted(words))}


def own(path, version=""):
    """A CSV of canonical columns (cohort.COLUMNS), at least `image`; absent columns are missing everywhere."""
    cells = raw(path)
    if "image" not in cells:
        raise DataError(
            f"{path}: no column 'image'; a table of one's own has cohort.COLUMNS' names, at least image"
        )
    name = cells["dataset"].iloc[0] if "dataset" in cells and len(cells) else "OWN"
    for column in cells:
        if column in NUMBERS:
            cells[column] = [
                _value(cell, float, path, row, column) for row, cell in enumerate(cells[column])
            ]
        elif column in ("icdr", "sdrg", "row"):
            cells[column] = [
                _value(cell, GRADE | {"": -1, "-1": -1}, path, row, column)
                for row, cell in enumerate(cells[column])
            ]
    return table(cells, name, version, path)


# name of a source -> f(path) of its label file or folder; the synthetic one is made by `synthetic`
SOURCES = {"brset": brset, "mbrset": mbrset, "deepeyenet": deepeyenet, "odir": odir, "own": own}
