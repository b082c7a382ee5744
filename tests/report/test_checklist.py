"""Checklists: complete and in order, and no item that nothing answers looks answered."""

import re

import pytest

from clipdr.report.checklist import AUTHOR, CLAIM, TRIPOD, Fact, Item, answer, counted
from clipdr.report.page import layout

SECTIONS = {"summary", *layout.SECTIONS}


def test_claim_has_all_items_in_order():
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 45)]


def test_tripod_has_all_items_and_parts():
    """Collins et al. 2024: items 3, 5, 6, 8, 9, 12, 18, 20, 23 and 27 have parts."""
    parts = {
        3: "abc",
        5: "ab",
        6: "abc",
        8: "abc",
        9: "abc",
        12: "abcdefg",
        18: "abcdef",
        20: "abc",
        23: "ab",
        27: "abc",
    }
    expected = [f"{number}{part}" for number in range(1, 28) for part in parts.get(number, [""])]
    assert [item.number for item in TRIPOD] == expected
    assert len(expected) == 52


@pytest.mark.parametrize("items", [TRIPOD, CLAIM], ids=["tripod", "claim"])
def test_items_are_unique(items):
    assert len({item.number for item in items}) == len({item.words for item in items}) == len(items)


@pytest.mark.parametrize("items", [TRIPOD, CLAIM], ids=["tripod", "claim"])
def test_without_facts_every_item_is_the_authors(items):
    assert {one.status for one in answer(items, {})} == {AUTHOR}


def test_item_needs_all_its_facts_to_be_answered():
    items = (
        Item("1", "a", ("x", "y")),
        Item("2", "b", ("x",), "the rest"),
        Item("3", "c", ("y",)),
        Item("4", "d"),
        Item("5", "e", ("x",)),
    )
    answers = answer(items, {"x": Fact("n = 3", "data")})
    assert [one.status for one in answers] == ["in part", "in part", AUTHOR, AUTHOR, "answered"]
    assert answers[0].rest == "this study has no artefact for: y"
    assert counted(answers) == {"answered": 1, "in part": 2, AUTHOR: 2}


def test_wording_of_items_is_short():
    """Our own words, not the published ones."""
    assert all(
        len(item.words) < 75 and not re.search(r"[<>]", item.words.replace(">=", ""))
        for item in (*TRIPOD, *CLAIM)
    )
