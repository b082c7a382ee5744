"""ODIR's keywords: how a cell is split, and which DR grade its words name."""

import pytest

from clipdr.data.sources.odir import keywords, stated_grade


def test_both_kinds_of_comma_part_keywords_and_their_order_stays():
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
def test_the_grade_that_keywords_name(words, expected):
    assert stated_grade(words) == expected
