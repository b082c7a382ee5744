"""What the aligned vectors can do without training: retrieval at three levels, zero-shot answers, and few-shot adapters on top of them.

Input: vectors of clipdr.pretrain.jobs.embed, prompts of prompts/{language}.yaml. Output: rows of retrieval.csv, zeroshot.csv, fewshot.csv.
Only vectors behind the heads come here; raw v is in no trained space (the released single-image path compared it with text).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from clipdr import DataError
from clipdr.pretrain.multilabel import METRICS, macro
from clipdr.pretrain.ret_clip import LEVELS, Aligned, compare
from clipdr.retrieval import retrieve
from clipdr.statistics import interval, resample
from clipdr.words import tokens

PROMPTS = Path(__file__).parent / "prompts"
SHOTS = (1, 5, 10)
ADAPTERS = ("clip_adapter", "tip_adapter", "tip_adapter_f")
RATIOS, ALPHAS, BETAS = (0.2, 0.4, 0.6, 0.8), (0.5, 1.0, 2.0, 5.0), (1.0, 3.0, 5.5, 10.0)  # searched on validation; the first: Gao, Zhang
EPOCHS = 40


def read_prompts(language):
    """Prompts of a language: {templates: {level: [text]}, grades: [[phrase]], findings: {label: {positive, negative}}}."""
    import yaml

    path = PROMPTS / f"{language}.yaml"
    if not path.is_file():
        raise DataError(f"no prompts in {language!r}; there are {', '.join(sorted(found.stem for found in PROMPTS.glob('*.yaml')))}")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# Retrieval -------------------------------------------------------------------------------------------------------------------------------


def levels_retrieved(image, text, member, content, patient, permute=None):
    """Rows of retrieval.csv: both directions at every level, the rows of the level as gallery.

    image, text : (3, N, E);  member : (3, N) bool;  content : (3, N) numbers of equal texts;  patient : (N,) str
    permute     : pair the texts anew with this seed (the control)
    """
    rows = []
    for number, level in enumerate(LEVELS):
        chosen = np.flatnonzero(member[number])
        if len(chosen) < 2:
            continue
        order = chosen if permute is None else np.random.default_rng(permute).permutation(chosen)
        values = np.unique(content[number][order], return_inverse=True)[1]
        found = retrieve(image[number][chosen], text[number][order], content=values, patient=patient[chosen], key=f"test/{level}")
        rows += [{"level": level, "text": "report"} | row for row in found]
    return rows


# Zero-shot -------------------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def text_weights(model, phrases, templates, level):
    """w_c = n(mean_k u_level(prompt_ck)) -> Aligned (C, E). phrases: C lists; a template with two places names both eyes."""
    rows = [[template.replace("{}", phrase) for phrase in group for template in templates] for group in phrases]
    flat = [text for group in rows for text in group]
    device = next(model.parameters()).device
    vectors = model.eval().report(tokens(model.text, flat)[0][:, None].to(device))[LEVELS.index(level)]
    means = [part.mean(0) for part in vectors.split([len(group) for group in rows])]
    return Aligned(level, F.normalize(torch.stack(means), dim=-1))


def zero_shot_findings(model, image, prompts, labels, level="patient"):
    """Probability of each finding: softmax over its positive and its negative prompt. image: Aligned (N, E) -> (N, C) float64."""
    templates, out = prompts["templates"][level], []
    for label in labels:
        pair = [prompts["findings"][label][kind] for kind in ("positive", "negative")]
        logits = compare(image, text_weights(model, pair, templates, level), float(model.log_scale.detach()[LEVELS.index(level)].exp()))
        out.append(logits.double().softmax(1)[:, 0])
    return torch.stack(out, 1).numpy()


def zero_shot_grades(model, image, prompts, level="patient"):
    """Logits of the five grades: Aligned (N, E) -> (N, 5) float64."""
    weights = text_weights(model, prompts["grades"], prompts["templates"][level], level)
    return compare(image, weights, float(model.log_scale.detach()[LEVELS.index(level)].exp())).double().numpy()


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
    logits = [np.log(value) - np.log1p(-value) for value in np.clip(probabilities, 1e-12, 1 - 1e-12)]
    return 1 / (1 + np.exp(-np.mean(logits, axis=0)))


def findings_scored(finding, probability, patient, labels, resamples=2000):
    """Rows of AUROC per label and macro, with intervals over patients: (N, C) 0/1, (N, C), (N,)."""
    weight, rows = resample(patient, resamples, "zeroshot"), []
    places = {label: [place] for place, label in enumerate(labels)} | {"macro": list(range(len(labels)))}
    for label, chosen in places.items():
        value, count = macro(METRICS["macro_auroc"], finding[:, chosen], probability[:, chosen])
        low, high, _ = interval(macro(METRICS["macro_auroc"], finding[:, chosen], probability[:, chosen], weight)[0])
        rows.append({"label": label, "auroc": float(value[0]), "low": low, "high": high, "findings": count, "n": len(finding)})
    return rows


# Few-shot --------------------------------------------------------------------------------------------------------------------------------


def shots(cls, patient, count, seed):
    """Rows of `count` patients per class, drawn by patient, one row each: (N,) int64 classes, -1 none -> sorted rows.

    A class with fewer patients gives all it has.
    """
    rng, chosen = np.random.default_rng(seed), []
    for value in sorted(set(cls[cls >= 0])):
        rows = rng.permutation(np.flatnonzero(cls == value))
        first = {}
        for row in rows:
            first.setdefault(patient[row], row)
        chosen += list(first.values())[:count]
    return np.sort(np.array(chosen))


def accuracy(logits, cls):
    """Balanced accuracy of (N, C) logits over the classes that are there."""
    said = logits.argmax(1).numpy()
    return float(np.mean([(said[cls == value] == value).mean() for value in np.unique(cls)]))


def few_shot(method, train, train_class, val, val_class, test, weights, scale):
    """Logits of the test vectors by an adapter fitted on a few training vectors; ratio, alpha, beta and epoch are chosen on validation.

    train, val, test : (n, E) unit vectors of one level, float32 tensors;  *_class : (n,) int64;  weights : (C, E) text weights;  scale : T
    clip_adapter  : z' = n(r A(z) + (1 - r) z), A = E -> E/4 -> E (Gao et al., 2021)
    tip_adapter   : T z W' + alpha exp(-beta (1 - z K')) Y, K the training vectors, Y their classes (Zhang et al., 2022)
    tip_adapter_f : the same with K trained
    """
    if method == "clip_adapter":
        return _clip_adapter(train, train_class, val, val_class, test, weights, scale)
    if method not in ADAPTERS:
        raise DataError(f"fewshot: method {method!r} is unknown; known are {', '.join(ADAPTERS)}")
    keys, values = train.clone(), F.one_hot(torch.as_tensor(train_class), len(weights)).float()

    def logits(vectors, keys, alpha, beta):
        return scale * vectors @ weights.T + alpha * torch.exp(-beta * (1 - vectors @ keys.T)) @ values

    if method == "tip_adapter_f":
        keys = _trained_keys(train, train_class, val, val_class, keys, logits)
    grid = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
    alpha, beta = max(grid, key=lambda pair: accuracy(logits(val, keys, *pair), val_class))
    return logits(test, keys, alpha, beta)


def _trained_keys(train, train_class, val, val_class, keys, logits):
    keys = nn.Parameter(keys)
    optimizer = torch.optim.AdamW([keys], lr=5e-3, eps=1e-4)
    best, kept = -1.0, keys.detach().clone()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        F.cross_entropy(logits(train, keys, 1.0, 5.0), torch.as_tensor(train_class)).backward()
        optimizer.step()
        if (score := accuracy(logits(val, keys.detach(), 1.0, 5.0), val_class)) > best:
            best, kept = score, keys.detach().clone()
    return kept


def _clip_adapter(train, train_class, val, val_class, test, weights, scale):
    best, answer = -1.0, None
    for ratio in RATIOS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = train.shape[1]
            adapter = nn.Sequential(
                nn.Linear(width, width // 4, bias=False), nn.ReLU(), nn.Linear(width // 4, width, bias=False), nn.ReLU()
            )

        def logits(vectors, adapter=adapter, ratio=ratio):
            return scale * F.normalize(ratio * adapter(vectors) + (1 - ratio) * vectors, dim=-1) @ weights.T

        optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            F.cross_entropy(logits(train), torch.as_tensor(train_class)).backward()
            optimizer.step()
        with torch.no_grad():
            score = accuracy(logits(val), val_class)
            if score > best:
                best, answer = score, logits(test)
    return answer
