"""Batches: a function of (seed, step), complete epochs, right rows, augmentation equal to torchvision's on the same draws."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from clipdr.data import augmentation
from clipdr.data.augmentation import AUGMENTS, DRAWS, Augment, crop_box, draws, geometry
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


def test_a_batch_is_a_function_of_seed_and_step(rows):
    one, two = images(rows), images(rows)
    for step in range(5):
        one.batch(step, 5, seed=1)
    assert same(one.batch(7, 5, seed=1), two.batch(7, 5, seed=1))
    assert not torch.equal(one.batch(7, 5, seed=1).image, one.batch(7, 5, seed=2).image)
    assert not torch.equal(one.batch(3, 5, seed=1).image, one.batch(7, 5, seed=1).image)


def test_an_epoch_shows_every_row_once_but_for_a_last_part(rows):
    frame, arrays = rows
    frame = frame.assign(grade=range(len(frame)))  # so that a grade names its row
    epoch = torch.cat(
        [Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4)]
    )
    assert len(set(epoch.tolist())) == 20
    second = torch.cat(
        [Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4, 8)]
    )
    assert epoch.tolist() != second.tolist()


def test_a_fold_smaller_than_a_batch_is_one_batch(rows):
    assert len(images(rows).batch(3, 100, seed=0).grade) == 23


def test_chunks_are_plain_and_in_order(rows):
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


def test_features_are_the_cached_rows(rows):
    frame, _ = rows
    cache = {
        "A": np.random.rand(12, 4).astype(np.float32),
        "B": np.random.rand(11, 4).astype(np.float32),
    }
    chunk = next(Features(frame, cache, ["A", "B"]).chunks(23))
    assert np.array_equal(chunk.image.numpy(), np.concatenate([cache["A"], cache["B"]]))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_operations_are_torchvisions(name):
    batch, factor = torch.rand(4, 3, 16, 16), torch.tensor([0.7, 0.9, 1.1, 1.3])
    ours = getattr(augmentation, name)(batch, factor[:, None, None, None])
    theirs = torch.stack(
        [
            getattr(reference, f"adjust_{name}")(image, float(f))
            for image, f in zip(batch, factor, strict=True)
        ]
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_hue_is_torchvisions():
    batch, shift = torch.rand(4, 3, 16, 16), torch.tensor([-0.3, -0.05, 0.1, 0.3])
    batch[0, :, :4] = 0.5  # grey pixels have no hue
    theirs = torch.stack(
        [reference.adjust_hue(image, float(s)) for image, s in zip(batch, shift, strict=True)]
    )
    assert torch.allclose(augmentation.hue(batch, shift[:, None, None]), theirs, atol=1e-4)


def test_grey_keeps_the_luminance_and_is_drawn_at_its_rate():
    batch = torch.rand(400, 3, 4, 4)
    changed = augmentation.colour(batch, Augment(grey=0.1), draws(0, 0, range(400)))
    flat = (changed.amax(1) - changed.amin(1)).flatten(1).amax(1) < 1e-6
    assert 0.05 < flat.float().mean() < 0.16
    assert torch.allclose(
        augmentation.grey(batch), augmentation.grey(changed), atol=2e-4
    )  # torchvision's weights sum to .9999


def test_crop_is_a_crop_then_a_resize():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    draw = draws(0, 0, [5])[0]
    out = torch.empty(3, 48, 48, dtype=torch.uint8)
    geometry(picture, 48, AUGMENTS["clip"], draw, out)
    box = crop_box(draw, 64, 0.7)
    theirs = reference.resized_crop(
        torch.from_numpy(picture).permute(2, 0, 1), *box, [48, 48], antialias=True
    )
    theirs = theirs.flip(-1) if draw[28] < 0.5 else theirs
    assert (out.int() - theirs.int()).abs().max() <= 1
    assert 0.7 * 64 * 64 * 0.97 <= box[2] * box[3] <= 64 * 64


def test_crops_have_the_areas_and_ratios_asked_for():
    boxes = np.array([crop_box(draw, 224, 0.7) for draw in draws(0, 0, range(2000))])
    area = boxes[:, 2] * boxes[:, 3] / 224**2
    assert area.min() > 0.69
    assert area.max() <= 1
    assert 0.8 < area.mean() < 0.87
    assert ((boxes[:, 3] / boxes[:, 2] > 0.74) & (boxes[:, 3] / boxes[:, 2] < 1.35)).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 224).all()
    assert (boxes[:, :2] >= 0).all()


def test_draws_belong_to_the_row_not_to_the_batch():
    assert np.array_equal(draws(3, 2, [7, 8])[1], draws(3, 2, [8])[0])
    assert draws(0, 0, [0]).shape == (1, DRAWS)


@pytest.fixture
def long_tailed(rows):
    """23 images of two domains, of which B has three images of grade 0 and one of grade 4 only; a grade names no row, `row` does."""
    frame, arrays = rows
    grade = [0] * 5 + [1, 2, 2, 2, 3, 3, 4] + [0, 0, 0, 4] + [1] * 7
    return frame.assign(grade=grade), arrays


@pytest.mark.parametrize(
    ("sampler", "field", "groups"), [("domain", "domain", 2), ("class", "grade", 5)]
)
def test_every_batch_has_an_equal_share_of_each_group(long_tailed, sampler, field, groups):
    loader = Images(*long_tailed, ["A", "B"], 32)
    for step in range(9):
        batch = loader.batch(step, 11, 0, sampler)
        assert len(batch.grade) == loader.size(11, sampler) == 10
        assert torch.bincount(getattr(batch, field)).tolist() == [10 // groups] * groups


def test_groups_that_do_not_fit_into_a_batch_take_turns(long_tailed):
    """7 of the 10 pairs of domain and grade exist; 3 images at a time show each of them once in 7 batches of 3 = 3 turns."""
    loader = Images(*long_tailed, ["A", "B"], 32)
    batches = [loader.batch(step, 3, 0, "domain_class") for step in range(8)]
    pairs = torch.cat([5 * batch.domain + batch.grade for batch in batches])[:24]
    assert torch.bincount(pairs[:8]).tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert torch.bincount(pairs).tolist() == [3, 3, 3, 3, 3, 3, 3, 0, 0, 3]


def test_a_group_is_used_up_before_a_row_comes_again(long_tailed):
    frame, arrays = long_tailed
    loader = Images(frame.assign(grade=range(23)), arrays, ["A", "B"], 32)  # a grade names its row
    shown = torch.cat([loader.batch(step, 2, 0, "domain").grade for step in range(22)]).tolist()
    ours = [row for row in shown if row >= 12]  # B's 11 rows, 22 turns
    assert sorted(ours[:11]) == sorted(ours[11:]) == list(range(12, 23))
    assert ours[:11] != ours[11:]


def test_a_repeated_row_is_drawn_anew_and_batches_stay_functions_of_seed_and_step(long_tailed):
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
    """A policy with two views whose change is to paint the retina white, for the part of the plumbing that is not FundusAug's."""

    def white(image, mask, draw):
        return mask.expand_as(image).float()

    monkeypatch.setitem(AUGMENTS, "white", Augment(margin=40 / 32, change=white, changes=3))
    return "white"


