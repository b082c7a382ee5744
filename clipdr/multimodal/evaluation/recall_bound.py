"""Upper bounds of strict recall, by the content of the text.

Input: an eye table. No model and no image is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from clipdr import DataError
from clipdr.evaluation.retrieval import K, contents, upper_bound
from clipdr.multimodal.data import eye_table, label_files, narrative, splits

KEYS = ["image", "row", "patient", "split", "dataset", "version"]
CONTENTS = {  # content of a text -> function (eye table) -> one value per eye
    "grades": lambda eyes: zip(eyes["icdr"], eyes["sdrg"], strict=True),
    "keywords": lambda eyes: eyes["keywords"],
    "description": lambda eyes: eyes["description"],
    "findings": lambda eyes: narrative.table_statements(eyes, "findings"),
    "findings + grades": lambda eyes: narrative.table_statements(eyes, "findings", True),
    "history": lambda eyes: narrative.table_statements(eyes, "history"),
    "history + findings": lambda eyes: narrative.table_statements(eyes, "full"),
    "keywords + age, sex, eye": lambda eyes: zip(
        eyes["keywords"], eyes["age"].fillna(-1), eyes["sex"], eyes["eye"], strict=True
    ),
    "every column but the names": lambda eyes: map(
        tuple, eyes.drop(columns=KEYS).fillna(-1).to_numpy()
    ),
}


def upper_bounds(eyes: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute the largest strict recall that any scorer of (text, image) can reach.

    Args:
        eyes: Eye table.

    Returns:
        Rows content, part ("all", "test"), n, distinct, ceiling_1, ceiling_5, ceiling_10 (in [0,
        1]). A content that is equal in every eye has no row.
    """
    rows = []
    splits = {"all": eyes}
    if (eyes["split"] == "test").any():
        splits["test"] = eyes[eyes["split"] == "test"]
    for name, content_of in CONTENTS.items():
        for split, members in splits.items():
            content = contents(content_of(members))
            if content.max() == 0:
                continue
            row = {
                "content": name,
                "part": split,
                "n": len(members),
                "distinct": int(content.max()) + 1,
            }
            rows.append(row | {f"ceiling_{k}": upper_bound(content, k) for k in K})
    return rows


def upper_bounds_of(
    name: str, source: str = "", data: str | Path = "", seed: int = 0
) -> list[dict[str, Any]]:
    """Compute the upper bounds of a packed eye table or of a label file.

    Args:
        name: Name of a packed eye table, or path of a label file.
        source: Source of the label file, a key of `label_files.SOURCES`; "" for a packed table.
        data: Folder of packed eye tables.
        seed: Seed of a split by patient where the table has none.

    Returns:
        Rows as of `upper_bounds`.

    Raises:
        DataError: If the source is unknown, or the table cannot be read.
    """
    if source and source not in label_files.SOURCES:
        raise DataError(
            f"upper-bounds: source {source!r} is unknown. Choose {', '.join(label_files.SOURCES)}."
        )
    eyes = (
        label_files.SOURCES[source](name) if source else eye_table.read(Path(data) / f"{name}.csv")
    )
    if (eyes["split"] == "").all():
        eyes = splits.split(eyes, seed)
    return upper_bounds(eyes)
