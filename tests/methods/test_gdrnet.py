"""GDRNet: DCR weights, DahLoss and its schedule, ablations, and the degenerate case."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.methods import (
    total,
)
from helpers.toy import DOMAINS

from clipdr import DataError
from clipdr.data.manifest import read_manifests
from clipdr.methods.base import Source
from clipdr.methods.gdrnet import dcr_weights, two_view_loss


def test_gdrnet_on_one_source_is_not_degenerate(prepared_source):
    method, _, source = prepared_source("gdrnet", DOMAINS[1:2], steps=20)
    assert method.degenerate(source) == ""
    assert method.domain_weight.tolist() == [1.0]  # ESDG


def test_gdrnet_with_few_epochs_is_degenerate(prepared_source):
    method, _, source = prepared_source("gdrnet", steps=4)
    assert method.degenerate(source) == "the first epoch, 50% of the budget, uses no grades"
    method, _, source = prepared_source("gdrnet", steps=4, unsupervised=False)
    assert method.degenerate(source) == ""  # uses grades from the start


def test_dcr_weights_by_hand():
    weight = dcr_weights(
        torch.tensor([100, 25, 4, 1, 0]), 0.5
    )  # square roots of the shares are as 10 : 5 : 2 : 1
    assert weight.tolist() == pytest.approx([18 / 10, 18 / 5, 18 / 2, 18, 0])
    assert dcr_weights(torch.tensor([7, 7, 7]), 0.5).tolist() == pytest.approx(
        [3, 3, 3]
    )  # a uniform table: equal weights
    assert dcr_weights(torch.tensor([90, 9, 1]), 0.0).tolist() == pytest.approx([3, 3, 3])
    assert dcr_weights(torch.tensor([120]), 0.5).tolist() == [1.0]


def test_dcr_counts_the_training_images_of_the_fold(prepared_source, manifests):
    method, rows, _ = prepared_source("gdrnet")
    manifest = read_manifests(manifests)
    train_rows = manifest[(manifest.split == "train") & (manifest.domain != DOMAINS[0])]
    share = np.sqrt(train_rows.grade.value_counts(normalize=True).sort_index().to_numpy())
    assert method.grade_weight.tolist() == pytest.approx((share.sum() / share).tolist(), rel=1e-6)
    rows["train"].grade[rows["train"].grade == 0] = 4  # other counts, other weights
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    assert method.grade_weight[0] == 0
    assert method.grade_weight[4] < method.grade_weight[1]
    rows["train"].grade.copy_(torch.from_numpy(train_rows.grade.to_numpy().copy()))


def numpy_two_view(original, augmented, temperature):
    z = np.concatenate([original, augmented])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    count, value = len(original), 0.0
    for a in range(2 * count):
        other = a + count if a < count else a - count
        below = sum(np.exp(z[a] @ z[b] / temperature) for b in range(2 * count) if b != a)
        value -= temperature / 0.07 * np.log(np.exp(z[a] @ z[other] / temperature) / below)
    return value / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.3])
def test_two_view_loss_follows_formula_and_is_least_for_equal_views(temperature):
    rng = np.random.default_rng(0)
    original, augmented = rng.normal(size=(2, 6, 8))
    ours = two_view_loss(
        torch.from_numpy(original), torch.from_numpy(augmented), temperature
    ).item()
    assert ours == pytest.approx(numpy_two_view(original, augmented, temperature), rel=1e-10)
    axes = torch.eye(6, dtype=torch.float64)  # orthogonal images
    least = two_view_loss(axes, axes, temperature).item()
    assert least == pytest.approx(
        temperature / 0.07 * np.log1p(10 * np.exp(-1 / temperature)), rel=1e-9
    )
    for share in (0.2, 0.5, 1.0):
        assert (
            two_view_loss(
                axes, axes + share * torch.from_numpy(rng.normal(size=(6, 6))), temperature
            )
            > least
        )
    assert two_view_loss(3 * axes, 5 * axes, temperature).item() == pytest.approx(
        least
    )  # features are normalised


def test_dahloss_goes_from_views_to_grades(prepared_source):
    """L = (1 - a) L_sup + a / 4 L_unsup with a = 1 - e / E after epoch e of E.

    L_sup reads the view with FundusAug and is weighted by DCR.
    """
    method, rows, _ = prepared_source("gdrnet", steps_per_epoch=5, steps=20)
    batch = rows["train"].batch(0, 20, 0)
    method.grade_weight.copy_(torch.tensor([1.0, 5, 2, 3, 4]))
    method.domain_weight.copy_(torch.tensor([1.0, 3.0]))
    method.eval()
    with torch.no_grad():
        spread = method.image.pooled(batch.image).std(0).mean()
        method.head.weight.normal_().div_(spread)  # so that the views differ in their loss
        ce = F.cross_entropy(method(batch.image), batch.grade, reduction="none").numpy()
        assert (
            abs(F.cross_entropy(method(batch.second_view), batch.grade).item() / ce.mean() - 1)
            > 0.01
        )
        features = [method.image.pooled(view).numpy() for view in (batch.second_view, batch.image)]
    wc, wd = np.array([1.0, 5, 2, 3, 4])[batch.grade], np.array([1.0, 3.0])[batch.domain]
    supervised, unsupervised = (
        np.mean(wc * wd * ce) / (wc.mean() * wd.mean()),
        numpy_two_view(*features, 0.1),
    )
    for step, alpha in (
        (0, 1.0),
        (4, 1.0),
        (5, 0.75),
        (9, 0.75),
        (14, 0.5),
        (15, 0.25),
        (19, 0.25),
    ):
        method.after_step(step)
        parts = {name: value.item() for name, value in method.loss(batch).items()}
        assert parts["supervised"] == pytest.approx((1 - alpha) * supervised, rel=1e-4)
        assert parts["unsupervised"] == pytest.approx(alpha / 4 * unsupervised, rel=1e-3)


def test_first_epoch_trains_the_encoder_alone(prepared_source):
    method, rows, _ = prepared_source("gdrnet")
    total(method.train().loss(rows["train"].batch(0, 10, 0))).backward()
    assert not method.head.weight.grad.any()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    assert any(p.grad.any() for p in method.image.parameters() if p.requires_grad)
    with pytest.raises(DataError, match="epochs"):
        prepared_source("gdrnet", steps_per_epoch=4, steps=4)


def test_gdrnet_without_its_parts_is_plain_cross_entropy(prepared_source):
    """No DCR: equal weights. No L_unsup: L_sup alone. No FundusAug: two plain views."""
    method, rows, _ = prepared_source("gdrnet", balanced=False, unsupervised=False, augment="flip")
    batch = rows["train"].batch(0, 10, 0)
    method.eval()
    assert batch.second_view is None
    parts = method.loss(batch)
    assert list(parts) == ["supervised"]
    assert parts["supervised"].item() == pytest.approx(
        F.cross_entropy(method(batch.image), batch.grade).item(), rel=1e-5
    )
    method.after_step(2)
    assert method.loss(batch)["supervised"].item() == pytest.approx(parts["supervised"].item())
    method, rows, _ = prepared_source("gdrnet", augment="two_views")
    assert torch.isfinite(total(method.loss(rows["train"].batch(0, 10, 0))))


def test_missing_second_view_is_named_and_erm_reads_augmented_view(prepared_source):
    method, rows, _ = prepared_source("gdrnet", augment="flip")
    with pytest.raises(DataError, match="fundus"):
        method.loss(rows["train"].batch(0, 10, 0))
    erm, rows, _ = prepared_source("erm", augment="fundus")
    batch = rows["train"].batch(0, 10, 0)
    erm.eval()
    assert torch.equal(erm.loss(batch)["ce"], F.cross_entropy(erm(batch.image), batch.grade))
    assert batch.second_view is not None
