"""What each image baseline means, against numbers computed independently: by numpy, by hand, or by following its definition in steps."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.toy import DOMAINS, SIDE

from clipdr import DataError
from clipdr.config.job import Training
from clipdr.data.loader import Images
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.methods import load
from clipdr.methods import mixstyle as mixstyle_module
from clipdr.methods import mixup as mixup_module
from clipdr.methods.base import Source
from clipdr.methods.cabnet import CategoryAttention, GlobalAttention
from clipdr.methods.corn import corn_loss, log_probability
from clipdr.methods.mixstyle import Mix, mixed
from clipdr.methods.perturbation import Generator, still
from clipdr.models.backbone import Backbone
from clipdr.models.prompts import BANKS, ensemble, similarity
from clipdr.training import run as runs
from clipdr.training.loop import OPTIMIZERS, fit, predict, train_step

IMAGE_BASELINES = [
    "mixup",
    "mixstyle",
    "green",
    "cabnet",
    "ddaig",
    "ats",
    "corn",
    "clip_finetune",
    "coop_lvt",
]
RESNET = {"image": "timm/test_resnet", "weights": "random", "text": "small"}
EFFICIENTNET = {"image": "timm/test_efficientnet", "weights": "random", "text": "small"}
VIT = {"image": "timm/test_vit", "weights": "random", "text": "small"}
CLIP_RESNET = {"image": "open_clip/RN-clipdr-test", "weights": "random", "text": "own"}
CLIP_VIT = {"image": "open_clip/ViT64-clipdr-test", "weights": "random", "text": "own"}


@pytest.fixture(scope="module")
def rows(toy, manifests):
    """Training and validation rows of two source domains at 64 pixels, flipped at most."""
    manifest = read_manifests(manifests)
    parts = fold(manifest, "dg", DOMAINS[0])
    arrays = {domain: np.load(toy / "store" / f"{domain}.npy") for domain in DOMAINS}
    return {
        split: Images(parts[split], arrays, list(DOMAINS[1:]), 64) for split in ("train", "val")
    }


@pytest.fixture(scope="module")
def batch(rows):
    return rows["train"].batch(0, 8, seed=0)


def build(name, spec=EFFICIENTNET, rows=None, steps=100, **options):
    torch.manual_seed(0)
    method = load(name)(Backbone(spec, 64), **options)
    if rows:
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=steps))
    return method


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Fixed:
    """Stands for a Beta distribution: every draw is the same."""

    def __init__(self, value):
        self.value = value

    def __call__(self, *_):
        return self

    def sample(self, shape=()):
        return torch.full(shape, self.value)


# Mixup


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_mixup_follows_its_definition_and_with_weight_one_is_erm(monkeypatch, batch, weight):
    monkeypatch.setattr(mixup_module, "Beta", Fixed(weight))
    method = build("mixup").eval()
    torch.manual_seed(4)
    partner = torch.randperm(8)
    torch.manual_seed(4)
    loss = method.loss(batch)["ce"].item()
    image = weight * batch.image.numpy() + (1 - weight) * batch.image[partner].numpy()
    log_p = method(torch.from_numpy(image)).log_softmax(1).detach().numpy()
    picked = (
        weight * log_p[np.arange(8), batch.grade]
        + (1 - weight) * log_p[np.arange(8), batch.grade[partner]]
    )
    assert loss == pytest.approx(-picked.mean(), abs=1e-5)
    if weight == 1.0:
        erm = build("erm").eval()
        erm.load_state_dict(method.state_dict())
        assert loss == pytest.approx(erm.loss(batch)["ce"].item(), abs=1e-6)


# MixStyle


def test_mixstyle_mixes_statistics_only():
    torch.manual_seed(0)
    z, partner = 3 + 2 * torch.randn(5, 4, 6, 6, dtype=torch.float64), torch.tensor([2, 0, 1, 4, 3])
    weight = torch.rand(5, 1, 1, 1, dtype=torch.float64)
    new = mixed(z, weight, partner).numpy()
    x, w = z.numpy(), weight.numpy()
    mu, sig = x.mean((2, 3), keepdims=True), np.sqrt(x.var((2, 3), keepdims=True, ddof=1) + 1e-6)
    expected = (x - mu) / sig * (w * sig + (1 - w) * sig[partner]) + w * mu + (1 - w) * mu[partner]
    assert np.abs(new - expected).max() < 1e-12
    content = (new - new.mean((2, 3), keepdims=True)) / new.std(
        (2, 3), keepdims=True
    )  # what is left without the statistics
    assert np.abs(content - (x - mu) / x.std((2, 3), keepdims=True)).max() < 1e-6
    assert (mixed(z, torch.ones_like(weight), partner) - z).abs().max() < 1e-5


def test_mixstyle_statistics_are_constants_for_the_gradient():
    z = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    weight, partner = torch.full((2, 1, 1, 1), 0.25, dtype=torch.float64), torch.tensor([1, 0])
    mixed(z, weight, partner).sum().backward()
    std = (z.detach().flatten(1).var(1) + 1e-6).sqrt()
    expected = (0.25 * std + 0.75 * std[partner]) / std  # d z' / d z, elsewhere no path
    assert torch.allclose(z.grad, expected.view(2, 1, 1, 1).expand_as(z), atol=1e-10)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET])
def test_mixstyle_works_inside_the_pretrained_tower_and_in_training_only(monkeypatch, spec, batch):
    """Same weights as ERM's tower, no more parameters; off in evaluation and where p is 0; the identity where every weight is 1."""
    erm, method = build("erm", spec), build("mixstyle", spec, p=1.0)
    assert method.state_dict().keys() == erm.state_dict().keys()
    assert all(
        torch.equal(value, erm.state_dict()[key]) for key, value in method.state_dict().items()
    )
    assert torch.equal(method.eval()(batch.image), erm.eval()(batch.image))
    statistics = copy.deepcopy(erm.state_dict())
    usual = erm.train()(batch.image)
    assert not torch.allclose(method.train()(batch.image), usual, atol=1e-2)
    monkeypatch.setattr(mixstyle_module, "Beta", Fixed(1.0))
    assert torch.allclose(method(batch.image), usual, atol=1e-3)
    method.load_state_dict(statistics)
    method.mix.p = 0.0
    assert torch.equal(method(batch.image), usual)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET, CLIP_RESNET])
