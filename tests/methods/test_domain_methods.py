"""Fishr, MDLT (BoDA), DRGen, GDRNet and the majority: their formulas against numpy, autograd and hand-made values, and their defects."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers.toy import DOMAINS, SIDE
from torch import nn
from torch.func import functional_call, grad, vmap

from clipdr import DataError
from clipdr.config.job import Training
from clipdr.data.loader import Batch
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation import predictions as predictions_module
from clipdr.methods import load
from clipdr.methods.base import Source
from clipdr.methods.fishr import domain_variance, head_gradients
from clipdr.methods.gdrnet import dcr, two_view_loss
from clipdr.methods.mdlt import boda, macro_alignment
from clipdr.models.backbone import Backbone
from clipdr.training import loop, run
from clipdr.training.loop import OPTIMIZERS, fit, predict, train_step

SPEC = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}
TRAINED = ("fishr", "mdlt", "drgen", "gdrnet")


@pytest.fixture(scope="module")
def prepared(cached, manifests, settings):
    """(method, sources, options) -> method, rows of the fold, Source; begun."""

    def make(
        name, sources=DOMAINS[1:], steps_per_epoch=2, steps=8, augment=None, frozen=False, **options
    ):
        manifest = read_manifests(manifests)
        parts = fold(manifest, "dg", DOMAINS[0])
        parts = parts | {
            part: parts[part][parts[part].domain.isin(sources)] for part in ("train", "val")
        }
        augment = augment or ("fundus" if name == "gdrnet" else "flip")
        torch.manual_seed(0)
        method, rows = run.build(
            settings(frozen, options, augment=augment),
            name,
            cached,
            manifest,
            parts,
            torch.device("cpu"),
        )
        source = Source(rows["train"], rows["val"], steps_per_epoch, steps)
        method.begin(source)
        return method, rows, source

    return make


def total(parts):
    return sum(parts.values())


def of_one(batch, **chosen):
    """Rows of a batch where a field has a value: of_one(batch, domain=0)."""
    ((field, value),) = chosen.items()
    where = getattr(batch, field) == value
    return Batch(*(tensor if tensor is None else tensor[where] for tensor in batch))


# What holds for all of them


@pytest.mark.parametrize("name", TRAINED)
def test_batches_of_one_domain_one_grade_and_one_image(prepared, name):
    method, rows, _ = prepared(name, start=0.0) if name != "gdrnet" else prepared(name)
    batch = rows["train"].batch(0, 20, 0, "domain")
    method.train()
    for part in (
        batch,
        of_one(batch, domain=0),
        of_one(batch, grade=3),
        Batch(*(t if t is None else t[:1] for t in batch)),
    ):
        method.zero_grad()
        if len(part.grade) == 1:
            method.eval()
        value = total(method.loss(part))
        value.backward()
        assert torch.isfinite(value)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["fishr", "mdlt", "drgen"])
def test_cached_features_will_do_for_losses_of_features(prepared, name):
    method, rows, _ = prepared(name, frozen=True, start=0.0)
    method.after_step(1)
    parts = method.loss(rows["train"].batch(0, 10, 0, "domain"))
    assert all(torch.isfinite(value) and value > 0 for value in parts.values())
    with pytest.raises(DataError, match="photographs"):
        prepared("gdrnet", frozen=True)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("step", [7, 13])
def test_a_cut_run_goes_on_bit_for_bit(
    settings, cached, manifests, tmp_path, monkeypatch, name, step
):
    """Running variances, centroids, alpha and the restart of the optimiser are part of what is resumed (18 steps)."""
    rules = settings(
        epochs=3, evaluations=6, optimizer="sgd", augment="fundus" if name == "gdrnet" else "flip"
    )
    arguments = {"manifests": manifests, "data": cached, "device": "cpu"}
    run.train(rules, "dg", name, DOMAINS[0], 0, folder=tmp_path / "whole", **arguments)
    original, count = loop.train_step, [0]

    def dying(*values):
        count[0] += 1
        if count[0] > step:
            raise KeyboardInterrupt
        return original(*values)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run.train(rules, "dg", name, DOMAINS[0], 0, folder=tmp_path / "cut", **arguments)
    assert (tmp_path / "cut" / "resume.pt").is_file()
    run.train(rules, "dg", name, DOMAINS[0], 0, folder=tmp_path / "cut", **arguments)
    for file in ("settings.json", "history.csv", "predictions.parquet", "model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes(), (
            file
        )


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls(prepared, name):
    """On one batch, its cross-entropy after 30 steps is well below the one before."""
    options = (
        {}
        if name == "gdrnet"
        else {"start": 0.0, **({"weight": 1.0} if name in ("fishr", "drgen") else {})}
    )
    method, rows, _ = prepared(name, **options)
    batch = rows["train"].batch(0, 20, 0, "domain")
    method.after_step(4)  # gdrnet: alpha = 1/2; mdlt: the centroids
    optimizer = {"main": OPTIMIZERS["adamw"](method.parameter_groups()["main"], 3e-3, 0)}
    before = F.cross_entropy(method.train()(batch.image), batch.grade).item()
    for _ in range(30):
        train_step(method, optimizer, batch, 0)
    assert F.cross_entropy(method.train()(batch.image), batch.grade).item() < 0.5 * before


@pytest.mark.parametrize("name", TRAINED)
def test_the_toy_study_is_learned(settings, cached, manifests, tmp_path, name):
    """On photographs of the held-out domain, well above the majority grade's accuracy of one in five."""
    epochs = (
        30 if name == "gdrnet" else 12
    )  # half of its loss is not about grades, and its jitter hides the bars
    rules = settings(
        epochs=epochs,
        lr=3e-3,
        optimizer="adamw",
        augment="two_views" if name == "gdrnet" else "none",
    )
    rules["options"] = {"weight": 1.0} if name in ("fishr", "drgen") else {}
    run.train(
        rules,
        "dg",
        name,
        DOMAINS[0],
        0,
        manifests=manifests,
        data=cached,
        folder=tmp_path,
        device="cpu",
    )
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    test = predictions[(predictions.split == "test") & (predictions.selection != "last")]
    assert (test[[f"p{k}" for k in range(5)]].to_numpy().argmax(1) == test.grade).mean() > 0.4


