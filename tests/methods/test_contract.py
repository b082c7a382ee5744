"""The contract of every method, and the values of CLIP-DR's smoothing, CoOp's, OrdinalCLIP's and zero-shot's own parts."""

import numpy as np
import pytest
import torch
from helpers.toy import DOMAINS, SIDE

from clipdr import DataError
from clipdr.data.loader import Batch, Images
from clipdr.data.manifest import read_manifest, read_manifests
from clipdr.data.splits import fold
from clipdr.methods import METHODS, load
from clipdr.methods.base import Source
from clipdr.methods.clip_dr import ClipDr
from clipdr.methods.smoothing import Smoother, kernel
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, ensemble, similarity
from clipdr.training import run
from clipdr.training.loop import OPTIMIZERS, predict, restore, train_step, trained

TOWERS = {  # one of each kind, all tiny, random weights
    "resnet": {"image": "timm/test_resnet", "text": "small"},
    "vit": {"image": "timm/test_vit", "text": "small"},
    "clip_resnet": {"image": "open_clip/RN-clipdr-test", "text": "own"},
    "clip_vit": {"image": "open_clip/ViT64-clipdr-test", "text": "own"},
}
OWN = {"gdrnet": {"augment": "fundus"}}  # training that a method cannot do without


@pytest.fixture(scope="module")
def prepared(cached, manifests, settings, small_clips):
    """(method name, frozen, options, seed, key of TOWERS) -> method, rows of the fold; begun on its source. On a tower: at 64 pixels."""

    def make(name, frozen=None, options=None, seed=0, tower=None):
        manifest = read_manifests(manifests)
        parts = fold(manifest, "dg", DOMAINS[0])
        frozen = load(name).reads == "feature" if frozen is None else frozen
        chosen = settings(frozen, options, **OWN.get(name, {}))
        if tower:
            chosen |= {
                "backbone": {"name": tower, "weights": "random"} | TOWERS[tower],
                "image": {"size": SIDE, "input": 64},
            }
        torch.manual_seed(seed)
        method, rows = run.build(chosen, name, cached, manifest, parts, torch.device("cpu"))
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=8))
        return method, rows

    return make


@pytest.mark.parametrize("name", METHODS)
def test_contract(prepared, name):
    """Logits of the right shape, finite loss, the frozen parts stay, the trained parts move, prediction does not depend on the batch."""
    method, rows = prepared(name)
    batch = rows["train"].batch(0, 10, seed=0)
    logits = method.eval()(batch.image)
    assert logits.shape == (10, 5)
    assert logits.dtype == torch.float32
    parts = method.loss(batch)
    assert all(torch.isfinite(value) and value.ndim == 0 for value in parts.values())
    before = {key: value.clone() for key, value in method.state_dict().items()}
    groups = method.parameter_groups()
    frozen = {key for key, parameter in method.named_parameters() if not parameter.requires_grad}
    if groups:
        train_step(
            method,
            {key: OPTIMIZERS["sgd"](group, 0.1, 0) for key, group in groups.items()},
            batch,
            0,
        )
        moved = {
            key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
        }
        assert moved & {
            key for key, parameter in method.named_parameters() if parameter.requires_grad
        }
        assert not moved & frozen
    whole = predict(method, rows["test"])
    single = torch.cat([method(chunk.image).detach() for chunk in rows["test"].chunks(7)]).numpy()
    assert np.abs(whole - single).max() < 1e-4


