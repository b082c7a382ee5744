"""What `prepare` leaves behind, and how it is read: one manifest and one packed array per domain, checked to belong together."""

import numpy as np
import pandas as pd

from clipdr import DataError


def clusters(patient):
    """(N,) str -> (N,) int64: the cluster of each image, numbered by first appearance; an unknown patient ("") is a cluster of its own."""
    number, result = {}, np.empty(len(patient), dtype=np.int64)
    for row, name in enumerate(patient):
        result[row] = number.setdefault(name or row, len(number))  # an int never equals a name
    return result


DTYPES = {
    "image": str, "row": "int32", "domain": str, "grade": "int8", "split": str, "patient": str, "eye": str, "camera": str,
    "cx": "float32", "cy": "float32", "r": "float32", "w": "float32", "h": "float32",
    "width": "int32", "height": "int32", "flag": str, "sha256": str, "phash": str,
}  # fmt: skip


def read_manifest(path):
    """A manifest with the types of DTYPES; empty text stays "". DataError where the file or a column is missing or a value does not fit."""
    try:
        table = pd.read_csv(path, dtype=DTYPES, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"no manifest {path}: run `clipdr prepare` for this domain") from None
    except ValueError as error:
        raise DataError(f"{path}: not a manifest ({error}); run `clipdr prepare` again") from None
    if list(table.columns) != list(DTYPES) or not (table["row"] == np.arange(len(table))).all():
        raise DataError(
            f"{path}: columns or row numbers are not those of a manifest; run `clipdr prepare` again"
        )
    return table


def read_manifests(paths):
    """Manifests of several domains as one frame, in the order given."""
    return pd.concat([read_manifest(path) for path in paths], ignore_index=True)


def open_store(path, manifest):
    """The photographs of a manifest, mapped: (N, S, S, 3) uint8. DataError where store and manifest do not belong together."""
    images = _mapped(path, manifest, "prepare")
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1] != images.shape[2]
        or images.shape[3] != 3
    ):
        raise DataError(
            f"{path}: {images.dtype} {images.shape} is not (N, S, S, 3) uint8; run `clipdr prepare` again"
        )
    return images


def open_features(path, manifest):
    """The cached features of a manifest's photographs, mapped: (N, D) float32. DataError as open_store."""
    features = _mapped(path, manifest, "features")
    if features.dtype != np.float32 or features.ndim != 2:
        raise DataError(
            f"{path}: {features.dtype} {features.shape} is not (N, D) float32; run `clipdr features` again"
        )
    return features


def _mapped(path, manifest, verb):
    """An array mapped copy-on-write (torch wants to be allowed to write; the file never changes), one entry per row of the manifest."""
    try:
        array = np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError:
        raise DataError(f"no {path}: run `clipdr {verb}` for this domain") from None
    except ValueError as error:
        raise DataError(f"{path}: not a whole array ({error}); run `clipdr {verb}` again") from None
    if len(array) != len(manifest):
        raise DataError(
            f"{path}: {len(array)} entries for {len(manifest)} rows of the manifest; run `clipdr {verb}` again"
        )
    return array
