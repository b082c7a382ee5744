"""Rows of results as text: CSV, and JSON in which an undefined number is null."""

import json

import numpy as np
import pandas as pd


def as_json(content):
    """JSON text; an undefined number is null."""

    def clean(value):
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(one) for one in value]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return json.dumps(clean(content), indent=1, allow_nan=False) + "\n"


def as_csv(rows):
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
