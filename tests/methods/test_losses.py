"""Losses against a worked example, a loop over images written from the formulas, and symmetries."""

import math

import pytest
import torch

from clipdr import DataError
from clipdr.methods import losses

SIMILARITY = torch.tensor(
    [[2.0, 3.0, 1.0, -1.0, 0.5], [-1.5, 0.0, 1.0, 2.5, 2.0]], dtype=torch.float64
)
GRADE = torch.tensor([1, 4])
# (rank, direction) -> value, computed by hand from the formulas of the method
ZERO = {
    (1, 1): 0.3415877,
    (1, -1): 0.7667918,
    (2, 1): 0.4030088,
    (2, -1): 0.4087485,
    (3, 1): 1.3063763,
    (3, -1): 0.4524162,
}
PAIRWISE = {
    (1, 1): 0.0634640,
    (1, -1): 0.6436693,
    (2, 1): 0.0634640,
    (2, -1): 0.1007066,
    (3, 1): 0.8507066,
    (3, -1): 0.1566308,
}
GRADIENT = {
    "pairwise": [
        [0.1344707, -0.1940722, 0, -0.3491858, 0.4087872],
        [0, 0.1344707, -0.0432579, 0.2200169, -0.3112297],
    ],
    "zero": [
        [-0.0543741, -0.2812574, -0.2240113, -0.4331112, 0.1643265],
        [0, 0.0744238, -0.2217688, 0.1101423, -0.5119264],
    ],
}


def rank_by_loop(similarity, grade, max_rank, directions, mask):
    """The formulas of the method, one image and one pair at a time."""
    total = torch.zeros((), dtype=similarity.dtype)
    for row, y in zip(similarity, grade.tolist(), strict=True):
        for r in range(1, max_rank + 1):
            for d in {"both": (1, -1), "left": (-1,), "right": (1,)}[directions]:
                a, b = y + d * (r - 1), y + d * r
                if mask == "pairwise" and 0 <= a <= 4 and 0 <= b <= 4:
                    total = total + torch.log1p(torch.exp(row[b] - row[a]))
                if mask == "zero" and 0 <= a <= 4:
                    z = [
                        row[k]
                        if k == a or (k == b and 0 <= b <= 4)
                        else torch.zeros((), dtype=row.dtype)
                        for k in range(5)
                    ]
                    total = total - torch.log_softmax(torch.stack(z), 0)[a]
    return total / len(grade)


@pytest.mark.parametrize(("mask", "table"), [("zero", ZERO), ("pairwise", PAIRWISE)])
def test_ranking_terms_of_the_worked_example(mask, table):
    name = {1: "right", -1: "left"}
    for (r, d), value in table.items():
        upto = losses.ranking_loss(SIMILARITY, GRADE, r, name[d], mask)
        below = losses.ranking_loss(SIMILARITY, GRADE, r - 1, name[d], mask)
        assert float(upto - below) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("mask", "value"), [("zero", 3.6789292), ("pairwise", 1.8786415)])
def test_ranking_total_and_gradient_of_the_worked_example(mask, value):
    similarity = SIMILARITY.clone().requires_grad_()
    loss = losses.ranking_loss(similarity, GRADE, mask=mask)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert torch.allclose(
        similarity.grad, torch.tensor(GRADIENT[mask], dtype=torch.float64), atol=1e-6
    )


@pytest.mark.parametrize("mask", ["pairwise", "zero"])
@pytest.mark.parametrize("directions", ["both", "left", "right"])
@pytest.mark.parametrize("max_rank", [0, 1, 3, 4])
def test_ranking_loss_equals_a_loop_over_images(mask, directions, max_rank):
    generator = torch.Generator().manual_seed(max_rank)
    similarity = (8 * torch.randn(33, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    grade = torch.randint(0, 5, (33,), generator=generator)
    ours = losses.ranking_loss(similarity, grade, max_rank, directions, mask)
    reference = rank_by_loop(similarity, grade, max_rank, directions, mask)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-10)
    if max_rank:
        gradient = torch.autograd.grad(ours, similarity)[0]
        assert torch.allclose(gradient, torch.autograd.grad(reference, similarity)[0], atol=1e-10)


@pytest.mark.parametrize("mask", ["pairwise", "zero"])
def test_reversing_the_grade_axis_exchanges_left_and_right(mask):
    similarity, grade = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 5, (20,))
    flipped, mirrored = similarity.flip(1), 4 - grade
    assert torch.allclose(
        losses.ranking_loss(similarity, grade, mask=mask),
        losses.ranking_loss(flipped, mirrored, mask=mask),
    )
    left = losses.ranking_loss(similarity, grade, directions="left", mask=mask)
    assert torch.allclose(
        left, losses.ranking_loss(flipped, mirrored, directions="right", mask=mask)
    )


def test_ranking_loss_refuses_unknown_options():
    for wrong in ({"directions": "up"}, {"mask": "soft"}, {"max_rank": 5}):
        with pytest.raises(DataError):
            losses.ranking_loss(SIMILARITY, GRADE, **wrong)


def test_kl_of_the_worked_example():
    assert losses.text_to_image_kl(SIMILARITY, GRADE).item() == pytest.approx(0.1246031, abs=1e-6)
    cross_entropy = torch.nn.functional.cross_entropy(SIMILARITY, GRADE).item()
    assert cross_entropy == pytest.approx(0.8149063, abs=1e-6)


def test_kl_equals_the_sum_over_present_grades():
    similarity, grade = 5 * torch.randn(24, 5, dtype=torch.float64), torch.randint(0, 4, (24,))
    total, present = 0.0, sorted(set(grade.tolist()))
    for k in present:
        weight = [math.exp(10.0 * (y == k)) for y in grade.tolist()]
        q = [w / sum(weight) for w in weight]
        column = similarity[:, k].tolist()
        log_sum = math.log(sum(math.exp(s) for s in column))
        total += sum(qi * (math.log(qi) - (s - log_sum)) for qi, s in zip(q, column, strict=True))
    assert losses.text_to_image_kl(similarity, grade).item() == pytest.approx(
        total / len(present), abs=1e-9
    )


def test_kl_of_one_image_is_zero():
    assert losses.text_to_image_kl(torch.randn(1, 5), torch.tensor([2])).item() == pytest.approx(
        0, abs=1e-6
    )
