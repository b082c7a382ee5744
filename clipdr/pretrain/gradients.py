"""One step of pre-training with exact gradients, on one process or several (torchrun).

The contrastive losses compare all patients of a global batch. Gradients are those of this whole
batch, whatever the number of processes and whether it is split into chunks (Gao et al., 2021).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipdr import DataError
from clipdr.models.image_tower import PRECISIONS, keep_statistics
from clipdr.pretrain.losses import tripartite
from clipdr.training.checkpoint import random_state, set_random_state
from clipdr.training.distributed import world

if TYPE_CHECKING:
    from clipdr.pretrain.data.loader import Patients
    from clipdr.pretrain.model import RetClip
    from clipdr.pretrain.settings import Rules

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Losses (3,) of the levels, and what is logged of each level: {level: {name: number}}
Losses = tuple[torch.Tensor, dict[str, dict[str, Any]]]


def parameter_groups(model: RetClip, rules: Rules) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups.

    Encoders and heads have rates of their own (key `base`). Vectors and t_x have no weight decay.
    """
    rates = {"image": rules.lr_image, "text": rules.lr_text, "heads": rules.lr_heads}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = "heads" if name.startswith("image.projection") else name.partition(".")[0]
        part = part if part in rates else "heads"
        groups.setdefault((part, parameter.ndim >= 2), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rates[part],
            "base": rates[part],
            "weight_decay": rules.weight_decay * decays,
        }
        for (part, decays), parameters in groups.items()
    ]


def prepare_batchnorm(model: RetClip, rules: Rules, device: torch.device) -> RetClip:
    """Return the model with BatchNorm shared between GPUs where several processes need it.

    Raises:
        DataError: If BatchNorm makes exact gradients impossible under these rules.
    """
    if rules.freeze_norm or not any(isinstance(module, BATCHNORM) for module in model.modules()):
        return model
    several = world()[1] > 1
    if rules.chunk:
        raise DataError(
            "pretrain: an image encoder with BatchNorm cannot accumulate gradients over chunks. "
            "Set freeze_norm: true."
        )
    if several and device.type == "cpu":
        raise DataError(
            "pretrain: BatchNorm cannot be shared between processes on a CPU. "
            "Set freeze_norm: true or use one process."
        )
    shared: Any = nn.SyncBatchNorm.convert_sync_batchnorm(model) if several else model
    return shared


def train_step(
    model: nn.Module,
    inner: RetClip,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: Patients,
    rules: Rules,
) -> Losses:
    """Make one optimizer step.

    Args:
        model: RetClip, or DistributedDataParallel around it.
        inner: The RetClip itself.
        optimizer: Its optimizer.
        scaler: Loss scaling for fp16; disabled otherwise.
        batch: This process's rows of the global batch, on the model's device.
        rules: Settings of pre-training.

    Returns:
        Losses and log values of `tripartite`.
    """
    model.train()
    if rules.freeze_norm:
        keep_statistics(model)
    optimizer.zero_grad(set_to_none=True)
    losses, logged = backward(model, batch, rules, scaler)
    if rules.clip_norm:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(inner.parameters(), rules.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    inner.clamp()
    return losses, logged


def backward(
    model: nn.Module, batch: Patients, rules: Rules, scaler: torch.amp.GradScaler
) -> Losses:
    """Compute the losses of the global batch and their exact gradient in every parameter.

    Args:
        model: RetClip, or DistributedDataParallel around it.
        batch: This process's rows.
        rules: Settings. With `chunk`, see `_backward_in_chunks`.
        scaler: Loss scaling.

    Returns:
        Detached losses (3,) and log values of `tripartite`.
    """
    if rules.chunk and rules.chunk < len(batch.image):
        return _backward_in_chunks(model, batch, rules, scaler)
    with _autocast(batch, rules):
        z, u, scale = model(batch.image, batch.present, batch.token)
    losses, logged = tripartite(
        z.float(), u.float(), scale, batch.member, batch.content, rules.targets
    )
    scaler.scale(losses.sum()).backward()
    return losses.detach(), logged


def _autocast(batch: Patients, rules: Rules) -> torch.autocast:
    """Autocast of the encoders in the precision of the settings."""
    precision = PRECISIONS.get(rules.precision)
    return torch.autocast(batch.image.device.type, precision, enabled=precision is not None)


def _backward_in_chunks(
    model: nn.Module, batch: Patients, rules: Rules, scaler: torch.amp.GradScaler
) -> Losses:
    """`backward` for a batch whose activations do not fit in memory (Gao et al., 2021).

    The images pass twice: first without gradients, for the features that the loss needs all at
    once, then chunk by chunk against the gradient of the loss in these features, with the same
    random state of dropout.
    """
    chunks = torch.arange(len(batch.image), device=batch.image.device).split(rules.chunk)
    outer: Any = model
    inner: Any = getattr(model, "module", model)
    states, features = [], []
    for rows in chunks:
        states.append(random_state())
        chunk = batch.part(rows)
        with torch.no_grad(), _autocast(batch, rules):
            features.append(inner(chunk.image, chunk.present, chunk.token))
    z, u = (
        torch.cat([outputs[number] for outputs in features], 1).float().requires_grad_()
        for number in (0, 1)
    )
    scale = inner.log_scale.detach().exp().requires_grad_()
    losses, logged = tripartite(z, u, scale, batch.member, batch.content, rules.targets)
    scaler.scale(losses.sum()).backward()
    after = random_state()
    z_grad: Any = z.grad
    u_grad: Any = u.grad
    for number, (rows, state) in enumerate(zip(chunks, states, strict=True)):
        last = number == len(chunks) - 1
        chunk = batch.part(rows)
        set_random_state(state)
        # DDP averages gradients once, in the last chunk
        with nullcontext() if last or inner is outer else outer.no_sync():
            with _autocast(batch, rules):
                outputs = outer(chunk.image, chunk.present, chunk.token)
            surrogate = (outputs[0].float() * z_grad[:, rows]).sum() + (
                outputs[1].float() * u_grad[:, rows]
            ).sum()
            (surrogate + last * (outputs[2] * scale.grad).sum()).backward()
    set_random_state(after)
    return losses.detach(), logged
