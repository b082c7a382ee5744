"""Image quality: sharpness and exposure of the stored images, four numbers per image.

The numbers describe images and reject none. All are measured inside the disc and at the stored
size, so that cameras of any resolution can be compared, but not arrays of different sizes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from clipdr.data.preprocessing.fundus import mask

COLUMNS = ["sharpness", "brightness", "bright_clipped", "dark_clipped"]
# Share of the radius, and least pixels, left out at the rim, which is an edge of the camera.
RIM = (0.05, 2)
# Flags of images that are kept whole, whose black background would be taken for retina.
NO_DISC = {"no_disc", "squeezed"}
WHITE = 250  # grey level from which a channel has lost its highlights
BLACK = 5  # grey level up to which all three channels have lost the shadows
BATCH = 64  # images


def measure(manifest: pd.DataFrame, store: np.ndarray) -> pd.DataFrame:
    """Measure the quality of every image of a domain.

    Args:
        manifest: Manifest of the domain, N rows.
        store: (N, S, S, 3) uint8, its packed images.

    Returns:
        N rows in the manifest's order with the columns image, domain, grade, split and COLUMNS. The
        last are NaN where the disc is unknown (NO_DISC) or holds no pixel:

        - sharpness: variance of the Laplacian of the green channel, grey levels squared
          (Pech-Pacheco et al., 2000)
        - brightness: mean of the three channels, grey levels, 0..255
        - bright_clipped: share of pixels with a channel of at least WHITE, 0..1
        - dark_clipped: share of pixels with no channel above BLACK, 0..1
    """
    discs = manifest[["cx", "cy", "r", "w", "h"]].to_numpy(np.float32)
    rim = np.maximum(RIM[0] * discs[:, 2:3], RIM[1])
    discs[:, 2:] -= rim * (1, 2, 2)  # radius; width and height
    discs[:, 2] = discs[:, 2].clip(0)
    measured = [
        _measure(store[start : start + BATCH], discs[start : start + BATCH])
        for start in range(0, len(manifest), BATCH)
    ]
    unknown = manifest["flag"].map(lambda flag: bool(NO_DISC & set(flag.split()))).to_numpy(bool)
    numbers = pd.DataFrame(
        np.where(unknown[:, None], np.nan, np.concatenate(measured)), columns=COLUMNS
    )
    return pd.concat(
        [manifest[["image", "domain", "grade", "split"]].reset_index(drop=True), numbers], axis=1
    )


def _measure(images: np.ndarray, discs: np.ndarray) -> np.ndarray:
    """Quality of a batch: (B, S, S, 3) uint8, discs (B, 5) -> (B, 4) float64 in COLUMNS' order."""
    inside = mask(discs, images.shape[1]).numpy()[:, 0]  # (B, S, S)
    green = images[..., 1].astype(np.float32)
    laplacian = np.zeros_like(green)
    laplacian[:, 1:-1, 1:-1] = (
        green[:, :-2, 1:-1]
        + green[:, 2:, 1:-1]
        + green[:, 1:-1, :-2]
        + green[:, 1:-1, 2:]
        - 4 * green[:, 1:-1, 1:-1]
    )
    pixels = inside.sum(axis=(1, 2)).astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.where(inside, values, 0).sum(axis=(1, 2), dtype=np.float64)
        return np.divide(total, pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)

    highest = images.max(axis=3)
    sharpness = mean(laplacian**2) - mean(laplacian) ** 2
    brightness = mean(images.sum(axis=3, dtype=np.uint16)) / 3
    return np.stack([sharpness, brightness, mean(highest >= WHITE), mean(highest <= BLACK)], axis=1)
