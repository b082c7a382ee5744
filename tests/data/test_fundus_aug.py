"""FundusAug: every operation against torchvision's on one image at a time, with draws per image."""

import importlib.util
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.paths import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from clipdr.data import fundus_aug as module
from clipdr.data.augmentation import AUGMENTS
from clipdr.data.fundus_aug import (
    DRAWS,
    OPERATIONS,
    blurred,
    fundus_aug,
    gaussian,
    odd,
    pick,
    whole,
)
from clipdr.data.loader import Images
from clipdr.data.preprocessing.fundus import mask

SIDE = 64
# Columns that decide whether an operation is applied.
GATES = np.cumsum([0] + [1 + numbers for numbers in OPERATIONS.values()])[:-1]


@pytest.fixture(scope="module")
def reference():
    """benchmarks/bench_fundus_aug.py: the loop over images with torchvision's operations."""
    folder = ROOT / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(
            "fundus_aug_by_image", folder / "bench_fundus_aug.py"
        )
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(folder))
    return loaded


def discs(count, side=SIDE, seed=0):
    """Random pixels inside a disc, its mask, and draws."""
    rng = np.random.default_rng(seed)
    half = side / 2
    retina = mask(torch.tensor([[half, half, 0.48 * side, side, 0.9 * side]]), side).expand(
        count, -1, -1, -1
    )
    image = torch.from_numpy(rng.random((count, 3, side, side), np.float32)) * 0.8 + 0.1
    return image * retina, retina, rng.random((count, DRAWS))


def only(operation, draw):
    """The draws with every other operation switched off."""
    draw = draw.copy()
    draw[:, GATES] = 0.9
    draw[:, GATES[list(OPERATIONS).index(operation)]] = 0.1
    return draw


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("side", [32, SIDE, 97, 256])
def test_operation_equals_the_reference(reference, operation, side):
    image, retina, draw = discs(12 if side < 256 else 3, side, seed=side)
    draw = only(operation, draw)
    ours = fundus_aug(image, retina, draw)
    theirs = torch.stack(
        [reference.by_image(*one) for one in zip(image, retina, draw, strict=True)]
    )
    assert torch.allclose(ours, theirs, atol=2e-5)
    changed = (ours - image).abs().amax((1, 2, 3)) > 1e-3
    assert changed.float().mean() > 0.6  # not all: a blur of sigma .1 is next to nothing


def test_all_operations_run_in_the_order_of_the_paper(reference):
    image, retina, draw = discs(40, 48, seed=7)
    theirs = torch.stack(
        [reference.by_image(*one) for one in zip(image, retina, draw, strict=True)]
    )
    assert torch.allclose(fundus_aug(image, retina, draw), theirs, atol=5e-5)
    assert [operation.__name__ for operation in OPERATIONS] == [
        "sharpness",
        "halo",
        "hole",
        "spot",
        "blur",
    ]


@given(st.integers(0, 10**6), st.sampled_from([33, 56, 112]))
@settings(max_examples=20, deadline=None)
def test_result_is_masked_and_the_input_unchanged(seed, side):
    image, retina, draw = discs(3, side, seed)
    before = image.clone()
    out = fundus_aug(image, retina, draw)
    assert torch.equal(image, before)
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert not out[~retina.expand_as(out)].any()


def test_image_without_an_operation_is_unchanged():
    image, retina, draw = discs(3)
    draw[:, GATES] = 0.5
    assert torch.equal(fundus_aug(image, retina, draw), image)
    outside = torch.ones_like(image)
    assert torch.equal(fundus_aug(outside, retina, draw), retina.expand_as(image).float())


def test_images_of_a_batch_have_their_own_draws():
    """One image six times in a batch gives six results; the released code draws once per batch."""
    image, retina, draw = discs(6)
    image = image[:1].expand(6, -1, -1, -1)
    for operation in OPERATIONS:
        out = fundus_aug(image, retina, only(operation, draw))
        assert all(not torch.equal(out[i], out[j]) for i in range(6) for j in range(i))


def test_image_does_not_depend_on_its_batch():
    image, retina, draw = discs(19)
    whole_batch = fundus_aug(image, retina, draw)
    alone = torch.cat(
        [fundus_aug(image[i : i + 1], retina[i : i + 1], draw[i : i + 1]) for i in range(19)]
    )
    assert torch.allclose(whole_batch, alone, atol=1e-6)


