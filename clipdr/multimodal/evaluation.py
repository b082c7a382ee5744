"""What a trained model is scored by: retrieval modes, predictions of both scales, curves with a modality absent, attribution.

Input: a Multimodal and Visits of one split. Output: rows and frames; retrieval is judged by clipdr.retrieval, grades by clipdr.scoring.
"""

import numpy as np
import pandas as pd
import torch

from clipdr import REFERABLE
from clipdr.metrics import METRICS, confusion
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.splits import patients_of
from clipdr.multimodal.towers import tokens
from clipdr.multimodal.training import embed, predict
from clipdr.multimodal.visits import CHUNK
from clipdr.operating import ranked
from clipdr.retrieval import DIRECTIONS, contents, judge, ranks, similarity
from clipdr.runs import table
from clipdr.statistics import interval, resample
from clipdr.train import probabilities

STRATA = ("camera", "quality", "age_band", "sex")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of test eyes whose row or text is taken away
PAIRS = 256  # (narrative, photograph) pairs that are matched at once
FAR = 1000.0  # added to re-ranked scores (tanh, so within 1), that they stand before the rest (cosines)


def unit(rows):
    """Rows at length 1, float64."""
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def modes(found, visits):
    """{mode: (score (N, N), content (N,))} of vectors of one tower each; rows of a score are texts, columns photographs.

    The content is that of everything in the query: narrative, and row where the query holds it.
    """
    text, image = found["text"], found["image"]
    said = visits.content.numpy()
    made = {"dual": (similarity(text, image), said)}
    if "row" in found:
        row = found["row"]
        both = contents(zip(said.tolist(), visits.alike.tolist(), strict=True))
        made["dual+row, in the query"] = similarity(unit(text + row), image), both
        made["dual+row, in the key"] = similarity(text, unit(image + row)), said
        made["row as the key"] = similarity(text, row), said
    return made


@torch.no_grad()
def reranked(model, visits, score, device="cpu"):
    """{direction: (N, N)}: the first items of `dual` re-scored by `match` on (narrative, photograph), row masked; the rest as they were.

    Each distinct narrative is encoded and matched once, so that equal narratives stay tied.
    """
    model.eval()
    seen = torch.cat([model.see(visit.image.to(device)).cpu() for visit in visits.chunks()])
    every = visits.texts(range(len(visits)))
    distinct = {one: place for place, one in enumerate(sorted(set(every)))}
    which = np.array([distinct[one] for one in every])
    first = np.array([np.flatnonzero(which == place)[0] for place in range(len(distinct))])
    token = tokens(visits.tokenizer, list(distinct), model.setting.tokens)[0]
    read = torch.cat([model.read(part.to(device)).cpu() for part in token.split(CHUNK)])
    best = np.argsort(-score, axis=1, kind="stable")[:, : model.setting.rerank]  # of each text
    wanted = {(which[i], j) for i in first for j in best[i]}
    back = np.argsort(-score.T, axis=1, kind="stable")[:, : model.setting.rerank]  # of each photograph
    wanted_back = {(which[i], j) for j in range(len(back)) for i in back[j]}
    pairs = sorted(wanted | wanted_back)
    value = {}
    for start in range(0, len(pairs), PAIRS):
        t, i = (list(part) for part in zip(*pairs[start : start + PAIRS], strict=True))
        summary, _ = model.join(seen[i].to(device), read[t].to(device), token[t].to(device))
        logits = model.match(summary).double().cpu().numpy()
        value |= dict(zip(pairs[start : start + PAIRS], np.tanh((logits[:, 1] - logits[:, 0]) / 8), strict=True))
    forward, backward = score.copy(), score.T.copy()
    for row, text in enumerate(which):
        for j in best[row]:
            forward[row, j] = FAR + value[text, j]
    for j in range(len(back)):
        for text in {which[i] for i in back[j]}:
            backward[j, which == text] = FAR + value[text, j]
    return {DIRECTIONS[0]: forward, DIRECTIONS[1]: backward}


