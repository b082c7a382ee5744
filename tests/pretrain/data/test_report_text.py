"""Cleaning of reports, possible identifiers, exchange of sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdr.pretrain.data import report_text

WORDS = [
    "left",
    "right",
    "OD",
    "OS",
    "no",
    "not",
    "without",
    "NPDR",
    "C/D",
    "0.4",
    "\uff0c",
    ",",
    ".",
    " ",
    "macula",
    "\u200b",
    "\u3002",
    "左",
    "右",
    "无",
]


TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.text(max_size=40))


@given(TEXTS)
def test_clean_twice_equals_clean_once(text):
    assert report_text.clean(report_text.clean(text)) == report_text.clean(text)


@given(st.lists(st.sampled_from([word for word in WORDS if word.strip()]), max_size=14))
def test_clean_keeps_side_words_and_negations(words):
    cleaned = report_text.clean(" ".join(words)).lower()
    for word, sense in {
        "left": ("left", "os"),
        "right": ("right", "od"),
        "no": ("no",),
        "not": ("not",),
        "without": ("without",),
    }.items():
        wanted = sum(one.lower() in sense for one in words)
        assert (
            len([one for one in cleaned.replace(",", " ").replace(".", " ").split() if one == word])
            == wanted
        )
    assert cleaned.count("左") == words.count("左")
    assert cleaned.count("无") == words.count("无")


def test_clean_expands_abbreviations_and_unifies_punctuation():
    assert report_text.clean("OD: mild NPDR\uff0cC/D 0.4 ,,  od ok") == (
        "right eye: mild non-proliferative diabetic retinopathy, cup-to-disc ratio 0.4, od ok"
    )
    assert report_text.clean("ODYSSEY PDRs") == "ODYSSEY PDRs"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("id 1234567", ["number"]),
        ("seen 2019-03-04", ["date"]),
        ("a.b@c.org", ["e-mail"]),
        ("C/D 0.4", []),
    ],
)
def test_identifiers_finds_numbers_dates_and_addresses(text, kinds):
    assert report_text.identifiers(text) == kinds


@given(TEXTS)
def test_swap_sides_twice_is_the_identity(text):
    cleaned = report_text.clean(text.replace("İ", "I"))
    assert report_text.swap_sides(report_text.swap_sides(cleaned)) == cleaned
