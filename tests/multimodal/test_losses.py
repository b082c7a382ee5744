"""Losses of the multimodal system: values by hand, gradients of each term, missing grades."""

import pytest
import torch
from helpers.multimodal_toy import ALL, built, pack, weights_of

from clipdr.multimodal import loop, losses
from clipdr.multimodal.settings import Weights

OWN = {  # term -> parameters that no other term reaches
    "mim": ("pixels.",),
    "mlm": ("words.",),
    "grading": ("heads.", "fusion.kind.row"),
    "itm": ("match.",),
    "rows": ("project.row",),
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed"))


def gradients(model, batch, weights, on):
    """Names of the parameters with a gradient when some terms are on, and the terms."""
    model.setting = model.setting.model_copy(
        update={"losses": Weights(**(dict.fromkeys(ALL, 0.0) | on))}
    )
    model.zero_grad(set_to_none=True)
    terms = losses.loss_terms(model, batch, weights, True)
    losses.weighted_sum(terms, model.setting.losses).backward()
    return {
        name
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }, terms


def test_each_loss_falls_alone_and_in_the_sum(packed):
    torch.manual_seed(0)
    for on in (*({name: 1.0} for name in ALL), ALL):
        model, datasets = built(
            packed,
            losses=dict.fromkeys(ALL, 0.0) | on,
            every=1,
            lr=1e-3,
            tower_lr=1e-3,
            inputs="history",
        )
        optimizer, weights, batch = (
            loop.build_optimizer(model),
            weights_of(datasets),
            datasets["train"].batch(0, 0),
        )
        steps = 40 if on == {"itm": 1.0} else 8  # the hardest negatives change from step to step
        values = [
            float(loop.train_step(model, optimizer, batch, weights, True)["loss"])
            for _ in range(steps)
        ]
        assert min(values[-4:]) < values[0], on


def test_each_switch_removes_its_own_gradients_only(packed):
    model, datasets = built(packed, inputs="history")
    weights, batch = weights_of(datasets), datasets["train"].batch(0, 0)
    every, _ = gradients(model, batch, weights, ALL)
    assert every == {name for name, p in model.named_parameters() if p.requires_grad}
    for term, own in OWN.items():
        without, terms = gradients(model, batch, weights, ALL | {term: 0.0})
        assert term not in terms, term
        assert every - without, term
        removed = every - without - {"image.mask"}
        assert all(name.startswith(own) for name in removed), term
        assert all(name not in without for name in every if name.startswith(own))


def test_missing_grades_give_no_gradient_to_the_heads(packed):
    model, datasets = built(packed)
    batch = datasets["train"].batch(0, 0)
    nothing = torch.full_like(batch.icdr, -1)
    losses.weighted_sum(
        losses.loss_terms(
            model, batch._replace(icdr=nothing, sdrg=nothing), weights_of(datasets), False
        ),
        Weights(),
    ).backward()
    assert all(not p.grad.any() for p in model.heads.parameters())
    for part in losses.grading_loss(
        torch.randn(4, 5), torch.full((4,), -1), torch.ones(5)
    ).flatten():
        assert part == 0


def test_losses_equal_values_by_hand():
    a, b = (
        torch.nn.functional.normalize(torch.randn(4, 3), dim=1),
        torch.nn.functional.normalize(torch.randn(4, 3), dim=1),
    )
    q = losses.positive_targets(torch.tensor([0, 1, 1, 2]))
    assert q.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
    s = 5 * a @ b.T
    hand = (
        sum(
            -q[i, j] * (torch.log_softmax(s[i], 0)[j] + torch.log_softmax(s[:, i], 0)[j])
            for i in range(4)
            for j in range(4)
        )
        / 8
    )
    assert torch.isclose(losses.contrastive_loss(a, b, q, 5.0), hand)
    weight = losses.class_weights([100, 4, 0, 1, 0])
    assert torch.allclose(
        weight, torch.tensor([(105 / 500) ** 0.5, (105 / 20) ** 0.5, 0, (105 / 5) ** 0.5, 0])
    )
    image = torch.rand(2, 3, 32, 32)
    patches = losses.normalised_patches(image, (2, 2))
    assert patches.shape == (2, 4, 768)
    assert torch.allclose(patches.mean(-1), torch.zeros(2, 4), atol=1e-5)
    assert losses.hardest_negatives(
        torch.tensor([[0.0, 3, 1], [1, 2, 9], [0, 1, 2]]), torch.tensor([0, 0, 1])
    ).tolist() == [2, 2, 1]
