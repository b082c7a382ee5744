"""Clinical texts name the grade and the lesions of their eye, and no others."""

import re

import numpy as np
import pytest
from helpers.eyes import EXAMPLES

from clipdr.data.synthetic.clinical_text import GRADE_WORDS, describe


def named(text):
    """Grades whose names are in a text."""
    grades = set()
    for grade, words in enumerate(GRADE_WORDS):
        if re.search(rf"(?<![-\w]){re.escape(words)}", text, re.IGNORECASE):
            grades.add(grade)
    return grades


@pytest.mark.parametrize("grade", range(5))
def test_text_names_only_the_grade_and_lesions_of_its_eye(grade):
    stated = 0
    for k, findings in enumerate(EXAMPLES[grade]):
        text = describe(findings, 0.4, 0.5, np.random.default_rng([k, 1]))
        assert named(text) <= {grade}, text
        stated += named(text) == {grade}
        lower = re.sub(r"\bno [^.]*|without [^.]*", "", text.lower())  # negations
        has = {
            "microaneurysm": findings.microaneurysms > 0,
            "intraretinal haemorrhage|dot and blot": any(findings.haemorrhages),
            "exudate": bool(findings.exudates),
            "cotton-wool": findings.cotton_wool > 0,
            "venous beading": bool(findings.beading),
            "irma|microvascular": bool(findings.irma),
            "neovascularisation|new vessels": findings.disc_vessels or bool(findings.vessels),
            "preretinal": bool(findings.preretinal),
            "vitreous haemorrhage": findings.vitreous,
            "laser": findings.laser,
        }
        for words, present in has.items():
            assert bool(re.search(words, lower)) == present, (words, text)
    assert 0.5 * len(EXAMPLES[grade]) < stated < len(EXAMPLES[grade])
