"""Five canaries: what an honest system must pass, and the leaky protocol must fail. Output: rows canary, mode, passed, detail.

K1 tower independence   K2 wrong pairs   K3 noise   K4 constants, duplicates, ceilings   K5 grade-blind inputs
A run whose canary fails is marked in every table.
"""

import numpy as np
import torch

from clipdr import DataError
from clipdr.evaluation.retrieval import (
    DIRECTIONS,
    K,
    ceiling,
    contents,
    judge,
    null_band,
    recall,
    similarity,
)
from clipdr.multimodal.data import eye_table, narrative
from clipdr.multimodal.evaluation.leaky_protocol import fused_vectors, noise_demonstration
from clipdr.multimodal.evaluation.retrieval import reranked
from clipdr.multimodal.loop import embed

SHORT = {"image": 5, "text": 4}  # tokens of the noise that a canary trains on, in seconds


def row(canary, mode, passed, detail):
    return {"canary": canary, "mode": mode, "passed": bool(passed), "detail": detail}


@torch.no_grad()
def independence(model, visits):
    """K1: image vectors beside true, shuffled and no text, and text vectors beside photographs likewise, are the same bits."""
    visit = next(visits.chunks(16))
    order = torch.arange(len(visit.image)).roll(1)
    model.eval()
    image = [
        model.embed(image=visit.image, token=token)["image"]
        for token in (visit.token, visit.token[order], None)
    ]
    text = [
        model.embed(image=image, token=visit.token)["text"]
        for image in (visit.image, visit.image[order], None)
    ]
    same = all(torch.equal(one[0], other) for one in (image, text) for other in one[1:])
    rows = [
        row(
            "K1",
            "dual",
            same,
            "vectors bit-identical beside true, shuffled and no partner"
            if same
            else "a vector changed",
        )
    ]
    if model.setting.contrast == "fused":
        pairs = [
            model.fused_pair(visit.image, token)[0] for token in (visit.token, visit.token[order])
        ]
        rows = [
            row(
                "K1",
                "fused_paper",
                torch.equal(*pairs),
                f"largest change {float((pairs[0] - pairs[1]).abs().max()):.3f}",
            )
        ]
    return rows


def at_chance(matrices, content):
    """{direction: (N, N) scores} -> (all strict R@K inside the null band, text of the values)"""
    inside, said = True, []
    for direction, matrix in matrices.items():
        band = null_band(matrix, content)[0]
        values = [float(recall(matrix, k).mean()) for k in K]
        inside &= all(
            low - 1e-12 <= value <= high + 1e-12
            for value, (low, high) in zip(values, band, strict=True)
        )
        said.append(f"{direction} R@1/5/10 " + "/".join(f"{100 * value:.1f}" for value in values))
    return inside, "; ".join(said)


def both_ways(score):
    """(N, N), row = text -> {direction: scores}"""
    return dict(zip(DIRECTIONS, (score, score.T), strict=True))


def wrong_pairs(model, visits, seed=0, device="cpu"):
    """K2: narratives re-paired at random, evaluated end to end. Honest: at chance, and the re-paired score matrix bit for bit."""
    wrong = visits.repaired(seed)
    if model.setting.contrast == "fused":
        image, text = fused_vectors(model, wrong, device)
        chance, said = at_chance(both_ways(similarity(text, image)), np.arange(len(visits)))
        return [row("K2", "fused_paper", chance, f"wrong pairs, each scored as if true: {said}")]
    true, found = (embed(model, one, device) for one in (visits, wrong))
    order = np.random.default_rng((seed, 5)).permutation(len(visits))
    score = similarity(found["text"], found["image"])
    equal = np.array_equal(score, similarity(true["text"], true["image"])[order])
    chance, said = at_chance(both_ways(score), wrong.content.numpy())
    rows = [
        row(
            "K2",
            "dual",
            equal and chance,
            f"{said}; re-paired score matrix {'bit-equal' if equal else 'DIFFERS'}",
        )
    ]
    if model.setting.losses.itm > 0:
        passed, said = at_chance(reranked(model, wrong, score, device), wrong.content.numpy())
        rows.append(row("K2", "rerank", passed, said))
    return rows


