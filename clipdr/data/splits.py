"""Protocols: manifests of all domains -> the training, validation and test images of one fold."""

import warnings

import pandas as pd

from clipdr import DataError
from clipdr.data.domains import SAME_PATIENTS
from clipdr.data.manifest import clusters
from clipdr.data.protocols import HELD_OUT

PARTS = 5  # of a domain's training images, one of which validates under `within`


def dg(manifest, held_out):
    """GDRBench's DG protocol (Che et al., 2023): test on the whole held-out domain, train and validate on the others' own splits."""
    source = manifest[manifest.domain != held_out]
    return {
        "train": source[source.split == "train"],
        "val": source[source.split == "val"],
        "test": manifest[manifest.domain == held_out],
    }


def esdg(manifest, held_out):
    """GDRBench's ESDG protocol: train and validate on one domain's own splits, test on the whole of every other domain.

    held_out : all_but_SOURCE, so that it names what is tested
    """
    source = held_out.removeprefix(HELD_OUT["esdg"].format(""))
    own = manifest[manifest.domain == source]
    return {
        "train": own[own.split == "train"],
        "val": own[own.split == "val"],
        "test": manifest[manifest.domain != source],
    }


def lodo_crossval(manifest, held_out):
    """dg, tested on the held-out domain's crossval files only, as the released CLIP-DR does (Yu et al., 2024): not GDRBench's DG test."""
    parts = dg(manifest, held_out)
    return parts | {"test": parts["test"][parts["test"].split == "val"]}


def within(manifest, held_out):
    """The upper reference: train inside the domain that is tested, on its own train files, and test on its crossval files.

    Validation is a fifth of the train files, by patient and with every grade's share: the first of five parts that has every grade where
    one has, so that AUC is defined. Patients who are in the crossval files too (RLDR has 29) do not train.
    """
    own = manifest[manifest.domain == held_out]
    test = own[own.split == "val"]
    rest = own[(own.split == "train") & ~own.patient.isin(set(test.patient) - {""})]
    if rest.empty:
        return {"train": rest, "val": rest, "test": test}
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a grade with fewer images than parts
        splits = list(
            StratifiedGroupKFold(PARTS, shuffle=True, random_state=0).split(
                rest, rest.grade, clusters(rest.patient)
            )
        )
    train, val = max(splits, key=lambda split: rest.grade.iloc[split[1]].nunique())
    return {"train": rest.iloc[train], "val": rest.iloc[val], "test": test}


PROTOCOLS = {"dg": dg, "esdg": esdg, "lodo_crossval": lodo_crossval, "within": within}
INSIDE = next(
    iter(SAME_PATIENTS.items())
)  # RLDR, EYEPACS: every photograph of the first is one of the second's, often with another grade


def fold(manifest, protocol, held_out):
    """The three parts of one fold, each a DataFrame of manifest rows in the manifest's order.

    manifest : rows of all domains of the study (columns of data/manifests/{D}.csv)
    protocol : a key of PROTOCOLS
    held_out : what is tested: a domain, or all_but_SOURCE under esdg

    Whatever the protocol, no EYEPACS photograph is in a part whose other side holds it as one of RLDR's (`leak_free`).
    Raises DataError where a part is empty.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol {protocol!r} is unknown; known are {', '.join(PROTOCOLS)}")
    parts = leak_free(PROTOCOLS[protocol](manifest, held_out))
    for name, part in parts.items():
        if part.empty:
            raise DataError(
                f"fold {protocol}/{held_out}: no {name} image; the domains at hand are {sorted(set(manifest.domain))}"
            )
    return parts


def leak_free(parts):
    """The parts without the rows of EYEPACS whose photograph or patient is RLDR's on the other side (training with validation, or test).

    GDRBench's guideline for ESDG (Che et al., 2023) asks for it where RLDR trains and EYEPACS is tested, by photograph (87104 of EYEPACS's
    88697 would stay; its files do not do it). A fellow eye is no fresh test either: here its patients go too (85687 stay), in both
    directions and for any protocol. On one side both copies stay: the gate counts them.
    """
    inner, outer = INSIDE
    held = {name: part[part.domain == inner] for name, part in parts.items()}
    other = {
        "train": held["test"],
        "val": held["test"],
        "test": pd.concat([held["train"], held["val"]]),
    }
    return {name: part[~_shared(part, outer, other[name])] for name, part in parts.items()}


def source_domains(parts):
    """Domains of the training part in the manifest's order: index = the domain number of a batch."""
    return list(dict.fromkeys(parts["train"].domain))


def _stems(part):
    """File names without folders, in lower case and without their extension."""
    return part.image.str.replace(r"^.*/|\.[^./]*$", "", regex=True).str.lower()


def _shared(part, domain, other):
    """Bool per row: of this domain, with the file name of one of the other rows, or the patient ("" is nobody)."""
    copies = _stems(part).isin(set(_stems(other))) | part.patient.isin(set(other.patient) - {""})
    return (part.domain == domain) & copies
