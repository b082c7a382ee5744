"""Batches: a function of (seed, step), complete epochs, right rows, samplers, two views."""

import numpy as np
import pandas as pd
import pytest
import torch

from clipdr.data.augmentation import AUGMENTS, Augment
from clipdr.data.loader import Features, Images


@pytest.fixture
def rows():
    count, side = 23, 40
    array = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    frame = pd.DataFrame(
        {
            "domain": ["A"] * 12 + ["B"] * 11,
            "row": [*range(12), *range(11)],
            "grade": np.resize(range(5), count),
        }
    )
    frame[["cx", "cy", "r", "w", "h"]] = 20.0
    return frame, {"A": array[:12], "B": array[12:]}


def images(rows, augmented="shared", side=32):
    return Images(*rows, ["A", "B"], side, augmented)


def same(one, two):
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(one, two, strict=True)
    )


def test_batch_is_a_function_of_seed_and_step(rows):
    one, two = images(rows), images(rows)
    for step in range(5):
        one.batch(step, 5, seed=1)
    assert same(one.batch(7, 5, seed=1), two.batch(7, 5, seed=1))
    assert not torch.equal(one.batch(7, 5, seed=1).image, one.batch(7, 5, seed=2).image)
    assert not torch.equal(one.batch(3, 5, seed=1).image, one.batch(7, 5, seed=1).image)


def test_epoch_has_every_row_once_without_an_incomplete_batch(rows):
    frame, arrays = rows
    frame = frame.assign(grade=range(len(frame)))  # so that a grade identifies its row
    epoch = torch.cat(
        [Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4)]
    )
    assert len(set(epoch.tolist())) == 20
    second = torch.cat(
        [Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4, 8)]
    )
    assert epoch.tolist() != second.tolist()


def test_fold_smaller_than_a_batch_is_one_batch(rows):
    assert len(images(rows).batch(3, 100, seed=0).grade) == 23


def test_chunks_are_unaugmented_and_in_order(rows):
    frame, arrays = rows
    whole = torch.cat([chunk.image.clone() for chunk in images(rows, side=40).chunks(7)])
    expected = np.concatenate([arrays["A"], arrays["B"]]).transpose(0, 3, 1, 2) / np.float32(255)
    assert np.allclose(whole.numpy(), expected, atol=1e-7)
    last = list(images(rows).chunks(7))[-1]
    assert last.grade.tolist() == frame.grade[-2:].tolist()
    assert last.domain.tolist() == [1, 1]


def test_batches_do_not_share_memory(rows):
    loader = images(rows, "none")
    first = loader.batch(0, 5, 0).image
    copy = first.clone()
    loader.batch(1, 5, 0)
    assert torch.equal(first, copy)


def test_features_equal_the_cached_rows(rows):
    frame, _ = rows
    cache = {
        "A": np.random.rand(12, 4).astype(np.float32),
        "B": np.random.rand(11, 4).astype(np.float32),
    }
    chunk = next(Features(frame, cache, ["A", "B"]).chunks(23))
    assert np.array_equal(chunk.image.numpy(), np.concatenate([cache["A"], cache["B"]]))


@pytest.fixture
def long_tailed(rows):
    """23 images of two domains; 8 of the 10 pairs of domain and grade exist.

    A grade does not identify a row, `row` does.
    """
    frame, arrays = rows
    grade = [0] * 5 + [1, 2, 2, 2, 3, 3, 4] + [0, 0, 0, 4] + [1] * 7
    return frame.assign(grade=grade), arrays


@pytest.mark.parametrize(
    ("sampler", "field", "groups"), [("domain", "domain", 2), ("class", "grade", 5)]
)
def test_batch_has_an_equal_share_of_each_group(long_tailed, sampler, field, groups):
    loader = Images(*long_tailed, ["A", "B"], 32)
    for step in range(9):
        batch = loader.batch(step, 11, 0, sampler)
        assert len(batch.grade) == loader.size(11, sampler) == 10
        assert torch.bincount(getattr(batch, field)).tolist() == [10 // groups] * groups


def test_groups_that_exceed_a_batch_take_turns(long_tailed):
    """8 pairs of domain and grade exist; 8 batches of 3 images have each of them three times."""
    loader = Images(*long_tailed, ["A", "B"], 32)
    batches = [loader.batch(step, 3, 0, "domain_class") for step in range(8)]
    pairs = torch.cat([5 * batch.domain + batch.grade for batch in batches])[:24]
    assert torch.bincount(pairs[:8]).tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert torch.bincount(pairs).tolist() == [3, 3, 3, 3, 3, 3, 3, 0, 0, 3]


def test_group_is_used_up_before_a_row_is_repeated(long_tailed):
    frame, arrays = long_tailed
    loader = Images(
        frame.assign(grade=range(23)), arrays, ["A", "B"], 32
    )  # a grade identifies its row
    grades = torch.cat([loader.batch(step, 2, 0, "domain").grade for step in range(22)]).tolist()
    ours = [row for row in grades if row >= 12]  # B's 11 rows, 22 turns
    assert sorted(ours[:11]) == sorted(ours[11:]) == list(range(12, 23))
    assert ours[:11] != ours[11:]


def test_repeated_row_is_augmented_anew_and_batches_stay_reproducible(long_tailed):
    one, two = (
        Images(*long_tailed, ["A", "B"], 32, "shared"),
        Images(*long_tailed, ["A", "B"], 32, "shared"),
    )
    for step in range(3):
        one.batch(step, 10, 1, "class")
    assert same(one.batch(5, 10, 1, "class"), two.batch(5, 10, 1, "class"))
    assert not same(one.batch(5, 10, 1, "class"), two.batch(5, 10, 2, "class"))
    slots, groups = np.arange(200), one.groups("class")
    rows, epochs = one.balanced(slots, groups, 0)
    assert len(set(zip(rows.tolist(), epochs.tolist(), strict=True))) == 200


@pytest.fixture
def two(monkeypatch):
    """A policy with two views, of which one has a white retina."""

    def white(image, mask, draw):
        return mask.expand_as(image).float()

    monkeypatch.setitem(AUGMENTS, "white", Augment(margin=40 / 32, change=white, changes=3))
    return "white"


def test_policy_with_two_views_gives_a_second_view_in_training_only(rows, two):
    frame, arrays = rows
    frame = frame.assign(cx=20.0, cy=20.0, r=10.0, w=40.0, h=40.0)
    loader = Images(frame, arrays, ["A", "B"], 32, two)
    batch = loader.batch(0, 5, 0)
    assert batch.image.shape == batch.second_view.shape == (5, 3, 32, 32)
    # The changed view is white inside the disc, which no crop of 32 from 40 cuts.
    area = batch.image[:, 0].sum((1, 2))
    assert torch.allclose(area, torch.tensor(np.pi * 10**2).float(), rtol=0.05)
    assert set(batch.image.unique().tolist()) == {0.0, 1.0}
    assert same(batch, Images(frame, arrays, ["A", "B"], 32, two).batch(0, 5, 0))
    assert next(loader.chunks(4)).second_view is None
    assert batch.to("cpu").second_view is not None
    assert images(rows).batch(0, 5, 0).to("cpu").second_view is None
