"""Which eyes train, validate and test: by patient. Input: eye tables (clipdr.multimodal.data.eye_table); output: the same with `split` drawn."""

import hashlib

import numpy as np

from clipdr import DataError

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def split(eyes, seed, fractions=None):
    """The same table with `split` drawn by patient, stratified by the patient's highest ICDR grade.

    fractions : share of patients in train, val and test;  a patient without a name ("") is one of its own
    """
    fractions = fractions or FRACTIONS
    patient = patients_of(eyes)
    worst = eyes["icdr"].groupby(patient.to_numpy()).max().sort_index()
    rng, chosen = np.random.default_rng((seed, 2512)), {}
    for grade in sorted(worst.unique()):
        members = worst.index[worst == grade].to_numpy()
        place = (rng.permutation(len(members)) + rng.random()) / len(
            members
        )  # a random start, so that rare grades reach every part
        for name, where in zip(members, place % 1.0, strict=True):
            chosen[name] = (
                "train"
                if where < fractions["train"]
                else "val"
                if where < fractions["train"] + fractions["val"]
                else "test"
            )
    return check_split(eyes.assign(split=patient.map(chosen).astype(object)))


def split_images(eyes, seed, fractions=None):
    """`split: image_leaky`: drawn by image. It exists to show the leak: the fellow eye of most test images is trained on."""
    fractions = fractions or FRACTIONS
    place = np.random.default_rng((seed, 2513)).random(len(eyes))
    bounds = np.cumsum([fractions["train"], fractions["val"]])
    return eyes.assign(
        split=np.array(list(fractions), object)[np.searchsorted(bounds, place, side="right")]
    )


def check_split(eyes):
    """The table, or DataError: a patient on two sides would be recognised by its fellow eye."""
    patient = patients_of(eyes)
    sides = eyes["split"].groupby(patient.to_numpy()).nunique()
    if (sides > 1).any():
        raise DataError(
            f"split: patient {sides.index[sides > 1][0]} is in more than one split; split by patient"
        )
    return eyes


def shared_patients(eyes):
    """Share of test images whose patient is in train too: 0 under `split`, most of them under `split_images`."""
    patient = patients_of(eyes)
    test = patient[eyes["split"] == "test"]
    return float(test.isin(set(patient[eyes["split"] == "train"])).mean())


def patients_of(eyes):
    """(N,) names that are unique over data sets; an unknown patient is named after its image."""
    named = eyes["patient"].where(eyes["patient"] != "", "image " + eyes["image"])
    return eyes["dataset"] + "/" + named


def manifest_digest(eyes):
    """sha256 of who is in which split, hexadecimal."""
    lines = sorted(
        f"{image} {part}" for image, part in zip(eyes["image"], eyes["split"], strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
