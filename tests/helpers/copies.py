"""Copies of images, as they come about in practice, and manifests of them."""

import io

import numpy as np
import pandas as pd
from PIL import Image

from clipdr.data.manifest import DTYPES
from clipdr.data.preprocessing import prepare

SIDE = 96
SPLITS = {"train": "train", "val": "crossval"}


def reencoded(image, rng, quality=None):
    """The image as a JPEG of random quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality or int(rng.integers(50, 91)))
    return Image.open(file)


def resized(image, rng):
    """The image at half to nine tenths of its size."""
    factor = rng.uniform(0.5, 0.9)
    return image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS
    )


def cropped(image, rng):
    """The image without 5 % of each side, at one or the other end."""
    width, height = round(0.95 * image.width), round(0.95 * image.height)
    left, top = (
        rng.integers(0, 2) * (image.width - width),
        rng.integers(0, 2) * (image.height - height),
    )
    return image.crop((left, top, left + width, top + height))


COPIES = {
    "renamed": lambda image, rng: image,
    "reencoded": reencoded,
    "resized": resized,
    "cropped": cropped,
    "flipped h": lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "flipped v": lambda image, rng: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "several": lambda image, rng: reencoded(resized(cropped(image, rng), rng), rng),
}


def packed(images, folder, domain, split="train", patient=""):
    """Manifest and packed array of images that are written and prepared as a domain."""
    rows, squares = [], []
    for number, image in enumerate(images):
        path = folder / f"{domain}_{number}.png"
        image.save(path)
        prepared = prepare.prepare_image(path, domain, SIDE)
        assert not prepared.reason
        squares.append(prepared.image)
        listed = {
            "image": f"{domain}/nodr/{number}.png",
            "row": number,
            "domain": domain,
            "grade": number % 5,
            "split": split,
        }
        disc = dict(zip(["cx", "cy", "r", "w", "h"], prepared.disc, strict=True))
        facts = {"flag": prepared.flag, "sha256": prepared.sha256, "phash": prepared.phash}
        rows.append(
            {column: "" if kind is str else 0 for column, kind in DTYPES.items()}
            | listed
            | disc
            | facts
            | {"patient": patient}
        )
    return pd.DataFrame(rows).astype(DTYPES), np.stack(squares)


def rows(images, split="train", patients=None):
    """Manifest rows without pixels: names, splits and patients of one or several domains."""
    frame = pd.DataFrame({"image": images, "domain": [image.split("/")[0] for image in images]})
    return frame.assign(split=split, patient=patients or "", grade=0)
