"""What is said of an eye, from columns of the eye table. Output: English text, and the content behind it.

history  : age, sex, diabetes, comorbidities: columns that a classifier may read
findings : eye, anatomy, findings, keywords, and both grades with `with_grades`: what a photograph can show
full     : both
Ceilings, equal-caption credit and multi-positive targets use `content`, never the string: a wording chosen by image would fake distinct
captions. A missing value leaves its sentence out. No identifier, date, camera or quality word is ever said.
"""

import re

import numpy as np

from clipdr import GRADES, DataError
from clipdr.multimodal.data.eye_table import ANATOMY, COMORBIDITIES, FLAGS
from clipdr.multimodal.data.splits import patients_of

KINDS = {
    "history": ("history",),
    "findings": ("findings",),
    "full": ("history", "findings"),
    "description": ("description",),
}
PERSON = {"female": "woman", "male": "man", "": "patient"}
NAMES = {
    "diabetic_retinopathy": "diabetic retinopathy", "macular_edema": "macular oedema", "scar": "scar", "nevus": "naevus",
    "amd": "age-related macular degeneration", "vascular_occlusion": "vascular occlusion", "drusens": "drusen",
    "hypertensive_retinopathy": "hypertensive retinopathy", "hemorrhage": "non-diabetic haemorrhage", "other": "other finding",
    "retinal_detachment": "retinal detachment", "myopic_fundus": "myopic fundus", "increased_cup_disc": "increased cup-to-disc ratio",
}  # fmt: skip
SCOTTISH = (
    "none",
    "mild background",
    "observable background",
    "referable background",
    "proliferative",
)  # SDRG R0..R4
# sentence -> wordings, the first of them the one of evaluation; {} is filled by SAY
WORDINGS = {
    "person": (
        "{a}-year-old {p}.",
        "{p}, {a} years old.",
        "Age {a}, {p}.",
        "A {p} of {a} years.",
        "The patient is a {a}-year-old {p}.",
    ),
    "sex": ("{p}.", "A {p}.", "The patient is a {p}.", "Sex: {p}.", "Seen: a {p}."),
    "age": (
        "{a} years old.",
        "Age {a}.",
        "Aged {a} years.",
        "{a} years of age.",
        "The patient is {a} years old.",
    ),
    "diabetes": (
        "Diabetes{d}{i}.",
        "Diabetic{d}{i}.",
        "Known diabetes{d}{i}.",
        "Has diabetes{d}{i}.",
        "History of diabetes{d}{i}.",
    ),
    "no_diabetes": (
        "No diabetes.",
        "Not diabetic.",
        "Without diabetes.",
        "Has no diabetes.",
        "No history of diabetes.",
    ),
    "comorbidity": ("{c}.", "Also {c}.", "Known {c}.", "History of {c}.", "Comorbidity: {c}."),
    "eye": (
        "{e} eye.",
        "Photograph of the {e} eye.",
        "The {e} eye.",
        "Eye: {e}.",
        "Fundus of the {e} eye.",
    ),
    "anatomy": ("{x}.", "Anatomy: {x}.", "Seen: {x}.", "On inspection {x}.", "Fundus with {x}."),
    "finding": ("{f}.", "Shows {f}.", "There is {f}.", "Finding: {f}.", "With {f}."),
    "icdr": ("{g}.", "ICDR grade: {g}.", "Graded {g}.", "Impression: {g}.", "Consistent with {g}."),
    "sdrg": (
        "Scottish grade {s}.",
        "SDRG: {s}.",
        "On the Scottish scale {s}.",
        "Scottish scale: {s}.",
        "SDRG grade {s}.",
    ),
    "description": ("{t}.", "Description: {t}.", "Seen: {t}.", "Report: {t}.", "Described as {t}."),
}
# words that tell a grade or a finding: none may stand in a text that a classifier reads
LABEL_WORDS = re.compile(
    r"\b(retinopath\w*|n?pdr|prolifer\w*|icdr|sdrg|scottish|grade\w*|drusen\w*|o?edema\w*|h(a)?emorrhag\w*|exudate\w*|aneurysm\w*|macula\w*|"
    r"na?ev\w*|scars?|occlusion\w*|detach\w*|myopi\w*|cup|cotton|irma|neovascular\w*|abnormal|normal|disc|vessels?|glaucoma\w*|laser)\b",
    re.I,
)
LONG_DIGITS = re.compile(r"\d{6,}|\d{4}-\d{2}-\d{2}|\S+@\S+\.\S+")


def said(row, kind, with_grades=False):
    """What is verbalised of an eye, in the fixed order of evaluation: a tuple of (sentence, values).

    row : a row of the eye table as a mapping;  kind : a key of KINDS
    """
    parts = KINDS.get(kind)
    if parts is None:
        raise DataError(f"text {kind!r} is unknown; choose {', '.join(KINDS)}")
    found = []
    if "history" in parts:
        found += _history(row)
    if "findings" in parts:
        found += _findings(row)
        if with_grades:
            found += [(name, (int(row[name]),)) for name in ("icdr", "sdrg") if row[name] >= 0]
    if "description" in parts and row["description"]:
        found.append(("description", (row["description"],)))
    return tuple(found)


