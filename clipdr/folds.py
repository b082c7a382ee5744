"""Protocols: manifests of all domains -> the training, validation and test images of one fold."""

import pandas as pd

from clipdr import DataError


def dg(manifest, held_out):
    """GDRBench's DG protocol (Che et al., 2023): test on the whole held-out domain, train and validate on the others' own splits."""
    source = manifest[manifest.domain != held_out]
    return {
        "train": source[source.split == "train"],
        "val": source[source.split == "val"],
        "test": manifest[manifest.domain == held_out],
    }


PROTOCOLS = {"dg": dg}
INSIDE = ("RLDR", "EYEPACS")  # every photograph of the first is one of the second's, under the same name (and often another grade)


def fold(manifest, protocol, held_out):
    """The three parts of one fold, each a DataFrame of manifest rows in the manifest's order.

    manifest : rows of all domains of the study (columns of data/manifests/{D}.csv)
    protocol : a key of PROTOCOLS
    held_out : the domain that is tested and nothing else

    Whatever the protocol, no EYEPACS photograph is in a part whose other side holds it as one of RLDR's (`leak_free`).
    Raises DataError where a part is empty.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol {protocol!r} is unknown; known are {', '.join(PROTOCOLS)}")
    parts = leak_free(PROTOCOLS[protocol](manifest, held_out))
    for name, part in parts.items():
        if part.empty:
            raise DataError(f"fold {protocol}/{held_out}: no {name} image; the domains at hand are {sorted(set(manifest.domain))}")
    return parts


def leak_free(parts):
    """The parts without the rows of EYEPACS that stand as RLDR's on the other side; the sides are training with validation, and test.

    GDRBench's guideline for ESDG (Che et al., 2023) asks for it where RLDR trains and EYEPACS is tested, but its files do not do it: 87104
    of EYEPACS's 88697 photographs stay. Here it holds in both directions and for any protocol. On one side both copies stay, see
    `kept_twice`.
    """
    inner, outer = INSIDE
    names = {name: set(_stems(part[part.domain == inner])) for name, part in parts.items()}
    other = {"train": names["test"], "val": names["test"], "test": names["train"] | names["val"]}
    return {name: part[~_among(part, outer, other[name])] if other[name] else part for name, part in parts.items()}


def kept_twice(parts):
    """{part: photographs that it holds both as RLDR's and as EYEPACS's, perhaps with two grades}; they bias no test, but count twice."""
    inner, outer = INSIDE
    return {name: int(_among(part, outer, set(_stems(part[part.domain == inner]))).sum()) for name, part in parts.items()}


def source_domains(parts):
    """Domains of the training part in the manifest's order: index = the domain number of a batch."""
    return list(dict.fromkeys(pd.concat([parts["train"], parts["val"]]).domain))


def _stems(part):
    """File names without folders, in lower case and without their extension."""
    return part.image.str.replace(r"^.*/|\.[^./]*$", "", regex=True).str.lower()


def _among(part, domain, stems):
    """Bool per row: of this domain, and its stem is among these."""
    return (part.domain == domain) & _stems(part).isin(stems)