@torch.no_grad()
def noise(model, visits, seed=0):
    """K3: Gaussian photographs and texts of shuffled tokens. Honest: at chance. fused_paper trained on noise retrieves it."""
    if model.setting.contrast == "fused":
        with torch.enable_grad():
            value = noise_demonstration(150, 64, 256, seed, lengths=SHORT)["recall_1"]
        said = f"the protocol trained on noise: strict R@1 {100 * value:.1f} % on 256 unseen pairs"
        return [row("K3", "fused_paper", value < 10 / 256, said)]
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    image, text = [], []
    for visit in visits.chunks():
        image.append(model.embed(image=torch.rand(visit.image.shape, generator=generator))["image"])
        words = visit.token.clone()
        for ids in words:
            length = int((ids != model.pad).sum())
            ids[1:length] = ids[1:length][torch.randperm(length - 1, generator=generator)]
        text.append(model.embed(token=words)["text"])
    score = similarity(torch.cat(text).numpy(), torch.cat(image).numpy())
    passed, said = at_chance(both_ways(score), visits.content.numpy())
    return [row("K3", "dual", passed, said)]


def ties_and_ceilings(count=60):
    """K4: constant vectors score exactly K/N; planted duplicates give the ceiling counted by hand; a recall above it stops the run."""
    constant, own = np.ones((count, count)), np.arange(count)
    exact = all(abs(recall(constant, k).mean() - k / count) < 1e-12 for k in K)
    planted = contents(["same"] * 20 + [f"own {place}" for place in range(count - 20)])
    counted = (
        abs(ceiling(planted, 1) - (count - 19) / count) < 1e-12
        and abs(ceiling(planted, 5) - (count - 15) / count) < 1e-12
    )
    try:
        judge(np.eye(count), planted, own.astype(str), resamples=10)
        stopped = False
    except DataError:
        stopped = True
    said = f"constant vectors R@K = K/N: {exact}; ceiling as counted: {counted}; fabricated recall stopped: {stopped}"
    return [row("K4", "all", exact and counted and stopped, said)]


def grade_blind(visits, seed=0):
    """K5: every denied column overwritten at random, inputs rebuilt: the same bytes; and no word of a grade in a classifier's text."""
    setting, rng = visits.setting, np.random.default_rng(seed)
    if setting.inputs == "none":
        return [row("K5", "all", True, "no structured input")]
    found = eye_table.constants(visits.eyes)
    other = overwritten(visits.eyes, rng)
    before, after = (
        eye_table.encode(eye_table.view(one, setting.inputs), eye_table.constants(one))
        for one in (visits.eyes, other)
    )
    texts = [
        narrative.narrate(narrative.content(eye_table.without_placeholders(one, found), "history"))
        for one in (visits.eyes, other)
    ]
    same, told = before.tobytes() == after.tobytes() and texts[0] == texts[1], ""
    try:
        narrative.refuse_labels(texts[0], "history")
    except DataError as error:
        told = f"; {error}"
    said = f"{len(eye_table.DENIED)} denied columns overwritten: inputs {'byte-identical' if same else 'CHANGED'}{told}"
    return [row("K5", "all", same and not told, said)]


def overwritten(eyes, rng):
    """The same eyes with random values in every denied column; `row` and `split` stay, they are places and not contents."""
    values = {}
    for name in eye_table.DENIED:
        if name in ("row", "split"):
            continue
        if name in eye_table.NUMBERS:
            values[name] = rng.integers(0, 2, len(eyes)).astype(float)
        elif name in ("icdr", "sdrg"):
            values[name] = rng.integers(-1, 5, len(eyes))
        else:
            values[name] = np.array(
                [f"x{number}" for number in rng.integers(0, 9999, len(eyes))], object
            )
    return eyes.assign(**values)


def run(model, visits, seed=0, device="cpu"):
    """All canaries of one model on its test eyes; of a model under `contrast: fused`, those that it must fail."""
    rows = independence(model.cpu(), visits)
    rows += wrong_pairs(model.to(device), visits, seed, device)
    rows += noise(model.cpu(), visits, seed)
    if model.setting.contrast != "fused":
        rows += ties_and_ceilings() + grade_blind(visits, seed)
    return rows
