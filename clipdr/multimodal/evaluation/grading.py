"""What a trained model is scored by: retrieval modes, predictions of both scales, curves with a modality absent, attribution.

Input: a Multimodal and Visits of one split. Output: rows and frames; retrieval is judged by clipdr.evaluation.retrieval, grades by clipdr.evaluation.scoring.
"""

import numpy as np
import pandas as pd

from clipdr import REFERABLE
from clipdr.evaluation.metrics import METRICS, confusion
from clipdr.evaluation.operating_point import ranked
from clipdr.evaluation.predictions import probabilities, table
from clipdr.evaluation.statistics import interval, resample
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.loop import predict

STRATA = ("camera", "quality", "age_band", "sex")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of test eyes whose row or text is taken away


def predictions(model, visits, scale, method, held_out, seed, device="cpu", **gone):
    """Rows of predictions.parquet of one scale, validation and test, eyes with a grade on that scale. gone: as training.predict."""
    logits = {part: predict(model, visits[part], device, **gone)[scale] for part in ("val", "test")}
    return frame(logits, visits, scale, method, held_out, seed)


def frame(logits, visits, scale, method, held_out, seed):
    """{part: (N, 5) logits} -> rows of predictions.parquet under the protocol brset_{scale}."""
    made = []
    for part, values in logits.items():
        known = visits[part].grade[scale].numpy() >= 0
        eyes = (
            visits[part]
            .eyes[known]
            .assign(domain=held_out, grade=visits[part].grade[scale].numpy()[known])
        )
        key = {"protocol": f"brset_{scale}", "method": method, "held_out": held_out, "seed": seed}
        made.append(
            table(key, "source_val", part, eyes, values[known].astype(np.float32), float("nan"))
        )
    return pd.concat(made, ignore_index=True)


def manifest(visits, scale, held_out):
    """What clipdr.evaluation.scoring needs to know of every eye: image, patient, grade on the scale, domain."""
    eyes = pd.concat([visits[part].eyes for part in ("val", "test")], ignore_index=True)
    known = eyes[eyes[scale] >= 0]
    return pd.DataFrame(
        {
            "image": known["image"],
            "patient": patients_of(known),
            "grade": known[scale],
            "domain": held_out,
        }
    )


def auroc(grade, probability, weight=None):
    """Macro one-versus-rest AUROC over the grades present, (R,). Arguments as clipdr.evaluation.metrics.METRICS."""
    present = [g for g in range(probability.shape[1]) if (grade == g).any() and (grade != g).any()]
    return (
        np.mean([ranked(grade == g, probability[:, g], weight)[0] for g in present], axis=0)
        if present
        else np.array([np.nan])
    )


def balanced_accuracy(grade, probability, weight=None):
    """Mean recall over the grades that occur in `grade`; NaN in a resample where one of them was not drawn. (R,)"""
    matrix = confusion(grade, probability, weight)[:, np.unique(grade)]
    with np.errstate(invalid="ignore"):
        recalls = np.stack(
            [matrix[:, place, g] for place, g in enumerate(np.unique(grade))], 1
        ) / matrix.sum(2)
    return recalls.mean(1)


FURTHER = {
    "balanced_accuracy": balanced_accuracy,
    "auroc": auroc,
}  # beside clipdr.evaluation.metrics'; defined on the grades that occur
STRATIFIED = {"accuracy": METRICS["accuracy"], "qwk": METRICS["qwk"], **FURTHER}


def further(found, eyes, resamples):
    """Rows of the test split: FURTHER over all eyes, STRATIFIED in each stratum with two patients or more, 95 % intervals by patient."""
    test = (
        found[found["split"] == "test"].sort_values("image", kind="stable").reset_index(drop=True)
    )
    about = eyes.set_index("image").loc[test["image"]]
    patient = patients_of(about.reset_index()).to_numpy()
    groups = {("all", ""): np.ones(len(test), bool)}
    groups |= {
        (name, value): (about[name] == value).to_numpy()
        for name in STRATA
        for value in sorted(set(about[name]) - {""})
    }
    rows = []
    for (stratum, value), member in groups.items():
        grade, probability = (
            test["grade"].to_numpy()[member],
            test[[f"p{k}" for k in range(5)]].to_numpy()[member],
        )
        if len(set(patient[member])) < 2:
            continue
        weight = resample(patient[member], resamples, f"{stratum} {value}")
        for metric, of in (FURTHER if stratum == "all" else STRATIFIED).items():
            low, high, undefined = interval(of(grade, probability, weight))
            numbers = {
                "value": float(of(grade, probability)[0]),
                "low": low,
                "high": high,
                "undefined": undefined,
            }
            rows.append(
                {"stratum": stratum, "of": value, "metric": metric, "n": len(grade)} | numbers
            )
    return rows


def curves(model, visits, seed, device="cpu"):
    """Rows modality, share, scale, qwk, macro_f1: row or text taken away from a growing share of the test eyes, drawn once."""
    test, rows = visits["test"], []
    inputs = [
        name
        for name, there in (
            ("row", model.setting.inputs != "none"),
            ("text", test.told is not None),
        )
        if there
    ]
    order = np.random.default_rng((seed, 6)).permutation(len(test))
    for name in inputs:
        for share in SHARES:
            gone = np.zeros(len(test), bool)
            gone[order[: round(share * len(test))]] = True
            logits = predict(model, test, device, absent={name: gone})
            for scale in SCALES:
                grade = test.grade[scale].numpy()
                known = grade >= 0
                if known.any():
                    probability = probabilities(logits[scale][known])
                    scores = {
                        metric: float(METRICS[metric](grade[known], probability)[0])
                        for metric in ("qwk", "macro_f1", "accuracy")
                    }
                    rows.append({"modality": name, "share": share, "scale": scale} | scores)
    return rows


def attribution(model, visits, device="cpu"):
    """Rows modality, scale, change: mean |change of the expected grade| over test eyes when that modality alone is masked, in grades.

    Occlusion, not attention: it says what the answer depends on. A photograph is masked here only, never in training.
    """
    whole = {scale: _expected(logits) for scale, logits in predict(model, visits, device).items()}
    inputs = [
        "image",
        *["row"] * (model.setting.inputs != "none"),
        *["text"] * (visits.told is not None),
    ]
    rows = []
    graded = [
        scale for scale in SCALES if (visits.grade[scale] >= 0).any()
    ]  # the other head was masked
    for name in inputs:
        without = {
            scale: _expected(logits)
            for scale, logits in predict(model, visits, device, without=(name,)).items()
        }
        for scale in graded:
            change = np.abs(whole[scale] - without[scale])
            referable = (whole[scale] >= REFERABLE - 0.5) != (without[scale] >= REFERABLE - 0.5)
            rows.append(
                {
                    "modality": name,
                    "scale": scale,
                    "change": float(change.mean()),
                    "decision_changed": float(referable.mean()),
                }
            )
    return rows


def _expected(logits):
    return probabilities(logits) @ np.arange(5)