def retrieval(model, visits, device="cpu", resamples=2000, key="test"):
    """Rows of every honest mode in both directions (clipdr.retrieval.judge), each with mode, direction, kind and leaky."""
    found = embed(model, visits, device)
    patient = patients_of(visits.eyes).to_numpy()
    rows = []
    for mode, (score, content) in modes(found, visits).items():
        for direction, matrix in zip(DIRECTIONS, (score, score.T), strict=True):
            rows.append({"mode": mode, "direction": direction} | judge(matrix, content, patient, key, resamples))
        if mode == "dual" and model.setting.losses.itm > 0:
            for direction, matrix in reranked(model, visits, score, device).items():
                rows.append({"mode": "rerank", "direction": direction} | judge(matrix, content, patient, key, resamples))
    about = {"kind": visits.setting.kind, "with_grades": visits.setting.with_grades, "leaky": model.setting.leaky}
    return [row | about for row in rows], found


def transferred(model, visits, found, device="cpu", resamples=2000):
    """Rows of `dual` and, where the model has learnt to match, `rerank` on another data set; no row is read. found: vectors of `embed`"""
    score, content, patient = similarity(found["text"], found["image"]), visits.content.numpy(), patients_of(visits.eyes).to_numpy()
    both = {"dual": dict(zip(DIRECTIONS, (score, score.T), strict=True))}
    if model.setting.losses.itm > 0:
        both["rerank"] = reranked(model, visits, score, device)
    return [
        {"mode": mode, "direction": direction} | judge(matrix, content, patient, "test", resamples)
        for mode, matrices in both.items()
        for direction, matrix in matrices.items()
    ]


def predictions(model, visits, scale, method, held_out, seed, device="cpu", **gone):
    """Rows of predictions.parquet of one scale, validation and test, eyes with a grade on that scale. gone: as training.predict."""
    logits = {part: predict(model, visits[part], device, **gone)[scale] for part in ("val", "test")}
    return frame(logits, visits, scale, method, held_out, seed)


def frame(logits, visits, scale, method, held_out, seed):
    """{part: (N, 5) logits} -> rows of predictions.parquet under the protocol brset_{scale}."""
    made = []
    for part, values in logits.items():
        known = visits[part].grade[scale].numpy() >= 0
        eyes = visits[part].eyes[known].assign(domain=held_out, grade=visits[part].grade[scale].numpy()[known])
        key = {"protocol": f"brset_{scale}", "method": method, "held_out": held_out, "seed": seed}
        made.append(table(key, "source_val", part, eyes, values[known].astype(np.float32), float("nan")))
    return pd.concat(made, ignore_index=True)


def manifest(visits, scale, held_out):
    """What clipdr.scoring needs to know of every eye: image, patient, grade on the scale, domain."""
    eyes = pd.concat([visits[part].eyes for part in ("val", "test")], ignore_index=True)
    known = eyes[eyes[scale] >= 0]
    return pd.DataFrame({"image": known["image"], "patient": patients_of(known), "grade": known[scale], "domain": held_out})


def auroc(grade, probability, weight=None):
    """Macro one-versus-rest AUROC over the grades present, (R,). Arguments as clipdr.metrics.METRICS."""
    present = [g for g in range(probability.shape[1]) if (grade == g).any() and (grade != g).any()]
    return np.mean([ranked(grade == g, probability[:, g], weight)[0] for g in present], axis=0) if present else np.array([np.nan])


def balanced_accuracy(grade, probability, weight=None):
    """Mean recall over the grades that occur in `grade`; NaN in a resample where one of them was not drawn. (R,)"""
    matrix = confusion(grade, probability, weight)[:, np.unique(grade)]
    with np.errstate(invalid="ignore"):
        recalls = np.stack([matrix[:, place, g] for place, g in enumerate(np.unique(grade))], 1) / matrix.sum(2)
    return recalls.mean(1)


