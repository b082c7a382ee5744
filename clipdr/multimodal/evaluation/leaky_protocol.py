"""Leaky protocol `fused_paper`, and the demonstration that it retrieves noise.

`fused_paper` compares the joint transformer's summaries of image and text, each taken from the TRUE
pair, so that the answer is an input. At query time the image is not known, so no such system can be
used. Every number of this module carries `leaky: true` and stands in no main table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from clipdr import DataError
from clipdr.evaluation.retrieval import judge, recall, similarity
from clipdr.multimodal.data.splits import patients_of
from clipdr.multimodal.evaluation.retrieval import both_directions
from clipdr.multimodal.fusion import Fusion
from clipdr.multimodal.losses import contrastive_loss

if TYPE_CHECKING:
    from clipdr.multimodal.data.loader import EyeDataset
    from clipdr.multimodal.fusion import Multimodal

LEAKY = "LEAKY"
WHY = (
    "LEAKY: image and text vectors are outputs of the joint transformer run on the true pair, so "
    "each contains the other. The same protocol retrieves pairs of noise."
)
LENGTHS = {"image": 17, "text": 16}  # tokens of each modality in the demonstration
WIDTH, HEADS, LAYERS = 64, 4, 2


@torch.no_grad()
def fused_vectors(
    model: Multimodal, eyes: EyeDataset, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Compute LEAKY vectors of the true pairs.

    Args:
        model: Model trained under `contrast: fused`.
        eyes: N eyes.
        device: Device of the model.

    Returns:
        (N, e) image vectors and (N, e) text vectors.

    Raises:
        DataError: If the model was trained otherwise.
    """
    if model.setting.contrast != "fused":
        raise DataError(
            "fused_paper: this model was trained with unimodal contrast. "
            "Train one with `contrast: fused`."
        )
    model.eval()
    pairs = [
        model.fused_pair(batch.image.to(device), batch.token.to(device)) for batch in eyes.chunks()
    ]
    image, text = (torch.cat(vectors).cpu().numpy() for vectors in zip(*pairs, strict=True))
    return image, text