def check_gradients(method, batch):
    """Every phase leads a gradient to all parameters of its group, each trained parameter is in one group, no frozen one is reached."""
    groups = {
        phase: OPTIMIZERS["sgd"](group, 1e-3, 0).param_groups
        for phase, group in method.train().parameter_groups().items()
    }
    groups = {
        phase: [parameter for part in parts for parameter in part["params"]]
        for phase, parts in groups.items()
    }
    phases = []
    for phase, parts in method.phases(batch):
        method.zero_grad()
        assert all(torch.isfinite(value) and value.ndim == 0 for value in parts.values()), parts
        sum(parts.values()).backward()
        assert all(parameter.grad is not None for parameter in groups[phase]), phase
        phases.append(phase)
    numbers = [id(parameter) for phase in phases for parameter in groups[phase]]
    assert sorted(numbers) == sorted(
        id(parameter) for parameter in method.parameters() if parameter.requires_grad
    )
    assert all(
        parameter.grad is None for parameter in method.parameters() if not parameter.requires_grad
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_has_a_gradient(prepared, name):
    method, rows = prepared(name)
    if not method.parameter_groups():
        assert name in ("majority", "zero_shot", "linear_probe")
        return
    check_gradients(method, rows["train"].batch(0, 10, seed=0))


def chosen_rows(batch, keep):
    return Batch(*(value if value is None else value[keep] for value in batch))


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("name", [name for name in METHODS if load(name).reads != "feature"])
def test_contract_on_every_kind_of_tower(prepared, name, tower):
    """Gradients where they belong; the seed decides everything; state comes back exactly; odd batches have a finite loss."""
    if name == "mixstyle" and "vit" in tower:
        with pytest.raises(DataError, match="convolutional"):
            prepared(name, tower=tower)
        return
    states, options = [], {"width": 8} if name in ("ddaig", "ats") else {}
    for _ in range(2):
        method, rows = prepared(name, options=options, tower=tower)
        batch = rows["train"].batch(0, 6, seed=0)
        groups = method.parameter_groups()
        optimizers = {phase: OPTIMIZERS["sgd"](group, 1e-3, 0) for phase, group in groups.items()}
        for step in range(2):
            train_step(method, optimizers, batch, 0)
            method.after_step(step + 1)
        states.append(trained(method))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    expected = method.eval()(batch.image).detach()
    assert expected.shape == (6, 5)
    other, _ = prepared(name, options=options, seed=1, tower=tower)
    restore(other, states[0])
    assert torch.equal(other.eval()(batch.image), expected)
    check_gradients(method, batch)
    for keep in (
        batch.domain == batch.domain[0],
        batch.grade == batch.grade[0],
        torch.arange(6) == 0,
    ):  # the last: one photograph
        for _, parts in method.train().phases(chosen_rows(batch, keep)):
            assert all(torch.isfinite(value) for value in parts.values()), parts


@pytest.mark.parametrize(
    "name", ["clip_dr", "ordinal_clip", "coop_lvt", "erm", "mixup", "green", "corn"]
)
def test_methods_that_train_towers_also_run_on_cached_features(prepared, name):
    method, rows = prepared(name, frozen=True)
    assert not any(key.startswith("image.") for key, _ in method.named_parameters())
    assert torch.isfinite(sum(method.loss(rows["train"].batch(0, 10, seed=0)).values()))


def test_text_tower_is_neither_trained_nor_saved(prepared):
    method, rows = prepared("clip_dr")
    assert not any(parameter.requires_grad for parameter in method.prompts.tower.parameters())
    assert not any("tower" in key for key in trained(method))
    scale = method.scale
    train_step(
        method,
        {"main": OPTIMIZERS["radam"](method.parameter_groups()["main"], 1e-3, 0)},
        rows["train"].batch(0, 10, 0),
        0,
    )
    assert method.scale == scale


def test_an_unknown_option_and_a_missing_cache_are_named(prepared):
    with pytest.raises(DataError, match="max_rnk"):
        prepared("clip_dr", options={"max_rnk": 2})
    with pytest.raises(DataError, match=r"options\.coop\.frozen"):
        prepared("coop", frozen=False)


@pytest.mark.parametrize("name", [name for name in METHODS if load(name).reads == "photograph"])
def test_a_method_that_needs_photographs_says_so_on_cached_features(prepared, name):
    with pytest.raises(DataError, match=rf"set options\.{name}\.frozen to false"):
        prepared(name, frozen=True)


def test_predictions_do_not_depend_on_the_smoother(prepared):
    method, rows = prepared("clip_dr")
    before = predict(method, rows["test"])
    method.smoother.mean0.normal_()
    method.smoother.active.fill_(True)
    method.smoother.usable.fill_(True)
    assert np.array_equal(before, predict(method, rows["test"]))


def test_fixed_prompts_without_training_are_zero_shot(prepared):
    """CLIP-DR's similarity with a bank's sentences is what zero_shot predicts."""
    method, rows = prepared("zero_shot", options={"bank": "B"})
    batch = next(rows["test"].chunks(40))
    backbone = Backbone(
        {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}, SIDE
    )
    direct = similarity(batch.image, ensemble(backbone.banks["B"]), backbone.scale)
    assert torch.allclose(method(batch.image), direct, atol=1e-5)


def test_zero_shot_chooses_its_bank_on_source_validation(prepared):
    from sklearn.metrics import roc_auc_score

    method, rows = prepared("zero_shot")
    val = next(rows["val"].chunks(1000))
    score = {}
    for bank in BANKS:
        p = similarity(val.image, method.banks[bank], method.scale).double().softmax(1)
        score[bank] = roc_auc_score(val.grade, p, multi_class="ovo", average="macro")
    assert method.chosen["bank"] == max(score, key=score.get)


def test_a_choice_without_a_grade_in_validation_is_refused(prepared):
    for name in ("zero_shot", "linear_probe"):
        method, rows = prepared(name)
        rows["val"].grade[rows["val"].grade == 4] = 3
        with pytest.raises(DataError, match="undefined"):
            method.begin(Source(rows["train"], rows["val"], 2, 8))


def test_linear_probe_takes_the_strength_with_the_best_source_validation(prepared):
    method, rows = prepared("linear_probe", options={"strengths": [1e-6, 1.0, 100.0]})
    assert method.chosen["C"] in (1.0, 100.0)
    from sklearn.linear_model import LogisticRegression

    train, test = (next(rows[part].chunks(1000)) for part in ("train", "test"))
    unit = [
        torch.nn.functional.normalize(part.image, dim=1).double().numpy() for part in (train, test)
    ]
    reference = (
        LogisticRegression(C=method.chosen["C"], max_iter=1000)
        .fit(unit[0], train.grade)
        .predict_proba(unit[1])
    )
    assert np.abs(method(test.image).detach().softmax(1).numpy() - reference).max() < 1e-5


# Similarity Matrix Smoothing: the worked example of the method, computed by hand


def worked_smoother(padding="reflect"):
    smoother = Smoother(padding)
    grid = torch.arange(5)
    smoother.mean.copy_(20 - 2 * (grid[:, None] - grid).abs())
    smoother.var.copy_(torch.tensor([1, 2, 4, 1, 0.25])[:, None].expand(5, 5))
    smoother.has_mean.fill_(True)
    smoother.has_var.fill_(True)
    smoother.start_epoch()
    return smoother


def test_kernel():
    expected = [
        [0.251379, 0.443683, 0.304938, 0, 0],
        [0.221841, 0.403848, 0.221841, 0.152469, 0],
        [0.152469, 0.221841, 0.251379, 0.221841, 0.152469],
        [0, 0.152469, 0.221841, 0.403848, 0.221841],
        [0, 0, 0.304938, 0.443683, 0.251379],
    ]
    assert torch.allclose(kernel("reflect"), torch.tensor(expected), atol=1e-6)
    assert torch.allclose(
        kernel("renormalise")[0], torch.tensor([0.401763, 0.354555, 0.243682, 0, 0]), atol=1e-6
    )
    with pytest.raises(DataError):
        kernel("zeros")


def test_smoothing_of_the_worked_example():
    smoother = worked_smoother()
    assert torch.allclose(
        smoother.mean_s[0],
        torch.tensor([17.892882, 18.887365, 18.107118, 16.107118, 14.107118]),
        atol=1e-5,
    )
    assert torch.allclose(
        smoother.var_s[:, 0],
        torch.tensor([2.358497, 2.069372, 1.861627, 1.651612, 1.726281]),
        atol=1e-5,
    )
    rows = torch.tensor([[13.0, 14, 17, 18, 19], [17.0, 19, 21, 18, 15]])
    smoothed = smoother(rows, torch.tensor([4, 2]))
    assert torch.allclose(
        smoothed[0],
        torch.tensor([15.521332, 16.107118, 19.521332, 18.887365, 16.478668]),
        atol=1e-5,
    )
    assert torch.allclose(
        smoothed[1],
        torch.tensor([16.707107, 18.097230, 18.599988, 17.390123, 15.292893]),
        atol=1e-5,
    )
    assert torch.allclose(
        worked_smoother("renormalise").mean_s[0, :3],
        torch.tensor([18.316, 18.709, 17.684]),
        atol=1e-3,
    )


def test_smoothing_is_the_identity_in_the_first_epoch_and_for_unseen_grades():
    smoother = Smoother()
    rows, grade = torch.randn(8, 5), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert torch.equal(smoother(rows, grade), rows)
    smoother.start_epoch()
    assert not smoother.usable[4]
    unseen = torch.randn(2, 5)
    assert torch.equal(smoother(unseen, torch.tensor([4, 4])), unseen)
    seen = smoother.kernel[0, :4] / smoother.kernel[0, :4].sum()
    assert torch.allclose(smoother.mean_s[0], seen @ smoother.mean0[:4], atol=1e-6)


def test_running_statistics_follow_the_definition():
    smoother, mean, var = Smoother(), None, None
    for step in range(3):
        rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        smoother.update(rows, torch.tensor([1, 1, 1, 1, 2, 3]))
        batch_mean, batch_var = rows[:4].mean(0), rows[:4].var(0, unbiased=True)
        mean = batch_mean if mean is None else 0.9 * mean + 0.1 * batch_mean
        var = batch_var if var is None else 0.9 * var + 0.1 * batch_var
    assert torch.allclose(smoother.mean[1], mean, atol=1e-6)
    assert torch.allclose(smoother.var[1], var, atol=1e-6)
    assert smoother.has_mean.tolist() == [False, True, True, True, False]
    assert smoother.has_var.tolist() == [False, True, False, False, False]


def test_smoother_starts_with_the_second_epoch(prepared):
    method, _ = prepared("clip_dr")
    assert isinstance(method, ClipDr)
    active = []
    for step in (1, 2, 3):  # an epoch is two steps
        method.after_step(step)
        active.append(bool(method.smoother.active))
    assert active == [False, True, True]


def test_bf16_runs_the_image_tower_only(cached):
    backbone = Backbone(
        {"image": "timm/test_efficientnet", "weights": "random", "text": "small"},
        SIDE,
        precision="bf16",
    )
    frame = read_manifest(cached / "manifests" / f"{DOMAINS[0]}.csv")
    rows = Images(
        frame, {DOMAINS[0]: np.load(cached / "store" / f"{DOMAINS[0]}.npy")}, [DOMAINS[0]], SIDE
    )
    method = load("clip_dr")(backbone).eval()
    batch = next(rows.chunks(4))
    assert backbone.image.pooled(batch.image).dtype == torch.float32
    assert method.prompts().dtype == torch.float32
    assert method(batch.image).dtype == torch.float32
