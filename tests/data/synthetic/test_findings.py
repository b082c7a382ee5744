"""Findings and their two grading scales."""

import numpy as np
import pytest
from helpers.eyes import EXAMPLES

from clipdr.data.synthetic.findings import MANY, QUADRANTS, Findings, icdr, scottish


@pytest.mark.parametrize("grade", range(5))
def test_findings_meet_the_definition_of_their_grade(grade):
    assert {icdr(findings) for findings in EXAMPLES[grade]} == {grade}


def test_scales_agree_with_hand_graded_findings():
    assert icdr(Findings()) == scottish(Findings()) == 0
    assert icdr(Findings(microaneurysms=1)) == 1
    assert icdr(Findings(microaneurysms=3, cotton_wool=1)) == 2
    many = (MANY,) * 4
    assert icdr(Findings(haemorrhages=many)) == 3
    assert icdr(Findings(haemorrhages=(*many[:3], MANY - 1))) == 2
    assert icdr(Findings(beading=QUADRANTS[:1])) == 2
    assert icdr(Findings(beading=QUADRANTS[:2])) == icdr(Findings(irma=QUADRANTS[:1])) == 3
    assert icdr(Findings(preretinal=QUADRANTS[2:3])) == icdr(Findings(vitreous=True)) == 4
    assert scottish(Findings(haemorrhages=(4, 0, 0, 0))) == 2
    assert scottish(Findings(haemorrhages=(4, 0, 4, 0))) == 3


def test_neighbouring_grades_overlap_in_counts():
    for milder, worse, count in (
        (1, 2, lambda f: f.microaneurysms),
        (2, 3, lambda f: sum(f.haemorrhages)),
    ):
        low, high = [count(f) for f in EXAMPLES[milder]], [count(f) for f in EXAMPLES[worse]]
        assert max(low) > min(high)
        assert np.mean(low) < np.mean(high)
