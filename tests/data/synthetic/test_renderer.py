"""Rendered images and their lesion masks."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.eyes import EXAMPLES
from PIL import Image

from clipdr.data.domains import SYNTHETIC
from clipdr.data.synthetic.anatomy import Eye
from clipdr.data.synthetic.findings import QUADRANTS, Findings
from clipdr.data.synthetic.patients import eye
from clipdr.data.synthetic.renderer import render


@pytest.mark.parametrize("domain", SYNTHETIC)
def test_disc_is_nasal(domain):
    """The optic disc of right eyes lies right of the centre.

    It is the brightest column of right eyes, after subtraction of their mirror image and of left
    eyes.
    """
    lean = {}
    for side in ("left", "right"):
        images = [
            Image.fromarray(render(eye(domain, number, side, 0, 0), 96)[0])
            for number in range(1, 31)
        ]
        column = np.mean(
            [
                np.asarray(image.resize((30, 20), Image.Resampling.BOX))[6:14, :, 1]
                for image in images
            ],
            (0, 1),
        )
        lean[side] = column - column[::-1]
    assert (lean["right"] - lean["left"])[2:-2].argmax() + 2 > 15


def test_side_mirrors_the_retina_only():
    masks = {
        side: render(Eye(side, EXAMPLES[3][0], "FGADR", (1, 2, 3)), 128)[1]
        for side in ("left", "right")
    }
    mirrored = masks["right"][:, ::-1]
    overlaps = []
    for shift in range(-6, 7):  # the field need not be centred
        moved = np.roll(mirrored, shift, 1)
        overlaps.append((masks["left"] & moved).sum() / (masks["left"] | moved).sum())
    assert max(overlaps) > 0.6


def test_lesion_area_grows_with_grade():
    area = []
    for grade in range(5):
        masks = [
            render(Eye("left", findings, "FGADR", (5, k + 1)), 96)[1].mean()
            for k, findings in enumerate(EXAMPLES[grade][:12])
        ]
        assert (max(masks) == 0) if grade == 0 else (min(masks) > 0)
        area.append(np.mean(masks))
    assert all(worse > 1.3 * milder for milder, worse in pairwise(area)), area


@pytest.mark.parametrize(
    "findings",
    [
        Findings(microaneurysms=8),
        Findings(haemorrhages=(2, 2, 2, 2)),
        Findings(exudates=("macular", *QUADRANTS[:2])),
        Findings(cotton_wool=4),
        Findings(beading=QUADRANTS),
        Findings(irma=QUADRANTS),
        Findings(disc_vessels=True),
        Findings(vessels=QUADRANTS[:2]),
        Findings(preretinal=QUADRANTS[2:]),
        Findings(vitreous=True),
        Findings(laser=True),
    ],
    ids=lambda findings: next(
        name for name, value in vars(findings).items() if value != getattr(Findings(), name)
    ),
)
@pytest.mark.parametrize("style", ["MESSIDOR", "RLDR"])
def test_lesion_is_visible_inside_its_mask(findings, style):
    """At 128 pixels, the image differs from the healthy eye inside the mask and hardly outside."""
    inside, outside = [], []
    for k in range(1, 4):
        (ill, lesions), (well, none) = (
            render(Eye("right", f, style, (k, 9)), 128) for f in (findings, Findings())
        )
        assert ill.shape[:2] == lesions.shape
        assert lesions.dtype == bool
        assert 0 < lesions.mean() < 0.6
        assert not none.any()
        change = np.abs(ill.astype(int) - well).max(2)
        inside.append(change[lesions].mean())
        outside.append(change[~lesions].mean())
    assert np.mean(inside) > 8, inside
    assert np.mean(inside) > 3 * np.mean(outside), (inside, outside)


def test_haemorrhages_lie_in_their_quadrants():
    for index, name in enumerate(QUADRANTS):
        counts = tuple(8 if i == index else 0 for i in range(4))
        _, lesions = render(
            Eye("right", Findings(haemorrhages=counts), "FGADR", (3, index + 1)), 128
        )
        y, x = np.argwhere(lesions).mean(0) / lesions.shape
        assert (y > 0.5) == ("inferior" in name or "infero" in name)
        assert (x > 0.5) == ("nasal" in name)  # right eye: nose on the right