@pytest.mark.parametrize(
    ("name", "reason"),
    [("fishr", "frozen BatchNorm"), ("drgen", "frozen BatchNorm"), ("mdlt", "one domain")],
)
def test_one_source_is_marked_and_two_are_not(prepared, name, reason):
    method, _, source = prepared(name)
    assert method.degenerate(source) == ""
    method, rows, source = prepared(name, DOMAINS[1:2], start=0.0)
    assert reason in method.degenerate(source)
    method.after_step(1)
    parts = method.loss(rows["train"].batch(0, 10, 0, "domain"))
    assert all(value == 0 for part, value in parts.items() if part != "ce")


def test_gdrnet_is_itself_on_one_source(prepared):
    method, _, source = prepared("gdrnet", DOMAINS[1:2], steps=20)
    assert method.degenerate(source) == ""
    assert method.domain_weight.tolist() == [1.0]  # ESDG


def test_gdrnet_is_marked_where_the_epoch_without_grades_is_a_large_share(prepared):
    method, _, source = prepared("gdrnet", steps=4)
    assert method.degenerate(source) == "its first epoch, 50% of the budget, sees no grade"
    method, _, source = prepared("gdrnet", steps=4, unsupervised=False)
    assert method.degenerate(source) == ""  # sees grades from the start


# Fishr