def _history(row):
    age, sex = row["age"], row["sex"]
    if age == age:
        yield ("person", (int(age), sex)) if sex else ("age", (int(age),))
    elif sex:
        yield "sex", (sex,)
    if row["diabetes"] == "yes":
        years = row["diabetes_years"]
        yield "diabetes", (int(years) if years == years else None, row["insulin"])
    elif row["diabetes"] == "no":
        yield "no_diabetes", ()
    for name in COMORBIDITIES:
        if row[name] == "yes":
            yield "comorbidity", (name,)


def _findings(row):
    if row["eye"]:
        yield "eye", (row["eye"],)
    anatomy = tuple((name, int(row[name])) for name in ANATOMY if row[name] == row[name])
    if anatomy:
        yield "anatomy", anatomy
    for name in FLAGS:
        if row[name] == 1:
            yield "finding", (name,)
    for word in filter(None, row["keywords"].split("|")):
        yield "finding", (word,)


def content(eyes, kind, with_grades=False):
    """(N,) tuples of the verbalised values: equal if and only if the same is said."""
    return [said(row, kind, with_grades) for row in eyes.to_dict("records")]


def sentence(name, values, wording=0):
    """One sentence; wording: index into WORDINGS[name]."""
    fill = dict.fromkeys("apdicexfgst", "")
    if name in ("person", "sex", "age"):
        years = [value for value in values if isinstance(value, int)]
        fill |= {
            "a": str(years[0]) if years else "",
            "p": PERSON[next((value for value in values if isinstance(value, str)), "")],
        }
    elif name == "diabetes":
        years, insulin = values
        fill["d"] = "" if years is None else f" for {years} year{'s' * (years != 1)}"
        fill["i"] = {"yes": ", on insulin", "no": ", without insulin", "": ""}[insulin]
    elif name == "anatomy":
        fill["x"] = ", ".join(
            f"{part.replace('_', ' ')} {('normal', 'abnormal')[state]}" for part, state in values
        )
    elif name == "icdr":
        fill["g"] = "no diabetic retinopathy" if values[0] == 0 else GRADES[values[0]]
    elif name == "sdrg":
        fill["s"] = SCOTTISH[values[0]]
    elif values:
        word = (
            values[0].replace("_", " ")
            if name == "comorbidity"
            else NAMES.get(values[0], values[0])
        )
        fill |= dict.fromkeys("ceft", word.strip(" ."))
    text = WORDINGS[name][wording].format(**fill)
    return text[0].upper() + text[1:]


def text(found, draw=None):
    """Sentences of `said` as one text. draw: numpy Generator that picks wordings and order (training), or None (evaluation)."""
    if draw is None:
        return " ".join(sentence(name, values) for name, values in found)
    order = draw.permutation(len(found))
    return " ".join(
        sentence(*found[place], int(draw.integers(len(WORDINGS[found[place][0]]))))
        for place in order
    )


def narrate(found, seed=None, epoch=0, rows=None):
    """Texts of `content`. seed None: evaluation, one fixed text per content; else a function of (seed, epoch, row)."""
    if seed is None:
        return [text(one) for one in found]
    rows = range(len(found)) if rows is None else rows
    return [
        text(one, np.random.default_rng((seed, epoch, int(row), 77)))
        for one, row in zip(found, rows, strict=True)
    ]


def refuse_labels(texts, where):
    """DataError where a text that a classifier reads holds a word of a grade or a finding."""
    for row, one in enumerate(texts):
        if found := LABEL_WORDS.search(one):
            raise DataError(
                f"{where}: row {row}: the word {found[0]!r} tells the grade or a finding; a classifier may not read it"
            )


def refuse_identifiers(texts, eyes, where):
    """DataError where a text holds its patient's or its image's name, a long number, a date or an address.

    Names of fewer than four characters cannot be told from an age and are not looked for.
    """
    stems = eyes["image"].str.replace(r".*/|\.\w+$", "", regex=True)
    names = [
        {patient.rpartition("/")[2], stem}
        for patient, stem in zip(patients_of(eyes), stems, strict=True)
    ]
    for row, (one, known) in enumerate(zip(texts, names, strict=True)):
        words = set(re.findall(r"[\w.-]+", one))
        told = sorted(
            name for name in known if len(name) > 3 and name in {word.strip(".") for word in words}
        )
        number = LONG_DIGITS.search(one)
        if told or number:
            what = (
                "its patient's or image's name" if told else "a long number, a date or an address"
            )
            raise DataError(
                f"{where}: row {row}: the text holds {what}; take it out of the columns"
            )


def lengths(counts, limit=77):
    """(N,) tokens per text -> mean, longest, and share above CLIP's limit."""
    counts = np.asarray(counts)
    return {
        "mean": float(counts.mean()),
        "longest": int(counts.max()),
        "above_77": float((counts > limit).mean()),
    }
