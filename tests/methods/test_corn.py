"""CORN: loss and probabilities by hand and by definition; LoRA."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers.methods import (
    CLIP_RESNET,
    CLIP_VIT,
    RESNET,
    VIT,
    build,
    sigmoid,
)

from clipdr import DataError
from clipdr.methods.corn import corn_loss, log_probability
from clipdr.training.loop import OPTIMIZERS, train_step


def test_corn_worked_by_hand():
    third = math.log(3)  # sigmoid 3/4; its negative 1/4
    conditional = torch.tensor([[third, -third, 0.0, 0.0]])
    # grade 1: worse than 0 (3/4), not worse than 1 (1 - 1/4); the other two questions do not apply
    assert corn_loss(conditional, torch.tensor([1])).item() == pytest.approx(-math.log(3 / 4))
    # grade 0 answers one question, grade 4 four: five answers of 1/2
    assert corn_loss(torch.zeros(2, 4), torch.tensor([0, 4])).item() == pytest.approx(math.log(2))
    # P(>0) = 3/4, P(>1) = 3/16, P(>2) = 3/32, P(>3) = 3/64
    expected = [1 / 4, 9 / 16, 3 / 32, 3 / 64, 3 / 64]
    assert log_probability(conditional).exp()[0].tolist() == pytest.approx(expected)


def test_corn_loss_follows_its_definition():
    rng = np.random.default_rng(0)
    h, grade = rng.normal(size=(20, 4)), rng.integers(0, 5, 20)
    f = sigmoid(h)
    total = asked = 0
    for k in range(4):
        for i in np.flatnonzero(grade > k - 1):
            total -= np.log(f[i, k]) if grade[i] > k else np.log(1 - f[i, k])
            asked += 1
    assert corn_loss(torch.from_numpy(h), torch.from_numpy(grade)).item() == pytest.approx(
        total / asked, abs=1e-12
    )


def test_corn_probabilities_of_extreme_logits_sum_to_one():
    torch.manual_seed(0)
    log_p = log_probability(
        torch.cat([30 * torch.randn(200, 4), torch.full((1, 4), 300.0), torch.full((1, 4), -300.0)])
    )
    assert torch.isfinite(log_p).all()
    assert torch.allclose(log_p.exp().sum(1), torch.ones(202), atol=1e-5)
    assert torch.allclose(log_p.softmax(1), log_p.exp(), atol=1e-5)
    assert log_p[-2:].argmax(1).tolist() == [4, 0]


def test_lora_trains_attention_of_every_block_and_head_only(batch):
    """The 12 layers are qkv and proj of 6 blocks.

    At the start nothing changes. Steps move the updates and the head, and nothing else.
    """
    plain, method = build("corn", VIT), build("corn", VIT, lora=2)
    method.head.load_state_dict(plain.head.state_dict())
    assert torch.allclose(method.eval()(batch.image), plain.eval()(batch.image), atol=1e-5)
    free = {key for key, parameter in method.named_parameters() if parameter.requires_grad}
    assert sum("lora_B" in key for key in free) == sum("lora_A" in key for key in free) == 12
    assert {key for key in free if "lora" not in key} == {"head.weight", "head.bias"}
    before = copy.deepcopy(method.state_dict())
    optimizers = {"main": OPTIMIZERS["adamw"](method.parameter_groups()["main"], 1e-2, 0)}
    for _ in range(2):
        train_step(method, optimizers, batch, 0)
    assert {
        key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
    } == free
    assert not torch.allclose(method.eval()(batch.image), plain(batch.image), atol=1e-3)


@pytest.mark.parametrize("spec", [RESNET, CLIP_RESNET, CLIP_VIT])
def test_lora_without_linear_attention_is_refused(spec, small_clips):
    with pytest.raises(DataError, match="lora needs a ViT of timm"):
        build("corn", spec, lora=8)
