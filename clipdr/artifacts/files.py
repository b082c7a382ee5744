"""Files that appear whole or not at all, and their digests."""

import hashlib
import json
import math
import os
from contextlib import contextmanager
from pathlib import Path


def as_json(content):
    """JSON text; an undefined number is null."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(one) for one in value]
        if hasattr(value, "item"):  # a NumPy scalar
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(content), indent=1, allow_nan=False) + "\n"


def as_csv(rows):
    """CSV text of rows (dicts of the same keys), LF line ends."""
    import pandas as pd

    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


@contextmanager
def replacing(path):
    """A temporary path beside `path`, of the same suffix; renamed to it if the block ends well, deleted if not. Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write text as UTF-8 with LF line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def digest(path):
    """sha256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
