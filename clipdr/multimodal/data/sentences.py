"""Wordings of the sentences of a narrative.

Each sentence has five or more wordings. Evaluation uses the first, training samples one. An edit of
a wording changes the vocabulary of the small tokenizer, so trained models no longer fit.
"""

from __future__ import annotations

from typing import Any

from clipdr import GRADES

PERSON = {"female": "woman", "male": "man", "": "patient"}
NAMES = {  # column of a finding -> its name in a text
    "diabetic_retinopathy": "diabetic retinopathy",
    "macular_edema": "macular oedema",
    "scar": "scar",
    "nevus": "naevus",
    "amd": "age-related macular degeneration",
    "vascular_occlusion": "vascular occlusion",
    "drusens": "drusen",
    "hypertensive_retinopathy": "hypertensive retinopathy",
    "hemorrhage": "non-diabetic haemorrhage",
    "other": "other finding",
    "retinal_detachment": "retinal detachment",
    "myopic_fundus": "myopic fundus",
    "increased_cup_disc": "increased cup-to-disc ratio",
}
SCOTTISH = (  # SDRG R0 to R4
    "none",
    "mild background",
    "observable background",
    "referable background",
    "proliferative",
)
IMAGE_NOUN = "Photograph"  # a word of the vocabulary of every trained model
WORDINGS = {  # sentence -> wordings, the first of them that of evaluation
    "person": (
        "{age}-year-old {person}.",
        "{person}, {age} years old.",
        "Age {age}, {person}.",
        "A {person} of {age} years.",
        "The patient is a {age}-year-old {person}.",
    ),
    "sex": (
        "{person}.",
        "A {person}.",
        "The patient is a {person}.",
        "Sex: {person}.",
        "Seen: a {person}.",
    ),
    "age": (
        "{age} years old.",
        "Age {age}.",
        "Aged {age} years.",
        "{age} years of age.",
        "The patient is {age} years old.",
    ),
    "diabetes": (
        "Diabetes{duration}{insulin}.",
        "Diabetic{duration}{insulin}.",
        "Known diabetes{duration}{insulin}.",
        "Has diabetes{duration}{insulin}.",
        "History of diabetes{duration}{insulin}.",
    ),
    "no_diabetes": (
        "No diabetes.",
        "Not diabetic.",
        "Without diabetes.",
        "Has no diabetes.",
        "No history of diabetes.",
    ),
    "comorbidity": (
        "{comorbidity}.",
        "Also {comorbidity}.",
        "Known {comorbidity}.",
        "History of {comorbidity}.",
        "Comorbidity: {comorbidity}.",
    ),
    "eye": (
        "{eye} eye.",
        IMAGE_NOUN + " of the {eye} eye.",
        "The {eye} eye.",
        "Eye: {eye}.",
        "Fundus of the {eye} eye.",
    ),
    "anatomy": (
        "{anatomy}.",
        "Anatomy: {anatomy}.",
        "Seen: {anatomy}.",
        "On inspection {anatomy}.",
        "Fundus with {anatomy}.",
    ),
    "finding": (
        "{finding}.",
        "Shows {finding}.",
        "There is {finding}.",
        "Finding: {finding}.",
        "With {finding}.",
    ),
    "icdr": (
        "{icdr}.",
        "ICDR grade: {icdr}.",
        "Graded {icdr}.",
        "Impression: {icdr}.",
        "Consistent with {icdr}.",
    ),
    "sdrg": (
        "Scottish grade {sdrg}.",
        "SDRG: {sdrg}.",
        "On the Scottish scale {sdrg}.",
        "Scottish scale: {sdrg}.",
        "SDRG grade {sdrg}.",
    ),
    "description": (
        "{description}.",
        "Description: {description}.",
        "Seen: {description}.",
        "Report: {description}.",
        "Described as {description}.",
    ),
}


def sentence(name: str, values: tuple[Any, ...], wording: int = 0) -> str:
    """Verbalise one statement.

    Args:
        name: Sentence, a key of `WORDINGS`.
        values: Values of the statement, as of `narrative.statements`.
        wording: Index into `WORDINGS[name]`.

    Returns:
        The sentence, its first letter in upper case.
    """
    text = WORDINGS[name][wording].format(**_fields(name, values))
    return text[0].upper() + text[1:]


def _fields(name: str, values: tuple[Any, ...]) -> dict[str, str]:
    """Texts of the fields in the wordings of one sentence."""
    if name in ("person", "sex", "age"):
        years = [value for value in values if isinstance(value, int)]
        sex = next((value for value in values if isinstance(value, str)), "")
        return {"age": str(years[0]) if years else "", "person": PERSON[sex]}
    if name == "diabetes":
        years, insulin = values
        return {
            "duration": "" if years is None else f" for {years} year{'s' * (years != 1)}",
            "insulin": {"yes": ", on insulin", "no": ", without insulin", "": ""}[insulin],
        }
    if name == "anatomy":
        states = ("normal", "abnormal")
        names = [f"{part.replace('_', ' ')} {states[state]}" for part, state in values]
        return {"anatomy": ", ".join(names)}
    if name == "icdr":
        grade = values[0]
        return {"icdr": "no diabetic retinopathy" if grade == 0 else GRADES[grade]}
    if name == "sdrg":
        return {"sdrg": SCOTTISH[values[0]]}
    if not values:
        return {}
    value: str = values[0]
    text = value.replace("_", " ") if name == "comorbidity" else NAMES.get(value, value)
    return {name: text.strip(" .")}
