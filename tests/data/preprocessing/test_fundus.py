"""Fundus circle, crop and mask, the cleaners, and images that are no fundus images."""

import numpy as np
import pytest
import torch
from helpers.paths import REALDATA
from PIL import Image

from clipdr.data.preprocessing import fundus
from clipdr.data.preprocessing.fundus import Circle


def grid(height, width):
    y, x = np.mgrid[:height, :width] + 0.5
    return x, y


def fundus_image(height, width, circle, background=4, noise=3, stretch=1.0, seed=0):
    """A reddish disc with vignetting and noise on a nearly black (or white) background."""
    rng = np.random.default_rng(seed)
    x, y = grid(height, width)
    distance = np.hypot(x - circle.cx, (y - circle.cy) * stretch) / circle.r
    shade = (1 - 0.4 * distance**2)[:, :, None] * np.array([190, 100, 45])
    image = np.where((distance <= 1)[:, :, None], shade, background) + rng.normal(
        0, noise, (height, width, 1)
    )
    return image.clip(0, 255).astype(np.uint8)


def overlap(a, b, height, width):
    x, y = grid(height, width)
    one, two = ((x - c.cx) ** 2 + (y - c.cy) ** 2 <= c.r**2 for c in (a, b))
    return (one & two).sum() / (one | two).sum()


CIRCLES = {
    "whole": (300, 400, Circle(203.5, 148.2, 131.0)),
    "cut at top and bottom": (300, 400, Circle(200.0, 151.0, 190.0)),
    "tight crop, corners only": (400, 400, Circle(200.0, 200.0, 240.0)),
    "small and off centre": (500, 700, Circle(300.0, 240.0, 135.0)),
    "cut at one side": (400, 400, Circle(120.0, 200.0, 180.0)),
    "large image": (1600, 2400, Circle(1210.0, 790.0, 700.0)),
}


@pytest.mark.parametrize("name", CIRCLES)
@pytest.mark.parametrize("background", [4, 255])
def test_circle_is_detected(name, background):
    height, width, circle = CIRCLES[name]
    detection = fundus.detect(fundus_image(height, width, circle, background))
    assert detection.flag == ""
    assert detection.reason == ""
    assert overlap(detection.circle, circle, height, width) >= 0.97


def test_dark_disc_with_notch_and_text_is_detected():
    circle = Circle(200, 150, 140)
    image = fundus_image(300, 400, circle, background=1, noise=1)
    image = (image * 0.15).astype(np.uint8)  # brightest about 28
    image[:40, 300:330] = 60  # notch
    image[10:30, 5:80:4] = 255  # text
    assert overlap(fundus.find_circle(image), circle, 300, 400) >= 0.97


def test_squeezed_image_is_flagged_and_kept_whole():
    image = fundus_image(224, 224, Circle(112, 112, 80), stretch=0.75)
    detection = fundus.detect(image)
    assert detection.circle is None
    assert detection.flag == "squeezed"
    assert detection.reason == ""
    square, disc = fundus.crop(image, detection.circle, 224)
    assert (square == image).all()
    assert fundus.mask(disc[None], 224).all()


def test_patch_without_a_disc_is_flagged():
    image = fundus_image(250, 250, Circle(125, 125, 400))
    detection = fundus.detect(image)
    assert detection.circle is None
    assert detection.flag == "no_disc"
    assert detection.reason == ""


def test_same_image_gives_the_same_circle():
    image = fundus_image(*CIRCLES["whole"])
    assert fundus.find_circle(image) == fundus.find_circle(image.copy())


def test_crop_and_disc_have_the_expected_geometry():
    image = np.full((100, 300, 3), 200, np.uint8)
    # The box of 160 x 100 is halved to 80 x 50 and padded by 15 above and below.
    square, disc = fundus.crop(image, Circle(150.0, 50.0, 80.0), 80)
    assert square.shape == (80, 80, 3)
    assert square.dtype == np.uint8
    assert disc.dtype == np.float32
    assert disc.tolist() == [40, 40, 40, 80, 50]
    x, y = grid(80, 80)
    expected = ((x - 40) ** 2 + (y - 40) ** 2 <= 40**2) & (abs(y - 40) <= 25)
    assert ((square == 200).all(axis=2) == expected).all()
    assert (square[~expected] == 0).all()
    assert (fundus.mask(torch.from_numpy(disc[None]), 80)[0, 0].numpy() == expected).all()


def test_mask_is_the_circle_inside_the_padded_image():
    disc = np.array([[8, 8, 8, 16, 8], [8, 8, 2, 16, 16], [8, 8, 16, 16, 16]], np.float32)
    retina = fundus.mask(disc, 16)
    assert retina.shape == (3, 1, 16, 16)
    assert retina.dtype == torch.bool
    assert not retina[0, 0, :4].any()
    assert not retina[0, 0, 12:].any()
    assert retina[0, 0, 4:12, 4:12].all()
    assert retina[1].sum() == 12  # the 4 x 4 pixels around the centre without their corners
    assert retina[2].all()


