"""Uses of a pre-trained RET-CLIP: backbone of every grading method, probes, retrieval, zero- and few-shot (RET-R3, R4, R8, R11)."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers import patients as cohort
from helpers.paths import REALDATA
from helpers.toy import DOMAINS, SIDE
from sklearn import metrics as sk
from typer.testing import CliRunner

from clipdr import DataError
from clipdr.cli.main import app
from clipdr.config.study import backbone_name
from clipdr.data.manifest import read_manifests
from clipdr.data.splits import fold
from clipdr.evaluation.retrieval import null_band, similarity
from clipdr.methods import METHODS, load
from clipdr.methods.base import Source
from clipdr.models.backbone import Backbone
from clipdr.models.exported import ExportedFolder
from clipdr.models.factory import build_image_tower
from clipdr.pretrain import backbone_folder, report
from clipdr.pretrain import run as jobs
from clipdr.pretrain.data import patients_table, synthetic_patients
from clipdr.pretrain.evaluation import (
    few_shot,
    finetune,
    linear_probe,
    multilabel,
    retrieval,
    zero_shot,
)
from clipdr.pretrain.evaluation import prompted as answers
from clipdr.pretrain.model import Aligned
from clipdr.pretrain.settings import rules
from clipdr.training import run as runs
from clipdr.training.feature_cache import cache_features, cache_prompts
from clipdr.training.loop import OPTIMIZERS, predict, train_step
from clipdr.training.run import refuse_pretraining_overlap

TINY = {
    "image": "timm/test_efficientnet", "weights": "random", "side": 32, "width": 16, "length": 64, "batch_size": 16, "epochs": 20,
    "crop": 1.0, "jitter": 0.0, "rotate": 0.0, "save_every": 1000, "lr_image": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of data, run folder, table) of a toy cohort of 60 patients."""
    data = tmp_path_factory.mktemp("cohort")
    path = cohort.make(data, patients=60, monocular=3)
    jobs.train(data / "run", path, data, rules("small", TINY))
    return data, data / "run", patients_table.read(path)


@pytest.fixture(scope="module")
def exported(trained):
    return backbone_folder.export(trained[1], trained[0] / "backbone").path


@pytest.fixture(scope="module")
def spec(exported):
    return {"name": "ours", "image": f"folder/{exported}", "weights": "random", "text": "own"}


def test_r11_v_is_the_same_behind_the_export(trained, spec):
    """RET-R11: raw v to 1e-6, and the patient vector of a single eye, through the graders' tower."""
    data, run, table = trained
    model, settings = jobs.load(run)
    image = jobs.visits(table, "test", data, settings, model.text).batch(np.arange(6)).image[:, 0]
    tower = Backbone(spec, settings.side).image.eval()
    with torch.no_grad():
        assert torch.allclose(tower.pooled(image), model.image(image), atol=1e-6)
        assert torch.allclose(
            F.normalize(tower(image), dim=-1), model.eyes(image).vector, atol=1e-6
        )


def test_r11_prompts_pass_through_the_patient_head(trained, spec):
    model, _ = jobs.load(trained[1])
    text = ["bright spot upper inner", "left eye bright spot"]
    from clipdr.models.report_encoder import tokenize_reports
    from clipdr.models.text_tower import encode_sentences

    found = encode_sentences(Backbone(spec, SIDE).text, text)
    with torch.no_grad():
        expected = model.report(tokenize_reports(model.text, text)[0][:, None])[2]
    assert torch.allclose(F.normalize(found, dim=-1), expected, atol=1e-6)
    assert Backbone(spec, SIDE).scale == pytest.approx(float(model.log_scale[2].detach().exp()))


@pytest.fixture(scope="module")
def graded(toy, manifests, settings, spec):
    """(method name) -> method on the exported backbone, begun, and the rows of the toy study."""
    for domain in DOMAINS:
        cache_features(spec, SIDE, domain, toy)
    cache_prompts(spec, SIDE, toy)

    def make(name, frozen=None):
        manifest = read_manifests(manifests)
        frozen = load(name).reads == "features" if frozen is None else frozen
        chosen = settings(frozen, None, **({"augment": "fundus"} if name == "gdrnet" else {})) | {
            "backbone": spec
        }
        method, rows = runs.build(
            chosen, name, toy, manifest, fold(manifest, "dg", DOMAINS[0]), torch.device("cpu")
        )
        method.begin(Source(rows["train"], rows["val"], steps_per_epoch=2, steps=8))
        return method, rows

    return make


