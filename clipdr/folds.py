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


def fold(manifest, protocol, held_out):
    """The three parts of one fold, each a DataFrame of manifest rows in the manifest's order.

    manifest : rows of all domains of the study (columns of data/manifests/{D}.csv)
    protocol : a key of PROTOCOLS
    held_out : the domain that is tested and nothing else

    Raises DataError where a part is empty.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol {protocol!r} is unknown; known are {', '.join(PROTOCOLS)}")
    parts = PROTOCOLS[protocol](manifest, held_out)
    for name, part in parts.items():
        if part.empty:
            raise DataError(f"fold {protocol}/{held_out}: no {name} image; the domains at hand are {sorted(set(manifest.domain))}")
    return parts


def source_domains(parts):
    """Domains of the training part in the manifest's order: index = the domain number of a batch."""
    return list(dict.fromkeys(pd.concat([parts["train"], parts["val"]]).domain))
