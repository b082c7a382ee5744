"""What the aligned vectors can do without training: retrieval at three levels, zero-shot answers, and few-shot adapters on top of them.

Input: vectors of clipdr.pretrain.run.embed, prompts of prompts/{language}.yaml. Output: rows of retrieval.csv, zeroshot.csv, fewshot.csv.
Only vectors behind the heads come here; raw v is in no trained space (the released single-image path compared it with text).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from clipdr import DataError
from clipdr.evaluation.statistics import interval, resample
from clipdr.models.report_encoder import tokens
from clipdr.pretrain.evaluation.multilabel import METRICS, macro
from clipdr.pretrain.model import LEVELS, Aligned, compare

PROMPTS = Path(__file__).parents[1] / "prompts"


def read_prompts(language):
    """Prompts of a language: {templates: {level: [text]}, grades: [[phrase]], findings: {label: {positive, negative}}}."""
    import yaml

    path = PROMPTS / f"{language}.yaml"
    if not path.is_file():
        raise DataError(
            f"no prompts in {language!r}; there are {', '.join(sorted(found.stem for found in PROMPTS.glob('*.yaml')))}"
        )
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# Retrieval -------------------------------------------------------------------------------------------------------------------------------


# Zero-shot -------------------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def text_weights(model, phrases, templates, level):
    """w_c = n(mean_k u_level(prompt_ck)) -> Aligned (C, E). phrases: C lists; a template with two places names both eyes."""
    rows = [
        [template.replace("{}", phrase) for phrase in group for template in templates]
        for group in phrases
    ]
    flat = [text for group in rows for text in group]
    device = next(model.parameters()).device
    vectors = model.eval().report(tokens(model.text, flat)[0][:, None].to(device))[
        LEVELS.index(level)
    ]
    means = [part.mean(0) for part in vectors.split([len(group) for group in rows])]
    return Aligned(level, F.normalize(torch.stack(means), dim=-1))


def zero_shot_findings(model, image, prompts, labels, level="patient"):
    """Probability of each finding: softmax over its positive and its negative prompt. image: Aligned (N, E) -> (N, C) float64."""
    templates, out = prompts["templates"][level], []
    for label in labels:
        pair = [prompts["findings"][label][kind] for kind in ("positive", "negative")]
        logits = compare(
            image,
            text_weights(model, pair, templates, level),
            float(model.log_scale.detach()[LEVELS.index(level)].exp()),
        )
        out.append(logits.double().softmax(1)[:, 0])
    return torch.stack(out, 1).numpy()


def zero_shot_grades(model, image, prompts, level="patient"):
    """Logits of the five grades: Aligned (N, E) -> (N, 5) float64."""
    weights = text_weights(model, prompts["grades"], prompts["templates"][level], level)
    return (
        compare(image, weights, float(model.log_scale.detach()[LEVELS.index(level)].exp()))
        .double()
        .numpy()
    )


def single_eyes(model, prompts, labels, eyes, mode):
    """Findings from single eyes of known side: a side's own head ("side"), the patient's head ("patient"), or their mean ("both").

    eyes : {side: (N, 3, S, S)};  returns {side: (N, C)}
    """
    modes = {"side": (False,), "patient": (True,), "both": (False, True)}
    if mode not in modes:
        raise DataError(f"zeroshot: single {mode!r}; use {', '.join(modes)}")
    out = {}
    for side, image in eyes.items():
        answers = []
        for whole in modes[mode]:
            vector = model.eyes(image, "unknown" if whole else side)
            answers.append(zero_shot_findings(model, vector, prompts, labels, vector.level))
        out[side] = logit_mean(answers)
    return out


def logit_mean(probabilities):
    """Probability of the mean logit of some (N, C) probabilities."""
    logits = [
        np.log(value) - np.log1p(-value) for value in np.clip(probabilities, 1e-12, 1 - 1e-12)
    ]
    return 1 / (1 + np.exp(-np.mean(logits, axis=0)))


def findings_scored(finding, probability, patient, labels, resamples=2000):
    """Rows of AUROC per label and macro, with intervals over patients: (N, C) 0/1, (N, C), (N,)."""
    weight, rows = resample(patient, resamples, "zeroshot"), []
    places = {label: [place] for place, label in enumerate(labels)} | {
        "macro": list(range(len(labels)))
    }
    for label, chosen in places.items():
        value, count = macro(METRICS["macro_auroc"], finding[:, chosen], probability[:, chosen])
        low, high, _ = interval(
            macro(METRICS["macro_auroc"], finding[:, chosen], probability[:, chosen], weight)[0]
        )
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


# Few-shot --------------------------------------------------------------------------------------------------------------------------------