@pytest.mark.parametrize("name", METHODS)
def test_r11_every_grading_method_trains_a_step_and_predicts(graded, name):
    """RET-R11."""
    method, rows = graded(name)
    steps = {
        key: OPTIMIZERS["sgd"](group, 1e-3, 0) for key, group in method.parameter_groups().items()
    }
    if steps:
        parts = train_step(method, steps, rows["train"].batch(0, 10, seed=0), 0)
        assert all(torch.isfinite(value) for value in parts.values())
    logits = predict(method, rows["test"])
    assert logits.shape == (len(rows["test"]), 5) and np.isfinite(logits).all()


def test_the_cache_holds_v_and_the_prompts_its_bridge(graded, spec, toy):
    method, rows = graded("zero_shot")
    batch = next(rows["test"].chunks(5))
    live, _ = graded("clip_finetune", frozen=False)
    live.eval()
    stored = np.load(toy / "features" / "ours" / f"{DOMAINS[0]}.npy")
    assert (
        np.allclose(batch.image.numpy(), stored[rows["test"].row[:5]])
        and batch.image.shape[1] == 16
    )
    image = next(graded("erm")[1]["test"].chunks(5)).image
    with torch.no_grad():
        assert torch.allclose(
            method.image(batch.image), Backbone(spec, SIDE).image.eval()(image), atol=1e-5
        )
    assert graded("linear_probe")[0].head.in_features == 16


@pytest.mark.parametrize("text", ["small"])
def test_another_text_tower_gets_a_linear_bridge(spec, text):
    backbone = Backbone(spec | {"text": text}, SIDE)
    assert tuple(backbone.image.projection.weight.shape) == (backbone.text.dim, 16)
    assert backbone.image.projection.weight.requires_grad


def test_r11_a_photograph_of_the_test_domain_stops_the_run(
    exported, spec, toy, manifests, settings, tmp_path
):
    """RET-R11, leak gate: one planted sha256, then one planted patient key."""
    parts = fold(read_manifests(manifests), "dg", DOMAINS[0])
    refuse_pretraining_overlap(spec, parts["test"], "fold")
    facts = json.loads((exported / "visual.json").read_text())
    planted = parts["test"].assign(
        sha256=[facts["seen"]["images"][3], *[""] * (len(parts["test"]) - 1)]
    )
    with pytest.raises(
        DataError, match="fold leaks: 1 test photographs, the first SIM_APTOS/x/p000"
    ):
        refuse_pretraining_overlap(spec, planted, "fold")
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in exported.iterdir():
        if path.is_file():
            (copied / path.name).write_bytes(path.read_bytes())
    facts["seen"]["patients"].append(f"{DOMAINS[0]}/p3")
    (copied / "visual.json").write_text(json.dumps(facts))
    backbone = spec | {"image": f"folder/{copied}"}
    with pytest.raises(DataError, match="dg/SIM_APTOS leaks: 2 test photographs"):
        chosen = settings(False) | {"backbone": backbone}
        runs.train(
            chosen,
            "dg",
            "erm",
            DOMAINS[0],
            0,
            manifests=manifests,
            data=toy,
            folder=tmp_path / "run",
            device="cpu",
        )


def test_seen_holds_training_and_validation_but_not_test(trained, exported):
    seen, table = ExportedFolder(exported).facts["seen"], trained[2]
    keys = patients_table.patients(table)
    assert set(seen["patients"]) == set(keys[(table["split"] != "test").to_numpy()])
    assert len(seen["images"]) == int(
        (table.loc[table["split"] != "test", ["left_image", "right_image"]] != "").to_numpy().sum()
    )


