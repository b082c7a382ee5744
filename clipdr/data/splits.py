"""Train, validation and test images of one fold, from the manifests of all domains.

Each protocol (clipdr.data.protocols) is a function that selects rows of the manifests by their
domain and by their own split. `fold` applies one protocol and removes images shared by RLDR and
EYEPACS.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd

from clipdr import DataError
from clipdr.data.domains import SAME_PATIENTS
from clipdr.data.manifest import clusters
from clipdr.data.protocols import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDS = 5  # of a domain's training images under `within`; one fold validates


def dg(manifest: pd.DataFrame, held_out: str) -> dict[str, pd.DataFrame]:
    """Split by GDRBench's DG protocol (Che et al., 2023).

    The test split is the whole held-out domain. Training and validation use the other domains' own
    splits.

    Args:
        manifest: Rows of all domains of the study.
        held_out: The domain that is tested.

    Returns:
        {"train": rows, "val": rows, "test": rows}.
    """
    source = manifest[manifest.domain != held_out]
    return {
        "train": source[source.split == "train"],
        "val": source[source.split == "val"],
        "test": manifest[manifest.domain == held_out],
    }


def esdg(manifest: pd.DataFrame, held_out: str) -> dict[str, pd.DataFrame]:
    """Split by GDRBench's ESDG protocol.

    Training and validation use one domain's own splits. The test split is the whole of every other
    domain.

    Args:
        manifest: Rows of all domains of the study.
        held_out: all_but_SOURCE, which names what is tested.

    Returns:
        {"train": rows, "val": rows, "test": rows}.
    """
    source = held_out.removeprefix(HELD_OUT["esdg"].format(""))
    own = manifest[manifest.domain == source]
    return {
        "train": own[own.split == "train"],
        "val": own[own.split == "val"],
        "test": manifest[manifest.domain != source],
    }


def lodo_crossval(manifest: pd.DataFrame, held_out: str) -> dict[str, pd.DataFrame]:
    """Split as `dg`, but test on the held-out domain's crossval files only.

    The released CLIP-DR (Yu et al., 2024) is tested in this way, unlike GDRBench's DG.

    Args:
        manifest: Rows of all domains of the study.
        held_out: The domain that is tested.

    Returns:
        {"train": rows, "val": rows, "test": rows}.
    """
    splits = dg(manifest, held_out)
    return splits | {"test": splits["test"][splits["test"].split == "val"]}


def within(manifest: pd.DataFrame, held_out: str) -> dict[str, pd.DataFrame]:
    """Split one domain into training, validation and test images: an in-domain reference.

    Training uses the domain's own train files, the test its crossval files. Validation is one of
    FOLDS folds of the train files, by patient and stratified by grade. Of the folds, the first with
    the most grades is taken, so that the AUC is defined where possible. Patients who are also in
    the crossval files (RLDR has 29) are left out of training.

    Args:
        manifest: Rows of all domains of the study.
        held_out: The domain that is trained on and tested.

    Returns:
        {"train": rows, "val": rows, "test": rows}.
    """
    own = manifest[manifest.domain == held_out]
    test = own[own.split == "val"]
    rest = own[(own.split == "train") & ~own.patient.isin(set(test.patient) - {""})]
    if rest.empty:
        return {"train": rest, "val": rest, "test": test}
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        # Raised for a grade with fewer images than folds.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(
            StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(
                rest, rest.grade, clusters(rest.patient)
            )
        )
    train, val = max(folds, key=lambda rows: rest.grade.iloc[rows[1]].nunique())
    return {"train": rest.iloc[train], "val": rest.iloc[val], "test": test}


PROTOCOLS = {"dg": dg, "esdg": esdg, "lodo_crossval": lodo_crossval, "within": within}

# RLDR, EYEPACS: every image of the subset is also in the superset, often with another grade.
SUBSET, SUPERSET = next(iter(SAME_PATIENTS.items()))


def fold(manifest: pd.DataFrame, protocol: str, held_out: str) -> dict[str, pd.DataFrame]:
    """Return the three splits of one fold.

    Under every protocol, EYEPACS images whose copy in RLDR is on the other side of the fold are
    left out (`leak_free`).

    Args:
        manifest: Rows of all domains of the study (columns of data/manifests/{D}.csv).
        protocol: A key of PROTOCOLS.
        held_out: What is tested: a domain, or all_but_SOURCE under `esdg`.

    Returns:
        {"train": rows, "val": rows, "test": rows}, each in the manifest's order.

    Raises:
        DataError: The protocol is unknown, or a split is empty.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol {protocol!r} is unknown. Choose one of {', '.join(PROTOCOLS)}.")
    splits = leak_free(PROTOCOLS[protocol](manifest, held_out))
    for name, rows in splits.items():
        if rows.empty:
            raise DataError(
                f"fold {protocol}/{held_out}: no {name} image. The manifests hold the domains "
                f"{', '.join(sorted(set(manifest.domain)))}; prepare the missing ones."
            )
    return splits


def leak_free(splits: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Remove EYEPACS rows whose image or patient is RLDR's on the other side of the fold.

    The two sides are training with validation, and test. GDRBench's guideline for ESDG (Che et al.,
    2023) asks for this by image where RLDR trains and EYEPACS is tested (87104 of EYEPACS's 88697
    images would stay), but its files do not implement it. A fellow eye is not an independent test
    either. Deviation: here the patients are removed too (85687 images stay), in both directions and
    for every protocol. Copies on the same side stay; the leakage check counts them.

    Args:
        splits: {"train": rows, "val": rows, "test": rows}.

    Returns:
        The same splits without those rows.
    """
    subset = {name: rows[rows.domain == SUBSET] for name, rows in splits.items()}
    other_side = {
        "train": subset["test"],
        "val": subset["test"],
        "test": pd.concat([subset["train"], subset["val"]]),
    }
    return {name: rows[~_shared(rows, SUPERSET, other_side[name])] for name, rows in splits.items()}


def source_domains(splits: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the domains of the training split; their index is the domain number of a batch."""
    return list(dict.fromkeys(splits["train"].domain))


def _stems(rows: pd.DataFrame) -> pd.Series:
    """File names without folders and extension, in lower case."""
    return rows.image.str.replace(r"^.*/|\.[^./]*$", "", regex=True).str.lower()


def _shared(rows: pd.DataFrame, domain: str, others: pd.DataFrame) -> pd.Series:
    """Bool per row: of this domain, with the file name or the known patient of one of `others`."""
    copies = _stems(rows).isin(set(_stems(others))) | rows.patient.isin(set(others.patient) - {""})
    return (rows.domain == domain) & copies