def test_operations_are_applied_with_probability_one_half(monkeypatch):
    image, retina, _ = discs(1, 32)
    draw, calls = np.random.default_rng(0).random((800, DRAWS)), dict.fromkeys(OPERATIONS, 0)

    def counting(operation):
        def count(image, retina, draw):
            calls[operation] += len(image)
            return image

        return count

    monkeypatch.setattr(
        module,
        "OPERATIONS",
        {counting(operation): numbers for operation, numbers in OPERATIONS.items()},
    )
    fundus_aug(image.expand(800, -1, -1, -1), retina.expand(800, -1, -1, -1), draw)
    assert all(340 < count < 460 for count in calls.values())


def test_blur_is_a_gaussian_wider_for_a_larger_sigma():
    """The kernel reaches at least two sigma.

    The released kernel has a side of 1 for every sigma up to 5.
    """
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    retina = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    spread = [
        module.blur(image.clone(), retina, np.array([[u]])).std().item()
        for u in (0.15, 0.3, 0.5, 0.9)
    ]
    assert image.std() > 1.02 * spread[0]
    assert spread[0] > 1.2 * spread[1] > 1.2 * 1.2 * spread[2]
    assert spread[2] > spread[3]
    point = torch.zeros(1, 3, 33, 33)
    point[:, :, 16, 16] = 1
    line = (
        module.blur(point, retina[..., :33, :33], np.array([[(2 - 0.1) / 2.9]]))[0, 0]
        .sum(0)
        .double()
        .numpy()
    )  # sigma 2
    expected = np.exp(-((np.arange(33) - 16) ** 2) / 8.0) * (np.abs(np.arange(33) - 16) <= 4)
    assert np.allclose(line, expected / expected.sum(), atol=1e-6)


def test_hole_darkens_bright_images_by_the_expected_amount_only():
    bright = torch.full((1, 3, 100, 100), 0.6)
    retina = torch.ones(1, 1, 100, 100, dtype=torch.bool)
    # Diameter 40, in the middle, smallest kernels (23), b = -.262, slope .055.
    draw = np.array([[0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.5]])
    dark = (module.hole(bright.clone(), retina, draw) - bright)[0, 0]
    # The kernel around the middle lies within the disc, so the amplitude is full.
    inside = [(x, y) for x in range(-11, 12) for y in range(-11, 12)]
    assert all(math.hypot(x, y) <= 20 for x, y in inside)
    assert dark[50, 50].item() == pytest.approx(-0.262 - 0.055 * 0.6, abs=1e-5)
    assert dark[0, 0].abs() < 1e-6
    for level, changed in ((0.24, False), (0.26, True)):
        image = torch.full((1, 3, 100, 100), level)
        assert (module.hole(image.clone(), retina, draw) != image).any() == changed
    half_mask = retina.clone()  # the mean is that of the retina alone
    half_mask[..., 50:] = False
    image = torch.where(half_mask, 0.4, 0.0).expand(1, 3, -1, -1)
    assert (module.hole(image.clone(), half_mask, draw) != image).any()


def test_halo_is_a_tinted_ring_of_the_expected_brightness():
    image = torch.full((1, 3, 256, 256), 0.2)
    # Centre 128, inner disc of 192, widest outer disc, x 1.2, tint (141, 238, 238).
    draw = np.array([[0.5, 0.0, 0.999, 0.85, 0.5]])
    light = (module.halo(image.clone(), None, draw) - image)[0]
    expected = torch.tensor([141.0, 238, 238]) / 255 * 0.2 * 1.2
    # Full brightness 32 pixels beyond the inner disc's rim and the kernel's half side.
    assert torch.allclose(light[:, 0, 128], expected, atol=1e-3)
    assert light[:, 128, 128].max() < 1e-6
    assert (light[0] - light[1] * 141 / 238).abs().max() < 1e-6


def test_spots_are_five_to_ten_of_the_expected_brightness():
    draw = np.random.default_rng(0).random((1, 51))
    for count, u in ((5, 0.0), (7, 0.4), (10, 0.999)):
        draw[0, 0] = u
        draw[0, 1::5] = 0.999  # r = 12
        light = module.spot(torch.zeros(1, 3, 256, 256), None, draw)
        brightness = (14 / 25 + 1 - 12 / 25) * (1 - math.exp(-(0.5 + 12 / 25) * 0.3 * 12 / 25))
        pixels = sum(x * x + y * y <= 36 for x in range(-6, 7) for y in range(-6, 7))
        # Blurring moves light and adds none.
        assert light[0, 0].sum().item() == pytest.approx(count * brightness * pixels, rel=1e-4)
        assert light[:, :1].expand_as(light).equal(light)


