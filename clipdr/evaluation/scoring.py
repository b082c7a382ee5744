"""From predictions to scores: every number of the project is a pure function of predictions.parquet and the manifests.

Input: predictions of one run and manifests (image -> patient). Output: scores.csv, draws.npz and operating.json of the run. Intervals are
for the test split only; validation rows carry NaN there.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from clipdr.artifacts.files import replacing, write_text
from clipdr.data.domains import SAME_PATIENTS
from clipdr.data.manifest import clusters
from clipdr.evaluation.metrics import METRICS, reference
from clipdr.evaluation.operating_point import MEASURES, Point, clinical, document, points
from clipdr.evaluation.predictions import check
from clipdr.evaluation.schema import DTYPES, POOLED, PROBABILITIES, RUN, SCORES
from clipdr.evaluation.statistics import interval, resample

TOLERANCE = 1e-12  # our metric at weights of one against scikit-learn
WEIGHTS_AT_ONCE = 2**25  # (resamples x images) uint16 held at a time: 64 MiB


class Scores(NamedTuple):
    scores: pd.DataFrame  # one row per selection, split, domain and metric, columns SCORES
    draws: dict[
        str, np.ndarray
    ]  # "selection/domain" of the test split -> (metrics, R) float64, rows in the order of MEASURES
    operating: dict[str, Point]  # selection -> what its source validation fixes


def score(predictions, manifest, resamples, name="predictions"):
    """Scores of one run: each metric of each selection on the test domains and on the source validation sets.

    test: the pool of the test domains if there are several, and each of them; val: the pool of the sources, and each of them.
    Metrics: operating.MEASURES; those with a threshold or a temperature take it from the pooled source validation of the same selection.
    `value` is scikit-learn's, and asserted equal to METRICS to 1e-12 (tests do so for the other measures).
    `low`, `high`, `undefined`: bootstrap over patients, test only.

    predictions : one run, columns predictions.COLUMNS, rows in any order
    manifest    : image, patient ("" unknown), grade, domain of every image predicted
    resamples   : number of resamples R, >= 0
    name        : file, for messages
    returns       Scores; DataError where `check` refuses
    """
    check(predictions, manifest, name)
    run = predictions[RUN].iloc[0].to_dict()
    predictions = predictions.sort_values("image", kind="stable")
    cluster = predictions["domain"].replace(SAME_PATIENTS) + "/"
    patient = predictions["image"].map(manifest.set_index("image")["patient"].fillna(""))
    predictions = predictions.assign(
        patient=(cluster + patient.astype(str)).where(patient != "", "")
    )

    rows, draws, fixed = [], {}, points(predictions)
    parts, console = list(_parts(predictions)), Console(stderr=True)
    for selection, split, domain, part in track(
        parts, "score", console=console, transient=True, disable=not console.is_terminal
    ):
        grade, probability = (
            part["grade"].to_numpy(np.int64),
            part[PROBABILITIES].to_numpy(np.float64),
        )
        patients = part["patient"].to_numpy(object)
        key = part["domain"].replace(SAME_PATIENTS if domain == POOLED else {}).to_numpy(object)
        drawn = _draw(
            grade, probability, patients, resamples if split == "test" else 0, key, fixed[selection]
        )
        if split == "test":
            draws[f"{selection}/{domain}"] = drawn
        group = {"selection": selection, "split": split, "domain": domain, "stratum": "all"}
        count = {
            "n": len(part),
            "clusters": len(np.unique(clusters(patients))),
            "unit": "patient" if (patients != "").all() else "image",
        }
        for (metric, value), over_resamples in zip(
            _values(grade, probability, fixed[selection]).items(), drawn, strict=True
        ):
            low, high, undefined = interval(over_resamples)
            numbers = {
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "undefined": undefined,
            }
            rows.append(run | group | numbers | count)
    return Scores(pd.DataFrame(rows, columns=SCORES).astype(DTYPES), draws, fixed)


def _parts(predictions):
    """Yields selection, split, domain or POOLED, rows: in the order of scores.csv."""
    for (selection, split), group in predictions.groupby(["selection", "split"], sort=True):
        by_domain = list(group.groupby("domain", sort=True))
        if split == "val" or len(by_domain) > 1:
            yield selection, split, POOLED, group
        for domain, part in by_domain:
            yield selection, split, domain, part


def _draw(grade, probability, patient, resamples, key, point):
    """(metrics, R) float64: every one of MEASURES on every resample, a block of resamples at a time.

    key: (N,) str, domain of each image, in a pool one name for domains that share patients. Each is drawn by itself, so that a photograph
    weighs the same in every pool that holds it (under esdg the pools of two sources overlap: their mean must not count it twice). Where
    only some pools hold both of two such domains, these are drawn anew.
    """
    size = max(1, WEIGHTS_AT_ONCE // len(grade))
    blocks = [np.empty((len(MEASURES), 0))]
    for start in range(0, resamples, size):
        weight = np.empty((min(size, resamples - start), len(grade)), dtype=np.uint16)
        for name in np.unique(key):
            weight[:, key == name] = resample(patient[key == name], len(weight), name, start)
        general = [metric(grade, probability, weight) for metric in METRICS.values()]
        blocks.append(np.stack([*general, *clinical(point, grade, probability, weight).values()]))
    return np.concatenate(blocks, axis=1)


def _values(grade, probability, point):
    """{name: value} of every one of MEASURES on the images as they are."""
    further = {name: float(value[0]) for name, value in clinical(point, grade, probability).items()}
    return {metric: _value(metric, grade, probability) for metric in METRICS} | further


def _value(metric, grade, probability):
    """scikit-learn's value, NaN where the metric is undefined; AssertionError if our form differs by more than 1e-12."""
    ours = float(METRICS[metric](grade, probability)[0])
    if np.isnan(ours):
        return ours
    theirs = float(reference(metric, grade, probability))
    if not abs(ours - theirs) <= TOLERANCE:
        raise AssertionError(f"{metric}: METRICS gives {ours!r}, scikit-learn {theirs!r}")
    return theirs


def write(result, folder):
    """Writes Scores as scores.csv, draws.npz and operating.json into the run folder, each beside its final name first."""
    write_text(Path(folder) / "scores.csv", result.scores.to_csv(index=False, lineterminator="\n"))
    with replacing(Path(folder) / "draws.npz") as path:
        np.savez(path, **result.draws)
    write_text(
        Path(folder) / "operating.json",
        json.dumps(document(result.operating), indent=1, allow_nan=False) + "\n",
    )