def test_mixstyle_stands_behind_the_stages_of_a_fourth_and_an_eighth_of_the_side(spec, small_clips):
    backbone, sides = Backbone(spec, 64), []
    for stage in backbone.stages():
        stage.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[2]))
    backbone.image(torch.rand(2, 3, 64, 64))
    assert sides == [16, 8]


def test_a_copy_of_mixstyle_is_hooked_to_itself(batch):
    method = build("mixstyle", p=1.0)
    other = copy.deepcopy(method)
    other.mix.p = 0.0
    erm = build("erm").train()
    assert torch.equal(other.train()(batch.image), erm(batch.image))


def test_mixstyle_across_domains_and_on_a_transformer():
    mix = Mix()
    mix.domain = torch.tensor([0, 0, 0, 1, 2, 2])
    for _ in range(20):
        assert (mix.domain[mix.partners(6)] != mix.domain).all()
    mix.domain = torch.zeros(6, dtype=torch.int64)
    assert sorted(mix.partners(6).tolist()) == list(range(6))
    with pytest.raises(DataError, match="test_vit has no maps"):
        build("mixstyle", VIT)


def test_mixstyle_is_called_with_probability_p():
    torch.manual_seed(0)
    mix, z = Mix(p=0.3).train(), torch.randn(4, 2, 3, 3)
    changed = [not torch.equal(mix(z), z) for _ in range(600)]
    assert abs(np.mean(changed) - 0.3) < 0.06  # three standard errors


# GREEN


def test_green_with_silent_embeddings_gives_one_and_a_half_logits(batch):
    method = build("green", hidden=16).eval()
    torch.nn.init.zeros_(method.graph.w2)
    plain = method.head(method.image.pooled(batch.image))
    assert torch.allclose(method(batch.image), 1.5 * plain, atol=1e-6)


