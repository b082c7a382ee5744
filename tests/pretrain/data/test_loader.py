"""Batches of patients: planning, augmentation with laterality kept, membership of the levels."""

import numpy as np
import pytest
import torch
from helpers import patients as cohort
from helpers.pretrain_toy import model_and_visits

from clipdr import DataError
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.data.eye_augmentation import mirrored
from clipdr.pretrain.data.loader import plan
from clipdr.pretrain.settings import PRESETS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort.make(folder, monocular=4)
    return folder


@pytest.fixture(scope="module")
def table(data):
    return patients_table.read(data / "patients" / "toy.csv")


def test_mirror_swap_keeps_laterality(table, data):
    """Mirroring twice is the identity; once exchanges the eyes and flips their images."""
    image, present = (
        torch.rand(3, 2, 3, 8, 8),
        torch.tensor([[True, False], [True, True], [False, True]]),
    )
    member, chosen = (
        torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool),
        torch.tensor([True, False, True]),
    )
    once = mirrored(image, present, member, chosen)
    assert torch.equal(once[0][0, 0], image[0, 1].flip(-1))
    assert torch.equal(once[0][1], image[1])
    twice = mirrored(*once, chosen)
    assert all(
        torch.equal(one, other) for one, other in zip(twice, (image, present, member), strict=True)
    )
    _, train, _ = model_and_visits(table, data, flip="mirror_swap", text_split="side")
    swapped, plain = train.texts(mirrored=True), train.texts()
    assert (swapped[:, 0] == plain[:, 1]).all()
    assert (swapped[:, 1] == plain[:, 0]).all()
    assert all(
        other.startswith("Right eye: ")
        for one, other in zip(plain[:, 2], swapped[:, 2], strict=True)
        if one.startswith("Left eye")
    )
    rows = np.arange(len(train))
    batch = train.batch(rows, 0, 0)
    flipped = np.array([not torch.equal(batch.token[row], train.token[row]) for row in rows])
    assert 0 < flipped.sum() < len(rows)
    for row in rows:
        unflipped = batch.image[row].flip(-1).flip(0) if flipped[row] else batch.image[row]
        assert torch.allclose(unflipped, train.batch(rows[row : row + 1]).image[0], atol=1e-6)


def test_no_training_image_is_mirrored_by_default(table, data):
    """`none` mirrors no image, `upstream` about half of them."""
    flipped = {}
    for flip in ("none", "upstream"):
        _, train, _ = model_and_visits(table, data, flip=flip)
        rows = np.arange(len(train))
        image, plain = (
            train.batch(rows, 0, 0).image[train.present],
            train.batch(rows).image[train.present],
        )
        flipped[flip] = [
            torch.allclose(one, other.flip(-1), atol=1e-6)
            for one, other in zip(image, plain, strict=True)
        ]
    assert not any(flipped["none"])
    assert 0.3 < np.mean(flipped["upstream"]) < 0.7
    assert PRESETS["paper"].flip == PRESETS["small"].flip == "none"


def test_mirror_swap_without_texts_per_eye_is_refused(table, data):
    with pytest.raises(DataError, match="whole report only"):
        model_and_visits(table.assign(text_left=""), data, flip="mirror_swap")


def test_eye_of_unknown_side_takes_part_at_patient_level_only(table, data):
    _, train, _ = model_and_visits(table.assign(side_known="0"), data)
    assert not train.member[:2].any()
    assert train.member[2].all()


def test_empty_report_takes_part_at_no_level(table, data):
    _, train, _ = model_and_visits(table.assign(text=""), data)
    assert not train.member.any()


def test_no_patient_is_twice_in_a_batch():
    patient = np.array([f"p{number // 2}" for number in range(60)])
    batches = plan(patient, 10, 3, 0)
    assert len(batches) >= 15
    for epoch in range(3):
        rows = np.concatenate([rows for one, rows in batches if one == epoch])
        assert len(set(rows)) == len(rows)
    assert all(len(set(patient[rows])) == 10 for _, rows in batches)
    assert [rows.tolist() for _, rows in batches] == [
        rows.tolist() for _, rows in plan(patient, 10, 3, 0)
    ]


def test_batch_is_a_function_of_seed_epoch_and_row(table, data):
    _, train, _ = model_and_visits(table, data, crop=0.7, jitter=0.3, rotate=10, erase=0.5)
    whole, part = train.batch(np.array([3, 8, 5]), 1, 0), train.batch(np.array([8]), 1, 0)
    assert torch.equal(whole.image[1], part.image[0])
    assert not torch.equal(train.batch(np.array([8]), 2, 0).image[0], part.image[0])
    assert (whole.image >= 0).all()
    assert (whole.image <= 1).all()
