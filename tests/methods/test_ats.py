"""ATS: teacher, losses and phases against their definitions."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import (
    build,
)

from clipdr.methods.perturbation import without_updates
from clipdr.training.loop import OPTIMIZERS, train_step


def test_ats_teacher_is_the_moving_average_of_the_student(rows, batch):
    method = build("ats", rows=rows, tau=0.6, width=8)
    optimizers = {
        name: OPTIMIZERS["sgd"](group, 0.1, 0) for name, group in method.parameter_groups().items()
    }
    names = [key for key, _ in method.image.named_parameters()]
    expected = {key: value.clone() for key, value in method.image.named_parameters()}
    for step in range(1, 5):
        train_step(method, optimizers, batch, 0)
        teacher = copy.deepcopy(method.teacher_image.state_dict())
        assert all(
            torch.equal(teacher[key], method.teacher_image.state_dict()[key]) for key in names
        )
        method.after_step(step)
        tau = min(0.6, 1 - 1 / (step + 1))  # 1/2, then .6
        expected = {
            key: tau * expected[key] + (1 - tau) * value
            for key, value in method.image.named_parameters()
        }
    for key, value in method.teacher_image.named_parameters():
        assert torch.allclose(value, expected[key], atol=1e-6), key
    assert torch.equal(
        method.teacher_image.trunk.bn1.running_mean, method.image.trunk.bn1.running_mean
    )
    assert not torch.equal(method.teacher_head.weight, method.head.weight)


def test_ats_predicts_with_teacher_that_gets_no_gradient(rows, batch):
    method = build("ats", rows=rows, width=8)
    torch.nn.init.zeros_(method.head.weight)
    teacher = method.eval().teacher_head(method.teacher_image.pooled(batch.image))
    assert torch.equal(method(batch.image), teacher)
    assert not method.train().teacher_image.training
    assert not {id(p) for group in method.parameter_groups().values() for p in group} & {
        id(p) for p in method.teacher_image.parameters()
    }


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_ats_losses_follow_their_definition(rows, batch):
    method = build(
        "ats", rows=rows, steps=100, feature_weight=0.5, generator_weight=0.5, width=8
    ).train()
    with torch.no_grad():
        method.teacher_image.trunk.conv_stem.weight.mul_(1.3)
        method.generator.colour.weight.mul_(50)
        new = method.generator(batch.image)
        taught, taught_new = (
            method.teacher_image.pooled(image).numpy() for image in (batch.image, new)
        )
        with without_updates(method.image):
            student, student_new = (method.image.pooled(image) for image in (batch.image, new))
        ce, ce_new = (
            F.cross_entropy(method.head(f), batch.grade).item() for f in (student, student_new)
        )
    parts = {name: value.item() for name, value in method.loss(batch).items()}
    distance = ((unit(taught) - unit(student_new.numpy())) ** 2).sum(1).mean()
    assert parts == pytest.approx(
        {"ce": ce, "ce_perturbed": ce_new, "feature": 0.5 * distance}, abs=1e-4
    )
    moved = ((unit(taught) - unit(taught_new)) ** 2).sum(1).mean()
    assert moved > 0
    assert method.generator_loss(batch)["generator_moved"].item() == pytest.approx(
        -0.5 * moved, abs=1e-5
    )
    method.generator_weight = 1e6
    assert method.generator_loss(batch)["generator_moved"].item() == -1
    assert [phase for phase, _ in method.phases(batch)] == ["main"]
    method.after_step(3)
    assert [phase for phase, _ in method.phases(batch)] == ["generator", "main"]