def test_sharpness_equals_torchvisions_at_the_ends():
    from torchvision.transforms.v2.functional import adjust_sharpness

    image = torch.rand(3, 3, 20, 20)
    ours = module.sharpness(image.clone(), None, np.array([[0.0], [0.5], [0.95]]))
    assert torch.allclose(ours[0], adjust_sharpness(image[0], 0.0), atol=1e-6)
    assert torch.allclose(ours[1], image[1], atol=1e-6)
    assert torch.allclose(ours[2], adjust_sharpness(image[2], 1.9), atol=1e-6)


def test_blurred_equals_convolution_with_reflected_borders():
    from scipy.ndimage import correlate1d

    shade = np.random.default_rng(0).random((3, 41, 41))
    sides, sigma = np.array([[1, 9, 61], [79, 5, 3]]), np.array([0.01, 3.0, 20.0])
    down, across = (gaussian(sigma, side) for side in sides)
    ours = blurred(torch.from_numpy(shade), down, across).numpy()
    for one, shade_, y, x in zip(ours, shade, down, across, strict=True):
        assert np.allclose(
            one,
            correlate1d(correlate1d(shade_, y, 0, mode="mirror"), x, 1, mode="mirror"),
            atol=1e-12,
        )


def test_uniform_numbers_map_to_the_stated_distributions():
    u = (np.arange(60000) + 0.5) / 60000
    assert np.bincount(whole(u, 2.3, 6.9).astype(int)).tolist() == [
        0,
        0,
        0,
        15000,
        15000,
        15000,
        15000,
    ]  # both ends, never beyond
    assert odd(np.array([0.0, 1.0, 2.0, 5.84, 7.3, 129.0])).tolist() == [1, 1, 3, 5, 7, 129]
    assert (np.bincount(pick(u, module.TINTS[1])) / 60000).tolist() == pytest.approx(
        [0.025, 0.65, 0.325], abs=1e-4
    )
    assert (np.bincount(pick(u, module.BRIGHTNESS[1])) / 60000).tolist() == pytest.approx(
        [0.8, 0.1, 0.05, 0.05], abs=1e-4
    )
    assert gaussian(np.array([1.0, 5.0]), np.array([3, 7])).sum(1).tolist() == pytest.approx([1, 1])


# The policy of a study


@pytest.fixture
def rows():
    array = np.random.default_rng(0).integers(60, 200, (10, 64, 64, 3), dtype=np.uint8)
    frame = pd.DataFrame({"domain": ["A"] * 10, "row": range(10), "grade": np.resize(range(5), 10)})
    frame[["cx", "cy", "r", "w", "h"]] = [32.0, 32.0, 30.0, 64.0, 64.0]
    return frame, {"A": array}, ["A"]


def test_batch_has_both_views_and_is_a_function_of_seed_and_step(rows):
    one, two = (Images(*rows, 56, "fundus") for _ in range(2))
    one.batch(0, 4, seed=1)
    for a, b in zip(one.batch(1, 4, seed=1), two.batch(1, 4, seed=1), strict=True):
        assert torch.equal(a, b)
    batch = one.batch(1, 4, seed=1)
    assert batch.image.shape == batch.second_view.shape == (4, 3, 56, 56)
    assert not torch.equal(batch.image, one.batch(3, 4, seed=1).image)
    assert not torch.equal(batch.image, batch.second_view)
    assert next(one.chunks(4)).second_view is None
    # Evaluation is not augmented.
    assert torch.equal(next(one.chunks(4)).image, next(Images(*rows, 56).chunks(4)).image)


def test_ablation_has_two_plain_views(rows, monkeypatch):
    # Without the crops and flips, which differ between the views.
    monkeypatch.setattr("clipdr.data.augmentation.view", lambda batch, side, draw: batch)
    plain, fundus = (
        Images(*rows, 56, name).batch(0, 10, seed=0) for name in ("two_views", "fundus")
    )
    assert torch.equal(plain.image, plain.second_view)
    assert torch.equal(plain.second_view, fundus.second_view)  # the same jitter
    assert all(not torch.equal(a, b) for a, b in zip(fundus.image, fundus.second_view, strict=True))
    assert AUGMENTS["fundus"].jitter == (1.0, 1.0, 1.0, 0.05)
