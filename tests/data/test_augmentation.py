"""Augmentation operations equal torchvision's on the same random numbers."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from clipdr.data import augmentation
from clipdr.data.augmentation import AUGMENTS, DRAWS, Augment, crop_box, draws, geometry


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_operations_equal_torchvisions(name):
    batch, factor = torch.rand(4, 3, 16, 16), torch.tensor([0.7, 0.9, 1.1, 1.3])
    ours = getattr(augmentation, name)(batch, factor[:, None, None, None])
    theirs = torch.stack(
        [
            getattr(reference, f"adjust_{name}")(image, float(f))
            for image, f in zip(batch, factor, strict=True)
        ]
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_hue_equals_torchvisions():
    batch, shift = torch.rand(4, 3, 16, 16), torch.tensor([-0.3, -0.05, 0.1, 0.3])
    batch[0, :, :4] = 0.5  # grey pixels have no hue
    theirs = torch.stack(
        [reference.adjust_hue(image, float(s)) for image, s in zip(batch, shift, strict=True)]
    )
    assert torch.allclose(augmentation.hue(batch, shift[:, None, None]), theirs, atol=1e-4)


def test_grey_keeps_the_luminance_at_its_rate():
    batch = torch.rand(400, 3, 4, 4)
    changed = augmentation.colour(batch, Augment(grey=0.1), draws(0, 0, range(400)))
    flat = (changed.amax(1) - changed.amin(1)).flatten(1).amax(1) < 1e-6
    assert 0.05 < flat.float().mean() < 0.16
    # torchvision's weights sum to .9999
    assert torch.allclose(augmentation.grey(batch), augmentation.grey(changed), atol=2e-4)


def test_geometry_crops_then_resizes():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    draw = draws(0, 0, [5])[0]
    out = torch.empty(3, 48, 48, dtype=torch.uint8)
    geometry(image, 48, AUGMENTS["clip"], draw, out)
    box = crop_box(draw, 64, 0.7)
    theirs = reference.resized_crop(
        torch.from_numpy(image).permute(2, 0, 1), *box, [48, 48], antialias=True
    )
    theirs = theirs.flip(-1) if draw[augmentation.FLIP] < 0.5 else theirs
    assert (out.int() - theirs.int()).abs().max() <= 1
    assert 0.7 * 64 * 64 * 0.97 <= box[2] * box[3] <= 64 * 64


def test_crop_boxes_have_the_given_areas_and_ratios():
    boxes = np.array([crop_box(draw, 224, 0.7) for draw in draws(0, 0, range(2000))])
    area = boxes[:, 2] * boxes[:, 3] / 224**2
    assert area.min() > 0.69
    assert area.max() <= 1
    assert 0.8 < area.mean() < 0.87
    assert ((boxes[:, 3] / boxes[:, 2] > 0.74) & (boxes[:, 3] / boxes[:, 2] < 1.35)).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 224).all()
    assert (boxes[:, :2] >= 0).all()


def test_draws_depend_on_the_row_not_on_the_batch():
    assert np.array_equal(draws(3, 2, [7, 8])[1], draws(3, 2, [8])[0])
    assert draws(0, 0, [0]).shape == (1, DRAWS)


def test_views_are_cropped_and_flipped_per_image():
    image = torch.arange(2 * 3 * 6 * 6).float().reshape(2, 3, 6, 6)
    plain = augmentation.view(image, 4, np.array([[0, 0, 0.5, 0.5], [0.99, 0.34, 0.5, 0.5]]))
    assert torch.equal(plain[0], image[0, :, :4, :4])
    assert torch.equal(plain[1], image[1, :, 2:, 1:5])
    turned = augmentation.view(image, 4, np.array([[0, 0, 0.49, 0.5], [0, 0, 0.5, 0.49]]))
    assert torch.equal(turned[0], image[0, :, :4, :4].flip(2))
    assert torch.equal(turned[1], image[1, :, :4, :4].flip(1))


def test_slots_of_the_random_numbers_do_not_overlap():
    slots = [augmentation.CROPS, augmentation.FACTORS]
    slots += [slice(n, n + 1) for n in (augmentation.FLIP, augmentation.HUE, augmentation.GREY)]
    numbers = [number for slot in slots for number in range(slot.start, slot.stop)]
    assert sorted(numbers) == list(range(DRAWS))