FURTHER = {"balanced_accuracy": balanced_accuracy, "auroc": auroc}  # beside clipdr.metrics'; defined on the grades that occur
STRATIFIED = {"accuracy": METRICS["accuracy"], "qwk": METRICS["qwk"], **FURTHER}


def further(found, eyes, resamples):
    """Rows of the test split: FURTHER over all eyes, STRATIFIED in each stratum with two patients or more, 95 % intervals by patient."""
    test = found[found["split"] == "test"].sort_values("image", kind="stable").reset_index(drop=True)
    about = eyes.set_index("image").loc[test["image"]]
    patient = patients_of(about.reset_index()).to_numpy()
    groups = {("all", ""): np.ones(len(test), bool)}
    groups |= {(name, value): (about[name] == value).to_numpy() for name in STRATA for value in sorted(set(about[name]) - {""})}
    rows = []
    for (stratum, value), member in groups.items():
        grade, probability = test["grade"].to_numpy()[member], test[[f"p{k}" for k in range(5)]].to_numpy()[member]
        if len(set(patient[member])) < 2:
            continue
        weight = resample(patient[member], resamples, f"{stratum} {value}")
        for metric, of in (FURTHER if stratum == "all" else STRATIFIED).items():
            low, high, undefined = interval(of(grade, probability, weight))
            numbers = {"value": float(of(grade, probability)[0]), "low": low, "high": high, "undefined": undefined}
            rows.append({"stratum": stratum, "of": value, "metric": metric, "n": len(grade)} | numbers)
    return rows


def curves(model, visits, seed, device="cpu"):
    """Rows modality, share, scale, qwk, macro_f1: row or text taken away from a growing share of the test eyes, drawn once."""
    test, rows = visits["test"], []
    inputs = [name for name, there in (("row", model.setting.inputs != "none"), ("text", test.told is not None)) if there]
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
                    scores = {metric: float(METRICS[metric](grade[known], probability)[0]) for metric in ("qwk", "macro_f1", "accuracy")}
                    rows.append({"modality": name, "share": share, "scale": scale} | scores)
    return rows


def attribution(model, visits, device="cpu"):
    """Rows modality, scale, change: mean |change of the expected grade| over test eyes when that modality alone is masked, in grades.

    Occlusion, not attention: it says what the answer depends on. A photograph is masked here only, never in training.
    """
    whole = {scale: _expected(logits) for scale, logits in predict(model, visits, device).items()}
    inputs = ["image", *["row"] * (model.setting.inputs != "none"), *["text"] * (visits.told is not None)]
    rows = []
    graded = [scale for scale in SCALES if (visits.grade[scale] >= 0).any()]  # the other head was masked
    for name in inputs:
        without = {scale: _expected(logits) for scale, logits in predict(model, visits, device, without=(name,)).items()}
        for scale in graded:
            change = np.abs(whole[scale] - without[scale])
            referable = (whole[scale] >= REFERABLE - 0.5) != (without[scale] >= REFERABLE - 0.5)
            rows.append({"modality": name, "scale": scale, "change": float(change.mean()), "decision_changed": float(referable.mean())})
    return rows


def _expected(logits):
    return probabilities(logits) @ np.arange(5)


def examples(found, visits, count=6, shown=4, seed=0):
    """Queries with what they retrieve: [{text, true, items: [{image, same, correct}], rank}], drawn at random among distinct narratives."""
    score = similarity(found["text"], found["image"])
    content, texts, rank = visits.content.numpy(), visits.texts(range(len(visits))), ranks(score)
    rng, made, used = np.random.default_rng(seed), [], set()
    for row in rng.permutation(len(visits)):
        if content[row] in used:
            continue
        used.add(content[row])
        order = np.argsort(-score[row], kind="stable")
        items = [{"place": int(j), "correct": bool(j == row), "same": bool(content[j] == content[row])} for j in order[:shown]]
        made.append({"text": texts[row], "true": int(row), "rank": float(rank[row]), "items": items})
        if len(made) == count:
            break
    return made
