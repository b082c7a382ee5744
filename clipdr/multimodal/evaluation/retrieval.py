"""Cross-modal retrieval of a multimodal model: modes of scoring, re-ranking, transfer and examples.

Input: a model and one split. Output: one row per mode and direction, as of
`clipdr.evaluation.retrieval.judge`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipdr.evaluation.retrieval import DIRECTIONS, contents, judge, ranks, similarity
from clipdr.multimodal.data.loader import CHUNK
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.data.tokenizer import tokenize
from clipdr.multimodal.prediction import embed

if TYPE_CHECKING:
    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal

Device = torch.device | str
PAIRS = 256  # (narrative, image) pairs that are matched at once
FAR = 1000.0  # added to re-ranked scores (tanh, at most 1), so that they precede the cosines


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of an array to length 1, (N, e) -> (N, e) float64."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mode_scores(
    embeddings: Mapping[str, np.ndarray], eyes: EyeDataset
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compute the score matrix of each mode from unimodal embeddings.

    Args:
        embeddings: (N, e) unit vectors "image", "text" and, with structured data, "row".
        eyes: The same N eyes.

    Returns:
        Per mode, (N, N) float64 scores (rows: texts, columns: images) and (N,) int64 content of
        everything in the query: the narrative, and the structured row where the query holds it.
    """
    text, image = embeddings["text"], embeddings["image"]
    content = eyes.content.numpy()
    scores = {"dual": (similarity(text, image), content)}
    if "row" in embeddings:
        row = embeddings["row"]
        both = contents(zip(content.tolist(), eyes.row_content.tolist(), strict=True))
        scores["dual+row, in the query"] = similarity(normalise(text + row), image), both
        scores["dual+row, in the key"] = similarity(text, normalise(image + row)), content
        scores["row as the key"] = similarity(text, row), content
    return scores


@torch.no_grad()
def rerank(
    model: Multimodal, eyes: EyeDataset, score: np.ndarray, device: Device = "cpu"
) -> dict[str, np.ndarray]:
    """Re-score the first items of `dual` by the `match` head on (narrative, image).

    Structured data is masked. Each distinct narrative is encoded and matched once, so that equal
    narratives stay tied.

    Args:
        model: Model.
        eyes: N eyes.
        score: (N, N) scores of `dual`, rows: texts.
        device: Device of the model.

    Returns:
        (N, N) scores per direction, rows: queries. Items behind the first ones keep their score.
    """
    model.eval()
    images = [model.encode_image(batch.image.to(device)).cpu() for batch in eyes.chunks()]
    image_tokens = torch.cat(images)
    texts = eyes.texts(range(len(eyes)))
    distinct = {text: index for index, text in enumerate(sorted(set(texts)))}
    text_of = np.array([distinct[text] for text in texts])  # eye -> number of its text
    first = [np.flatnonzero(text_of == number)[0] for number in range(len(distinct))]
    token = tokenize(eyes.tokenizer, list(distinct), model.setting.tokens)[0]
    chunks = [model.encode_text(chunk.to(device)).cpu() for chunk in token.split(CHUNK)]
    text_tokens = torch.cat(chunks)
    best_images = np.argsort(-score, axis=1, kind="stable")[:, : model.setting.rerank]
    best_texts = np.argsort(-score.T, axis=1, kind="stable")[:, : model.setting.rerank]
    wanted = {(text_of[eye], image) for eye in first for image in best_images[eye]}
    wanted |= {(text_of[eye], image) for image in range(len(eyes)) for eye in best_texts[image]}
    pairs, match = sorted(wanted), {}
    for start in range(0, len(pairs), PAIRS):
        chunk = pairs[start : start + PAIRS]
        t = torch.tensor([int(text) for text, _ in chunk])
        i = torch.tensor([int(image) for _, image in chunk])
        summary, _ = model.join(
            image_tokens[i].to(device), text_tokens[t].to(device), token[t].to(device)
        )
        logits = model.match(summary).double().cpu().numpy()
        match |= dict(zip(chunk, np.tanh((logits[:, 1] - logits[:, 0]) / 8), strict=True))
    forward, backward = score.copy(), score.T.copy()
    for eye, text in enumerate(text_of):
        for image in best_images[eye]:
            forward[eye, image] = FAR + match[text, image]
    for image in range(len(eyes)):
        for text in np.unique(text_of[best_texts[image]]):
            backward[image, text_of == text] = FAR + match[text, image]
    return {DIRECTIONS[0]: forward, DIRECTIONS[1]: backward}