def fused_paper(
    model: Multimodal,
    eyes: EyeDataset,
    device: torch.device | str = "cpu",
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Score the leaky protocol.

    The upper bound does not hold here, because queries of equal text have different vectors: each
    contains its own image. So every query is judged as content of its own, and the upper bound of
    the narratives is stated beside the score.

    Args:
        model: Model trained under `contrast: fused`.
        eyes: The whole split, N eyes.
        device: Device of the model.
        resamples: Resamples of patients behind each interval.

    Returns:
        Rows of `judge` with mode `fused_paper`, direction, kind, `leaky: True`, status, and
        `honest_ceiling_1`, the upper bound of unimodal R@1 for these narratives.
    """
    image, text = fused_vectors(model, eyes, device)
    score, own_content = similarity(text, image), np.arange(len(eyes))
    about = {
        "mode": "fused_paper",
        "kind": eyes.setting.kind,
        "leaky": True,
        "status": LEAKY,
        "honest_ceiling_1": float(len(set(eyes.content.tolist())) / len(eyes)),
    }
    patient = patients_of(eyes.eyes).to_numpy()
    return [
        about | {"direction": direction} | judge(matrix, own_content, patient, "test", resamples)
        for direction, matrix in both_directions(score).items()
    ]


def refuse_leaky(model: Multimodal, mode: str) -> None:
    """Check that a model is not leaky.

    Args:
        model: Model.
        mode: Mode that the error message names.

    Raises:
        DataError: If training or split of the model leaks.
    """
    if model.setting.leaky:
        raise DataError(
            f"{mode}: this model was trained under a leaky protocol and is refused by every mode "
            "but fused_paper. Use another model."
        )


class NoiseModel(torch.nn.Module):
    """Joint transformer on Gaussian tokens, fused or as two encoders with the same blocks.

    Args:
        fused: Whether the transformer reads both modalities at once.
    """

    def __init__(self, fused: bool) -> None:
        """Create a model with random weights."""
        super().__init__()
        self.fused, self.joint = fused, Fusion(WIDTH, LAYERS, HEADS, dropout=0.0)
        self.log_scale = torch.nn.Parameter(torch.tensor(2.659))

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute vectors of pairs.

        Args:
            image: (B, T, 64) tokens.
            text: (B, T', 64) tokens.

        Returns:
            (B, 64) image vectors and (B, 64) text vectors, of length 1.
        """
        tokens = {"image": image, "text": text}
        if self.fused:
            after = self._join(tokens)
        else:
            after = {name: self._join({name: values})[name] for name, values in tokens.items()}
        return (
            normalize(after["image"][:, 0], dim=-1),
            normalize(after["text"][:, 0], dim=-1),
        )

    def _join(self, tokens: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tokens (B, T, 64) of each modality after the joint transformer."""
        used = {
            name: torch.ones(values.shape[:2], dtype=torch.bool) for name, values in tokens.items()
        }
        return self.joint(tokens, used)[1]


def noise_demonstration(
    steps: int = 600,
    batch: int = 128,
    pairs: int = 1627,
    seed: int = 0,
    fused: bool = True,
    lr: float = 1e-3,
    lengths: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Train on pairs of INDEPENDENT noise and score unseen pairs.

    Args:
        steps: Training steps.
        batch: Pairs per step.
        pairs: Unseen pairs.
        seed: Seed of weights and noise.
        fused: Whether the joint transformer reads both modalities (leaky); else each encoder reads
            its own.
        lr: Learning rate.
        lengths: Tokens of each modality. Default: `LENGTHS`.

    Returns:
        recall_1, recall_10, chance (in [0, 1]), loss, steps, pairs, leaky, and shuffled_recall_1:
        recall of the same tokens with their partners shuffled before the model reads them. It falls
        to chance only if the recall measures a relation of the tokens.
    """
    torch.manual_seed(seed)
    model, generator = NoiseModel(fused), torch.Generator().manual_seed(seed + 1)
    optimizer, targets = torch.optim.AdamW(model.parameters(), lr=lr), torch.eye(batch)
    sizes = (lengths or LENGTHS).values()

    def tokens(count: int) -> list[torch.Tensor]:
        return [torch.randn(count, length, WIDTH, generator=generator) for length in sizes]

    loss = torch.zeros(())
    for _ in range(steps):
        image, text = model(*tokens(batch))
        loss = contrastive_loss(image, text, targets, model.log_scale.exp().clamp(max=100))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, text = tokens(pairs)
    recalls = {f"recall_{k}": _recall(model, image, text, k) for k in (1, 10)}
    shuffled = text[torch.randperm(pairs, generator=generator)]
    return recalls | {
        "shuffled_recall_1": _recall(model, image, shuffled, 1),
        "chance": 1 / pairs,
        "loss": float(loss.detach()),
        "steps": steps,
        "pairs": pairs,
        "leaky": fused,
    }


def compare_on_noise(steps: int, batch: int, pairs: int) -> dict[str, dict[str, Any]]:
    """Run the demonstration on the fused transformer and on two encoders.

    Args:
        steps: Training steps of the fused transformer. Two encoders take half of them.
        batch: Pairs per step.
        pairs: Unseen pairs.

    Returns:
        Results of `noise_demonstration`: "fused" and "two_towers".
    """
    return {
        "fused": noise_demonstration(steps, batch, pairs, fused=True),
        "two_towers": noise_demonstration(max(1, steps // 2), batch, pairs, fused=False),
    }


@torch.no_grad()
def _recall(model: NoiseModel, image: torch.Tensor, text: torch.Tensor, k: int) -> float:
    """Mean strict Recall@k, text to image, of pairs of tokens."""
    chunks = [model(*pair) for pair in zip(image.split(256), text.split(256), strict=True)]
    image_vectors = torch.cat([images for images, _ in chunks]).numpy()
    text_vectors = torch.cat([texts for _, texts in chunks]).numpy()
    return float(recall(similarity(text_vectors, image_vectors), k).mean())
