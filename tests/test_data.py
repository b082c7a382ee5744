"""Batches: a function of (seed, step), complete epochs, right rows, augmentation equal to torchvision's on the same draws."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from clipdr import augment
from clipdr.augment import AUGMENTS, DRAWS, crop_box, draws, geometry
from clipdr.data import Features, Images


@pytest.fixture
def rows():
    count, side = 23, 40
    array = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    frame = pd.DataFrame({"domain": ["A"] * 12 + ["B"] * 11, "row": [*range(12), *range(11)], "grade": np.resize(range(5), count)})
    frame[["cx", "cy", "r", "w", "h"]] = 20.0
    return frame, {"A": array[:12], "B": array[12:]}


def images(rows, augmented="shared", side=32):
    return Images(*rows, ["A", "B"], side, augmented)


def test_a_batch_is_a_function_of_seed_and_step(rows):
    one, two = images(rows), images(rows)
    for step in range(5):
        one.batch(step, 5, seed=1)
    for a, b in zip(one.batch(7, 5, seed=1), two.batch(7, 5, seed=1), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.batch(7, 5, seed=1).image, one.batch(7, 5, seed=2).image)
    assert not torch.equal(one.batch(3, 5, seed=1).image, one.batch(7, 5, seed=1).image)


def test_an_epoch_shows_every_row_once_but_for_a_last_part(rows):
    frame, arrays = rows
    frame = frame.assign(grade=range(len(frame)))  # so that a grade names its row
    epoch = torch.cat([Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4)])
    assert len(set(epoch.tolist())) == 20
    second = torch.cat([Images(frame, arrays, ["A", "B"], 32).batch(step, 5, seed=0).grade for step in range(4, 8)])
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
    cache = {"A": np.random.rand(12, 4).astype(np.float32), "B": np.random.rand(11, 4).astype(np.float32)}
    chunk = next(Features(frame, cache, ["A", "B"]).chunks(23))
    assert np.array_equal(chunk.image.numpy(), np.concatenate([cache["A"], cache["B"]]))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_operations_are_torchvisions(name):
    batch, factor = torch.rand(4, 3, 16, 16), torch.tensor([0.7, 0.9, 1.1, 1.3])
    ours = getattr(augment, name)(batch, factor[:, None, None, None])
    theirs = torch.stack([getattr(reference, f"adjust_{name}")(image, float(f)) for image, f in zip(batch, factor, strict=True)])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_hue_is_torchvisions():
    batch, shift = torch.rand(4, 3, 16, 16), torch.tensor([-0.3, -0.05, 0.1, 0.3])
    batch[0, :, :4] = 0.5  # grey pixels have no hue
    theirs = torch.stack([reference.adjust_hue(image, float(s)) for image, s in zip(batch, shift, strict=True)])
    assert torch.allclose(augment.hue(batch, shift[:, None, None]), theirs, atol=1e-4)


def test_grey_keeps_the_luminance_and_is_drawn_at_its_rate():
    batch = torch.rand(400, 3, 4, 4)
    changed = augment.colour(batch, AUGMENTS["shared"].__class__(grey=0.1), draws(0, 0, range(400)))
    flat = (changed.amax(1) - changed.amin(1)).flatten(1).amax(1) < 1e-6
    assert 0.05 < flat.float().mean() < 0.16
    assert torch.allclose(augment.grey(batch), augment.grey(changed), atol=2e-4)  # torchvision's weights sum to .9999


def test_crop_is_a_crop_then_a_resize():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    draw = draws(0, 0, [5])[0]
    out = torch.empty(3, 48, 48, dtype=torch.uint8)
    geometry(picture, 48, AUGMENTS["clip"], draw, out)
    box = crop_box(draw, 64, 0.7)
    theirs = reference.resized_crop(torch.from_numpy(picture).permute(2, 0, 1), *box, [48, 48], antialias=True)
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
