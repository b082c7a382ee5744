"""The gate: what train, validation and test photographs share, and whether a fold may be trained on.

Input: manifests and stores. Output: results/leaks.csv (one row per pair of photographs that are one, or of one patient) and, per fold,
results/gate/{protocol}/{held_out}.json. A fold whose test photographs or patients are known to training or validation is refused.
"""

from itertools import combinations
from pathlib import PurePosixPath

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
KINDS = {  # the first that holds names a pair
    "exact": "equal file or equal pixels",
    "near": "the same photograph, changed",
    "name": "the same name in data sets that share their names",
    "patient": "the same patient",
}
FIRST = 10  # pairs written out per fold; leaks.csv has them all


def find(manifests, stores):
    """All pairs of photographs that no train and test set may share.

    exact   : equal sha256 of the files or equal stored pixels
    near    : one photograph, changed (clipdr.data.duplicates)
    name    : the same stem in data sets that share their file names (RLDR and EYEPACS); equal names elsewhere mean nothing
    patient : the same patient in another split or data set; patients of different data sets are different unless they share patient numbers

    manifests : {domain: manifest};  stores : {domain: (N, S, S, 3) uint8}
    returns     (pairs, number of pairs that were aligned): columns COLUMNS, sorted by kind and images; distance: Hamming distance of the
                perceptual hashes, 0..64, NA if unknown; correlation: of aligned pixels (near only)
    """
    manifest = (
        pd.concat(manifests.values()).sort_values("image", kind="stable").reset_index(drop=True)
    )
    digests, views, prints = duplicates.looked_at(manifest, stores)
    near, correlation, proposed = duplicates.near(manifest, stores, views, prints)
    found = {
        "exact": duplicates.exact(manifest, digests),
        "near": near,
        "name": same_name(manifest),
        "patient": same_patient(manifest),
    }
    pairs = pd.DataFrame(np.concatenate(list(found.values())), columns=["a", "b"])
    pairs.insert(0, "kind", np.repeat(list(found), [len(part) for part in found.values()]))
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


def same_name(manifest):
    """(P, 2) rows of different data sets that share file names, with the same stem."""
    shared = manifest["domain"].isin([*SAME_PATIENTS, *SAME_PATIENTS.values()])
    key = _family(manifest) + "/" + manifest["image"].map(lambda image: PurePosixPath(image).stem)
    return _pairs(manifest, key.where(shared, ""), ["domain"])


def same_patient(manifest):
    """(P, 2) rows of one patient in different splits or data sets."""
    key = (_family(manifest) + "/" + manifest["patient"]).where(manifest["patient"] != "", "")
    return _pairs(manifest, key, ["domain", "split"])


def _family(manifest):
    return manifest["domain"].replace(SAME_PATIENTS)


def _pairs(manifest, key, apart):
    """Pairs of rows with an equal key ("" is none) that differ in one of the columns `apart`: (P, 2) int64, first < second."""
    differing = manifest.groupby(key)[apart].transform("nunique").max(axis=1) > 1
    values, found = manifest[apart].to_numpy(object), []
    for _, places in manifest.index[differing & (key != "")].to_series().groupby(key):
        found += [
            pair for pair in combinations(places, 2) if (values[pair[0]] != values[pair[1]]).any()
        ]
    return np.array(found, np.int64).reshape(-1, 2)


def _distance(a, b):
    return (int(a, 16) ^ int(b, 16)).bit_count() if a and b else pd.NA


def read(path):
    """leaks.csv as `find` returns it; DataError where it is missing or has other columns."""
    try:
        pairs = pd.read_csv(
            path, dtype=DTYPES, keep_default_na=False, na_values={"distance": "", "correlation": ""}
        )
    except FileNotFoundError:
        raise DataError(f"no {path}: run `clipdr leaks` first") from None
    except ValueError as error:
        raise DataError(
            f"{path}: not a list of leaks ({error}); run `clipdr leaks` again"
        ) from None
    if list(pairs.columns) != COLUMNS:
        raise DataError(
            f"{path}: columns are not those of a list of leaks; run `clipdr leaks` again"
        )
    return pairs


def summary(pairs, photographs, proposed):
    """Lines to print: what was compared, and pairs per kind and domains, those in different splits, those graded differently."""
    lines = [
        f"leaks: {photographs} photographs, {proposed} pairs aligned, {len(pairs)} pairs found"
    ]
    for (kind, a, b), part in pairs.groupby(["kind", "domain_a", "domain_b"], sort=True):
        where = a if a == b else f"{a} and {b}"
        across = f", {(part.split_a != part.split_b).sum()} across train and val" if a == b else ""
        grades = (
            f", {(part.grade_a != part.grade_b).sum()} with two grades" if kind != "patient" else ""
        )
        lines.append(f"  {kind:8}{where}: {len(part)} ({KINDS[kind]}){across}{grades}")
    return lines


def check(pairs, parts):
    """What the parts of a fold share.

    pairs : as `find` returns them;  parts : as folds.fold returns them
    returns {"images": {part: number}, "leaks": case, "warnings": case, "twice_in_test": case, "verdict": the first case in words}:
            pairs between train or val and test; between train and val; within test. A case is {"pairs": {kind: number},
            "first": [the first FIRST pairs, as dicts]}
    """
    part_of = {image: name for name, part in parts.items() for image in part["image"]}
    a, b = pairs["image_a"].map(part_of), pairs["image_b"].map(part_of)
    known, tested = a.notna() & b.notna(), (a == "test").astype(int) + (b == "test").astype(int)
    cases = {
        "leaks": tested == 1,
        "warnings": (tested == 0) & (a != b),
        "twice_in_test": (tested == 2) & (pairs["kind"] != "patient"),
    }
    report = {"images": {name: len(part) for name, part in parts.items()}}
    for case, chosen in cases.items():
        rows = pairs[known & chosen].assign(part_a=a, part_b=b)
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
    return {"verdict": counted(report["leaks"])} | report


def counted(case):
    """A case of a report in words, e.g. 27 pairs (20 exact, 7 patient); "" if there are none."""
    total = sum(case["pairs"].values())
    kinds = ", ".join(f"{number} {kind}" for kind, number in case["pairs"].items())
    return f"{total} pair{'s' * (total > 1)} ({kinds})" if total else ""


def refuse(report, fold, leaks_csv):
    """Raise DataError, in one line, where a fold's training or validation knows test photographs or patients. fold: "dg/RLDR"."""
    if report["verdict"]:
        first = report["leaks"]["first"][0]
        raise DataError(
            f"fold {fold} leaks: {report['verdict']} between training or validation and test, the first {first['kind']}: "
            f"{first['image_a']} ({first['part_a']}) and {first['image_b']} ({first['part_b']}); all are in {leaks_csv}. Take one of each "
            f"out of the split files, or set allow_leaks: true in config.yaml, which marks every table as LEAKY"
        )
