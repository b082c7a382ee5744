"""Training, validation and test splits of eye tables, by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from clipdr import DataError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}  # of patients


def split(
    eyes: pd.DataFrame, seed: int, fractions: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Split an eye table by patient, stratified by the patient's highest ICDR grade.

    Args:
        eyes: Eye table. A row without a patient name is a patient of its own.
        seed: Seed of the split.
        fractions: Fraction of the patients in "train", "val" and "test". Default: `FRACTIONS`.

    Returns:
        The table with the column `split` filled.
    """
    fractions = fractions or FRACTIONS
    patient = patients_of(eyes)
    highest = eyes["icdr"].groupby(patient.to_numpy()).max().sort_index()
    rng, split_of = np.random.default_rng((seed, 2512)), {}
    for grade in sorted(highest.unique()):
        members = highest.index[highest == grade].to_numpy()
        # A random start lets the few patients of a rare grade reach every split.
        position = (rng.permutation(len(members)) + rng.random()) / len(members)
        for name, share in zip(members, position % 1.0, strict=True):
            split_of[name] = (
                "train"
                if share < fractions["train"]
                else "val"
                if share < fractions["train"] + fractions["val"]
                else "test"
            )
    return check_split(eyes.assign(split=patient.map(split_of).astype(object)))


def split_images(
    eyes: pd.DataFrame, seed: int, fractions: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Split an eye table by image (`split: image_leaky`), to demonstrate the leakage.

    The fellow eye of most test images is a training image.

    Args:
        eyes: Eye table.
        seed: Seed of the split.
        fractions: Expected fraction of the images in "train", "val" and "test". Default:
            `FRACTIONS`.

    Returns:
        The table with the column `split` filled.
    """
    fractions = fractions or FRACTIONS
    position = np.random.default_rng((seed, 2513)).random(len(eyes))
    bounds = np.cumsum([fractions["train"], fractions["val"]])
    names = np.array(list(fractions), object)
    return eyes.assign(split=names[np.searchsorted(bounds, position, side="right")])


def check_split(eyes: pd.DataFrame) -> pd.DataFrame:
    """Check that no patient is in two splits.

    Args:
        eyes: Eye table with `split`.

    Returns:
        The table itself.

    Raises:
        DataError: If a patient is in two splits, because a model recognises the fellow eye.
    """
    patient = patients_of(eyes)
    count = eyes["split"].groupby(patient.to_numpy()).nunique()
    if (count > 1).any():
        raise DataError(
            f"split: patient {count.index[count > 1][0]!r} is in more than one split. "
            "Split by patient."
        )
    return eyes


def shared_patients(eyes: pd.DataFrame) -> float:
    """Compute the share of test images whose patient is also in train.

    Args:
        eyes: Eye table with `split`.

    Returns:
        Share in [0, 1]: 0 under `split`, above one half under `split_images`.
    """
    patient = patients_of(eyes)
    test = patient[eyes["split"] == "test"]
    return float(test.isin(set(patient[eyes["split"] == "train"])).mean())


def patients_of(eyes: pd.DataFrame) -> pd.Series:
    """Name the patient of each eye, uniquely over data sets.

    Args:
        eyes: Eye table of N rows.

    Returns:
        (N,) "DATASET/PATIENT". An unknown patient is named after the image.
    """
    named = eyes["patient"].where(eyes["patient"] != "", "image " + eyes["image"])
    return eyes["dataset"] + "/" + named


def other_patients(patient: np.ndarray, seed: int) -> np.ndarray:
    """Pair each eye with an eye of a random other patient.

    The two eyes of a patient get the eyes of one other patient.

    Args:
        patient: (N,) names of patients.
        seed: Seed of the pairing.

    Returns:
        (N,) int64 index of the other eye.

    Raises:
        DataError: If there are fewer than two patients.
    """
    names = list(dict.fromkeys(patient))
    if len(names) < 2:
        raise DataError("shuffled rows: need at least two patients. Use a larger split.")
    order = np.random.default_rng((seed, 4)).permutation(len(names))
    partner = {
        names[order[index]]: names[order[(index + 1) % len(names)]] for index in range(len(names))
    }
    eyes = {name: np.flatnonzero(patient == name) for name in names}
    used, other = {}, np.empty(len(patient), np.int64)
    for row, name in enumerate(patient):
        partner_eyes = eyes[partner[name]]
        other[row] = partner_eyes[used.get(name, 0) % len(partner_eyes)]
        used[name] = used.get(name, 0) + 1
    return other


def manifest_digest(eyes: pd.DataFrame) -> str:
    """Digest the assignment of images to splits.

    Args:
        eyes: Eye table with `split`.

    Returns:
        sha256, hexadecimal, independent of the order of the rows.
    """
    lines = sorted(
        f"{image} {name}" for image, name in zip(eyes["image"], eyes["split"], strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
