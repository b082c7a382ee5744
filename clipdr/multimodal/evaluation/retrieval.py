"""TODO"""

import numpy as np
import torch

from clipdr.evaluation.retrieval import DIRECTIONS, contents, judge, ranks, similarity
from clipdr.multimodal.data.loader import CHUNK
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.data.tokenizer import tokens
from clipdr.multimodal.loop import embed

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
    back = np.argsort(-score.T, axis=1, kind="stable")[
        :, : model.setting.rerank
    ]  # of each photograph
    wanted_back = {(which[i], j) for j in range(len(back)) for i in back[j]}
    pairs = sorted(wanted | wanted_back)
    value = {}
    for start in range(0, len(pairs), PAIRS):
        t, i = (list(part) for part in zip(*pairs[start : start + PAIRS], strict=True))
        summary, _ = model.join(seen[i].to(device), read[t].to(device), token[t].to(device))
        logits = model.match(summary).double().cpu().numpy()
        value |= dict(
            zip(
                pairs[start : start + PAIRS],
                np.tanh((logits[:, 1] - logits[:, 0]) / 8),
                strict=True,
            )
        )
    forward, backward = score.copy(), score.T.copy()
    for row, text in enumerate(which):
        for j in best[row]:
            forward[row, j] = FAR + value[text, j]
    for j in range(len(back)):
        for text in {which[i] for i in back[j]}:
            backward[j, which == text] = FAR + value[text, j]
    return {DIRECTIONS[0]: forward, DIRECTIONS[1]: backward}


def retrieval(model, visits, device="cpu", resamples=2000, key="test"):
    """Rows of every honest mode in both directions (clipdr.evaluation.retrieval.judge), each with mode, direction, kind and leaky."""
    found = embed(model, visits, device)
    patient = patients_of(visits.eyes).to_numpy()
    rows = []
    for mode, (score, content) in modes(found, visits).items():
        for direction, matrix in zip(DIRECTIONS, (score, score.T), strict=True):
            rows.append(
                {"mode": mode, "direction": direction}
                | judge(matrix, content, patient, key, resamples)
            )
        if mode == "dual" and model.setting.losses.itm > 0:
            for direction, matrix in reranked(model, visits, score, device).items():
                rows.append(
                    {"mode": "rerank", "direction": direction}
                    | judge(matrix, content, patient, key, resamples)
                )
    about = {
        "kind": visits.setting.kind,
        "with_grades": visits.setting.with_grades,
        "leaky": model.setting.leaky,
    }
    return [row | about for row in rows], found


def transferred(model, visits, found, device="cpu", resamples=2000):
    """Rows of `dual` and, where the model has learnt to match, `rerank` on another data set; no row is read. found: vectors of `embed`"""
    score, content, patient = (
        similarity(found["text"], found["image"]),
        visits.content.numpy(),
        patients_of(visits.eyes).to_numpy(),
    )
    both = {"dual": dict(zip(DIRECTIONS, (score, score.T), strict=True))}
    if model.setting.losses.itm > 0:
        both["rerank"] = reranked(model, visits, score, device)
    return [
        {"mode": mode, "direction": direction} | judge(matrix, content, patient, "test", resamples)
        for mode, matrices in both.items()
        for direction, matrix in matrices.items()
    ]


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
        items = [
            {"place": int(j), "correct": bool(j == row), "same": bool(content[j] == content[row])}
            for j in order[:shown]
        ]
        made.append(
            {"text": texts[row], "true": int(row), "rank": float(rank[row]), "items": items}
        )
        if len(made) == count:
            break
    return made
