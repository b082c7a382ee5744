"""Narratives: determinism, missing values, wordings, identifiers and label words."""

import numpy as np
import pytest

from clipdr import DataError
from clipdr.evaluation.retrieval import contents, upper_bound
from clipdr.multimodal.data import eye_table, narrative, planted_faults, sentences


def test_narrative_is_a_function_of_statements_seed_epoch_and_row(eyes):
    statements = narrative.table_statements(eyes, "full", True)
    texts = narrative.narrate(statements)
    assert texts == narrative.narrate(narrative.table_statements(eyes, "full", True))
    first, second = (narrative.narrate(statements, 0, epoch) for epoch in (1, 2))
    assert first == narrative.narrate(statements, 0, 1)
    assert first != second
    assert "unknown" not in " ".join(texts).lower()


def test_narrative_texts_are_equal_if_and_only_if_statements_are(eyes):
    statements = narrative.table_statements(eyes, "full", True)
    texts, by_statements = narrative.narrate(statements), {}
    for key, text in zip(statements, texts, strict=True):
        by_statements.setdefault(key, set()).add(text)
    assert all(len(members) == 1 for members in by_statements.values())
    assert len(by_statements) == len(set(texts))


def test_narrative_missing_values_leave_their_sentences_out(eyes):
    missing = eyes.head(1).assign(age=np.nan, sex="", diabetes="", hypertension="")
    assert narrative.narrate(narrative.table_statements(missing, "history")) == [""]


def test_narrative_history_states_age_sex_duration_and_insulin(eyes):
    row = eyes.iloc[0].to_dict() | {
        "age": 57.0,
        "sex": "female",
        "diabetes": "yes",
        "diabetes_years": 12.0,
        "insulin": "yes",
    }
    row |= dict.fromkeys(eye_table.COMORBIDITIES, "")
    text = narrative.text(narrative.statements(row, "history"))
    assert text == "57-year-old woman. Diabetes for 12 years, on insulin."


def test_wordings_of_each_sentence_are_five_or_more_and_distinct():
    for wordings in sentences.WORDINGS.values():
        assert len(wordings) >= 5
        assert len(set(wordings)) == len(wordings)


def test_narrative_planted_identifier_is_refused(eyes):
    planted = planted_faults.FAULTS["plant_identifier_in_text"](eyes, np.random.default_rng(0))
    texts = narrative.narrate(narrative.table_statements(planted, "findings"))
    with pytest.raises(DataError, match="patient's or image's name"):
        narrative.refuse_identifiers(texts, planted, "narratives")
    texts = narrative.narrate(narrative.table_statements(eyes, "findings"))
    narrative.refuse_identifiers(texts, eyes, "narratives")


def test_classifier_text_with_a_label_word_is_refused(eyes):
    history = narrative.narrate(narrative.table_statements(eyes, "history"))
    narrative.refuse_labels(history, "history")
    full = narrative.narrate(narrative.table_statements(eyes, "full", True))
    with pytest.raises(DataError, match="reveals the grade"):
        narrative.refuse_labels(full, "full")


def test_duplicate_captions_lower_the_upper_bound(eyes):
    planted = planted_faults.FAULTS["duplicate_captions"](eyes, np.random.default_rng(0))
    statements = narrative.table_statements(planted, "findings")
    original = narrative.table_statements(eyes, "findings")
    assert upper_bound(contents(statements), 1) < upper_bound(contents(original), 1)