def example(batch=12, width=7, domains=3, seed=0, dtype=torch.float64):
    """Features, grades, domains in turn, and a head."""
    draw = torch.Generator().manual_seed(seed)
    head = nn.Linear(width, 5).to(dtype)
    with torch.no_grad():
        head.weight.copy_(torch.randn(5, width, generator=draw))
        head.bias.copy_(torch.randn(5, generator=draw))
    feature = (
        torch.randn(batch, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    )
    return (
        feature,
        torch.randint(0, 5, (batch,), generator=draw),
        torch.arange(batch) % domains,
        head,
    )


def per_sample(head, feature, grade):
    """(B, P) gradients of each sample's cross-entropy by torch.func, weight before bias."""

    def loss(weights, one, its_grade):
        return F.cross_entropy(functional_call(head, weights, (one[None],)), its_grade[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(
        dict(head.named_parameters()), feature, grade
    )
    return torch.cat([gradients["weight"].flatten(1), gradients["bias"]], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_form_gradients_are_autograds(dtype):
    feature, grade, _, head = example(dtype=dtype)
    ours = head_gradients(feature, head(feature), grade)
    assert torch.allclose(ours, per_sample(head, feature, grade), atol=1e-6)
    parameters = list(head.parameters())
    each = [
        torch.autograd.grad(F.cross_entropy(head(f[None]), g[None]), parameters)
        for f, g in zip(feature, grade, strict=True)
    ]
    assert torch.allclose(
        ours, torch.stack([torch.cat([weight.flatten(), bias]) for weight, bias in each]), atol=1e-6
    )


def numpy_penalty(gradients, domains, ema):
    """Fishr's penalty after several batches, as the paper and DomainBed have it, with loops."""
    running = {}
    for gradient, domain in zip(gradients, domains, strict=True):
        shown = {}
        for d in set(domain.tolist()):
            v = gradient[domain == d].var(axis=0)
            running[d] = ema * running.get(d, 0) + (1 - ema) * v
            shown[d] = running[d] / (1 - ema)
        centre = sum(shown.values()) / len(shown)
        value = sum(((u - centre) ** 2).mean() for u in shown.values()) / len(shown)
    return value


def test_penalty_is_the_formula_with_its_running_variance(prepared):
    method, _, _ = prepared("fishr")
    method.head, method.variance = nn.Linear(7, 5).double(), torch.zeros(3, 40, dtype=torch.float64)
    batches = [example(seed=seed) for seed in range(3)]
    gradients = [
        head_gradients(feature, head(feature), grade) for feature, grade, _, head in batches
    ]
    ours = [
        method.penalty(gradient, domain)
        for gradient, (*_, domain, _) in zip(gradients, batches, strict=True)
    ]
    for count in (1, 2, 3):
        arrays = [gradient.detach().numpy() for gradient in gradients[:count]]
        expected = numpy_penalty(
            arrays, [domain.numpy() for *_, domain, _ in batches[:count]], 0.95
        )
        assert ours[count - 1].item() == pytest.approx(expected, rel=1e-9)


def test_variance_is_the_biased_one_of_each_domain():
    gradient, domain = (
        torch.randn(9, 4, dtype=torch.float64),
        torch.tensor([0, 0, 0, 2, 2, 2, 2, 2, 1]),
    )
    variance, count = domain_variance(gradient, domain, 4)
    assert count.tolist() == [3, 1, 5, 0]
    for d in (0, 2):
        assert np.allclose(variance[d], gradient[domain == d].numpy().var(axis=0))


def test_penalty_is_zero_for_identical_domains_and_not_for_others(prepared):
    """The released benchmark has one group per batch: its penalty is 0 for any data."""
    method, rows, _ = prepared("fishr", start=0.0)
    batch = rows["train"].batch(0, 10, 0, "domain")
    assert sorted(set(batch.domain.tolist())) == [0, 1]
    half = of_one(batch, domain=0)
    twice = Batch(*(t if t is None else torch.cat([t, t]) for t in half))._replace(
        domain=torch.arange(2).repeat_interleave(len(half.grade))
    )
    state = copy.deepcopy(method.state_dict())
    same = method.loss(twice)["fishr"].item()
    method.load_state_dict(state)
    other = method.loss(batch)["fishr"].item()
    assert same < 1e-9 < other
    assert other > 1e3 * same


def test_penalty_is_differentiated_through_the_features():
    """The tower's gradient is that of the same penalty built from torch.func's per-sample gradients."""
    method = load("fishr")(Backbone(SPEC, SIDE)).double()
    feature, grade, domain, head = example()
    grads = []
    for gradient in (
        head_gradients(feature, head(feature), grade),
        per_sample(head, feature, grade),
    ):
        method.variance = torch.zeros(3, 40, dtype=torch.float64)
        grads.append(torch.autograd.grad(method.penalty(gradient, domain), [feature, head.weight]))
    for ours, theirs in zip(*grads, strict=True):
        assert ours.abs().max() > 0
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_fishr_reaches_the_tower_and_leaves_batchnorm_alone(prepared):
    method, rows, _ = prepared("fishr", start=0.0)
    batch = rows["train"].batch(0, 10, 0, "domain")
    method.train().loss(batch)["fishr"].backward()
    trained = [p for p in method.parameters() if p.requires_grad]
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in trained) > 0.9 * len(trained)
    layers = [m for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in layers]
    train_step(method, {"main": OPTIMIZERS["sgd"](trained, 1e-3, 0)}, batch, 0)
    assert layers
    assert all(
        not m.training and torch.equal(m.running_mean, mean)
        for m, mean in zip(layers, before, strict=True)
    )
    assert method.training


def test_one_image_per_domain_is_refused(prepared):
    method, rows, _ = prepared("fishr")
    with pytest.raises(DataError, match="batch_size"):
        method.loss(rows["train"].batch(0, 2, 0, "domain"))


def test_penalty_starts_late_and_the_optimiser_forgets(prepared, monkeypatch):
    method, rows, _ = prepared("fishr", steps=10, weight=1.0)  # start .3: after 3 steps
    batch, values = rows["train"].batch(0, 10, 0, "domain"), []
    for step in range(1, 6):
        values.append(method.loss(batch)["fishr"].item())
        method.after_step(step)
    assert [value > 0 for value in values] == [False, False, False, True, True]
    assert [step for step in range(1, 11) if method.restarts(step)] == [3]
    assert method.variance.abs().sum() > 0  # the running variance is kept from the first step on
    made = []
    monkeypatch.setitem(
        OPTIMIZERS,
        "sgd",
        lambda *given: made.append(torch.optim.SGD(given[0], given[1], momentum=0.9)) or made[-1],
    )
    rules = {
        "epochs": 2,
        "batch_size": 10,
        "optimizer": "sgd",
        "lr": 1e-3,
        "weight_decay": 0,
        "schedule": "constant",
    }
    training = Training(**rules, augment="flip", sampler="domain", evaluations=2)
    for start, forgotten in (
        (1.0, True),
        (0.5, False),
    ):  # forgotten after the last step, or half-way: it has momentum again
        method, rows, _ = prepared("fishr", start=start)
        fit(method, rows["train"], rows["val"], training, seed=0)
        assert (len(made[-1].state) == 0) == forgotten
        assert made[-1].param_groups[0]["lr"] == 1e-3


def test_control_without_a_penalty_is_erm_with_frozen_batchnorm(prepared):
    control, rows, _ = prepared("fishr", start=0.0, weight=0.0)
    erm, _, _ = prepared("erm")
    batch = rows["train"].batch(0, 10, 0, "domain")
    for method in (control, erm):
        method.eval()
        method.zero_grad()
        total(method.loss(batch)).backward()
    for ours, theirs in zip(control.parameters(), erm.parameters(), strict=True):
        assert ours.grad is theirs.grad or torch.allclose(ours.grad, theirs.grad, atol=1e-7)


# DRGen


def test_drgen_is_fishr_with_averaged_weights(settings, cached, manifests, tmp_path):
    rules = settings(epochs=2, evaluations=6)
    run.train(
        rules,
        "dg",
        "drgen",
        DOMAINS[0],
        0,
        manifests=manifests,
        data=cached,
        folder=tmp_path,
        device="cpu",
    )
    training = json.loads((tmp_path / "settings.json").read_text())["training"]
    assert (training["average"], training["sampler"]) == ("swad", "domain")
    assert load("fishr").average == "none"
    assert load("drgen").loss is load("fishr").loss


# MDLT / BoDA


def pairs_example(seed=0):
    """A batch of 9 of 3 domains, centroids and counts with an empty pair and a grade that one domain alone has."""
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
def test_boda_is_the_formula(nu, temperature):
    example_ = pairs_example()
    f, d, c, centroid, count = (torch.from_numpy(array) for array in example_)
    ours = boda(f, d, c, centroid.flatten(0, 1), count.flatten().double(), nu, temperature)
    assert ours.item() == pytest.approx(numpy_boda(*example_, nu, temperature), rel=1e-10)


def test_boda_of_two_pairs_by_hand():
    """One grade, two domains, image at distance 3 from the other's centroid: its log-probability among one pair is 0."""
    feature, centroid = torch.zeros(1, 2), torch.zeros(10, 2)
    centroid[5] = torch.tensor([3.0, 0.0])
    count = torch.zeros(10)
    count[[0, 5]] = torch.tensor([4.0, 16.0])
    zero = torch.tensor([0])
    assert boda(feature, zero, zero, centroid, count).item() == pytest.approx(0)
    count[6] = (
        4.0  # a third pair, of another grade, at the image: z = 0; the positive has z = -3 / 4 * sqrt(16 / 4) = -1.5
    )
    assert boda(feature, zero, zero, centroid, count).item() == pytest.approx(
        1.5 + np.log(np.exp(-1.5) + 1), rel=1e-6
    )


def test_boda_without_a_positive_is_zero_with_a_finite_gradient():
    feature = torch.zeros(
        2, 3, requires_grad=True
    )  # at its centroid: the distance has no slope there
    count = torch.zeros(10)
    for pairs in (
        [0],
        [0, 1],
        [0, 6],
    ):  # alone; another grade of its domain; another grade of the other domain
        count[pairs] = 5.0
        value = boda(feature, torch.tensor([0, 0]), torch.tensor([0, 0]), torch.zeros(10, 3), count)
        assert value == 0
        (gradient,) = torch.autograd.grad(value, feature)
        assert torch.isfinite(gradient).all()


def test_macro_alignment_is_that_of_explicit_covariances():
    rng = np.random.default_rng(0)
    feature, domain = (
        rng.normal(size=(14, 6)) * rng.uniform(0.5, 2, 6),
        np.array([0] * 5 + [1] * 4 + [2] * 4 + [3]),
    )
    expected = []
    for d in range(3):
        for e in range(d):
            one, two = feature[domain == d], feature[domain == e]
            means = ((one.mean(0) - two.mean(0)) ** 2).mean()
            expected.append(means + ((np.cov(one.T) - np.cov(two.T)) ** 2).mean())
    member = F.one_hot(
        torch.from_numpy(domain), 5
    ).double()  # one image of domain 3, none of domain 4: both left out
    assert macro_alignment(torch.from_numpy(feature), member).item() == pytest.approx(
        np.mean(expected), rel=1e-9
    )
    same = torch.from_numpy(np.concatenate([feature[:5]] * 2))
    assert abs(macro_alignment(same, member.new_tensor([[1, 0]] * 5 + [[0, 1]] * 5)).item()) < 1e-12
    assert macro_alignment(same, member.new_ones(10, 1)) == 0


def test_centroids_are_means_of_all_training_features_and_move_by_four_fifths(prepared):
    method, rows, _ = prepared("mdlt", steps_per_epoch=3, steps=20)  # start .1: after 2 steps
    batch = rows["train"].batch(0, 20, 0, "domain")

    def features():
        with torch.no_grad():
            return method.eval().image.pooled(next(rows["train"].chunks(1000)).image)

    def means():
        found = torch.zeros_like(method.centroid)
        for pair in range(10):
            where = (rows["train"].domain * 5 + rows["train"].grade) == pair
            assert method.count[pair] == where.sum()
            found[pair] = features()[where].mean(0)
        return found

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


def test_cross_entropy_of_mdlt_is_the_mean_of_the_domains(prepared):
    method, rows, _ = prepared("mdlt")
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


# GDRNet


def test_dcr_weights_against_counts_by_hand():
    weight = dcr(
        torch.tensor([100, 25, 4, 1, 0]), 0.5
    )  # square roots of the shares are as 10 : 5 : 2 : 1
    assert weight.tolist() == pytest.approx([18 / 10, 18 / 5, 18 / 2, 18, 0])
    assert dcr(torch.tensor([7, 7, 7]), 0.5).tolist() == pytest.approx(
        [3, 3, 3]
    )  # a uniform table: equal weights
    assert dcr(torch.tensor([90, 9, 1]), 0.0).tolist() == pytest.approx([3, 3, 3])
    assert dcr(torch.tensor([120]), 0.5).tolist() == [1.0]


def test_dcr_counts_the_training_images_of_the_fold(prepared, manifests):
    method, rows, _ = prepared("gdrnet")
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
def test_unsupervised_part_is_the_formula_and_least_for_identical_views(temperature):
    rng = np.random.default_rng(0)
    original, augmented = rng.normal(size=(2, 6, 8))
    ours = two_view_loss(
        torch.from_numpy(original), torch.from_numpy(augmented), temperature
    ).item()
    assert ours == pytest.approx(numpy_two_view(original, augmented, temperature), rel=1e-10)
    axes = torch.eye(6, dtype=torch.float64)  # photographs as different as can be without opposites
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
    )  # of unit length


def test_dahloss_goes_from_views_to_grades(prepared):
    """L = (1 - a) L_sup + a / 4 L_unsup with a = 1 - e / E after epoch e; L_sup on the view with FundusAug, weighted by DCR."""
    method, rows, _ = prepared("gdrnet", steps_per_epoch=5, steps=20)
    batch = rows["train"].batch(0, 20, 0)
    method.grade_weight.copy_(torch.tensor([1.0, 5, 2, 3, 4]))
    method.domain_weight.copy_(torch.tensor([1.0, 3.0]))
    method.eval()
    with torch.no_grad():
        spread = method.image.pooled(batch.image).std(0).mean()
        method.head.weight.normal_().div_(spread)  # so that the views differ in their loss
        ce = F.cross_entropy(method(batch.image), batch.grade, reduction="none").numpy()
        assert abs(F.cross_entropy(method(batch.second_view), batch.grade).item() / ce.mean() - 1) > 0.01
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


def test_first_epoch_trains_the_tower_alone(prepared):
    method, rows, _ = prepared("gdrnet")
    total(method.train().loss(rows["train"].batch(0, 10, 0))).backward()
    assert not method.head.weight.grad.any()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    assert any(p.grad.any() for p in method.image.parameters() if p.requires_grad)
    with pytest.raises(DataError, match="epochs"):
        prepared("gdrnet", steps_per_epoch=4, steps=4)


def test_gdrnets_ablations(prepared):
    """No DCR: equal weights; no L_unsup: the supervised part alone, from the start; no FundusAug: two plain views."""
    method, rows, _ = prepared("gdrnet", balanced=False, unsupervised=False, augment="flip")
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
    method, rows, _ = prepared("gdrnet", augment="two_views")
    assert torch.isfinite(total(method.loss(rows["train"].batch(0, 10, 0))))


def test_a_missing_second_view_is_named_and_erm_takes_the_augmented_one(prepared):
    method, rows, _ = prepared("gdrnet", augment="flip")
    with pytest.raises(DataError, match="fundus"):
        method.loss(rows["train"].batch(0, 10, 0))
    erm, rows, _ = prepared("erm", augment="fundus")
    batch = rows["train"].batch(0, 10, 0)
    erm.eval()
    assert torch.equal(erm.loss(batch)["ce"], F.cross_entropy(erm(batch.image), batch.grade))
    assert batch.second_view is not None


# Majority


def test_majority_predicts_the_shares_of_the_source_training_images(prepared):
    method, rows, _ = prepared("majority", frozen=True)
    rows["train"].grade[:15] = 2
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    share = np.bincount(rows["train"].grade, minlength=5) / len(rows["train"])
    probability = predictions_module.probabilities(predict(method, rows["test"]))
    assert np.allclose(probability, share, atol=1e-6)
    assert (probability.argmax(1) == 2).all()
    assert method.parameter_groups() == {}
    rows["train"].grade[rows["train"].grade == 4] = 3
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    assert torch.isfinite(method.log_share).all()
    assert method.log_share.softmax(0)[4] < 1e-30
