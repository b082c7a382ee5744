"""Atomic file writing, sha256 digests, and JSON and CSV text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def as_json(content: object) -> str:
    """Encode as JSON text.

    Args:
        content: Nested dicts, lists, tuples and scalars; NumPy scalars are allowed.

    Returns:
        Text with an indent of one space and a final line feed. NaN and infinity become null,
        because JSON has neither.
    """

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        if hasattr(value, "item"):  # a NumPy scalar
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(content), indent=1, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """Encode as CSV text with LF line ends.

    Args:
        rows: Rows as dicts of the same keys, or one dict of columns.

    Returns:
        Text whose first line names the columns.
    """
    import pandas as pd

    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


@contextmanager
def replacing(path: Path | str) -> Generator[Path]:
    """Write a file so that it appears whole or not at all.

    Args:
        path: Final path. Its folder is created.

    Yields:
        A hidden temporary path beside `path`, of the same suffix. It is renamed to `path` if the
        block succeeds, and deleted if the block fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8 with LF line ends, whole or not at all.

    Args:
        path: File to write. Its folder is created.
        text: Content.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def digest(path: Path | str) -> str:
    """Compute the sha256 of a file.

    Args:
        path: File to read.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: If the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
