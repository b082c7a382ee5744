"""The losses, and one training step's worth of them. Input: a Multimodal and a Visit; output: {term: scalar}, not yet weighted.

Every process computes the same loss of the whole global batch: what a term needs of the others is gathered with gradients, so that the
mean of the processes' gradients is the gradient of one process on the whole batch. The paper names the kinds of loss only: ratios ours.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F

from clipdr.methods.corn import corn_loss
from clipdr.multimodal.fusion import SCALES
from clipdr.multimodal.towers import PATCH

MASKED_PATCHES, MASKED_WORDS = 0.75, 0.15
KEPT, RANDOM = (
    0.1,
    0.1,
)  # of the masked words: left as they are, replaced by another word; the rest become [MASK]
HEAVIEST = 10.0  # weight of the rarest grade


class _Gather(torch.autograd.Function):
    """All processes' rows in order of rank; the gradient is summed over processes."""

    @staticmethod
    def forward(context, rows):
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(rows):
    """(B / W, ...) of this process -> (B, ...) of all, with gradients; the rows themselves in a single process."""
    return _Gather.apply(rows) if dist.is_initialized() and dist.get_world_size() > 1 else rows


def gather_padded(rows, value):
    """As `gather`, for (B / W, L, ...) whose L differs between processes: padded to the longest with `value`."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    longest = torch.tensor(rows.shape[1], device=rows.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    space = [0, 0] * (rows.ndim - 2) + [0, int(longest) - rows.shape[1]]
    return gather(F.pad(rows, space, value=value))


def positives(content):
    """(B,) ids -> Q (B, B): 1 / n_i on the n_i rows that say the same, rows sum to 1."""
    same = (content[:, None] == content).float()
    return same / same.sum(1, keepdim=True)


def contrast(a, b, wanted, scale):
    """Symmetric InfoNCE with several positives: -1/(2B) sum_ij Q_ij [log softmax_j(T a_i.b_j) + log softmax_j(T b_i.a_j)].

    a, b : (B, e) unit vectors;  wanted : Q (B, B), symmetric up to its rows' sums;  scale : T
    """
    similarity = scale * a @ b.T
    return -(wanted * (similarity.log_softmax(1) + similarity.T.log_softmax(1))).sum() / (
        2 * len(a)
    )


def patches(image, grid):
    """Photographs (B, 3, S, S) -> (B, P, 768) values of PATCH x PATCH patches, each patch with mean 0 and variance 1."""
    image = F.interpolate(image, size=(grid[0] * PATCH, grid[1] * PATCH), mode="area")
    found = F.unfold(image, PATCH, stride=PATCH).transpose(1, 2)
    return (found - found.mean(-1, keepdim=True)) / (found.var(-1, keepdim=True) + 1e-6).sqrt()


def mim(image, predicted, masked, grid):
    """Mean squared error per value over the masked patches. predicted (B, P, 768), masked (B, P) bool"""
    error = (patches(image, grid) - predicted).square().mean(-1)
    return gather((error * masked).sum(1)).sum() / gather(masked.sum(1)).sum().clamp(min=1)


def mlm(scores, token, masked):
    """Mean cross-entropy over the masked words. scores (B, L, vocabulary), token (B, L) as it was, masked (B, L) bool"""
    error = F.cross_entropy(scores.transpose(1, 2), token, reduction="none")
    return gather((error * masked).sum(1)).sum() / gather(masked.sum(1)).sum().clamp(min=1)


def class_weights(counts):
    """(5,) images of each grade in training -> (5,) float32 min(10, sqrt(n / (5 n_c))); 0 for a grade that does not occur."""
    counts = torch.as_tensor(counts, dtype=torch.float32)
    weight = (counts.sum() / (len(counts) * counts.clamp(min=1))).sqrt().clamp(max=HEAVIEST)
    return torch.where(counts > 0, weight, torch.zeros(()))


def grading(logits, grade, weight, ordinal=False):
    """Cross-entropy weighted by grade over the eyes that have one: sum w CE / sum w; 0 with zero gradients where none has."""
    logits, grade = gather(logits), gather(grade)
    known = grade >= 0
    if not known.any():
        return 0.0 * logits.sum()
    if ordinal:
        return corn_loss(logits[known], grade[known])
    return F.cross_entropy(logits[known], grade[known], weight=weight.to(logits))


def hardest(similarity, content):
    """(B,) index of the most similar row that says something else; the row itself where there is none."""
    other = content[:, None] != content
    found = similarity.masked_fill(~other, -torch.inf).argmax(1)
    return torch.where(other.any(1), found, torch.arange(len(content), device=found.device))


def itm(model, seen, read, token, similarity, content):
    """Cross-entropy of `match`: true pairs against each photograph with its hardest narrative and each narrative with its hardest one."""
    everyone = gather(seen), gather_padded(read, 0.0), gather_padded(token, model.pad)
    whole = gather(content)
    mine = slice(None)
    if len(whole) != len(seen):
        mine = slice(dist.get_rank() * len(seen), (dist.get_rank() + 1) * len(seen))
    text_of, image_of = (
        hardest(similarity.detach(), whole)[mine],
        hardest(similarity.detach().T, whole)[mine],
    )
    own = torch.arange(len(whole), device=seen.device)[mine]
    image, text = torch.cat([own, own, image_of]), torch.cat([own, text_of, own])
    summary, _ = model.join(everyone[0][image], everyone[1][text], everyone[2][text])
    logits, pair = model.match(summary), (whole[image] == whole[text]).long()
    return F.cross_entropy(gather(logits), gather(pair))


def parts(model, visit, weights, rebuild):
    """Every term of the loss that is switched on, unweighted.

    visit   : Visit of this process's rows;  weights : {scale: (5,) class weights}
    rebuild : whether this is a step with a reconstruction pass
    """
    setting, on = model.setting, model.setting.losses
    found, seen = {}, model.see(visit.image)
    read = model.read(visit.token) if on.it or on.rows or on.itm else None
    row = model.row(visit.row) if setting.inputs != "none" else None
    content, alike = gather(visit.content), gather(visit.alike)
    a = {"image": gather(model.unit("image", seen))}
    if read is not None:
        a["text"] = gather(model.unit("text", read))
    if on.it:
        pair = (a["image"], a["text"])
        if setting.contrast == "fused":
            _, after = model.join(seen, read, visit.token)
            pair = tuple(gather(model.unit(name, after[name])) for name in ("image", "text"))
        found["it"] = contrast(*pair, positives(content), model.scale)
    if on.rows and row is not None:
        a["row"] = gather(model.unit("row", row))
        same = positives(alike)
        found["rows"] = sum(
            contrast(a[name], a["row"], same, model.scale) for name in ("image", "text")
        )
    if on.grading:
        found |= grading_parts(model, visit, seen, row, weights)
    if on.itm:
        found["itm"] = itm(model, seen, read, visit.token, a["image"] @ a["text"].T, visit.content)
    if rebuild:
        found |= rebuilt(model, visit)
    return found


def grading_parts(model, visit, seen, row, weights):
    """{scale: loss}: joint pass over photograph, row and, under `text: history`, the history in words; both may be left out of an eye."""
    told = model.read(visit.history) if visit.history is not None else None
    summary, _ = model.join(
        seen, told, visit.history, row, {"row": visit.with_row, "text": visit.with_text}
    )
    logits = model.grades(summary)
    grade = {"icdr": visit.icdr, "sdrg": visit.sdrg}
    return {
        name: grading(logits[name], grade[name], weights[name], model.setting.ordinal)
        for name in SCALES
    }


def rebuilt(model, visit):
    """{"mim", "mlm"}: joint pass over the masked photograph and the masked narrative."""
    on = model.setting.losses
    found, read, token = {}, None, None
    seen = model.see(visit.image, visit.masked_patches if on.mim else None)
    if on.mlm:
        token = visit.masked_token
        read = model.read(token)
    _, after = model.join(seen, read, token)
    if on.mim:
        predicted = model.pixels(after["image"][:, 1:])
        found["mim"] = mim(visit.image, predicted, visit.masked_patches, model.image.grid)
    if on.mlm:
        found["mlm"] = mlm(model.say(after["text"]), visit.token, visit.masked_words)
    return found


def total(found, on):
    """Weighted sum of the terms. on: Weights"""
    weight = {"icdr": on.grading, "sdrg": on.grading}
    return sum(weight.get(name, getattr(on, name, 0.0)) * value for name, value in found.items())
