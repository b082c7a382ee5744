"""Image counts of prepared domains by split and grade, beside the official split files.

Input: prepared domains. Output: counts as a frame and as a Table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from clipdr import GRADES
from clipdr.data.domains import DOMAINS, is_synthetic
from clipdr.report.tables.table import Table

SPLITS = ("train", "val")
HEADS = ("no DR", "mild", "moderate", "severe", "PDR", "Total", "Official", "Rejected")


class Domain(NamedTuple):
    """One domain as prepared.

    Attributes:
        name: Domain.
        manifest: Its manifest.
        store: Its images (N, S, S, 3), uint8.
        rejected: Its rejected files: image, grade, split, reason.
        quality: Its measures of quality (quality.measure).
    """

    name: str
    manifest: pd.DataFrame
    store: np.ndarray
    rejected: pd.DataFrame
    quality: pd.DataFrame


def official(name: str) -> Mapping[str, Sequence[int]]:
    """Official {split: images per grade} of a domain, {} where no official split files exist."""
    return (DOMAINS[name].counts if name in DOMAINS else None) or {}


def counts(parts: Sequence[Domain]) -> pd.DataFrame:
    """Count images by domain, split and grade.

    Returns:
        Columns domain, split, grade, images (prepared), rejected, official (NA where there is
        none), difference (images + rejected - official).
    """
    rows = []
    for part in parts:
        for split in SPLITS:
            for grade in range(len(GRADES)):
                kept, refused = (
                    int(((frame["split"] == split) & (frame["grade"] == grade)).sum())
                    for frame in (part.manifest, part.rejected)
                )
                expected = official(part.name).get(split, [pd.NA] * len(GRADES))[grade]
                difference = kept + refused - expected
                rows.append((part.name, split, grade, kept, refused, expected, difference))
    columns = ["domain", "split", "grade", "images", "rejected", "official", "difference"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"official": "Int64", "difference": "Int64"})


def count_table(counted: pd.DataFrame) -> Table:
    """Make the table of counts: domains and splits x grades, total, official total and rejected.

    Args:
        counted: As `counts` returns it.

    Returns:
        Table in which a cell that differs from the official count states that count too.
    """
    cells = []
    for (domain, split), rows in counted.groupby(["domain", "split"], sort=False):
        expected = rows["official"].sum(min_count=len(GRADES))
        columns = [
            _count(*row) for row in rows[["images", "rejected", "official"]].itertuples(index=False)
        ]
        columns.append((f"{rows['images'].sum()}", float(rows["images"].sum())))
        columns.append(("none", np.nan) if pd.isna(expected) else (f"{expected}", float(expected)))
        columns.append((f"{rows['rejected'].sum()}", float(rows["rejected"].sum())))
        base = {"method": f"{domain} {split}", "decimals": 0, "mark": ""}
        cells += [
            base | {"column": head, "text": text, "value": value}
            for head, (text, value) in zip(HEADS, columns, strict=True)
        ]
    notes = ["Rejected images could not be used; each is listed with its reason."]
    if counted["official"].isna().any():
        notes.append("none: no official split files exist.")
    caption = "Number of images by domain, split and grade, as prepared, beside the official split "
    caption += "files."
    synthetic = any(map(is_synthetic, dict.fromkeys(counted["domain"])))
    return Table.of("counts", cells, caption, notes, corner="Domain and split", synthetic=synthetic)


def _count(images: int, rejected: int, official: int) -> tuple[str, float]:
    """Text and value of a count; the text names the official count (NA: none) where it differs."""
    differs = not pd.isna(official) and images + rejected != official
    return f"{images} (of {official})" if differs else f"{images}", float(images)
