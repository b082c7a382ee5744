"""Linear probe on frozen features."""

import numpy as np
import pytest

from clipdr import DataError
from clipdr.pretrain.evaluation import (
    finding_scores,
    linear_probe,
)


def test_probe_of_informative_features_beats_noise(trained):
    table = trained[2]
    truth = np.array([[row.N == "1", row.D == "1"] for row in table.itertuples()], float)
    noise = np.random.default_rng(0).normal(size=(len(table), 6))
    rows, _ = linear_probe.probe(
        {"trained": np.hstack([truth, 0.1 * noise]), "random": noise}, table, ["N", "D"]
    )
    value = rows[rows["against"] == ""].pivot(index="network", columns="metric", values="value")
    assert value.loc["trained", "macro_auroc"] > 0.95 > value.loc["random", "macro_auroc"]
    difference = rows[(rows["against"] == "random") & (rows["metric"] == "macro_map")].iloc[0]
    assert difference["value"] == pytest.approx(
        value.loc["trained", "macro_map"] - value.loc["random", "macro_map"]
    )
    assert difference["p"] < 0.2
    with pytest.raises(DataError, match="no column X"):
        finding_scores.findings(table, ["X"])
