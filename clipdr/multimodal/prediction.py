"""Predictions of a multimodal model: grades and embeddings of all eyes of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from clipdr.methods.corn import log_probability
from clipdr.multimodal.data.loader import CHUNK
from clipdr.multimodal.data.tokenizer import tokenize
from clipdr.multimodal.fusion import SCALES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal


@torch.no_grad()
def predict(
    model: Multimodal,
    eyes: EyeDataset,
    device: torch.device | str = "cpu",
    without: Sequence[str] = (),
    absent: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Predict the grades of all eyes.

    Args:
        model: Trained model.
        eyes: N eyes.
        device: Where the model is.
        without: Modalities that are masked for every eye.
        absent: {modality: (N,) bool}, True where it is masked.

    Returns:
        {scale: (N, 5) float32 logits}.
    """
    model.eval()
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in SCALES}
    start = 0
    for batch in eyes.chunks():
        batch, size = batch.to(device), len(batch.image)
        present = {name: torch.zeros(size, dtype=torch.bool, device=device) for name in without}
        for name, masked in (absent or {}).items():
            present[name] = torch.from_numpy(~masked[start : start + size]).to(device)
        start += size
        row = model.row(batch.row) if model.setting.inputs != "none" else None
        text = model.encode_text(batch.history) if batch.history is not None else None
        summary, _ = model.join(model.encode_image(batch.image), text, batch.history, row, present)
        for name, logits in model.grades(summary).items():
            five = log_probability(logits) if model.setting.ordinal else logits
            outputs[name].append(five.float().cpu())
    return {name: torch.cat(logits).numpy() for name, logits in outputs.items()}


@torch.no_grad()
def embed(
    model: Multimodal, eyes: EyeDataset, device: torch.device | str = "cpu"
) -> dict[str, np.ndarray]:
    """Embed image, narrative and structured data of all eyes, each by its own encoder.

    Each distinct text is encoded once, so that equal texts have equal vectors.

    Args:
        model: Trained model.
        eyes: N eyes.
        device: Where the model is.

    Returns:
        {"image", "text", "row": (N, e) float32 unit vectors}; no "row" without structured data.
    """
    model.eval()
    images = [model.embed(image=batch.image.to(device))["image"].cpu() for batch in eyes.chunks()]
    texts = eyes.texts(range(len(eyes)))
    distinct = sorted(set(texts))
    vectors = []
    for start in range(0, len(distinct), CHUNK):
        chunk = distinct[start : start + CHUNK]
        token = tokenize(eyes.tokenizer, chunk, model.setting.tokens)[0]
        vectors.append(model.embed(token=token.to(device))["text"].cpu())
    index = {text: number for number, text in enumerate(distinct)}
    text = torch.cat(vectors)[[index[text] for text in texts]]
    embeddings = {"image": torch.cat(images).numpy(), "text": text.numpy()}
    if eyes.setting.inputs != "none":
        embeddings["row"] = model.embed(row=eyes.row.to(device))["row"].cpu().numpy()
    return embeddings
