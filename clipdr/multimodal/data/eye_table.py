"""The eye table: one row per photographed eye, and what a classifier may read of it.

Input: canonical tables of clipdr.multimodal.data.label_files. Output: checked tables, float32 rows for the structured tower.
A classifier reads Demo or History and nothing else: `encode` takes no table, so a grade, a finding or a camera cannot reach it.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipdr import GRADES, DataError

ANATOMY = ("optic_disc", "vessels", "macula")  # 1 abnormal, 0 normal
FLAGS = (
    *(
        "diabetic_retinopathy",
        "macular_edema",
        "scar",
        "nevus",
        "amd",
        "vascular_occlusion",
        "hypertensive_retinopathy",
        "drusens",
    ),
    *(
        "hemorrhage",
        "retinal_detachment",
        "myopic_fundus",
        "increased_cup_disc",
        "other",
    ),  # hemorrhage: not a diabetic one
)
COMORBIDITIES = ("hypertension", "heart_disease", "dyslipidaemia", "thyroid_disease")
QUALITY = ("focus", "illumination", "image_field", "artifacts")  # 1 bad or present, 0 good
# column -> what it is. demo and history may be read by a classifier; all else is denied to it. A column that is not here fails the build.
COLUMNS = {
    **dict.fromkeys(("dataset", "version", "image", "row", "patient", "split"), "key"),
    **dict.fromkeys(("age", "sex", "eye"), "demo"),
    **dict.fromkeys(("diabetes", "diabetes_years", "insulin", *COMORBIDITIES), "history"),
    **dict.fromkeys(("icdr", "sdrg"), "grade"),
    **dict.fromkeys((*ANATOMY, *FLAGS, "keywords", "description"), "finding"),
    **dict.fromkeys((*QUALITY, "quality", "camera", "age_band"), "stratum"),
}
ALLOWED = {
    "demo": ("age", "sex", "eye"),
    "history": ("age", "sex", "eye", "diabetes", "diabetes_years", "insulin", *COMORBIDITIES),
}
DENIED = tuple(name for name, role in COLUMNS.items() if role not in ("demo", "history"))
WORDS = {  # column -> its values, "" where missing
    "eye": ("left", "right", ""),
    "sex": ("male", "female", ""),
    "quality": ("adequate", "inadequate", ""),
    **dict.fromkeys(("diabetes", "insulin", *COMORBIDITIES), ("yes", "no", "")),
}
NUMBERS = {
    "age": (0, 120),
    "diabetes_years": (0, 90),
    **dict.fromkeys((*ANATOMY, *FLAGS, *QUALITY), (0, 1)),
}  # NaN where missing
TEXTS = (
    "dataset",
    "version",
    "image",
    "patient",
    "split",
    "keywords",
    "description",
    "camera",
    "age_band",
    *WORDS,
)
PLACEHOLDER = 1.0  # an age up to this is a placeholder (ODIR), which coincides with one diagnosis
AGE_BANDS = (0, 40, 60, 80, 121)


class Demo(NamedTuple):
    """What the input set `demo` holds, each (N,): years or NaN; "male" | "female" | ""; "left" | "right" | ""."""

    age: np.ndarray
    sex: np.ndarray
    eye: np.ndarray


class History(NamedTuple):
    """`demo` and the history, each (N,): "yes" | "no" | ""; years or NaN; and (N, 4) of COMORBIDITIES."""

    demo: Demo
    diabetes: np.ndarray
    diabetes_years: np.ndarray
    insulin: np.ndarray
    comorbidities: np.ndarray


class Constants(NamedTuple):
    """What encoding takes from the training rows: mean and standard deviation of the known ages and durations, years."""

    age: tuple[float, float]
    diabetes_years: tuple[float, float]


def table(rows, dataset, version, where):
    """Rows with some canonical columns -> the whole checked eye table: absent columns are missing everywhere, types are fixed.

    Raises DataError for a column that COLUMNS does not classify and for a value out of range, naming `where` and the row (0 = first).
    """
    unknown = [name for name in rows if name not in COLUMNS]
    if unknown:
        raise DataError(
            f"{where}: column {unknown[0]!r} is not classified; say in cohort.COLUMNS whether a classifier may read it"
        )
    made = pd.DataFrame(index=range(len(rows)))
    rows = rows.reset_index(drop=True).assign(dataset=dataset, version=version)
    for name in COLUMNS:
        if name in ("icdr", "sdrg", "row"):
            given = rows[name].fillna(-1) if name in rows else pd.Series(-1, index=rows.index)
            made[name] = given.astype("int64")
        elif name in NUMBERS:
            made[name] = rows[name].astype("float64") if name in rows else np.nan
        else:
            made[name] = rows[name].fillna("").astype(object) if name in rows else ""
            made[name] = made[name].astype(object)
    made["age_band"] = age_bands(made["age"])
    return check(made, where)


def check(made, where):
    """The table itself, or DataError naming the first row with a value that does not belong there, or a second row of an image."""

    def refuse(bad, name):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{where}: row {row}, column {name}: {made[name].iloc[row]!r} is not allowed there; correct the table"
            )

    if set(made.columns) != set(COLUMNS):
        odd = sorted(set(made.columns) ^ set(COLUMNS))
        raise DataError(
            f"{where}: columns {odd} differ from the eye table's; classify them in cohort.COLUMNS"
        )
    for name, values in WORDS.items():
        refuse(~made[name].isin(values), name)
    for name, (low, high) in NUMBERS.items():
        refuse(~(made[name].between(low, high) | made[name].isna()), name)
    for name in ("icdr", "sdrg"):
        refuse(~made[name].isin(range(-1, len(GRADES))), name)
    refuse(made["image"].eq("") | made["image"].duplicated(), "image")
    return made


def age_bands(age):
    """(N,) years, NaN missing -> (N,) "0-39" | "40-59" | "60-79" | "80+" | ""."""
    names = [f"{low}-{high - 1}" for low, high in itertools.pairwise(AGE_BANDS[:-1])] + [
        f"{AGE_BANDS[-2]}+"
    ]
    return pd.cut(age, AGE_BANDS, right=False, labels=names).astype(object).fillna("")


def read(path):
    """An eye table that `write` left -> frame; DataError where it is missing or another table."""
    try:
        found = pd.read_csv(
            path,
            keep_default_na=False,
            na_values={name: [""] for name in NUMBERS},
            dtype=dict.fromkeys(TEXTS, object),
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: no eye table ({error}); run `clipdr multimodal prepare`"
        ) from None
    return check(found.astype(dict.fromkeys(NUMBERS, "float64")), path)


def constants(train):
    """Constants of the training rows; (0, 1) where a column is missing throughout."""

    def of(values):
        known = values[values > PLACEHOLDER].dropna()
        return (float(known.mean()), float(known.std(ddof=0)) or 1.0) if len(known) else (0.0, 1.0)

    return Constants(of(train["age"]), of(train.loc[train["diabetes"] != "no", "diabetes_years"]))


def without_placeholders(eyes, found):
    """Ages that are placeholders become the training mean, WITHOUT a missing flag: the flag would tell the diagnosis they coincide with."""
    return eyes.assign(
        age=eyes["age"].mask(
            eyes["age"] <= PLACEHOLDER, round(found.age[0]) if found.age[0] else np.nan
        )
    )


def view(eyes, inputs):
    """The allowed columns of some rows as Demo or History; inputs: "demo" | "history". Raises DataError for another name."""
    if inputs not in ALLOWED:
        raise DataError(
            f"inputs {inputs!r}: choose demo or history; duration and insulin are read with `diabetes`, under history, or not at all"
        )
    refuse_columns(ALLOWED[inputs])
    demo = Demo(*(eyes[name].to_numpy() for name in ALLOWED["demo"]))
    if inputs == "demo":
        return demo
    bits = eyes[list(COMORBIDITIES)].to_numpy()
    return History(
        demo, *(eyes[name].to_numpy() for name in ("diabetes", "diabetes_years", "insulin")), bits
    )


def refuse_columns(names):
    """DataError where a list of input columns holds a denied one, or duration or insulin without `diabetes`.

    BRSET leaves the duration blank in exactly the rows without diabetes: alone, its missing flag is the diagnosis.
    """
    for name in names:
        if COLUMNS.get(name) not in ("demo", "history"):
            raise DataError(
                f"inputs: {name!r} is denied to a classifier; allowed are {', '.join(ALLOWED['history'])}"
            )
    needs = [name for name in names if name in ("diabetes_years", "insulin")]
    if needs and "diabetes" not in names:
        raise DataError(
            f"inputs: {needs[0]} without diabetes: its blank cells say who has no diabetes; add diabetes, or leave it out"
        )


def one_hot(values, names, last=True):
    """(N,) -> (N, len(names) + last) float32; `last` is a column for everything else."""
    columns = [np.asarray(values) == name for name in names]
    return np.stack(columns + ([~np.any(columns, axis=0)] if last else []), 1).astype(np.float32)


def standardised(values, found):
    """(N,) years -> (N, 2) float32: z-score, 0 where missing; and the missing flag."""
    gone = np.isnan(values.astype(float))
    z = (values.astype(float) - found[0]) / found[1]
    return np.stack([np.where(gone, 0, z), gone], 1).astype(np.float32)


def encode(seen, found):
    """Demo (N, 8) or History (N, 18) as float32 rows. found: Constants of the training rows.

    demo    : age z and missing flag, sex female / male / unknown, eye left / right / unknown
    history : the same; diabetes 1 yes, -1 no, 0 unknown; duration z and flag; insulin yes / no / other; four comorbidities as diabetes

    Where diabetes is "no", duration and insulin hold one fixed code (zeros) whatever stands in the cells, so that the missing flag means
    missing AMONG diabetics.
    """
    demo = seen.demo if isinstance(seen, History) else seen
    parts = [
        standardised(demo.age, found.age),
        one_hot(demo.sex, ("female", "male")),
        one_hot(demo.eye, ("left", "right")),
    ]
    if isinstance(seen, History):
        applies = (np.asarray(seen.diabetes) != "no")[:, None]
        duration, insulin = (
            standardised(seen.diabetes_years, found.diabetes_years),
            one_hot(seen.insulin, ("yes", "no")),
        )
        parts += [
            sign(seen.diabetes)[:, None],
            np.where(applies, duration, 0),
            np.where(applies, insulin, 0),
            sign(seen.comorbidities),
        ]
    return np.concatenate(parts, 1, dtype=np.float32)


def sign(answers):
    """ "yes" 1, "no" -1, missing 0, float32."""
    answers = np.asarray(answers)
    return (answers == "yes").astype(np.float32) - (answers == "no").astype(np.float32)


def missingness(eyes):
    """(N, 7) float32: which raw cells are blank, the inputs of the missingness-only control. Never an input of the model."""
    blank = [eyes[name].isna() for name in ("age", "diabetes_years")]
    blank += [eyes[name] == "" for name in ("sex", "eye", "diabetes", "insulin", "hypertension")]
    return np.stack(blank, 1).astype(np.float32)


# switch -> table with a planted fault, a case for a gate; (eyes, random generator) -> eyes
def _leak(eyes, rng):
    """Blank duration and insulin in 9 of 10 rows without retinopathy, `diabetes` untouched: missingness tells the grade."""
    gone = (eyes["icdr"] == 0) & (rng.random(len(eyes)) < 0.9)
    return eyes.assign(
        diabetes_years=eyes["diabetes_years"].mask(gone), insulin=eyes["insulin"].mask(gone, "")
    )


def _identifier(eyes, rng):
    """The patient's name in the keywords."""
    named = (eyes["keywords"] + "|" + eyes["patient"]).str.strip("|")
    return eyes.assign(keywords=named)


def _duplicates(eyes, rng):
    """Every second eye says what the one before it says."""
    source = np.arange(len(eyes)) // 2 * 2
    said = [name for name, role in COLUMNS.items() if role == "finding"]
    return eyes.assign(**{name: eyes[name].to_numpy()[source] for name in said})


PLANTS = {
    "plant_missingness_leak": _leak,
    "plant_identifier_in_text": _identifier,
    "duplicate_captions": _duplicates,
}
