"""MDLT / BoDA: alignments against numpy, centroids, and cross-entropy per domain."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipdr.data.loader import Batch
from clipdr.methods.mdlt import boda_loss, macro_alignment


def pairs_example(seed=0):
    """A batch of 9 images of 3 domains, centroids, and counts.

    One grade has no image, and one grade has images of one domain only.
    """
    rng = np.random.default_rng(seed)
    feature, centroid = rng.normal(size=(9, 6)), rng.normal(size=(3, 5, 6))
    domain, grade = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), np.array([0, 1, 4, 0, 2, 2, 1, 1, 0])
    count = rng.integers(1, 30, (3, 5))
    count[:, 3] = 0
    count[1:, 4] = 0
    return feature, domain, grade, centroid, count


def numpy_boda(feature, domain, grade, centroid, count, nu, temperature):
    terms = []
    for f, d, c in zip(feature, domain, grade, strict=True):
        z = {}
        for e in range(3):
            for k in range(5):
                if count[e, k]:
                    distance = np.sqrt(((f - centroid[e, k]) ** 2).sum())
                    z[e, k] = (
                        -distance / count[d, c] * (count[e, k] / count[d, c]) ** nu / temperature
                    )
        below = sum(np.exp(value) for pair, value in z.items() if pair != (d, c))
        terms += [z[e, c] - np.log(below) for e in range(3) if e != d and (e, c) in z]
    return -np.mean(terms)


@pytest.mark.parametrize(("nu", "temperature"), [(0.5, 1.0), (1.0, 0.3)])
def test_boda_follows_the_formula(nu, temperature):
    example_ = pairs_example()
    f, d, c, centroid, count = (torch.from_numpy(array) for array in example_)
    ours = boda_loss(f, d, c, centroid.flatten(0, 1), count.flatten().double(), nu, temperature)
    assert ours.item() == pytest.approx(numpy_boda(*example_, nu, temperature), rel=1e-10)


def test_boda_of_two_pairs_by_hand():
    """One grade, two domains, distance 3: the only other pair has log P = 0."""
    feature, centroid = torch.zeros(1, 2), torch.zeros(10, 2)
    centroid[5] = torch.tensor([3.0, 0.0])
    count = torch.zeros(10)
    count[[0, 5]] = torch.tensor([4.0, 16.0])
    zero = torch.tensor([0])
    assert boda_loss(feature, zero, zero, centroid, count).item() == pytest.approx(0)
    # a third pair, of another grade, at the image has z = 0; the positive -3 / 4 * sqrt(16 / 4)
    count[6] = 4.0
    assert boda_loss(feature, zero, zero, centroid, count).item() == pytest.approx(
        1.5 + np.log(np.exp(-1.5) + 1), rel=1e-6
    )


def test_boda_without_positive_is_zero_with_finite_gradient():
    feature = torch.zeros(
        2, 3, requires_grad=True
    )  # at its centroid, where the distance has no gradient
    count = torch.zeros(10)
    for pairs in (
        [0],
        [0, 1],
        [0, 6],
    ):  # alone; another grade of its domain; another grade of the other domain
        count[pairs] = 5.0
        value = boda_loss(
            feature, torch.tensor([0, 0]), torch.tensor([0, 0]), torch.zeros(10, 3), count
        )
        assert value == 0
        (gradient,) = torch.autograd.grad(value, feature)
        assert torch.isfinite(gradient).all()


def test_macro_alignment_equals_explicit_covariances():
    rng = np.random.default_rng(0)
    feature, domain = (
        rng.normal(size=(14, 6)) * rng.uniform(0.5, 2, 6),
        np.array([0] * 5 + [1] * 4 + [2] * 4 + [3]),
    )
    expected = []
    for d in range(3):
        for e in range(d):
            left, right = feature[domain == d], feature[domain == e]
            means = ((left.mean(0) - right.mean(0)) ** 2).mean()
            expected.append(means + ((np.cov(left.T) - np.cov(right.T)) ** 2).mean())
    member = F.one_hot(
        torch.from_numpy(domain), 5
    ).double()  # one image of domain 3, none of domain 4: both left out
    assert macro_alignment(torch.from_numpy(feature), member).item() == pytest.approx(
        np.mean(expected), rel=1e-9
    )
    same = torch.from_numpy(np.concatenate([feature[:5]] * 2))
    assert abs(macro_alignment(same, member.new_tensor([[1, 0]] * 5 + [[0, 1]] * 5)).item()) < 1e-12
    assert macro_alignment(same, member.new_ones(10, 1)) == 0


def test_centroids_are_feature_means_and_move_by_four_fifths(prepared_source):
    method, rows, _ = prepared_source(
        "mdlt", steps_per_epoch=3, steps=20
    )  # start .1: after 2 steps
    batch = rows["train"].batch(0, 20, 0, "domain")

    def features():
        with torch.no_grad():
            return method.eval().image.pooled(next(rows["train"].chunks(1000)).image)

    def means():
        mean = torch.zeros_like(method.centroid)
        for pair in range(10):
            where = (rows["train"].domain * 5 + rows["train"].grade) == pair
            assert method.count[pair] == where.sum()
            mean[pair] = features()[where].mean(0)
        return mean

    method.after_step(1)
    assert method.loss(batch)["boda"] == 0
    assert not method.centroid.any()
    method.after_step(2)
    first = means()
    assert torch.allclose(method.centroid, first, atol=1e-5)
    assert method.loss(batch)["boda"] > 0
    with torch.no_grad():
        for parameter in method.image.parameters():
            parameter.mul_(1.1)
    method.after_step(3)
    second = means()
    assert (second - first).abs().max() > 1e-2
    assert torch.allclose(method.centroid, 0.2 * first + 0.8 * second, atol=1e-5)
    kept = method.centroid.clone()
    method.after_step(4)
    assert torch.equal(method.centroid, kept)


def test_cross_entropy_of_mdlt_is_mean_over_domains(prepared_source):
    method, rows, _ = prepared_source("mdlt")
    batch = rows["train"].batch(0, 20, 0, "domain")
    uneven = Batch(
        *(
            t if t is None else torch.cat([t[batch.domain == 0], t[batch.domain == 1][:2]])
            for t in batch
        )
    )
    method.eval()
    each = F.cross_entropy(method(uneven.image), uneven.grade, reduction="none")
    expected = (each[:-2].mean() + each[-2:].mean()) / 2
    assert method.loss(uneven)["ce"].item() == pytest.approx(expected.item(), rel=1e-5)
