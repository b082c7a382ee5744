"""Contrastive losses of RET-CLIP (Du et al., 2024) at three levels, over all processes.

Input: unit vectors of images and texts. Output: three losses, their lower bounds and accuracies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss, gather_features

from clipdr.pretrain.model import LEVELS


def onehot(
    z: torch.Tensor, u: torch.Tensor, scale: torch.Tensor, _content: torch.Tensor
) -> torch.Tensor:
    """Compute the released loss of a level: 1/2 [CE(T Z U^T, I) + CE(T U Z^T, I)].

    Equal texts in a batch are false negatives.

    Args:
        z: (n, E) unit image vectors.
        u: (n, E) unit text vectors.
        scale: T.
    """
    return ClipLoss()(z, u, scale)


def same_text(
    z: torch.Tensor, u: torch.Tensor, scale: torch.Tensor, content: torch.Tensor
) -> torch.Tensor:
    """Compute the loss with targets spread evenly over equal texts.

    Args:
        z: (n, E) unit image vectors.
        u: (n, E) unit text vectors.
        scale: T.
        content: (n,) int64; equal numbers stand for equal texts.
    """
    target = (content[:, None] == content).to(z.dtype)
    target = target / target.sum(1, keepdim=True)
    logits = scale * z @ u.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
TARGETS: dict[str, Loss] = {"onehot": onehot, "same_text": same_text}


def floor(content: torch.Tensor) -> float:
    """Return the lower bound of either loss: 1/n sum_g n_g log n_g, in nats.

    Args:
        content: (n,) int64; n_g is the number of texts of each value.
    """
    count = torch.unique(content, return_counts=True)[1].double()
    return float((count * count.log()).sum() / max(1, len(content)))


def gathered(
    z: torch.Tensor, u: torch.Tensor, member: torch.Tensor, content: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gather the batches of all processes, in the order of their ranks.

    Gradients flow back to each process. Every process then has the same loss, and the average over
    processes that DDP takes is the exact gradient.

    Args:
        z: (3, B, E) unit image vectors of this process.
        u: (3, B, E) unit text vectors of this process.
        member: (3, B) bool, rows that take part at each level.
        content: (3, B) int64; equal numbers stand for equal texts.

    Returns:
        The same four over all processes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z, u, member, content
    rank, world = dist.get_rank(), dist.get_world_size()
    pairs = [
        gather_features(a, b, gather_with_grad=True, rank=rank, world_size=world)
        for a, b in zip(z, u, strict=True)
    ]
    masks = [
        [torch.empty_like(tensor) for _ in range(world)]
        for tensor in (member.byte().contiguous(), content.contiguous())
    ]
    for out, tensor in zip(masks, (member.byte().contiguous(), content.contiguous()), strict=True):
        dist.all_gather(out, tensor)
    member, content = (torch.cat(out, 1) for out in masks)
    images, texts = (torch.stack(part) for part in zip(*pairs, strict=True))
    return images, texts, member.bool(), content


def tripartite(
    z: torch.Tensor,
    u: torch.Tensor,
    scale: torch.Tensor,
    member: torch.Tensor,
    content: torch.Tensor,
    targets: str,
) -> tuple[torch.Tensor, dict[str, dict[str, Any]]]:
    """Compute L_left, L_right and L_patient over the rows of all processes that take part.

    Args:
        z: (3, B, E) unit image vectors of this process.
        u: (3, B, E) unit text vectors of this process.
        scale: (3,) multipliers T_x.
        member: (3, B) bool, rows that take part at each level.
        content: (3, B) int64; equal numbers stand for equal texts.
        targets: Key of `TARGETS`.

    Returns:
        (3,) losses; and per level with rows {n, floor, image_to_text, text_to_image}. The last two
        are in-batch accuracies, for which an equal text counts as correct.
    """
    z, u, member, content = gathered(z, u, member, content)
    losses, log = [], {}
    for number, level in enumerate(LEVELS):
        rows = member[number]
        if not rows.any():  # every parameter stays in the graph, for DDP
            losses.append(0 * (z[number].sum() + u[number].sum() + scale[number]))
            continue
        own_z, own_u, own = z[number][rows], u[number][rows], content[number][rows]
        losses.append(TARGETS[targets](own_z, own_u, scale[number], own))
        with torch.no_grad():
            score = own_z @ own_u.T
            accuracy = {
                name: float((own[score.argmax(axis)] == own).float().mean())
                for name, axis in (("image_to_text", 1), ("text_to_image", 0))
            }
        log[level] = {"n": int(rows.sum()), "floor": floor(own)} | accuracy
    return torch.stack(losses), log