def test_the_image_tower_of_a_released_checkpoint_is_read(small_clips, tmp_path):
    """A flat dict of keys module.visual.*, as the authors' code saves; another shape is one line."""
    import open_clip

    visual = open_clip.create_model("ViT64-clipdr-test", pretrained=None).visual
    torch.save(
        {f"module.visual.{key}": value for key, value in visual.state_dict().items()}
        | {"module.bert.x": torch.ones(1)},
        tmp_path / "r.pt",
    )
    tower = build_image_tower("open_clip/ViT64-clipdr-test", f"ret_clip:{tmp_path / 'r.pt'}", 64, 16)
    assert all(
        torch.equal(value, tower.trunk.state_dict()[key])
        for key, value in visual.state_dict().items()
    )
    torch.save({"module.visual.proj": torch.ones(2, 2)}, tmp_path / "bad.pt")
    with pytest.raises(DataError, match="cannot be read as weights"):
        build_image_tower("open_clip/ViT64-clipdr-test", f"ret_clip:{tmp_path / 'bad.pt'}", 64, 16)


def test_an_incomplete_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"visual\.json, visual\.safetensors, heads\.safetensors"):
        ExportedFolder(tmp_path)


def test_a_path_gets_a_name_for_its_cache():
    assert (
        backbone_name("results/pretrain/odir/Backbone-1") == "results_pretrain_odir_backbone_1"
        and backbone_name("demo") == "demo"
    )


# Retrieval -------------------------------------------------------------------------------------------------------------------------------


def test_r03_held_out_patients_are_found_above_chance(trained):
    """RET-R3 on the toy cohort, whose reports allow R@1 = C_1: above the null band in every level and direction."""
    data, run, table = trained
    model, settings = jobs.load(run)
    test = table[table["split"] != "train"].reset_index(drop=True)
    found = jobs.embed(model, test, data, settings)
    rows = pd.DataFrame(
        retrieval.levels_retrieved(
            found.image, found.text, found.member, found.content, patients_table.patients(test)
        )
    )
    assert len(rows) == 6 and set(rows["level"]) == {"left", "right", "patient"}
    assert (rows["recall_5"] > rows["null_5_high"]).all()
    assert (rows["recall_1"] <= rows["ceiling_1"] + 1e-9).all()


def test_r03_a_report_finds_its_patient_twenty_times_as_often_as_chance(tmp_path):
    """RET-R3: 200 held-out patients, whose 64 different reports allow R@1 = 32 %; patient level, report -> eyes, 20 x chance is 10 %."""
    splits = ["train"] * 320 + ["val"] * 40 + ["test"] * 200
    path = cohort.make(tmp_path, patients=560, names=tuple(cohort.PLACES), splits=splits)
    jobs.train(
        tmp_path / "run", path, tmp_path, rules("small", TINY | {"epochs": 12, "batch_size": 32})
    )
    model, settings = jobs.load(tmp_path / "run")
    table = patients_table.read(path)
    test = table[table["split"] == "test"].reset_index(drop=True)
    found = jobs.embed(model, test, tmp_path, settings)
    rows = retrieval.levels_retrieved(
        found.image, found.text, found.member, found.content, patients_table.patients(test)
    )
    row = next(
        row for row in rows if row["level"] == "patient" and row["direction"] == "text_to_image"
    )
    print(
        {key: round(row[key], 4) for key in ("n", "recall_1", "ceiling_1", "chance_1", "skill_1")}
    )
    assert row["n"] == 200 and row["recall_1"] >= 20 * row["chance_1"] and row["ceiling_1"] > 0.25


def test_r04_permuted_test_reports_fall_to_chance(trained):
    """RET-R4, first half: the test table re-paired is inside the null band."""
    data, run, table = trained
    model, settings = jobs.load(run)
    found, patient = jobs.embed(model, table, data, settings), patients_table.patients(table)
    rows = retrieval.levels_retrieved(
        found.image, found.text, found.member, found.content, patient, permute=5
    )
    assert all(
        row[f"null_{k}_low"] <= row[f"recall_{k}"] <= row[f"null_{k}_high"]
        for row in rows
        for k in (1, 5, 10)
    )


