"""Scores of one run: every metric on every test domain and source validation set, with intervals.

Every number is a pure function of predictions.parquet and the manifests (image -> patient). Output:
scores.csv, draws.npz and operating.json of the run. Intervals are for the test split only.
Validation rows hold NaN there.
"""

import json
from collections.abc import Iterator
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

TOLERANCE = 1e-12  # largest difference of a metric at weights of one from scikit-learn's
WEIGHTS_AT_ONCE = 2**25  # (resamples x images) uint16 held at a time: 64 MiB


class Scores(NamedTuple):
    """Scores of one run.

    Attributes:
        scores: One row per selection, split, domain and metric; columns SCORES.
        draws: {"selection/domain" of the test split: (metrics, R) float64}, rows in the order of
            MEASURES.
        operating: {selection: operating point of its source validation}.
    """

    scores: pd.DataFrame
    draws: dict[str, np.ndarray]
    operating: dict[str, Point]


def score(
    predictions: pd.DataFrame,
    manifest: pd.DataFrame,
    resamples: int,
    name: str = "predictions",
) -> Scores:
    """Compute each metric of each selection on the test domains and source validation sets.

    Test: the pool of the test domains if there are several, and each of them. Validation: the pool
    of the sources, and each of them. Metrics: `operating_point.MEASURES`. Those with a threshold or
    a temperature take it from the pooled source validation of the same selection. `value` is
    scikit-learn's, and asserted equal to METRICS to 1e-12 (tests do so for the other measures).
    `low`, `high` and `undefined` come from a bootstrap over patients, test only.

    Args:
        predictions: One run, columns `schema.COLUMNS`, rows in any order.
        manifest: image, patient ("": unknown), grade and domain of every image predicted.
        resamples: Number of resamples R, >= 0.
        name: File, for messages.

    Raises:
        DataError: If `predictions.check` refuses the predictions.
    """
    check(predictions, manifest, name)
    run = predictions[RUN].iloc[0].to_dict()
    predictions = predictions.sort_values("image", kind="stable")
    cluster = predictions["domain"].replace(SAME_PATIENTS) + "/"
    patient = predictions["image"].map(manifest.set_index("image")["patient"].fillna(""))
    predictions = predictions.assign(
        patient=(cluster + patient.astype(str)).where(patient != "", "")
    )

    rows, draws, operating = [], {}, points(predictions)
    image_sets, console = list(_image_sets(predictions)), Console(stderr=True)
    for selection, split, domain, images in track(
        image_sets, "score", console=console, transient=True, disable=not console.is_terminal
    ):
        point = operating[selection]
        grade = images["grade"].to_numpy(np.int64)
        probability = images[PROBABILITIES].to_numpy(np.float64)
        patients = images["patient"].to_numpy(object)
        key = images["domain"].replace(SAME_PATIENTS if domain == POOLED else {}).to_numpy(object)
        count = resamples if split == "test" else 0
        over_resamples = _draw(grade, probability, patients, count, key, point)
        if split == "test":
            draws[f"{selection}/{domain}"] = over_resamples
        group = {"selection": selection, "split": split, "domain": domain, "stratum": "all"}
        facts = {
            "n": len(images),
            "clusters": len(np.unique(clusters(patients))),
            "unit": "patient" if (patients != "").all() else "image",
        }
        values = _values(grade, probability, point)
        for (metric, value), of_metric in zip(values.items(), over_resamples, strict=True):
            bounds = dict(zip(("low", "high", "undefined"), interval(of_metric), strict=True))
            rows.append(run | group | {"metric": metric, "value": value} | bounds | facts)
    return Scores(pd.DataFrame(rows, columns=SCORES).astype(DTYPES), draws, operating)


def write(scores: Scores, folder: str | Path) -> None:
    """Write scores.csv, draws.npz and operating.json into a run folder, each file atomically."""
    write_text(Path(folder) / "scores.csv", scores.scores.to_csv(index=False, lineterminator="\n"))
    with replacing(Path(folder) / "draws.npz") as path:
        # The stub of savez takes every keyword for allow_pickle.
        np.savez(path, **scores.draws)  # pyright: ignore[reportArgumentType]
    write_text(
        Path(folder) / "operating.json",
        json.dumps(document(scores.operating), indent=1, allow_nan=False) + "\n",
    )


def _image_sets(predictions: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Yield selection, split, domain or POOLED, and rows, in the order of scores.csv."""
    for (selection, split), group in predictions.groupby(["selection", "split"], sort=True):
        by_domain = list(group.groupby("domain", sort=True))
        if split == "val" or len(by_domain) > 1:
            yield selection, split, POOLED, group
        for domain, rows in by_domain:
            yield selection, split, domain, rows


def _draw(
    grade: np.ndarray,
    probability: np.ndarray,
    patient: np.ndarray,
    resamples: int,
    key: np.ndarray,
    point: Point,
) -> np.ndarray:
    """Every one of MEASURES on every resample, a block at a time: (metrics, R) float64.

    key: (N,) str, domain of each image; in a pool one name for domains that share patients. Each
    name is resampled by itself, so that an image weighs the same in every pool that holds it. Under
    esdg the pools of two sources overlap, and their mean must not count it twice. Where only some
    pools hold both of two such domains, these are resampled anew.
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


def _values(grade: np.ndarray, probability: np.ndarray, point: Point) -> dict[str, float]:
    """{name: value} of every one of MEASURES on the images as they are."""
    further = {name: float(value[0]) for name, value in clinical(point, grade, probability).items()}
    return {metric: _value(metric, grade, probability) for metric in METRICS} | further


def _value(metric: str, grade: np.ndarray, probability: np.ndarray) -> float:
    """scikit-learn's value, NaN where undefined; AssertionError if METRICS differs from it."""
    ours = float(METRICS[metric](grade, probability)[0])
    if np.isnan(ours):
        return ours
    theirs = float(reference(metric, grade, probability))
    if not abs(ours - theirs) <= TOLERANCE:
        raise AssertionError(f"{metric}: METRICS gives {ours!r}, scikit-learn {theirs!r}")
    return theirs
