"""Keywords of ODIR-5K: split of a cell, and the DR grade that the keywords state."""

import pytest

from clipdr.data.sources.odir import keywords, stated_grade


def test_keywords_are_split_at_both_kinds_of_comma():
    cell = "Drusen\uff0c mild  nonproliferative retinopathy,,lens dust "
    assert keywords(cell) == ["Drusen", "mild nonproliferative retinopathy", "lens dust"]
    assert keywords(" ") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["normal fundus"], 0),
        (["mild nonproliferative retinopathy"], 1),
        (["drusen", "Moderate non proliferative retinopathy"], 2),
        (["severe nonproliferative retinopathy"], 3),
        (["proliferative diabetic retinopathy"], 4),
        (["suspected diabetic retinopathy"], -1),
        (["hypertensive retinopathy"], 0),
        ([], 0),
    ],
)
def test_stated_grade_is_the_first_match(words, expected):
    assert stated_grade(words) == expected
