"""Leakage check: duplicate images and shared patients between the splits of a fold.

A leaking fold is refused. Input are manifests and packed images. Output are results/leaks.csv (one
row per pair of images that are copies or of one patient) and, per fold,
results/gate/{protocol}/{held_out}.json. A fold leaks if an image or a patient of its test split is
also in training or validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.data import duplicates
from clipdr.data.domains import SAME_PATIENTS

SIDE = ["domain", "image", "split", "grade"]
COLUMNS = [
    "kind",
    *(f"{column}_{side}" for side in "ab" for column in SIDE),
    "distance",
    "correlation",
]
DTYPES = {column: "int64" if column.startswith("grade") else str for column in COLUMNS} | {
    "distance": "Int64",
    "correlation": "float64",
}
# Kind of a pair; a pair of several kinds has the first.
KINDS = {
    "exact": "equal file or equal pixels",
    "near": "the same image, changed",
    "name": "the same name in datasets that share their names",
    "patient": "the same patient",
}
FIRST = 10  # pairs listed per fold; leaks.csv has all


def find_pairs(
    manifests: Mapping[str, pd.DataFrame], stores: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, int]:
    """Find all pairs of images that training and test must not share.

    Kinds of pairs:

    - exact: equal sha256 of the files, or equal stored pixels
    - near: one image, changed (clipdr.data.duplicates)
    - name: the same file stem in datasets that share their file names (RLDR and EYEPACS). Equal
      names elsewhere have no meaning.
    - patient: the same patient in another split or dataset. Patients of different datasets are
      different unless the datasets share patient numbers.

    Args:
        manifests: {domain: manifest}.
        stores: {domain: (N, S, S, 3) uint8}.

    Returns:
        The pairs, and the number of pairs that were aligned. Pairs have the columns COLUMNS and are
        sorted by kind and images. `distance` is the Hamming distance of the perceptual hashes,
        0..64, NA if unknown. `correlation` is that of aligned pixels, for near pairs only.
    """
    manifest = (
        pd.concat(manifests.values()).sort_values("image", kind="stable").reset_index(drop=True)
    )
    digests, views, prints = duplicates.describe_images(manifest, stores)
    near, correlation, proposed = duplicates.near_pairs(manifest, stores, views, prints)
    by_kind = {
        "exact": duplicates.exact_pairs(manifest, digests),
        "near": near,
        "name": same_name(manifest),
        "patient": same_patient(manifest),
    }
    pairs = pd.DataFrame(np.concatenate(list(by_kind.values())), columns=["a", "b"])
    pairs.insert(0, "kind", np.repeat(list(by_kind), [len(rows) for rows in by_kind.values()]))
    pairs["correlation"] = pairs.merge(
        pd.DataFrame(near, columns=["a", "b"]).assign(value=correlation), "left", on=["a", "b"]
    )["value"]
    pairs.loc[pairs["kind"] != "near", "correlation"] = np.nan
    pairs = pairs.drop_duplicates(["a", "b"])
    for side in "ab":
        rows = (
            manifest.loc[pairs[side], [*SIDE, "phash"]]
            .reset_index(drop=True)
            .add_suffix(f"_{side}")
            .set_index(pairs.index)
        )
        pairs = pairs.join(rows)
    pairs["distance"] = pd.array(list(map(_distance, pairs["phash_a"], pairs["phash_b"])), "Int64")
    return pairs[COLUMNS].astype(DTYPES).reset_index(drop=True), proposed


def same_name(manifest: pd.DataFrame) -> np.ndarray:
    """Return the pairs with the same file stem in datasets that share file names, (P, 2) int64."""
    shared = manifest["domain"].isin([*SAME_PATIENTS, *SAME_PATIENTS.values()])
    key = _family(manifest) + "/" + manifest["image"].map(lambda image: PurePosixPath(image).stem)
    return _pairs(manifest, key.where(shared, ""), ["domain"])


def same_patient(manifest: pd.DataFrame) -> np.ndarray:
    """Return the pairs of one patient in different splits or datasets, (P, 2) int64."""
    key = (_family(manifest) + "/" + manifest["patient"]).where(manifest["patient"] != "", "")
    return _pairs(manifest, key, ["domain", "split"])


def _family(manifest: pd.DataFrame) -> pd.Series:
    """Domain of each row, equal for datasets that share their patients."""
    return manifest["domain"].replace(SAME_PATIENTS)


def _pairs(manifest: pd.DataFrame, key: pd.Series, apart: list[str]) -> np.ndarray:
    """Pairs of rows with an equal key that differ in one of the columns `apart`.

    The key "" equals no other. Returns (P, 2) int64, first < second.
    """
    differing = manifest.groupby(key)[apart].transform("nunique").max(axis=1) > 1
    values, pairs = manifest[apart].to_numpy(object), []
    for _, rows in manifest.index[differing & (key != "")].to_series().groupby(key):
        pairs += [
            pair for pair in combinations(rows, 2) if (values[pair[0]] != values[pair[1]]).any()
        ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _distance(a: str, b: str) -> Any:
    """Hamming distance of two hexadecimal hashes, NA if one is unknown ("")."""
    return (int(a, 16) ^ int(b, 16)).bit_count() if a and b else pd.NA


def read_pairs(path: str | Path) -> pd.DataFrame:
    """Read leaks.csv, the pairs that `find_pairs` returned.

    Raises:
        DataError: The file is missing or has other columns.
    """
    try:
        pairs = pd.read_csv(
            path, dtype=DTYPES, keep_default_na=False, na_values={"distance": "", "correlation": ""}
        )
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing. Run `clipdr leaks` first.") from None
    except ValueError as error:
        raise DataError(
            f"{path}: not a list of pairs ({error}). Run `clipdr leaks` again."
        ) from None
    if list(pairs.columns) != COLUMNS:
        raise DataError(
            f"{path}: columns are not those of a list of pairs. Run `clipdr leaks` again."
        )
    return pairs


def summary(pairs: pd.DataFrame, images: int, proposed: int) -> list[str]:
    """Return the lines to print about a search.

    The first line states what was compared. The others count pairs per kind and domains, those in
    different splits and those with different grades.

    Args:
        pairs: Pairs as from find_pairs.
        images: Number of images compared.
        proposed: Number of pairs aligned.
    """
    lines = [f"leaks: {images} images, {proposed} pairs aligned, {len(pairs)} pairs found"]
    for (kind, a, b), rows in pairs.groupby(["kind", "domain_a", "domain_b"], sort=True):
        where = a if a == b else f"{a} and {b}"
        across = f", {(rows.split_a != rows.split_b).sum()} across train and val" if a == b else ""
        grades = (
            f", {(rows.grade_a != rows.grade_b).sum()} with two grades" if kind != "patient" else ""
        )
        lines.append(f"  {kind:8}{where}: {len(rows)} ({KINDS[kind]}){across}{grades}")
    return lines


def check(pairs: pd.DataFrame, splits: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Count the pairs that the splits of a fold share.

    Args:
        pairs: Pairs as from find_pairs.
        splits: Splits as from clipdr.data.splits.fold.

    Returns:
        {"images": {split: number}, "leaks": case, "warnings": case, "twice_in_test": case,
        "verdict": text of the first case}. The cases are pairs between training or validation and
        test, between training and validation, and within test. A case is {"pairs": {kind: number},
        "first": the first FIRST pairs as dicts}.
    """
    split_of = {image: name for name, rows in splits.items() for image in rows["image"]}
    a, b = pairs["image_a"].map(split_of), pairs["image_b"].map(split_of)
    in_fold, tested = a.notna() & b.notna(), (a == "test").astype(int) + (b == "test").astype(int)
    cases = {
        "leaks": tested == 1,
        "warnings": (tested == 0) & (a != b),
        "twice_in_test": (tested == 2) & (pairs["kind"] != "patient"),
    }
    report: dict[str, Any] = {"images": {name: len(rows) for name, rows in splits.items()}}
    for case, chosen in cases.items():
        rows = pairs[in_fold & chosen].assign(part_a=a, part_b=b)
        first = (
            rows[["kind", "image_a", "part_a", "image_b", "part_b"]].head(FIRST).to_dict("records")
        )
        report[case] = {
            "pairs": {
                kind: int((rows["kind"] == kind).sum())
                for kind in KINDS
                if (rows["kind"] == kind).any()
            },
            "first": first,
        }
    return {"verdict": describe_case(report["leaks"])} | report


def describe_case(case: Mapping[str, Any]) -> str:
    """Return a report's case as text, such as 27 pairs (20 exact, 7 patient), "" if empty."""
    total = sum(case["pairs"].values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in case["pairs"].items())
    return f"{total} pair{'s' * (total > 1)} ({kinds})" if total else ""


def refuse(report: Mapping[str, Any], fold: str, leaks_csv: str | Path) -> None:
    """Refuse a fold with leakage.

    Args:
        report: Report as from `check`.
        fold: Name of the fold, PROTOCOL/HELD_OUT.
        leaks_csv: File with all pairs, named in the message.

    Raises:
        DataError: Images or patients of the test split are in training or validation.
    """
    if report["verdict"]:
        first = report["leaks"]["first"][0]
        raise DataError(
            f"fold {fold}: training or validation and test share {report['verdict']}. "
            f"First pair ({first['kind']}): {first['image_a']} ({first['part_a']}) and "
            f"{first['image_b']} ({first['part_b']}). All pairs are in {leaks_csv}. "
            "Remove one image of each pair from the split files, or set allow_leaks: true in "
            "config.yaml, which marks every table as LEAKY."
        )
