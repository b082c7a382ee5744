"""Zero-shot prediction: findings and grades from prompts, for both eyes or single eyes.

Input: aligned vectors of `clipdr.pretrain.model` and prompts of prompts/{language}.yaml. Output:
    probabilities, logits, and
rows of zeroshot.csv. Only vectors behind the heads are compared with text, because raw features are
in no trained space. (The released single-image path compared raw features with text.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from clipdr import DataError
from clipdr.evaluation.statistics import interval, resample
from clipdr.models.report_encoder import tokenize_reports
from clipdr.pretrain.evaluation.multilabel import METRICS, macro
from clipdr.pretrain.model import LEVELS, Aligned, RetClip, compare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROMPTS = Path(__file__).parents[1] / "prompts"
MODES = {  # mode of a single eye -> whether the patient's head is used, one entry per head
    "side": (False,),
    "patient": (True,),
    "both": (False, True),
}


def read_prompts(language: str) -> dict[str, Any]:
    """Read the prompts of a language.

    Returns:
        templates {level: [text]}, grades [[phrase]] in the order of the grades, findings {label:
        {positive, negative}}.

    Raises:
        DataError: If the package has no prompts in this language.
    """
    import yaml

    path = PROMPTS / f"{language}.yaml"
    if not path.is_file():
        languages = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.yaml")))
        raise DataError(f"zeroshot: no prompts in {language!r}. Use one of {languages}.")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@torch.no_grad()
def text_weights(
    model: RetClip, phrases: Sequence[Sequence[str]], templates: Sequence[str], level: str
) -> Aligned:
    """Average the vectors of several prompts per class: w_c = n(mean_k u(prompt_ck)).

    Args:
        model: Pre-trained network.
        phrases: Phrases of C classes.
        templates: Texts with {} for a phrase; one with two {} names both eyes.
        level: One of `LEVELS`.

    Returns:
        (C, E) unit vectors of the level.
    """
    prompts = [
        [template.replace("{}", phrase) for phrase in group for template in templates]
        for group in phrases
    ]
    flat = [text for group in prompts for text in group]
    device = next(model.parameters()).device
    vectors = model.eval().report(tokenize_reports(model.text, flat)[0][:, None].to(device))[
        LEVELS.index(level)
    ]
    means = [part.mean(0) for part in vectors.split([len(group) for group in prompts])]
    return Aligned(level, F.normalize(torch.stack(means), dim=-1))


def multiplier(model: RetClip, level: str) -> float:
    """Return the trained multiplier T of the cosines of a level."""
    return float(model.log_scale.detach()[LEVELS.index(level)].exp())


def zero_shot_findings(
    model: RetClip,
    image: Aligned,
    prompts: Mapping[str, Any],
    labels: Sequence[str],
    level: str = "patient",
) -> np.ndarray:
    """Predict findings: softmax over the positive and the negative prompt of each.

    Args:
        model: Pre-trained network.
        image: (N, E) image vectors of the level.
        prompts: As `read_prompts` returns them.
        labels: Keys of C findings.
        level: One of `LEVELS`.

    Returns:
        (N, C) float64 probabilities.

    Raises:
        DataError: If the image vectors are of another level.
    """
    templates, out = prompts["templates"][level], []
    for label in labels:
        pair = [prompts["findings"][label][kind] for kind in ("positive", "negative")]
        logits = compare(
            image, text_weights(model, pair, templates, level), multiplier(model, level)
        )
        out.append(logits.double().softmax(1)[:, 0])
    return torch.stack(out, 1).numpy()


def zero_shot_grades(
    model: RetClip, image: Aligned, prompts: Mapping[str, Any], level: str = "patient"
) -> np.ndarray:
    """Return (N, 5) float64 logits of the grades for (N, E) image vectors of the level."""
    weights = text_weights(model, prompts["grades"], prompts["templates"][level], level)
    return compare(image, weights, multiplier(model, level)).double().numpy()


def zero_shot_single_eyes(
    model: RetClip,
    prompts: Mapping[str, Any],
    labels: Sequence[str],
    eyes: Mapping[str, torch.Tensor],
    mode: str,
) -> dict[str, np.ndarray]:
    """Predict findings from single eyes of known side.

    Args:
        model: Pre-trained network.
        prompts: As `read_prompts` returns them.
        labels: Keys of C findings.
        eyes: {"left" or "right": (N, 3, S, S) float32 images in [0, 1]}.
        mode: "side": the head of the eye's side; "patient": the patient's head; "both": their mean
            logit.

    Returns:
        {side: (N, C) float64 probabilities}.

    Raises:
        DataError: If the mode is unknown.
    """
    if mode not in MODES:
        raise DataError(f"zeroshot: single is {mode!r}. Use one of {', '.join(MODES)}.")
    out = {}
    for side, image in eyes.items():
        predictions = []
        for whole in MODES[mode]:
            vector = model.eyes(image, "unknown" if whole else side)
            predictions.append(zero_shot_findings(model, vector, prompts, labels, vector.level))
        out[side] = mean_logit(predictions)
    return out


def mean_logit(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Return the probability of the mean logit of several (N, C) arrays of probabilities."""
    logits = [
        np.log(value) - np.log1p(-value) for value in np.clip(probabilities, 1e-12, 1 - 1e-12)
    ]
    return 1 / (1 + np.exp(-np.mean(logits, axis=0)))


def score_labels(
    finding: np.ndarray,
    probability: np.ndarray,
    patient: np.ndarray,
    labels: Sequence[str],
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Compute the AUROC of each finding and their mean, with 95 % intervals over patients.

    Args:
        finding: (N, C) int64, 0 or 1.
        probability: (N, C) float64.
        patient: (N,) group key of the resamples.
        labels: Names of the C findings.
        resamples: Number of resamples.

    Returns:
        Rows label, auroc, low, high, findings, n; the last label is "macro".
    """
    weight, rows = resample(patient, resamples, "zeroshot"), []
    columns = {label: [column] for column, label in enumerate(labels)}
    columns |= {"macro": list(range(len(labels)))}
    for label, chosen in columns.items():
        truth, score = finding[:, chosen], probability[:, chosen]
        value, count = macro(METRICS["macro_auroc"], truth, score)
        low, high, _ = interval(macro(METRICS["macro_auroc"], truth, score, weight)[0])
        rows.append(
            {
                "label": label,
                "auroc": float(value[0]),
                "low": low,
                "high": high,
                "findings": count,
                "n": len(finding),
            }
        )
    return rows
