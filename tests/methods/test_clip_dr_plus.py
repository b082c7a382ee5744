"""clip_dr_plus: ridge regression, its targets, and the learning-rate multiplier of the encoder."""

import numpy as np
import pytest
import torch
from helpers.toy import DOMAINS

from clipdr.config.job import Training
from clipdr.data.loader import Images
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation.metrics import METRICS
from clipdr.methods.base import Source
from clipdr.methods.clip_dr_plus import ClipDrPlus, grade_targets, ridge_regression
from clipdr.models.backbone import Backbone
from clipdr.training.loop import OPTIMIZERS, set_rate, train_step

TOWER = {"image": "timm/test_resnet", "weights": "random", "text": "small"}


@pytest.fixture(scope="module")
def source(toy, manifests):
    parts = fold(read_manifests(manifests), "dg", DOMAINS[0])
    arrays = {domain: np.load(toy / "store" / f"{domain}.npy") for domain in DOMAINS}
    rows = {
        split: Images(parts[split], arrays, list(DOMAINS[1:]), 64) for split in ("train", "val")
    }
    return Source(rows["train"], rows["val"], steps_per_epoch=2, steps=4)


@pytest.fixture
def method(source):
    torch.manual_seed(0)
    method = ClipDrPlus(Backbone(TOWER, 64))
    method.begin(source)
    return method


def test_ridge_regression_equals_scikit_learn():
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(0)
    x, y, weight = (
        generator.normal(size=(40, 7)),
        generator.normal(size=(40, 3)),
        generator.uniform(0.2, 3, 40),
    )
    share = weight / weight.sum()
    strength = (
        0.3 * np.mean(share @ (x - share @ x) ** 2) * weight.sum()
    )  # scikit-learn does not divide the penalty by the sum of weights
    reference = Ridge(alpha=strength).fit(x, y, sample_weight=weight)
    solution, bias = ridge_regression(*map(torch.from_numpy, (x, y, weight)), 0.3)
    np.testing.assert_allclose(solution.T, reference.coef_, atol=1e-10)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-10)


def test_target_product_falls_with_the_distance_of_grades():
    text = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 16)))
    product = grade_targets(text) @ torch.nn.functional.normalize(text, dim=1).T
    for grade, row in enumerate(product):
        fall = np.exp(-np.abs(np.arange(5) - grade))
        slope, residual = np.polyfit(fall, row.numpy(), 1), None
        residual = row.numpy() - np.polyval(slope, fall)
        assert slope[0] > 0
        assert np.abs(residual).max() < 1e-10


def test_bridge_raises_source_validation_before_the_first_step(method, source):
    val = next(source.val.chunks(1000))

    def auc():
        with torch.no_grad():
            return METRICS["auc"](
                val.grade.numpy(), method.eval()(val.image).double().softmax(1).numpy()
            )[0]

    assert method.chosen["ridge"] in method.ridges
    aligned = auc()
    for parameter in method.bridge.parameters():
        torch.nn.init.zeros_(parameter)
    assert aligned > auc() + 0.1


def test_begin_takes_ridge_of_best_source_validation(source, method):
    single = {}
    for ridge in method.ridges:
        torch.manual_seed(0)
        other = ClipDrPlus(Backbone(TOWER, 64), ridges=(ridge,))
        other.begin(source)
        val = next(source.val.chunks(1000))
        with torch.no_grad():
            single[ridge] = METRICS["auc"](
                val.grade.numpy(), other.eval()(val.image).double().softmax(1).numpy()
            )[0]
    assert single[method.chosen["ridge"]] == pytest.approx(max(single.values()), abs=1e-6)


def test_encoder_has_its_learning_rate_and_keeps_its_statistics(method, source):
    groups = method.parameter_groups()["main"]
    optimizer = OPTIMIZERS["sgd"](groups, 1e-3, 0)
    training = Training(
        epochs=2,
        batch_size=8,
        optimizer="sgd",
        lr=0.2,
        weight_decay=0,
        schedule="constant",
        augment="none",
        evaluations=1,
    )
    set_rate({"main": optimizer}, training, 0, 4, 2)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.02])
    assert set(optimizer.param_groups[1]["params"]) == set(method.image.parameters())
    before = {name: value.clone() for name, value in method.image.named_buffers()}
    train_step(method, {"main": optimizer}, source.train.batch(0, 8, 0), 0)
    assert before
    assert all(torch.equal(value, before[name]) for name, value in method.image.named_buffers())
