"""Structured data of a classifier: allow-list, missing flags and placeholders."""

import numpy as np
import pytest

from clipdr import DataError
from clipdr.multimodal.data import eye_table, planted_faults, splits, structured_data
from clipdr.multimodal.data.synthetic_eyes import synthetic
from clipdr.multimodal.evaluation import baselines, sanity_checks


def encoded(table, inputs, train=None):
    constants = structured_data.fit_constants(table if train is None else train)
    return structured_data.encode(structured_data.select(table, inputs), constants)


def test_inputs_denied_cells_changed_stay_byte_identical(eyes):
    is_train = eyes["split"] == "train"
    for inputs in eye_table.ALLOWED:
        before = encoded(eyes, inputs, eyes[is_train])
        other = sanity_checks.overwrite_denied(eyes, np.random.default_rng(0))
        changed = [
            name
            for name in eye_table.DENIED
            if name not in ("row", "split") and not other[name].equals(eyes[name])
        ]
        assert len(changed) == len(eye_table.DENIED) - 2  # `row` and `split` are indices
        after = encoded(other, inputs, other[is_train])
        assert before.tobytes() == after.tobytes()
        assert before.shape[1] == {"demo": 8, "history": 18}[inputs]


def test_every_column_is_classified_and_a_new_one_is_refused(eyes):
    classified = set(eye_table.ALLOWED["history"]) | set(eye_table.DENIED)
    assert set(eye_table.COLUMNS) == classified
    with pytest.raises(DataError, match="classify them"):
        eye_table.check_table(eyes.assign(iris=1), "table")
    with pytest.raises(DataError, match="denied"):
        structured_data.check_columns(["age", "icdr"])


def test_missingness_leak_planted_is_reported_and_demo_stays_identical():
    table = splits.split(synthetic("SIM_DEEPDR", 200, 1), 0)
    leaky = planted_faults.FAULTS["plant_missingness_leak"](table, np.random.default_rng(0))

    def auroc(table):
        train, test = (table[table["split"] == name] for name in ("train", "test"))
        probability = baselines.logistic(
            structured_data.missing_flags(train),
            train["icdr"].to_numpy(),
            {"test": structured_data.missing_flags(test)},
        )["test"]
        return baselines.any_retinopathy(baselines.to_logits(probability), test["icdr"].to_numpy())

    assert auroc(leaky) > 0.7 > 0.05 + auroc(table) or auroc(leaky) > max(0.7, auroc(table))
    assert encoded(table, "demo").tobytes() == encoded(leaky, "demo").tobytes()


def test_duration_or_insulin_without_diabetes_is_refused(eyes):
    for name in ("diabetes_years", "insulin"):
        with pytest.raises(DataError, match=f"{name} without diabetes"):
            structured_data.check_columns(["age", name])
    with pytest.raises(DataError, match="belong to history"):
        structured_data.select(eyes, "diabetes_years")


def test_history_without_diabetes_has_one_code_whatever_the_cells_hold(eyes):
    constants = structured_data.fit_constants(eyes)
    healthy = eyes[eyes["diabetes"] == "no"]
    assert len(healthy)
    rows, other = (
        structured_data.encode(structured_data.select(table, "history"), constants)
        for table in (healthy, healthy.assign(diabetes_years=9.0, insulin="yes"))
    )
    assert rows.tobytes() == other.tobytes()
    assert not rows[:, 9:14].any()


def test_placeholder_age_sets_no_missing_flag(eyes):
    constants = structured_data.fit_constants(eyes)
    child = structured_data.replace_placeholders(eyes.assign(age=1.0), constants)
    rows = structured_data.encode(structured_data.select(child, "demo"), constants)
    assert not rows[:, 1].any()
