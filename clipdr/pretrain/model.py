"""RET-CLIP (Du et al., 2024): one image tower for both eyes, three image heads, three text heads, three contrastive losses.

Input: a batch of patients (both eyes, which are there, the tokens of the report). Output: unit vectors per level, and the loss.
A raw image vector v is never compared with text: it is not in the trained space (the released single-image path did that).
"""

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from open_clip.loss import ClipLoss, gather_features
from torch import nn

from clipdr import DataError

LEVELS = ("left", "right", "patient")
LARGEST = math.log(100)  # of the temperatures t_x


class Aligned(NamedTuple):
    """Unit vectors in the trained space of one level: what may be compared with text of the same level."""

    level: str
    vector: torch.Tensor  # (N, E)


class RetClip(nn.Module):
    """image : tower (N, 3, S, S) -> (N, E), called once for both eyes;  text : encoder (N, L) tokens -> (N, width) (clipdr.models.report_encoder)

    start : first value of the three t_x; the cosine is multiplied by exp(t_x)
    """

    def __init__(self, image, text, width, start):
        super().__init__()
        self.image, self.text, self.width = image, text, width
        self.image_heads = nn.ModuleDict(
            {
                level: nn.Linear((1 + (level == "patient")) * width, width, bias=False)
                for level in LEVELS
            }
        )
        self.text_heads = nn.ModuleDict({level: text_head(text.width, width) for level in LEVELS})
        self.log_scale = nn.Parameter(torch.full((len(LEVELS),), float(start)))

    def raw(self, image, present):
        """v of both eyes, (B, 2, E), zeros where absent. Only photographs that are there are read: none of the rest is in BatchNorm."""
        seen = self.image(image[present])
        out = seen.new_zeros(*present.shape, self.width)
        out[present] = seen
        return out

    def project(self, raw, present):
        """(B, 2, E) raw v, (B, 2) bool -> unit vectors (3, B, E). One eye alone fills both halves of the patient's head."""
        left, right = raw.unbind(1)
        both = torch.cat(
            [torch.where(present[:, :1], left, right), torch.where(present[:, 1:], right, left)], 1
        )
        vectors = {"left": left, "right": right, "patient": both}
        return torch.stack(
            [F.normalize(self.image_heads[level](vectors[level]), dim=-1) for level in LEVELS]
        )

    def report(self, token):
        """(B, T, L) -> unit vectors (3, B, E)."""
        hidden = self.text(token.flatten(0, 1)).unflatten(0, token.shape[:2])  # (B, T, width)
        return torch.stack(
            [
                F.normalize(
                    self.text_heads[level](hidden[:, min(number, token.shape[1] - 1)]), dim=-1
                )
                for number, level in enumerate(LEVELS)
            ]
        )

    def forward(self, image, present, token):
        """Unit vectors of images and texts, both (3, B, E), and the multipliers T_x, (3,)."""
        return (
            self.project(self.raw(image, present), present),
            self.report(token),
            self.log_scale.exp(),
        )

    @torch.no_grad()
    def clamp(self):
        """After each step: t_x in [0, log 100]."""
        self.log_scale.clamp_(0, LARGEST)

    def eyes(self, image, side="unknown"):
        """Single photographs -> Aligned: by the head of their side, or, side unknown, by the patient's head with the eye in both halves.

        image : (N, 3, S, S) float32 in [0, 1];  side : "left" | "right" | "unknown"
        """
        if side not in (*LEVELS[:2], "unknown"):
            raise DataError(f"ret_clip: side {side!r}; use left, right or unknown")
        slot = int(side == "right")
        level = "patient" if side == "unknown" else side
        present = torch.zeros(len(image), 2, dtype=torch.bool, device=image.device)
        present[:, slot] = True
        pair = image.new_zeros(len(image), 2, *image.shape[1:])
        pair[:, slot] = image
        return Aligned(level, self.project(self.raw(pair, present), present)[LEVELS.index(level)])


def text_head(width, out):
    """MLP of one level: Linear, ReLU, Linear; weights N(0, width ** -0.5), biases 0."""
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))
    for layer in (head[0], head[2]):
        nn.init.normal_(layer.weight, std=width**-0.5)
        nn.init.zeros_(layer.bias)
    return head


def compare(image, text, scale=1.0):
    """Cosines of two Aligned of one level, times scale: (N, M). DataError for vectors of two levels, or for raw ones."""
    if not (isinstance(image, Aligned) and isinstance(text, Aligned)) or image.level != text.level:
        raise DataError(
            "ret_clip: only vectors of one level's trained space are comparable; take RetClip.eyes, project or report"
        )
    return scale * image.vector @ text.vector.T


# Loss ------------------------------------------------------------------------------------------------------------------------------------


def onehot(z, u, scale, content):
    """Released loss of a level: 1/2 [CE(T Z U^T, I) + CE(T U Z^T, I)]; equal texts in a batch are false negatives."""
    return ClipLoss()(z, u, scale)


def same_text(z, u, scale, content):
    """As onehot, with the target spread evenly over all columns that say the same."""
    target = (content[:, None] == content).to(z.dtype)
    target = target / target.sum(1, keepdim=True)
    logits = scale * z @ u.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


TARGETS = {"onehot": onehot, "same_text": same_text}


def floor(content):
    """The least that either loss can be: (n,) numbers of texts -> 1/n sum_g n_g log n_g, in nats."""
    count = torch.unique(content, return_counts=True)[1].double()
    return float((count * count.log()).sum() / max(1, len(content)))


def gathered(z, u, member, content):
    """z, u (3, B, E), member and content (3, B) of all processes, in the order of their ranks; gradients flow back to each process.

    Every process then has the same loss, and the average over processes that DDP makes is the exact gradient.
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
    return *(torch.stack(part) for part in zip(*pairs, strict=True)), member.bool(), content


def tripartite(z, u, scale, member, content, targets):
    """L_left, L_right and L_patient over the rows of all processes that take part, (3,); and what is logged of each level.

    z, u : (3, B, E) unit vectors of this process;  scale : (3,);  member, content : (3, B);  targets : key of TARGETS
    returns (losses, seen): seen[level] = {n, floor, image_to_text, text_to_image}: in-batch accuracy, a text that says the same counts
    """
    z, u, member, content = gathered(z, u, member, content)
    losses, seen = [], {}
    for number, level in enumerate(LEVELS):
        rows = member[number]
        if not rows.any():  # every parameter stays in the graph, for DDP
            losses.append(0 * (z[number].sum() + u[number].sum() + scale[number]))
            continue
        own_z, own_u, own = z[number][rows], u[number][rows], content[number][rows]
        losses.append(TARGETS[targets](own_z, own_u, scale[number], own))
        with torch.no_grad():
            score = own_z @ own_u.T
            right = {
                name: float((own[score.argmax(axis)] == own).float().mean())
                for name, axis in (("image_to_text", 1), ("text_to_image", 0))
            }
        seen[level] = {"n": int(rows.sum()), "floor": floor(own)} | right
    return torch.stack(losses), seen