def both_directions(score: np.ndarray) -> dict[str, np.ndarray]:
    """Return the score matrix of each direction, with queries as rows.

    Args:
        score: (N, N), rows are texts and columns images.
    """
    return dict(zip(DIRECTIONS, (score, score.T), strict=True))


def score_modes(
    model: Multimodal,
    eyes: EyeDataset,
    device: Device = "cpu",
    resamples: int = 2000,
    key: str = "test",
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Score every unimodal mode in both directions.

    Args:
        model: Model.
        eyes: The whole split, N eyes.
        device: Device of the model.
        resamples: Resamples of patients behind each interval.
        key: Key of the random resamples.

    Returns:
        Rows of `judge` with mode, direction, kind, with_grades and leaky; and the embeddings.
    """
    embeddings = embed(model, eyes, device)
    patient = patients_of(eyes.eyes).to_numpy()
    about = {
        "kind": eyes.setting.kind,
        "with_grades": eyes.setting.with_grades,
        "leaky": model.setting.leaky,
    }

    def matrices() -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
        for mode, (score, content) in mode_scores(embeddings, eyes).items():
            yield mode, both_directions(score), content
            if mode == "dual" and model.setting.losses.itm > 0:
                yield "rerank", rerank(model, eyes, score, device), content

    rows = [
        {"mode": mode, "direction": direction}
        | judge(matrix, content, patient, key, resamples)
        | about
        for mode, directions, content in matrices()
        for direction, matrix in directions.items()
    ]
    return rows, embeddings


def score_transfer(
    model: Multimodal,
    eyes: EyeDataset,
    embeddings: Mapping[str, np.ndarray],
    device: Device = "cpu",
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Score `dual` and, where the model has learned to match, `rerank` on another data set.

    Args:
        model: Model.
        eyes: N eyes of the other data set. No structured data is read.
        embeddings: Their (N, e) unit vectors "image" and "text".
        device: Device of the model.
        resamples: Resamples of patients behind each interval.

    Returns:
        Rows of `judge` with mode and direction.
    """
    score = similarity(embeddings["text"], embeddings["image"])
    content, patient = eyes.content.numpy(), patients_of(eyes.eyes).to_numpy()
    modes = {"dual": both_directions(score)}
    if model.setting.losses.itm > 0:
        modes["rerank"] = rerank(model, eyes, score, device)
    return [
        {"mode": mode, "direction": direction} | judge(matrix, content, patient, "test", resamples)
        for mode, matrices in modes.items()
        for direction, matrix in matrices.items()
    ]


def examples(
    embeddings: Mapping[str, np.ndarray],
    eyes: EyeDataset,
    count: int = 6,
    items: int = 4,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Sample queries among distinct narratives, with the images that they retrieve.

    Args:
        embeddings: (N, e) unit vectors "image" and "text".
        eyes: The same N eyes.
        count: Number of queries.
        items: Images per query.
        seed: Seed of the sample.

    Returns:
        {"text", "true": index of its eye, "rank": expected rank of its image, "items": [{"place":
        index of an eye, "correct", "same": equal content}]} per query.
    """
    score = similarity(embeddings["text"], embeddings["image"])
    content, texts, rank = eyes.content.numpy(), eyes.texts(range(len(eyes))), ranks(score)
    rng, queries, used = np.random.default_rng(seed), [], set()
    for row in rng.permutation(len(eyes)):
        if content[row] in used:
            continue
        used.add(content[row])
        order = np.argsort(-score[row], kind="stable")
        retrieved = [
            {"place": int(j), "correct": bool(j == row), "same": bool(content[j] == content[row])}
            for j in order[:items]
        ]
        queries.append(
            {"text": texts[row], "true": int(row), "rank": float(rank[row]), "items": retrieved}
        )
        if len(queries) == count:
            break
    return queries