def test_green_follows_its_definition():
    method = build("green", hidden=16).eval()
    features = 3 * torch.randn(8, method.head.in_features)
    method.image.pooled = lambda image: features
    torch.nn.init.normal_(method.graph.edges, 0, 0.5)
    places = [(i, j) for i in range(5) for j in range(i)]
    a0 = np.zeros((5, 5))
    for (i, j), value in zip(places, method.graph.edges.tolist(), strict=True):
        a0[i, j] = a0[j, i] = value
    linked = np.maximum(a0, 0) + np.eye(5)
    root = np.diag(linked.sum(1) ** -0.5)
    a = root @ linked @ root
    w1, w2, head = (
        part.detach().numpy().astype(float)
        for part in (method.graph.w1, method.graph.w2, method.head.weight)
    )
    h1 = a @ np.eye(5) @ w1
    h2 = a @ np.where(h1 > 0, h1, 0.2 * h1) @ w2
    f = features.numpy().astype(float)
    l0 = f @ head.T + method.head.bias.detach().numpy()
    assert np.abs(method(None).detach().numpy() - (l0 + sigmoid(f @ h2.T) * l0)).max() < 1e-4
    method.graph.activation.forward = (
        torch.Tensor.detach
    )  # closes the way through the first layer; the second adjacency is a constant
    embeddings = method.graph()
    assert torch.autograd.grad(embeddings.sum(), method.graph.edges, allow_unused=True) == (None,)


def test_green_starts_with_neighbours_linked_and_keeps_the_gate_from_the_tower(batch):
    method = build("green", hidden=16).eval()
    a0 = torch.zeros(5, 5)
    for grade in range(4):
        a0[grade, grade + 1] = a0[grade + 1, grade] = 0.2
    root = (a0 + torch.eye(5)).sum(1).rsqrt().diag()
    assert torch.allclose(method.graph.adjacency(), root @ (a0 + torch.eye(5)) @ root, atol=1e-6)
    features = torch.randn(3, method.head.in_features, requires_grad=True)
    method.image.pooled = lambda image: features
    method(batch.image).sum().backward()
    gate = torch.sigmoid(features.detach() @ method.graph().T).detach()
    assert torch.allclose(
        features.grad, (1 + gate) @ method.head.weight, atol=1e-6
    )  # the gate is a constant for the features


# CABNet