def test_a_policy_with_two_views_gives_a_twin_in_training_only(rows, two):
    frame, arrays = rows
    frame = frame.assign(cx=20.0, cy=20.0, r=10.0, w=40.0, h=40.0)
    loader = Images(frame, arrays, ["A", "B"], 32, two)
    batch = loader.batch(0, 5, 0)
    assert batch.image.shape == batch.twin.shape == (5, 3, 32, 32)
    area = batch.image[:, 0].sum(
        (1, 2)
    )  # the changed view: white inside the disc, which no crop of 32 from 40 cuts, black outside
    assert torch.allclose(area, torch.tensor(np.pi * 10**2).float(), rtol=0.05)
    assert set(batch.image.unique().tolist()) == {0.0, 1.0}
    assert same(batch, Images(frame, arrays, ["A", "B"], 32, two).batch(0, 5, 0))
    assert next(loader.chunks(4)).twin is None
    assert batch.to("cpu").twin is not None and images(rows).batch(0, 5, 0).to("cpu").twin is None


def test_views_are_crops_and_flips_drawn_per_image():
    picture = torch.arange(2 * 3 * 6 * 6).float().reshape(2, 3, 6, 6)
    plain = augmentation.view(picture, 4, np.array([[0, 0, 0.5, 0.5], [0.99, 0.34, 0.5, 0.5]]))
    assert torch.equal(plain[0], picture[0, :, :4, :4])
    assert torch.equal(plain[1], picture[1, :, 2:, 1:5])
    turned = augmentation.view(picture, 4, np.array([[0, 0, 0.49, 0.5], [0, 0, 0.5, 0.49]]))
    assert torch.equal(turned[0], picture[0, :, :4, :4].flip(2))
    assert torch.equal(turned[1], picture[1, :, :4, :4].flip(1))