def test_r04_training_on_permuted_reports_teaches_nothing(tmp_path):
    """RET-R4, second half: true test pairs of a model that saw permuted reports are inside the null band."""
    path = cohort.make(tmp_path, patients=60)
    jobs.train(
        tmp_path / "run", path, tmp_path, rules("small", TINY | {"permute": True, "epochs": 10})
    )
    model, settings = jobs.load(tmp_path / "run")
    table = patients_table.read(path)
    test = table[table["split"] != "train"].reset_index(drop=True)
    found = jobs.embed(model, test, tmp_path, settings)
    for row in retrieval.levels_retrieved(
        found.image, found.text, found.member, found.content, patients_table.patients(test)
    ):
        assert all(
            row[f"null_{k}_low"] <= row[f"recall_{k}"] <= row[f"null_{k}_high"] for k in (1, 5, 10)
        )


def test_examples_name_pairs_and_hold_no_pixels(trained, tmp_path):
    data, run, table = trained
    model, settings = jobs.load(run)
    retrieval.write(
        jobs.embed(model, table, data, settings), table, data, tmp_path / "examples.json"
    )
    found = json.loads((tmp_path / "examples.json").read_text())["examples"]
    assert len(found) == 12 and all(len(one["found"]) == 3 and one["rank"] >= 1 for one in found)
    assert any(answer["true"] for one in found for answer in one["found"])


# Probes ----------------------------------------------------------------------------------------------------------------------------------


def test_multilabel_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    finding, score = (
        rng.integers(0, 2, (60, 3)),
        rng.integers(0, 9, (60, 3)).astype(float),
    )  # with ties
    weight = np.concatenate([np.ones((1, 60)), rng.integers(0, 4, (5, 60))])
    for name, reference in {
        "macro_auroc": sk.roc_auc_score,
        "macro_map": sk.average_precision_score,
    }.items():
        found, count = multilabel.macro(multilabel.METRICS[name], finding, score, weight)
        expected = [
            np.mean([reference(finding[:, c], score[:, c], sample_weight=row) for c in range(3)])
            for row in weight
        ]
        assert count == 3 and np.abs(found - expected).max() < 1e-12


def test_an_undefined_finding_is_left_out_and_counted():
    finding, score = (
        np.array([[0, 1], [1, 1], [0, 1]]),
        np.array([[0.1, 0.5], [0.9, 0.5], [0.2, 0.5]]),
    )
    value, count = multilabel.macro(multilabel.METRICS["macro_auroc"], finding, score)
    assert value[0] == 1 and count == 1
    value, count = multilabel.macro(multilabel.METRICS["macro_map"], finding[:, 1:], score[:, 1:])
    assert np.isnan(value[0]) and count == 0


def test_the_fast_probe_finds_what_the_features_hold(trained):
    table = trained[2]
    told = np.array([[row.N == "1", row.D == "1"] for row in table.itertuples()], float)
    noise = np.random.default_rng(0).normal(size=(len(table), 6))
    rows, _ = linear_probe.probe(
        {"trained": np.hstack([told, 0.1 * noise]), "random": noise}, table, ["N", "D"]
    )
    value = rows[rows["against"] == ""].pivot(index="network", columns="metric", values="value")
    assert value.loc["trained", "macro_auroc"] > 0.95 > value.loc["random", "macro_auroc"]
    difference = rows[(rows["against"] == "random") & (rows["metric"] == "macro_map")].iloc[0]
    assert (
        difference["value"]
        == pytest.approx(value.loc["trained", "macro_map"] - value.loc["random", "macro_map"])
        and difference["p"] < 0.2
    )
    with pytest.raises(DataError, match="no column X"):
        linear_probe.findings(table, ["X"])