def test_global_attention_follows_its_definition():
    torch.manual_seed(0)
    block = GlobalAttention(8, 4).eval()
    torch.nn.init.normal_(block.place[1].running_mean, 0, 0.3)
    z = torch.randn(2, 8, 5, 5)
    one, two = block.channel[0].weight.detach().numpy(), block.channel[2].weight.detach().numpy()
    x = z.numpy()
    gate = sigmoid(
        sum(np.maximum(pooled @ one.T, 0) @ two.T for pooled in (x.mean((2, 3)), x.max((2, 3))))
    )
    x = x * gate[:, :, None, None]
    summary = np.pad(np.stack([x.max(1), x.mean(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    kernel = block.place[0].weight.detach().numpy()[0]
    place = np.array(
        [
            [[(kernel * s[:, i : i + 7, j : j + 7]).sum() for j in range(5)] for i in range(5)]
            for s in summary
        ]
    )
    norm = block.place[1]
    place = (place - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
    assert np.abs(block(z).detach().numpy() - x * sigmoid(place)[:, None]).max() < 1e-5


def test_category_attention_takes_means_over_maps_and_grades():
    """Against loops over images, grades and maps; sums, as in GDRBench's code, would be 25 times as large."""
    torch.manual_seed(0)
    block, z = CategoryAttention(6, 5, 0.1).eval(), torch.randn(3, 6, 4, 4)
    weight = block.maps[0].weight.detach().numpy()[:, :, 0, 0]
    got = block(z).detach().numpy()
    for image in range(3):
        a = np.zeros((4, 4))
        for grade in range(5):
            maps = [
                np.maximum(
                    np.tensordot(weight[5 * grade + j], z[image].numpy(), 1) / np.sqrt(1 + 1e-5), 0
                )
                for j in range(5)
            ]
            a += np.mean([each.max() for each in maps]) * np.mean(maps, 0) / 5
        assert np.abs(got[image, 0] - a).max() < 1e-5
    block.dropout.p = 1.0
    assert torch.equal(block(z), torch.from_numpy(got))  # off in evaluation
    assert not block.train()(z).any()  # in training it drops scores


@pytest.mark.parametrize(
    ("spec", "shape"), [(RESNET, (96, 2, 2)), (EFFICIENTNET, (256, 2, 2)), (VIT, (64, 4, 4))]
)
def test_cabnet_sees_a_map_with_places(spec, shape, batch):
    """Not the pooled vector of GDRBench's code; where the tower pools by the mean, the map's mean is the pooled feature."""
    method, seen = build("cabnet", spec).eval(), []
    method.global_attention.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0])
    )
    method(batch.image)
    assert seen[0].shape == (8, *shape)
    if spec is not VIT:
        assert torch.allclose(seen[0].mean((2, 3)), method.image.pooled(batch.image), atol=1e-5)
    else:  # patch tokens row by row: the class token is left out
        trunk = method.image.trunk
        tokens = trunk.forward_features((batch.image - method.image.mean) / method.image.std)
        assert torch.allclose(seen[0][:, :, 1, 2], tokens[:, 1 + 4 + 2], atol=1e-5)


def test_cabnet_says_where_its_map_has_one_place():
    assert (
        load("cabnet")(Backbone(EFFICIENTNET, 32)).degenerate(None)
        == "feature map of one place: nothing to attend to"
    )
    assert load("cabnet")(Backbone(EFFICIENTNET, 64)).degenerate(None) == ""


# The generator of DDAIG and ATS


def test_generator_stays_near_the_photograph_and_in_range(batch):
    torch.manual_seed(0)
    generator = Generator(strength=0.1, width=8)
    with torch.no_grad():
        generator.colour.weight.mul_(1000)
        new = generator(batch.image)
    assert new.shape == batch.image.shape
    assert (new - batch.image).abs().max() <= 0.1 + 1e-6
    assert (new - batch.image).abs().max() > 0.09
    assert new.min() >= 0
    assert new.max() <= 1
    weights = torch.cat(
        [
            module.weight.flatten()
            for module in Generator().modules()
            if isinstance(module, torch.nn.Conv2d)
        ]
    )
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("spec", [RESNET, EFFICIENTNET])
def test_still_networks_do_not_move_but_use_the_statistics_of_the_batch(spec, batch):
    tower = Backbone(spec, 64).image.train()
    before = copy.deepcopy(tower.state_dict())
    image = batch.image.clone().requires_grad_()
    with still(tower):
        inside = tower.pooled(image)
    inside.sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in tower.parameters()
    )
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    assert torch.equal(
        tower.pooled(batch.image), inside
    )  # training mode as ever, which now moves the statistics
    assert any(not torch.equal(value, before[key]) for key, value in tower.state_dict().items())


# DDAIG


def test_ddaig_first_step_leaves_both_networks_and_their_statistics(rows, batch):
    method = build("ddaig", rows=rows, width=8).train()
    before = copy.deepcopy(method.state_dict())
    optimizer = OPTIMIZERS["sgd"](method.parameter_groups()["generator"], 0.1, 0)
    phases = method.phases(batch)
    phase, parts = next(phases)
    assert phase == "generator"
    optimizer.zero_grad()
    sum(parts.values()).backward()
    optimizer.step()
    moved = {
        key for key, value in method.state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved == {key for key in before if key.startswith("generator.")}
    assert all(
        parameter.grad is None
        for key, parameter in method.named_parameters()
        if not key.startswith("generator.")
    )
    assert [phase for phase, _ in phases] == ["main", "domain"]


def test_ddaig_generator_hides_the_domain_and_keeps_the_grade(rows, batch):
    """Against two trained networks, the generator alone raises the domain loss and lowers the grade loss."""
    method = build("ddaig", rows=rows, width=8).train()
    optimizers = {
        name: torch.optim.Adam(group, 1e-2) for name, group in method.parameter_groups().items()
    }
    for _ in range(
        2
    ):  # both have learned something, and the grade network errs enough for the generator to help it
        train_step(method, optimizers, batch, 0)
    optimizer = torch.optim.Adam(method.parameter_groups()["generator"], 3e-3)
    history = []
    for _ in range(15):
        optimizer.zero_grad()
        parts = method.generator_loss(batch)
        sum(parts.values()).backward()
        optimizer.step()
        history.append([parts["generator_grade"].item(), -parts["generator_domain"].item()])
    assert history[-1][1] > 2 * history[0][1]
    assert history[-1][0] < 0.95 * history[0][0]


def test_ddaig_grade_network_sees_the_new_generator_after_the_warm_up(rows, batch):
    method = build("ddaig", rows=rows, steps=100, alpha=0.25, width=8).train()
    method.after_step(2)
    assert method.loss(batch).keys() == {"ce"}
    method.after_step(3)  # 3 % of 100 steps
    phases = method.phases(batch)
    next(phases)
    with torch.no_grad():
        for parameter in method.generator.parameters():
            parameter.add_(0.05)  # the generator's step
    _, parts = next(phases)
    with torch.no_grad(), still(method):
        ce, new = (
            F.cross_entropy(method(image), batch.grade)
            for image in (batch.image, method.generator(batch.image))
        )
    assert parts["ce"].item() == pytest.approx(0.75 * ce.item(), abs=1e-5)
    assert parts["ce_perturbed"].item() == pytest.approx(0.25 * new.item(), abs=1e-5)
    before = [parameter.clone() for parameter in method.generator.parameters()]
    method.zero_grad()
    sum(parts.values()).backward()
    assert all(parameter.grad is None for parameter in method.generator.parameters())
    assert all(
        torch.equal(*pair) for pair in zip(before, method.generator.parameters(), strict=True)
    )


def test_ddaig_domain_network_starts_from_the_same_tower_and_is_another(rows, batch):
    method = build("ddaig", rows=rows, width=8)
    assert torch.equal(method.domain_image.eval()(batch.image), method.image.eval()(batch.image))
    assert not {id(p) for p in method.domain_image.parameters()} & {
        id(p) for p in method.image.parameters()
    }
    assert method.domain_logits(batch.image).shape == (8, 2)


def test_ddaig_with_one_source_has_no_domain_network_and_says_so(rows, batch):
    one = {
        split: Images(part.frame, part.arrays, ["SIM_IDRID"], 64) for split, part in rows.items()
    }
    method = build("ddaig", width=8)
    source = Source(one["train"], one["val"], 2, 8)
    method.begin(source)
    assert "one source" in method.degenerate(source)
    assert method.degenerate(Source(rows["train"], rows["val"], 2, 8)) == ""
    phases = dict(method.train().phases(batch))
    assert phases.keys() == {"generator", "main"} == method.parameter_groups().keys()
    assert phases["generator"].keys() == {"generator_grade"}


# ATS


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


def test_ats_predicts_by_its_teacher_which_no_gradient_reaches(rows, batch):
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
        with still(method.image):
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


# Resume with state of their own


@pytest.mark.parametrize("name", ["ddaig", "ats", "mixstyle", "mixup"])
def test_a_cut_run_goes_on_bit_for_bit(name, cached, manifests, settings, tmp_path, monkeypatch):
    from clipdr.training import loop

    options = {"width": 8, "warmup": 0.3} if name in ("ddaig", "ats") else {}
    rules = settings(options=options, evaluations=6, epochs=3)

    def run(folder):
        runs.run(
            rules,
            "dg",
            name,
            DOMAINS[0],
            0,
            manifests=manifests,
            data=cached,
            folder=tmp_path / folder,
            device="cpu",
        )

    run("whole")
    original, count = loop.train_step, [0]

    def dying(*arguments):
        count[0] += 1
        if count[0] == 11:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    assert (tmp_path / "cut" / "resume.pt").is_file()
    run("cut")
    for file in ("history.csv", "predictions.parquet", "model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes(), (
            file
        )


# CORN


def test_corn_worked_by_hand():
    third = math.log(3)  # sigmoid 3/4; its negative 1/4
    conditional = torch.tensor([[third, -third, 0.0, 0.0]])
    # grade 1: worse than 0 (3/4), not worse than 1 (1 - 1/4); the other two questions are not put
    assert corn_loss(conditional, torch.tensor([1])).item() == pytest.approx(-math.log(3 / 4))
    # grade 0 answers one question, grade 4 four: five answers of 1/2
    assert corn_loss(torch.zeros(2, 4), torch.tensor([0, 4])).item() == pytest.approx(math.log(2))
    # P(>0) = 3/4, P(>1) = 3/16, P(>2) = 3/32, P(>3) = 3/64
    expected = [1 / 4, 9 / 16, 3 / 32, 3 / 64, 3 / 64]
    assert log_probability(conditional).exp()[0].tolist() == pytest.approx(expected)


def test_corn_loss_is_that_of_the_definition():
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


def test_corn_probabilities_sum_to_one_even_at_the_ends():
    torch.manual_seed(0)
    log_p = log_probability(
        torch.cat([30 * torch.randn(200, 4), torch.full((1, 4), 300.0), torch.full((1, 4), -300.0)])
    )
    assert torch.isfinite(log_p).all()
    assert torch.allclose(log_p.exp().sum(1), torch.ones(202), atol=1e-5)
    assert torch.allclose(log_p.softmax(1), log_p.exp(), atol=1e-5)
    assert log_p[-2:].argmax(1).tolist() == [4, 0]


def test_lora_trains_the_attention_of_every_block_and_the_head_only(batch):
    """12 = qkv and proj of 6 blocks. At the start nothing changes; steps move the updates and the head, and no other bit."""
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
def test_lora_without_linear_attention_is_refused_in_one_line(spec, small_clips):
    with pytest.raises(DataError, match="lora needs a ViT of timm"):
        build("corn", spec, lora=8)


# CLIP fine-tuned, CoOpLVT


def test_clip_finetune_untrained_is_zero_shot_and_trains_the_whole_tower(batch):
    method = build("clip_finetune", bank="C")
    backbone = Backbone(EFFICIENTNET, 64)
    direct = similarity(
        backbone.image.eval()(batch.image), ensemble(backbone.banks["C"]), backbone.scale
    )
    assert torch.allclose(method.eval()(batch.image), direct, atol=1e-5)
    assert all(parameter.requires_grad for parameter in method.parameters())
    assert "image.projection.weight" in dict(method.named_parameters())
    assert "text" in method.state_dict()  # fixed, saved
    with pytest.raises(DataError, match="bank 'Z'"):
        build("clip_finetune", bank="Z")


def test_coop_lvt_prompts_are_those_of_each_image_alone(batch):
    """Against one sentence at a time, laid out by hand: start, 4 learned, 4 visual tokens, name, full stop, end."""
    method = build("coop_lvt").eval()
    with torch.no_grad():
        method.visual[2].weight.mul_(20)
        tower, features = method.prompts.tower, F.normalize(method.image(batch.image[:2]), dim=1)
        logits = method(batch.image[:2])
        for image in range(2):
            visual = (
                F.relu(features[image] @ method.visual[0].weight.T + method.visual[0].bias)
                @ method.visual[2].weight.T
            ).view(4, -1)
            visual = visual + method.visual[2].bias.view(4, -1)
            for grade, name in enumerate(BANKS["B"]):
                words = [
                    tower.embed(torch.tensor(ids))
                    for ids in (tower.start, tower.words(name) + tower.stop + tower.end)
                ]
                sentence = torch.cat([words[0], method.prompts.context[0], visual, words[1]])
                text = tower.encode(sentence[None], torch.tensor([len(sentence)]))[0]
                cosine = features[image] @ F.normalize(text, dim=0)
                assert logits[image, grade].item() == pytest.approx(
                    method.scale * cosine.item(), abs=1e-3
                )
    assert not any(parameter.requires_grad for parameter in tower.parameters())


# All of them: the toy study


@pytest.mark.parametrize("name", IMAGE_BASELINES)
def test_bf16_stays_inside_the_image_tower(name, rows, batch):
    torch.manual_seed(0)
    method = load(name)(Backbone(EFFICIENTNET, 64, precision="bf16"))
    method.begin(Source(rows["train"], rows["val"], 2, 8))
    for _, parts in method.train().phases(batch):
        assert all(
            value.dtype == torch.float32 and torch.isfinite(value) for value in parts.values()
        )
        sum(parts.values()).backward()
    assert method.eval()(batch.image).dtype == torch.float32


@pytest.mark.parametrize("name", IMAGE_BASELINES)
def test_the_toy_study_is_learned(name, toy, manifests):
    """The loss falls; 60 unseen photographs, also of the held-out domain, are graded far above the share of any grade (1 in 5)."""
    parts = fold(read_manifests(manifests), "dg", DOMAINS[0])
    arrays = {domain: np.load(toy / "store" / f"{domain}.npy") for domain in DOMAINS}
    side = 64 if name == "cabnet" else SIDE  # its attention needs more than one place
    rows = {split: Images(parts[split], arrays, list(DOMAINS[1:]), side) for split in parts}
    torch.manual_seed(0)
    options = {"width": 8} if name in ("ddaig", "ats") else {}
    method = load(name)(Backbone(EFFICIENTNET, side), **options)
    rules = Training(
        epochs=16,
        batch_size=10,
        optimizer="radam",
        lr=3e-3,
        weight_decay=0,
        schedule="cosine",
        augment="none",
        evaluations=4,
    )
    history = fit(method, rows["train"], rows["val"], rules, seed=0).history
    assert history.val_loss.iloc[-1] < history.val_loss.iloc[0]
    correct = [
        predict(method, rows[split]).argmax(1) == rows[split].grade.numpy()
        for split in ("val", "test")
    ]
    assert np.concatenate(correct).mean() > 0.4
