"""Manifests and packed arrays: the output of `prepare`, read and checked.

Each domain has one manifest (CSV, one row per image) and one packed array of its images. Cached
features of a domain are a second array with one row per image. A manifest and an array that do not
belong together are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DTYPES = {
    "image": str, "row": "int32", "domain": str, "grade": "int8", "split": str,
    "patient": str, "eye": str, "camera": str,
    "cx": "float32", "cy": "float32", "r": "float32", "w": "float32", "h": "float32",
    "width": "int32", "height": "int32", "flag": str, "sha256": str, "phash": str,
}  # fmt: skip
"""Columns of a manifest, in order, and their dtypes."""


def clusters(patient: Iterable[str]) -> np.ndarray:
    """Number the patients of a list of images.

    Args:
        patient: (N,) patient of each image; "" is an unknown patient.

    Returns:
        (N,) int64 cluster of each image, numbered by first appearance. An image of an unknown
        patient is a cluster of its own.
    """
    names = list(patient)
    number: dict[str | int, int] = {}
    result = np.empty(len(names), dtype=np.int64)
    for row, name in enumerate(names):
        result[row] = number.setdefault(name or row, len(number))  # an int never equals a name
    return result


def read_manifest(path: str | Path) -> pd.DataFrame:
    """Read the manifest of one domain.

    Args:
        path: CSV file that `prepare` wrote, data/manifests/{D}.csv.

    Returns:
        One row per image with the columns and types of DTYPES; empty text stays "".

    Raises:
        DataError: The file or a column is missing, or a value does not fit its type.
    """
    try:
        table = pd.read_csv(path, dtype=DTYPES, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no manifest here. Run `clipdr prepare` for this domain."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{path}: not a manifest ({error}). Run `clipdr prepare` for this domain again."
        ) from None
    if list(table.columns) != list(DTYPES) or not (table["row"] == np.arange(len(table))).all():
        raise DataError(
            f"{path}: columns or row numbers are not those of a manifest. "
            "Run `clipdr prepare` for this domain again."
        )
    return table


def read_manifests(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read the manifests of several domains into one frame, in the order given."""
    return pd.concat([read_manifest(path) for path in paths], ignore_index=True)


def open_store(path: str | Path, manifest: pd.DataFrame) -> np.ndarray:
    """Map the packed images of a domain into memory.

    Args:
        path: Array file that `prepare` wrote, data/store/{D}.npy.
        manifest: Manifest of the same domain, N rows.

    Returns:
        (N, S, S, 3) uint8, one image per row of the manifest.

    Raises:
        DataError: The file is missing or damaged, or does not belong to the manifest.
    """
    images = _mapped(path, manifest, "prepare")
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1] != images.shape[2]
        or images.shape[3] != 3
    ):
        raise DataError(
            f"{path}: {images.dtype} {images.shape} is not (N, S, S, 3) uint8. "
            "Run `clipdr prepare` for this domain again."
        )
    return images


def open_features(path: str | Path, manifest: pd.DataFrame) -> np.ndarray:
    """Map the cached image features of a domain into memory.

    Args:
        path: Array file that `clipdr features` wrote.
        manifest: Manifest of the same domain, N rows.

    Returns:
        (N, D) float32, one feature vector per row of the manifest.

    Raises:
        DataError: The file is missing or damaged, or does not belong to the manifest.
    """
    features = _mapped(path, manifest, "features")
    if features.dtype != np.float32 or features.ndim != 2:
        raise DataError(
            f"{path}: {features.dtype} {features.shape} is not (N, D) float32. "
            "Run `clipdr features` for this domain again."
        )
    return features


def _mapped(path: str | Path, manifest: pd.DataFrame, command: str) -> np.ndarray:
    """Map an array with one entry per row of the manifest; `command` is what writes it.

    The mapping is copy-on-write because torch requires writable memory; the file never changes.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise DataError(
            f"{path}: file is missing. Run `clipdr {command}` for this domain."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{path}: not a complete array ({error}). Run `clipdr {command}` for this domain again."
        ) from None
    if len(array) != len(manifest):
        raise DataError(
            f"{path}: {len(array)} entries for {len(manifest)} rows of the manifest. "
            f"Run `clipdr {command}` for this domain again."
        )
    return array