@pytest.mark.parametrize(("protocol", "moves"), [("linear", False), ("full", True)])
def test_finetuning_selects_on_validation_and_trains_what_it_says(trained, protocol, moves):
    from dataclasses import replace

    data, run, table = trained
    model, settings = jobs.load(run)
    before = {
        name: parameter.detach().clone() for name, parameter in model.image.named_parameters()
    }
    chosen = replace(finetune.PROTOCOLS[protocol], epochs=2)
    probability, history = finetune.finetune(model, table, data, settings, ["N", "D"], chosen)
    assert probability.shape == (60, 2) and ((probability > 0) & (probability < 1)).all()
    assert sum(row["selected"] for row in history) == 1
    assert max(history, key=lambda row: row["val_auroc"])["val_auroc"] == next(
        row["val_auroc"] for row in history if row["selected"]
    )
    assert (
        any(
            not torch.equal(before[name], parameter)
            for name, parameter in model.image.named_parameters()
        )
        == moves
    )


# Prompts ---------------------------------------------------------------------------------------------------------------------------------


def test_zero_shot_and_few_shot_answers(trained):
    data, run, table = trained
    model, settings = jobs.load(run)
    graded = table.assign(grade=np.resize(["0", "1", "2", "3", "4"], len(table)))
    zero, few = answers.answer(model, settings, graded, data, ["N", "D"], "en", "both", [1, 5], 42)
    assert len(zero) == 7 and zero["label"].iloc[-1] == "grade, macro AUC"
    assert zero["auroc"].between(0, 1).all() and (zero["low"] <= zero["high"])[:6].all()
    assert (
        list(few["method"]) == ["zero_shot", *few_shot.ADAPTERS, *few_shot.ADAPTERS]
        and few["auroc_D"].between(0, 1).all()
    )
    with pytest.raises(DataError, match="single"):
        zero_shot.single_eyes(model, zero_shot.read_prompts("en"), ["N"], {}, "each")
    with pytest.raises(DataError, match="no prompts in 'de'"):
        zero_shot.read_prompts("de")


def test_shots_are_drawn_by_patient():
    cls, patient = np.array([0, 0, 0, 1, 1, -1]), np.array(list("aabcdd"))
    rows = few_shot.shots(cls, patient, 5, 42)
    assert (
        cls[rows].tolist().count(0) == 2
        and cls[rows].tolist().count(1) == 2
        and -1 not in cls[rows]
    )


