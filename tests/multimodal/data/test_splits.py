"""Splits by patient, and the leaky split by image."""

import pytest
import torch
from helpers.multimodal_toy import built

from clipdr import DataError
from clipdr.multimodal.data import splits


def test_split_by_patient_shares_no_patient_and_ignores_row_order(eyes):
    assert splits.shared_patients(eyes) == 0
    assert set(eyes["split"]) == {"train", "val", "test"}
    shuffled = splits.split(eyes.sample(frac=1, random_state=1), 0)
    assert splits.manifest_digest(eyes) == splits.manifest_digest(shuffled)


def test_split_by_image_shares_most_patients_and_is_refused(eyes):
    leaky = splits.split_images(eyes, 0)
    assert splits.shared_patients(leaky) > 0.6
    with pytest.raises(DataError, match="more than one split"):
        splits.check_split(leaky)


def test_shuffled_rows_are_those_of_another_patient(packed):
    _, datasets = built(packed)
    train = datasets["train"]
    patient = splits.patients_of(train.eyes).to_numpy()
    other = splits.other_patients(patient, 0)
    assert (patient[other] != patient).all()
    assert torch.equal(train.with_shuffled_rows(0).row, train.row[other])
