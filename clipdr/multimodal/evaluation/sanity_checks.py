"""Five sanity checks that detect leakage.

Unimodal modes must pass them, and the leaky protocol must fail K1 to K3.

K1 encoder independence, K2 wrong pairs, K3 noise, K4 constant vectors, duplicates and upper bounds,
K5 grade-blind inputs. Output: rows check, mode, passed, detail. Every table marks a model that
fails a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from clipdr import DataError
from clipdr.evaluation.retrieval import (
    K,
    contents,
    judge,
    null_band,
    recall,
    similarity,
    upper_bound,
)
from clipdr.multimodal.data import eye_table, narrative, structured_data
from clipdr.multimodal.evaluation.leaky_protocol import fused_vectors, noise_demonstration
from clipdr.multimodal.evaluation.retrieval import both_directions, rerank
from clipdr.multimodal.prediction import embed

if TYPE_CHECKING:
    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal

Device = torch.device | str
Row = dict[str, Any]
SHORT = {"image": 5, "text": 4}  # tokens of the noise on which K3 trains, in seconds
CHANCE_FACTOR = 10  # K3 of the leaky protocol passes below this multiple of chance


def _row(check: str, mode: str, passed: bool, detail: str) -> Row:
    """Result of one check."""
    return {"check": check, "mode": mode, "passed": bool(passed), "detail": detail}


@torch.no_grad()
def independence(model: Multimodal, eyes: EyeDataset) -> list[Row]:
    """K1: compare the vectors of one modality beside true, shuffled and no partner.

    Args:
        model: Model on the CPU.
        eyes: Test eyes, of which the first 16 are used.

    Returns:
        One row. An embedding passes if it is bit-identical in all three cases.
    """
    batch = next(eyes.chunks(16))
    order = torch.arange(len(batch.image)).roll(1)
    model.eval()
    if model.setting.contrast == "fused":
        true, shuffled = (
            model.fused_pair(batch.image, token)[0] for token in (batch.token, batch.token[order])
        )
        change = float((true - shuffled).abs().max())
        return [
            _row("K1", "fused_paper", torch.equal(true, shuffled), f"largest change {change:.3f}")
        ]
    image = [
        model.embed(image=batch.image, token=token)["image"]
        for token in (batch.token, batch.token[order], None)
    ]
    text = [
        model.embed(image=image, token=batch.token)["text"]
        for image in (batch.image, batch.image[order], None)
    ]
    same = all(torch.equal(vectors[0], other) for vectors in (image, text) for other in vectors[1:])
    detail = (
        "vectors bit-identical beside true, shuffled and no partner"
        if same
        else "a vector changed with its partner"
    )
    return [_row("K1", "dual", same, detail)]


def at_chance(matrices: Mapping[str, np.ndarray], content: np.ndarray) -> tuple[bool, str]:
    """Compare strict recall with its null band.

    Args:
        matrices: (N, N) scores per direction.
        content: (N,) int64 content of the queries.

    Returns:
        Whether every strict R@K is inside the band, and the values as text.
    """
    inside, values_by_direction = True, []
    for direction, matrix in matrices.items():
        band = null_band(matrix, content)[0]
        values = [float(recall(matrix, k).mean()) for k in K]
        inside &= all(
            low - 1e-12 <= value <= high + 1e-12
            for value, (low, high) in zip(values, band, strict=True)
        )
        percents = "/".join(f"{100 * value:.1f}" for value in values)
        values_by_direction.append(f"{direction} R@1/5/10 {percents}")
    return inside, "; ".join(values_by_direction)


def wrong_pairs(
    model: Multimodal, eyes: EyeDataset, seed: int = 0, device: Device = "cpu"
) -> list[Row]:
    """K2: re-pair narratives at random and evaluate end to end.

    Args:
        model: Model.
        eyes: Test eyes.
        seed: Seed of the pairs.
        device: Device of the model.

    Returns:
        Rows per mode. `dual` passes at chance with the re-paired score matrix bit for bit, `rerank`
        at chance.
    """
    wrong = eyes.with_shuffled_narratives(seed)
    if model.setting.contrast == "fused":
        image, text = fused_vectors(model, wrong, device)
        scores = both_directions(similarity(text, image))
        passed, values = at_chance(scores, np.arange(len(eyes)))
        detail = f"wrong pairs, each scored as if true: {values}"
        return [_row("K2", "fused_paper", passed, detail)]
    true_vectors, wrong_vectors = (embed(model, pairs, device) for pairs in (eyes, wrong))
    order = np.random.default_rng((seed, 5)).permutation(len(eyes))
    score = similarity(wrong_vectors["text"], wrong_vectors["image"])
    expected = similarity(true_vectors["text"], true_vectors["image"])[order]
    equal = np.array_equal(score, expected)
    chance, values = at_chance(both_directions(score), wrong.content.numpy())
    detail = f"{values}; re-paired score matrix {'bit-equal' if equal else 'DIFFERS'}"
    rows = [_row("K2", "dual", equal and chance, detail)]
    if model.setting.losses.itm > 0:
        reranked = rerank(model, wrong, score, device)
        rows.append(_row("K2", "rerank", *at_chance(reranked, wrong.content.numpy())))
    return rows


@torch.no_grad()
def noise(model: Multimodal, eyes: EyeDataset, seed: int = 0) -> list[Row]:
    """K3: retrieve Gaussian images by texts of shuffled tokens.

    Args:
        model: Model on the CPU. A model under `contrast: fused` is replaced by the protocol trained
            on noise.
        eyes: Test eyes.
        seed: Seed of the noise.

    Returns:
        One row that passes at chance.
    """
    if model.setting.contrast == "fused":
        with torch.enable_grad():
            value = noise_demonstration(150, 64, 256, seed, lengths=SHORT)["recall_1"]
        detail = (
            f"the protocol trained on noise: strict R@1 {100 * value:.1f} % on 256 unseen pairs"
        )
        return [_row("K3", "fused_paper", value < CHANCE_FACTOR / 256, detail)]
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    images, texts = [], []
    for batch in eyes.chunks():
        noise_image = torch.rand(batch.image.shape, generator=generator)
        images.append(model.embed(image=noise_image)["image"])
        token = batch.token.clone()
        for ids in token:
            length = int((ids != model.pad).sum())
            ids[1:length] = ids[1:length][torch.randperm(length - 1, generator=generator)]
        texts.append(model.embed(token=token)["text"])
    score = similarity(torch.cat(texts).numpy(), torch.cat(images).numpy())
    return [_row("K3", "dual", *at_chance(both_directions(score), eyes.content.numpy()))]


def ties_and_bounds(count: int = 60) -> list[Row]:
    """K4: score constant vectors, planted duplicates and a fabricated recall.

    Args:
        count: Number of queries.

    Returns:
        One row. It passes if constant vectors score exactly K/N, the upper bound of the duplicates
        equals a count by hand, and a recall above its upper bound stops the run.
    """
    constant = np.ones((count, count))
    exact = all(abs(recall(constant, k).mean() - k / count) < 1e-12 for k in K)
    planted = contents(["same"] * 20 + [f"own {index}" for index in range(count - 20)])
    counted = (
        abs(upper_bound(planted, 1) - (count - 19) / count) < 1e-12
        and abs(upper_bound(planted, 5) - (count - 15) / count) < 1e-12
    )
    try:
        judge(np.eye(count), planted, np.arange(count).astype(str), resamples=10)
        stopped = False
    except DataError:
        stopped = True
    detail = (
        f"constant vectors R@K = K/N: {exact}; upper bound as counted: {counted}; "
        f"fabricated recall stopped: {stopped}"
    )
    return [_row("K4", "all", exact and counted and stopped, detail)]


def grade_blind(eyes: EyeDataset, seed: int = 0) -> list[Row]:
    """K5: overwrite every denied column at random and rebuild the inputs of a classifier.

    Args:
        eyes: Test eyes.
        seed: Seed of the values.

    Returns:
        One row. It passes if the inputs are byte-identical and no text of a classifier holds a word
        of a grade.
    """
    setting, rng = eyes.setting, np.random.default_rng(seed)
    if setting.inputs == "none":
        return [_row("K5", "all", True, "no structured input")]
    constants = structured_data.fit_constants(eyes.eyes)
    tables = (eyes.eyes, overwrite_denied(eyes.eyes, rng))
    before, after = (
        structured_data.encode(
            structured_data.select(table, setting.inputs), structured_data.fit_constants(table)
        )
        for table in tables
    )
    texts = []
    for table in tables:
        known = structured_data.replace_placeholders(table, constants)
        texts.append(narrative.narrate(narrative.table_statements(known, "history")))
    same, problem = before.tobytes() == after.tobytes() and texts[0] == texts[1], ""
    try:
        narrative.refuse_labels(texts[0], "history")
    except DataError as error:
        problem = f"; {error}"
    detail = (
        f"{len(eye_table.DENIED)} denied columns overwritten: inputs "
        f"{'byte-identical' if same else 'CHANGED'}{problem}"
    )
    return [_row("K5", "all", same and not problem, detail)]


def overwrite_denied(eyes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Fill every denied column with random values.

    Args:
        eyes: Eye table.
        rng: Random generator.

    Returns:
        A copy of the table. `row` and `split` stay, because they are indices and not contents.
    """
    values = {}
    for name in eye_table.DENIED:
        if name in ("row", "split"):
            continue
        if name in eye_table.RANGES:
            values[name] = rng.integers(0, 2, len(eyes)).astype(float)
        elif name in ("icdr", "sdrg"):
            values[name] = rng.integers(-1, 5, len(eyes))
        else:
            values[name] = np.array(
                [f"x{number}" for number in rng.integers(0, 9999, len(eyes))], object
            )
    return eyes.assign(**values)


def run_checks(
    model: Multimodal, eyes: EyeDataset, seed: int = 0, device: Device = "cpu"
) -> list[Row]:
    """Run all sanity checks of one model.

    Args:
        model: Model. Of one under `contrast: fused`, only K1 to K3 are run, which it must fail.
        eyes: Test eyes.
        seed: Seed of the checks.
        device: Device of K2.

    Returns:
        Rows check, mode, passed, detail.
    """
    rows = independence(model.cpu(), eyes)
    rows += wrong_pairs(model.to(device), eyes, seed, device)
    rows += noise(model.cpu(), eyes, seed)
    if model.setting.contrast != "fused":
        rows += ties_and_bounds() + grade_blind(eyes, seed)
    return rows
