"""Loss terms of one training step of the multimodal model.

Every process computes the loss of the whole global batch: what a term needs of other processes is
gathered with gradients, so that the mean of the processes' gradients is the gradient of one process
on the whole batch. The paper states the kinds of loss only, so ratios and targets are choices of
this implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from clipdr.methods.corn import corn_loss
from clipdr.multimodal.data.loader import EyeBatch
from clipdr.multimodal.fusion import SCALES, Multimodal
from clipdr.multimodal.settings import Weights
from clipdr.multimodal.towers import PATCH

HEAVIEST = 10.0  # largest weight of a rare grade


class _Gather(torch.autograd.Function):
    """Rows of all processes in order of rank; the gradient is summed over processes."""

    @staticmethod
    def forward(_context: Any, rows: torch.Tensor) -> torch.Tensor:
        """Concatenate the rows of all processes."""
        pieces = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Sum the gradient over processes and return this process's rows."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def _several_processes() -> bool:
    """Whether the run has more than one process."""
    return dist.is_initialized() and dist.get_world_size() > 1


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all processes, with gradients.

    Args:
        rows: (B / W, ...) rows of this process, W the number of processes.

    Returns:
        (B, ...) rows of all processes; `rows` in a single process.
    """
    return _Gather.apply(rows) if _several_processes() else rows