def test_pixels_outside_the_mask_are_black_for_any_circle():
    rng = np.random.default_rng(1)
    image = np.full((120, 170, 3), 255, np.uint8)
    for _ in range(30):
        circle = Circle(rng.uniform(40, 130), rng.uniform(30, 90), rng.uniform(30, 110))
        square, disc = fundus.crop(image, circle, 61)
        retina = fundus.mask(disc[None], 61)[0, 0].numpy()
        assert (square[~retina] == 0).all()
        assert (square[retina] == 255).mean() > 0.98  # and no seam of padding is blended in


def test_second_crop_changes_little():
    height, width, circle = CIRCLES["whole"]
    once, _ = fundus.crop(fundus_image(height, width, circle, noise=0), circle, 128)
    twice, disc = fundus.crop(once, fundus.find_circle(once), 128)
    assert abs(once.astype(int) - twice).mean() < 3
    assert abs(disc[2] - 64) < 1.5


def test_white_border_is_removed_and_saturated_spots_stay():
    circle = Circle(200, 150, 120)
    image = fundus_image(300, 400, circle, background=255, noise=0)
    image[140:150, 195:205] = 255
    cleaned = fundus.clean(image, "DEEPDR")
    assert (cleaned[:10] == 0).all()
    assert (cleaned[140:150, 195:205] == 255).all()
    # No white ring is left around the disc.
    assert (cleaned[cleaned.max(axis=2) == 255].shape[0]) == 100
    assert fundus.clean(image, "APTOS") is image


@pytest.mark.parametrize("background", [0, 255])
def test_red_letters_are_removed_and_haemorrhages_stay(background):
    image = fundus_image(300, 400, Circle(200, 150, 170), background=background, noise=0)
    image[4:12, 4:60:8] = (200, 40, 40)  # letters on the background
    image[30:40, 100:110] = (170, 30, 30)  # a haemorrhage in the same corner
    cleaned = fundus.clean(image, "SIM_DEEPDR")
    assert (cleaned[4:12, 4:60:8] == 0).all()
    assert (cleaned[30:40, 100:110] == (170, 30, 30)).all()


def test_near_black_background_of_ddr_becomes_black():
    image = np.full((10, 10, 3), 15, np.uint8)
    image[5:] = (15, 16, 15)
    cleaned = fundus.clean(image, "DDR")
    assert (cleaned[:5] == 0).all()
    assert (cleaned[5:] == image[5:]).all()


def checkers():
    x, y = grid(300, 300)
    return np.where(
        ((x // 12 + y // 12) % 2 == 0)[:, :, None], (200, 120, 60), (60, 20, 10)
    ).astype(np.uint8)


NO_FUNDUS = {
    "mask": (
        lambda: (
            (
                fundus_image(300, 400, Circle(200, 150, 120), noise=0).max(2, keepdims=True) > 20
            ).repeat(3, 2)
            * 255
        ),
        "flat",
    ),
    "blue disc": (lambda: fundus_image(300, 400, Circle(200, 150, 120))[:, :, ::-1], "blue"),
    "grey noise": (
        lambda: np.random.default_rng(0).integers(40, 220, (300, 300, 1)).repeat(3, axis=2),
        "colour",
    ),
    "green field": (
        lambda: np.random.default_rng(0).integers((50, 120, 40), (100, 170, 90), (300, 300, 3)),
        "colours",
    ),
    "checkers": (checkers, "edges"),
    "strip": (lambda: np.full((4, 900, 3), 100), "strip"),
}


@pytest.mark.parametrize("name", NO_FUNDUS)
def test_non_fundus_image_is_rejected_with_a_reason(name):
    make, word = NO_FUNDUS[name]
    reason = fundus.detect(np.ascontiguousarray(make(), dtype=np.uint8)).reason
    assert reason.startswith("not a fundus image")
    assert word in reason


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason="no real images here")
def test_crop_of_real_images_loses_no_retina():
    lost = []
    for path in sorted((REALDATA / "gdrbench/images").rglob("*.jpg"))[::5]:
        image = np.asarray(Image.open(path).convert("RGB"))
        detection = fundus.detect(image)
        assert detection.reason == "", path
        if detection.circle is not None:
            grey = np.asarray(Image.fromarray(image).convert("L"))
            retina = grey > max(0, grey.mean() / 3 - 5)  # GDRBench's threshold
            x, y = grid(*grey.shape)
            lost.append(
                (
                    retina
                    & (
                        (x - detection.circle.cx) ** 2 + (y - detection.circle.cy) ** 2
                        > detection.circle.r**2
                    )
                ).sum()
                / retina.sum()
            )
    assert len(lost) >= 170  # most of the others are APTOS thumbnails squeezed to a square
    assert np.median(lost) < 0.005
    assert max(lost) < 0.05