@pytest.mark.parametrize("method", few_shot.ADAPTERS)
def test_an_adapter_learns_from_its_shots(method):
    generator = torch.Generator().manual_seed(0)
    cls = np.arange(24) % 3
    vectors = F.normalize(
        torch.eye(8)[torch.from_numpy(cls) + 4] + 0.3 * torch.randn(24, 8, generator=generator),
        dim=-1,
    )
    weights = F.normalize(
        torch.eye(8)[:3] + 0.2 * torch.eye(8)[4:7], dim=-1
    )  # prompts that are right but weak
    prompted = few_shot.accuracy(10.0 * vectors @ weights.T, cls)
    learnt = few_shot.accuracy(
        few_shot.few_shot(method, vectors, cls, vectors, cls, vectors, weights, 10.0).detach(), cls
    )
    assert prompted < 1 and learnt >= prompted + (0 if method == "clip_adapter" else 0.1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prompts_cover_grades_and_findings(language):
    prompts = zero_shot.read_prompts(language)
    assert len(prompts["grades"]) == 5 and set(prompts["findings"]) == set(
        patients_table.ODIR_LABELS
    )
    assert all("{}" in template for group in prompts["templates"].values() for template in group)


def test_a_vector_of_another_level_is_refused(trained):
    model, _ = jobs.load(trained[1])
    with pytest.raises(DataError, match="comparable"):
        zero_shot.zero_shot_findings(
            model,
            Aligned("left", torch.ones(1, 16)),
            zero_shot.read_prompts("en"),
            ["N"],
            "patient",
        )


# Verbs -----------------------------------------------------------------------------------------------------------------------------------


def test_the_verbs_write_their_files(trained, tmp_path):
    data, run = trained[:2]
    mine = tmp_path / "pretrain" / "runs" / "toy" / "0"
    shutil.copytree(run, mine)
    common = ["--pairs", str(data / "patients" / "toy.csv"), "--data", str(data)]
    for command in (
        ["retrieve", str(mine), *common],
        ["probe", str(mine), "--labels", "N,D", *common],
        ["zeroshot", str(mine), "--labels", "N,D", "--shots", "1", *common],
        [
            "finetune",
            str(mine),
            "--labels",
            "N,D",
            "--epochs",
            "1",
            "--protocol",
            "linear",
            *common,
        ],
        ["export", str(mine), str(tmp_path / "backbone"), "--half"],
        ["report", str(tmp_path), "--data", str(data)],
    ):
        done = CliRunner().invoke(app, ["pretrain", *command])
        assert done.exit_code == 0, (command, done.output, done.exception)
    for name in (
        "retrieval",
        "probes",
        "zeroshot",
        "fewshot",
        "finetune_linear",
        "finetune_linear_history",
    ):
        assert len(pd.read_csv(mine / f"{name}.csv"))
    assert {"oracle_upstream", "macro_auroc"} <= set(
        pd.read_csv(mine / "finetune_linear.csv")["metric"]
    )
    assert (
        ExportedFolder(tmp_path / "backbone").tensors("visual.safetensors")["projection.weight"].dtype
        == torch.float16
    )
    folder = tmp_path / "pretrain"
    assert len(pd.read_csv(folder / "retrieval.csv")) == 6
    for name in ("retrieval_toy", "probes_toy", "zeroshot_toy"):
        assert (folder / "tables" / f"{name}.html").is_file()
        assert (
            (folder / "tables" / f"{name}.md").read_text().startswith("**SYNTHETIC images: toy: ")
        )
    text = (folder / "tables" / "retrieval_toy.md").read_text()
    assert (
        text.startswith("**SYNTHETIC images: toy: retrieval") and "patient, report to image" in text
    )
    assert "not run" in (folder / "tables" / "probes_toy.md").read_text().lower()
    shown = pd.read_csv(folder / "tables" / "probes_toy.csv").set_index(["method", "metric"])[
        "value"
    ]
    found = (
        pd.read_csv(mine / "probes.csv")
        .fillna({"against": ""})
        .set_index(["network", "against", "metric"])["value"]
    )
    rows = [(network, "", label) for network, label in report.NETWORKS.items()]
    rows += [
        ("trained", other, f"difference to {report.NETWORKS[other]}")
        for other in ("start", "random")
    ]
    for (network, against, label), metric in itertools.product(rows, report.PROBED):
        assert float(shown[label, metric]) == pytest.approx(
            100 * found[network, against, metric], abs=1e-4
        ), (label, metric)
    assert all(
        "SYNTHETIC" in (folder / "figures" / f"{name}.svg").read_text()
        for name in ("pretraining", "pairs_toy")
    )


def test_practice_patients_are_nobody_of_a_benchmark(tmp_path):
    """Other seeds, other cameras; single eyes with a sentence that names their grade; a seed of a benchmark is refused."""
    table = synthetic_patients.draw(tmp_path / "raw", tmp_path / "data", 12, 48, 1000, size=96)
    done = patients_table.finish(table, 0)
    assert done["patient_id"].nunique() == 12 and set(done["visit_id"]) <= {
        "report",
        "left",
        "right",
    }
    single = done[done["visit_id"] == "left"]
    assert (single["right_image"] == "").all() and single["text"].str.len().gt(10).all()
    assert synthetic_patients.camera(np.random.default_rng(1)) != synthetic_patients.camera(
        np.random.default_rng(2)
    )
    with pytest.raises(DataError, match="seeds below 1000"):
        synthetic_patients.draw(tmp_path, tmp_path, 12, 48, 0)


# Real photographs ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odir(tmp_path_factory, request):
    """Three ODIR runs of the preset `small` (about two CPU-minutes each): [(run folder, table, data)]."""

    if not (REALDATA / "odir").is_dir():
        pytest.skip("no ODIR")
    data, found = tmp_path_factory.mktemp("odir"), []
    packed = patients_table.pack(
        patients_table.odir(REALDATA / "odir"), REALDATA / "odir", data, 96, 1
    )
    for seed in range(3):
        path = data / "patients" / f"odir_{seed}.csv"
        patients_table.write(patients_table.finish(packed, seed), path, seed)
        jobs.train(data / str(seed), path, data, rules("small", {"seed": seed}))
        found.append((data / str(seed), patients_table.read(path), data))
    return found


@pytest.mark.nightly
@pytest.mark.realdata
def test_r01_the_loss_decreases_on_odir(odir):
    """RET-R1: by more than 1 nat, above the floor."""
    for run, _, _ in odir:
        history = pd.read_csv(run / "history.csv")
        assert history["loss"].iloc[-1] < history["loss"].iloc[0] - 1.0
        assert history["loss"].iloc[-1] > sum(
            history[f"floor_{level}"].iloc[-1] for level in ("left", "right", "patient")
        )


@pytest.mark.nightly
@pytest.mark.realdata
def test_r08_the_probe_on_odir_beats_random_weights(odir):
    """RET-R8: macro mAP by 0.05 on average, lower end of the paired interval over the pooled seeds above 0; macro AUROC above."""
    tables, draws = [], []
    for seed, (run, table, data) in enumerate(odir):
        features = {}
        for weights in linear_probe.WEIGHTS:
            model, settings = jobs.load(run, weights)
            found = jobs.embed(model, table, data, settings)
            features[weights] = linear_probe.both_eyes(found.raw, found.present)
        rows, drawn = linear_probe.probe(
            features, table, list(patients_table.ODIR_LABELS), f"test/{seed}"
        )
        tables.append(rows)
        draws.append(drawn)
    together = linear_probe.seeds_together(tables, draws).set_index(
        ["network", "against", "metric"]
    )
    print(together)
    assert together.loc[("trained", "random", "macro_map"), "value"] >= 0.05
    assert together.loc[("trained", "random", "macro_map"), "low"] > 0
    assert together.loc[("trained", "random", "macro_auroc"), "value"] > 0


@pytest.mark.nightly
@pytest.mark.realdata
def test_r03_zero_shot_finds_diabetic_retinopathy(odir):
    """RET-R3: AUROC of D from prompts alone, lower end of its interval above 0.5."""
    for run, table, data in odir:
        model, settings = jobs.load(run)
        zero, _ = answers.answer(
            model, settings, table, data, list(patients_table.ODIR_LABELS), "en", "patient", [], 42
        )
        row = zero[(zero["input"] == "both eyes") & (zero["label"] == "D")].iloc[0]
        assert row["low"] > 0.5


def test_the_null_band_holds_chance():
    rng = np.random.default_rng(0)
    score = similarity(rng.normal(size=(40, 8)), rng.normal(size=(40, 8)))
    low, high = null_band(score, np.arange(40))[0][0]
    assert low <= 1 / 40 <= high


def test_pretraining_runs_are_published(trained, tmp_path):
    """MLflow gets the settings and the losses of a finished run, once."""
    from clipdr.report import tracking

    shutil.copytree(trained[1], tmp_path / "pretrain" / "runs" / "toy" / "0")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.publish(tmp_path / "runs", address, "clipdr")["published"] == 1
    assert tracking.publish(tmp_path / "runs", address, "clipdr")["unchanged"] == 1


def test_fundus_tiny_is_small_and_reads():
    """The packaged tower: at most 12 MB, float16, no photograph of a benchmark seed; every key of its card is there."""
    from clipdr.config.job import BACKBONES, folder_of

    folder = ExportedFolder(folder_of(BACKBONES["fundus_tiny"].image))
    assert sum(path.stat().st_size for path in folder.path.iterdir()) <= 12 * 2**20
    assert all(
        value.dtype == torch.float16 for value in folder.tensors("heads.safetensors").values()
    )
    assert all(patient.startswith("PRACTICE/") for patient in folder.facts["seen"]["patients"])
    card = (folder.path / "README.md").read_text()
    assert all(
        word in card
        for word in (
            "Data",
            "Seed",
            "Commit",
            "Steps",
            "Scores",
            "Limits",
            "python -m clipdr pretrain",
        )
    )
    backbone = Backbone(
        {"name": "fundus_tiny", "weights": "random", "text": "own", "image": "package/fundus_tiny"},
        64,
    )
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert backbone.image.eval()(image).shape == (2, 128) and backbone.banks["B"].shape == (
            5,
            5,
            128,
        )