def gather_padded(rows: torch.Tensor, value: float) -> torch.Tensor:
    """Gather rows whose second axis differs between processes.

    Args:
        rows: (B / W, L, ...) rows of this process.
        value: Value of the padding.

    Returns:
        (B, longest L, ...) rows of all processes.
    """
    if not _several_processes():
        return rows
    longest = torch.tensor(rows.shape[1], device=rows.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    space = [0, 0] * (rows.ndim - 2) + [0, int(longest) - rows.shape[1]]
    return gather(F.pad(rows, space, value=value))


def positive_targets(content: torch.Tensor) -> torch.Tensor:
    """Compute the targets of a contrastive loss with several positives.

    Args:
        content: (B,) int64, equal for positives.

    Returns:
        Q, (B, B) float32: 1 / n_i on the n_i rows of equal content, so that each row sums to 1.
    """
    same = (content[:, None] == content).float()
    return same / same.sum(1, keepdim=True)


def contrastive_loss(
    a: torch.Tensor, b: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor | float
) -> torch.Tensor:
    """Compute the symmetric InfoNCE loss with several positives.

    -1/(2B) sum_ij Q_ij [log softmax_j(T a_i.b_j) + log softmax_j(T b_i.a_j)]

    Args:
        a: (B, e) unit vectors.
        b: (B, e) unit vectors.
        targets: Q, (B, B), as of `positive_targets`.
        scale: T.

    Returns:
        Scalar loss.
    """
    similarity = scale * a @ b.T
    total = (targets * (similarity.log_softmax(1) + similarity.T.log_softmax(1))).sum()
    return -total / (2 * len(a))


def normalised_patches(image: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Cut images into patches with mean 0 and variance 1 each.

    Args:
        image: (B, 3, S, S) float32.
        grid: Rows and columns of patches.

    Returns:
        (B, P, 768) values of PATCH x PATCH patches.
    """
    image = F.interpolate(image, size=(grid[0] * PATCH, grid[1] * PATCH), mode="area")
    values = F.unfold(image, PATCH, stride=PATCH).transpose(1, 2)
    return (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True) + 1e-6).sqrt()


def mim_loss(
    image: torch.Tensor, predicted: torch.Tensor, masked: torch.Tensor, grid: Sequence[int]
) -> torch.Tensor:
    """Compute the reconstruction error of masked patches.

    Args:
        image: (B, 3, S, S) float32.
        predicted: (B, P, 768) predicted values.
        masked: (B, P) bool, True where a patch is masked.
        grid: Rows and columns of patches.

    Returns:
        Scalar mean squared error per value over the masked patches.
    """
    error = (normalised_patches(image, grid) - predicted).square().mean(-1)
    return gather((error * masked).sum(1)).sum() / gather(masked.sum(1)).sum().clamp(min=1)


def mlm_loss(scores: torch.Tensor, token: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Compute the cross-entropy of masked words.

    Args:
        scores: (B, L, vocabulary) scores.
        token: (B, L) int64 token ids before masking.
        masked: (B, L) bool, True where a token is to be predicted.

    Returns:
        Scalar mean over the masked words.
    """
    error = F.cross_entropy(scores.transpose(1, 2), token, reduction="none")
    return gather((error * masked).sum(1)).sum() / gather(masked.sum(1)).sum().clamp(min=1)


def class_weights(counts: Any) -> torch.Tensor:
    """Compute weights of the grades, min(10, sqrt(n / (5 n_c))).

    Args:
        counts: (5,) training images of each grade.

    Returns:
        (5,) float32, 0 for a grade that does not occur.
    """
    counts = torch.as_tensor(counts, dtype=torch.float32)
    weight = (counts.sum() / (len(counts) * counts.clamp(min=1))).sqrt().clamp(max=HEAVIEST)
    return torch.where(counts > 0, weight, torch.zeros(()))


def grading_loss(
    logits: torch.Tensor, grade: torch.Tensor, weight: torch.Tensor, ordinal: bool = False
) -> torch.Tensor:
    """Compute the weighted cross-entropy, sum w CE / sum w, over the eyes with a grade.

    Args:
        logits: (B, 5) logits, (B, 4) for `ordinal`.
        grade: (B,) int64, -1 where missing.
        weight: (5,) weights of the grades.
        ordinal: Whether the loss is CORN instead, without weights.

    Returns:
        Scalar loss, 0 with zero gradients where no eye has a grade.
    """
    logits, grade = gather(logits), gather(grade)
    known = grade >= 0
    if not known.any():
        return 0.0 * logits.sum()
    if ordinal:
        return corn_loss(logits[known], grade[known])
    return F.cross_entropy(logits[known], grade[known], weight=weight.to(logits))


def hardest_negatives(similarity: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Find the most similar item of other content for each row.

    Args:
        similarity: (B, B) similarities.
        content: (B,) int64, equal for positives.

    Returns:
        (B,) int64 index; the row itself where every item has equal content.
    """
    other = content[:, None] != content
    index = similarity.masked_fill(~other, -torch.inf).argmax(1)
    return torch.where(other.any(1), index, torch.arange(len(content), device=index.device))


def itm_loss(
    model: Multimodal,
    image_tokens: torch.Tensor,
    text_tokens: torch.Tensor,
    token: torch.Tensor,
    similarity: torch.Tensor,
    content: torch.Tensor,
) -> torch.Tensor:
    """Compute the cross-entropy of the `match` head over true and hardest wrong pairs.

    True pairs stand against each image with its hardest narrative, and each narrative with its
    hardest image.

    Args:
        model: Model.
        image_tokens: V, (B / W, 1 + P, d) of this process.
        text_tokens: H, (B / W, L, d) of this process.
        token: (B / W, L) int64 token ids of H.
        similarity: (B, B) similarities of all images (rows) with all narratives.
        content: (B / W,) int64 content of the narratives of this process.

    Returns:
        Scalar loss.
    """
    all_images, all_texts = gather(image_tokens), gather_padded(text_tokens, 0.0)
    all_tokens, all_content = gather_padded(token, model.pad), gather(content)
    share, first = len(image_tokens), 0
    if len(all_content) != share:
        first = dist.get_rank() * share
    mine = slice(first, first + share)
    text_of = hardest_negatives(similarity.detach(), all_content)[mine]
    image_of = hardest_negatives(similarity.detach().T, all_content)[mine]
    own = torch.arange(len(all_content), device=image_tokens.device)[mine]
    image, text = torch.cat([own, own, image_of]), torch.cat([own, text_of, own])
    summary, _ = model.join(all_images[image], all_texts[text], all_tokens[text])
    logits, pair = model.match(summary), (all_content[image] == all_content[text]).long()
    return F.cross_entropy(gather(logits), gather(pair))


def loss_terms(
    model: Multimodal, batch: EyeBatch, weights: Mapping[str, torch.Tensor], rebuild: bool
) -> dict[str, torch.Tensor]:
    """Compute every loss term that is switched on, without its weight.

    Args:
        model: Model.
        batch: Training batch of this process.
        weights: (5,) weights of the grades, per scale.
        rebuild: Whether this step has a reconstruction pass.

    Returns:
        Scalar terms: "it", "rows", "icdr", "sdrg", "itm", "mim", "mlm".
    """
    setting, on = model.setting, model.setting.losses
    losses, image_tokens = {}, model.encode_image(batch.image)
    text_tokens = model.encode_text(batch.token) if on.it or on.rows or on.itm else None
    row = model.row(batch.row) if setting.inputs != "none" else None
    content, row_content = gather(batch.content), gather(batch.row_content)
    unit = {"image": gather(model.unit("image", image_tokens))}
    if text_tokens is not None:
        unit["text"] = gather(model.unit("text", text_tokens))
    if on.it:
        image, text = unit["image"], unit["text"]
        if setting.contrast == "fused":
            _, after = model.join(image_tokens, text_tokens, batch.token)
            image, text = (gather(model.unit(name, after[name])) for name in ("image", "text"))
        losses["it"] = contrastive_loss(image, text, positive_targets(content), model.scale)
    if on.rows and row is not None:
        unit["row"] = gather(model.unit("row", row))
        same = positive_targets(row_content)
        losses["rows"] = sum(
            contrastive_loss(unit[name], unit["row"], same, model.scale)
            for name in ("image", "text")
        )
    if on.grading:
        losses |= grading_terms(model, batch, image_tokens, row, weights)
    if on.itm and text_tokens is not None:
        similarity = unit["image"] @ unit["text"].T
        losses["itm"] = itm_loss(
            model, image_tokens, text_tokens, batch.token, similarity, batch.content
        )
    if rebuild:
        losses |= reconstruction_terms(model, batch)
    return losses


def grading_terms(
    model: Multimodal,
    batch: EyeBatch,
    image_tokens: torch.Tensor,
    row: torch.Tensor | None,
    weights: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Compute the grading loss of both scales.

    The joint pass reads image, structured data and, under `text: history`, the history as text. The
    latter two may be dropped from an eye.

    Args:
        model: Model.
        batch: Training batch of this process.
        image_tokens: V, (B / W, 1 + P, d).
        row: R, (B / W, 1, d), None without structured data.
        weights: (5,) weights of the grades, per scale.

    Returns:
        Scalar losses "icdr" and "sdrg".
    """
    history_tokens = model.encode_text(batch.history) if batch.history is not None else None
    present = {"row": batch.row_present, "text": batch.text_present}
    summary, _ = model.join(image_tokens, history_tokens, batch.history, row, present)
    logits = model.grades(summary)
    grade = {"icdr": batch.icdr, "sdrg": batch.sdrg}
    return {
        name: grading_loss(logits[name], grade[name], weights[name], model.setting.ordinal)
        for name in SCALES
    }


def reconstruction_terms(model: Multimodal, batch: EyeBatch) -> dict[str, torch.Tensor]:
    """Compute the reconstruction losses: a joint pass over masked image and masked narrative.

    Args:
        model: Model.
        batch: Training batch of this process.

    Returns:
        Scalar losses "mim" and "mlm", each where it is switched on.
    """
    on = model.setting.losses
    losses, text_tokens, token = {}, None, None
    image_tokens = model.encode_image(batch.image, batch.masked_patches if on.mim else None)
    if on.mlm and batch.masked_token is not None:
        token = batch.masked_token
        text_tokens = model.encode_text(token)
    _, after = model.join(image_tokens, text_tokens, token)
    if on.mim and batch.masked_patches is not None:
        predicted = model.pixels(after["image"][:, 1:])
        losses["mim"] = mim_loss(batch.image, predicted, batch.masked_patches, model.image.grid)
    if on.mlm and batch.masked_words is not None:
        scores = model.word_scores(after["text"])
        losses["mlm"] = mlm_loss(scores, batch.token, batch.masked_words)
    return losses


def weighted_sum(losses: Mapping[str, torch.Tensor], on: Weights) -> torch.Tensor:
    """Sum the loss terms, each with its weight.

    Args:
        losses: Scalar terms, as of `loss_terms`.
        on: Weights of the terms.

    Returns:
        Scalar loss.
    """
    weight = {"icdr": on.grading, "sdrg": on.grading}
    weighted = (weight.get(name, getattr(on, name, 0.0)) * value for name, value in losses.items())
    return reduce(torch.add, weighted)
