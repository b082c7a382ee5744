"""config.yaml: typed, complete, every wrong key named; the grid; the slice of one job."""

import ast
import inspect
import json

import pytest
import yaml
from helpers.paths import ROOT
from helpers.study import config

from clipdr import DataError
from clipdr.config.job import BACKBONES
from clipdr.config.study import read_study
from clipdr.methods import load
from clipdr.report.tables import benchmark, clinical, comparison, reproduction

TABLES = benchmark.TABLES | clinical.TABLES | comparison.COMPARISONS | reproduction.REPRODUCTIONS


def test_the_default_study_is_offline_and_synthetic():
    study = read_study(config())
    assert all(name.startswith("SIM_") for name in study.domains)
    assert study.tower(study.backbone) == json.dumps(
        {"name": "demo", **BACKBONES["demo"].model_dump()}, sort_keys=True
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methodz": []}, "methodz"),
        ({"methods": ["clip_rd"]}, "clip_rd"),
        ({"reference": "clip_rd"}, "reference: 'clip_rd' is unknown"),
        ({"domains": ["SIM_APTOS", "APTSO"]}, "APTSO"),
        ({"domains": ["SIM_APTOS", "SIM_APTOS"]}, "twice"),
        ({"seeds": ["one"]}, "seeds"),
        ({"image": {"size": 0}}, "image.size"),
        ({"backbone": "rn51"}, "rn51"),
        ({"options": {"erm": {"training": {"epoch": 3}}}}, "epoch"),
        ({"training": {"epochs": 0}}, "training"),
        ({"protocols": ["lodo"]}, "protocols"),
        ({"targets": ["SIM_APTOS"]}, "twice"),
        ({"targets": ["DDDR"]}, "DDDR"),
        ({"selections": ["best"]}, "selections"),
        ({"selections": ["loso"], "domains": ["SIM_APTOS", "SIM_RLDR"]}, "three domains"),
        ({"variants": {"no_sms": {"method": "clip_rd"}}}, "clip_rd"),
        ({"variants": {"erm": {"method": "clip_dr"}}}, "'erm' must be a new name"),
        ({"variants": {"a/b": {"method": "clip_dr"}}}, "a/b"),
        (
            {
                "variants": {"no_sms": {"method": "clip_dr", "training": {"epoch": 3}}},
                "methods": ["no_sms"],
            },
            "epoch",
        ),
        ({"tolerance": -1}, "tolerance"),
        ({"own": {"MYCLINIC": {"tabel": "x.csv"}}}, "own.MYCLINIC.tabel"),
        ({"own": {"myclinic": {"table": "x.csv"}}}, "'myclinic': use capitals"),
        ({"own": {"SIM_MINE": {"table": "x.csv"}}}, "SIM_MINE"),
        ({"own": {"APTOS": {"table": "x.csv"}}}, "take a new name"),
        (
            {"own": {"MYCLINIC": {"table": "gone.csv"}}, "domains": ["MYCLINIC", "SIM_APTOS"]},
            "own.MYCLINIC.table: there is no gone.csv",
        ),
        ({"domains": ["MYCLINIC", "SIM_APTOS"]}, "MYCLINIC"),
        ({"raw": "nowhere", "domains": ["APTOS", "IDRID"]}, "nowhere/splits/APTOS_train.txt"),
    ],
)
def test_a_wrong_value_is_named(changes, says):
    with pytest.raises(DataError, match=says.replace(".", r"\.")):
        read_study(config(**changes))


def test_options_of_a_method_override_the_shared_training():
    study = read_study(config(options={"erm": {"training": {"lr": 0.5}, "backbone": "tiny"}}))
    erm, clip_dr = study.settings("erm"), study.settings("clip_dr")
    assert erm["training"] == clip_dr["training"] | {"lr": 0.5}
    assert (erm["backbone"]["name"], clip_dr["backbone"]["name"]) == ("tiny", "demo")
    assert json.loads(study.job("erm")) == erm


def test_a_data_set_of_ones_own_is_prepared_from_its_table(tmp_path):
    table = tmp_path / "my table.csv"
    table.touch()
    study = read_study(
        config(
            own={"MYCLINIC": {"table": str(table)}},
            domains=["MYCLINIC", "SIM_APTOS"],
            tolerance=3,
            complete=True,
        )
    )
    assert study.lists("MYCLINIC") == [str(table)] and study.synthetic_domains() == ["SIM_APTOS"]
    assert (
        study.prepare_options("MYCLINIC")
        == f"--size 112 --tolerance 3 --complete --table '{table}'"
    )
    assert study.prepare_options("SIM_APTOS") == "--size 112 --tolerance 3 --complete"


def test_the_grid_is_in_the_order_of_the_tables():
    study = read_study(
        config(domains=["SIM_RLDR", "SIM_APTOS"], methods=["erm", "clip_dr"], seeds=[1, 0])
    )
    runs = study.runs("scores.csv")
    assert len(runs) == 8
    assert runs[:2] == [
        "results/runs/dg/erm/SIM_RLDR/1/scores.csv",
        "results/runs/dg/erm/SIM_RLDR/0/scores.csv",
    ]
    assert study.runs("", ["clip_dr"])[0] == "results/runs/dg/clip_dr/SIM_RLDR/1"


def test_variants_are_rows_of_their_own_over_the_options_of_their_method():
    study = read_study(
        config(
            methods=["clip_dr", "no_sms"],
            variants={"no_sms": {"method": "clip_dr", "smooth": False, "training": {"lr": 0.5}}},
            options={
                "clip_dr": {"max_rank": 2, "smooth": True, "training": {"batch_size": 8}},
                "no_sms": {"bank": "B"},
            },
        )
    )
    full, variant = study.settings("clip_dr"), study.settings("no_sms")
    assert full["options"] == {"max_rank": 2, "smooth": True} and "variant_of" not in full
    assert (
        variant["options"] == {"max_rank": 2, "smooth": False, "bank": "B"}
        and variant["variant_of"] == "clip_dr"
    )
    assert (
        variant["training"] == full["training"] | {"lr": 0.5}
        and full["training"]["batch_size"] == 8
    )
    assert study.base("no_sms") == study.base("clip_dr") == "clip_dr"
    assert "results/runs/dg/no_sms/SIM_APTOS/0/scores.csv" in study.runs("scores.csv")


def test_each_protocol_names_its_runs_and_reads_its_domains():
    two = ["SIM_APTOS", "SIM_IDRID"]
    study = read_study(
        config(
            protocols=["dg", "esdg", "within"], targets=["SIM_RLDR"], domains=two, methods=["erm"]
        )
    )
    assert study.runs("", protocol="esdg") == [
        f"results/runs/esdg/erm/all_but_{one}/0" for one in two
    ]
    assert study.runs("")[0] == "results/runs/dg/erm/SIM_APTOS/0" and len(study.runs("")) == 6
    assert "data/store/SIM_RLDR.npy" in study.inputs(
        "erm", "esdg"
    ) and "data/manifests/SIM_RLDR.csv" in study.manifests("esdg")
    for protocol in ("dg", "within"):
        assert not any(
            "RLDR" in file for file in study.inputs("erm", protocol) + study.manifests(protocol)
        )
    assert all(
        path.startswith("results/runs/dg/")
        for path in study.shown("scores.csv", "scores_by_domain")
    )


def test_rules_of_selection_ask_for_what_they_need():
    study = read_study(
        config(
            protocols=["dg", "esdg"],
            selections=["source_val", "last", "loso", "oracle"],
            methods=["erm"],
        )
    )
    assert study.further("dg") == ["loso", "oracle"] and study.further("esdg") == ["oracle"]
    inner = study.inner("dg", "erm", "SIM_APTOS", "0")
    assert inner[0] == "results/inner/dg/erm/SIM_APTOS/0/SIM_DEEPDR.csv" and len(inner) == 5
    assert study.inner("esdg", "erm", "all_but_SIM_APTOS", "0") == []
    assert not any("SIM_APTOS" in file for file in study.inputs("erm", "dg", without="SIM_APTOS"))
    assert read_study(config()).further("dg") == []


def test_a_figure_of_methods_that_a_study_does_not_run_is_not_drawn():
    figures = {"similarity": ["ordinal_clip", "clip_dr"], "scores_by_domain": []}
    assert read_study(config(figures=figures, methods=["erm"])).drawn() == ["scores_by_domain"]
    assert read_study(config(figures=figures, methods=["erm", "clip_dr"])).drawn() == list(figures)


def test_frozen_methods_read_features_and_others_photographs():
    study = read_study(config())
    assert "data/features/demo/prompts.npz" in study.inputs("coop")
    assert not any("store" in file for file in study.inputs("coop"))
    assert "data/store/SIM_RLDR.npy" in study.inputs("clip_dr")


def test_a_methods_code_is_its_module_and_all_that_it_imports():
    study = read_study(config(variants={"no_sms": {"method": "clip_dr", "smooth": False}}))
    assert {"clipdr/methods/drgen.py", "clipdr/methods/fishr.py", "clipdr/methods/base.py"} <= set(
        study.code("drgen")
    )
    assert "clipdr/methods/perturbation.py" in study.code("ddaig")
    assert "clipdr/methods/clip_dr.py" in study.code(
        "no_sms"
    ) and "clipdr/methods/fishr.py" not in study.code("clip_dr")
    assert all(
        (ROOT / path).is_file()
        for method in ("drgen", "ddaig", "no_sms")
        for path in study.code(method)
    )


def test_local_weights_are_an_input():
    towers = {
        "mine": {
            "image": "timm/tf_efficientnet_lite0",
            "weights": "a/b.safetensors",
            "text": "small",
        }
    }
    study = read_study(config(backbones=towers, backbone="mine"))
    assert "a/b.safetensors" in study.inputs("erm")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflow" / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_study_is_valid(path, tmp_path):
    """A study is merged over config.yaml by Snakemake itself: lists replaced, mappings merged. Split files are made up."""
    from snakemake.utils import update_config

    merged = config()
    update_config(merged, yaml.safe_load(path.read_text()))
    merged["raw"] = str(tmp_path)
    (tmp_path / "splits").mkdir()
    for domain in merged["domains"]:
        for part in ("train", "crossval"):
            (tmp_path / "splits" / f"{domain}_{part}.txt").touch()
    study = read_study(merged)
    assert study.methods
    assert set(study.tables) <= set(TABLES) and all(
        TABLES[name].keywords["protocol"] in study.protocols for name in study.tables
    )
    for method in study.methods:
        options = study.settings(method)["options"]
        assert set(options) <= set(inspect.signature(load(study.base(method))).parameters), method


def test_config_imports_nothing_heavy():
    for module in ("config", "grid"):
        tree = ast.parse((ROOT / "clipdr" / f"{module}.py").read_text())
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {
            "clipdr",
            "clipdr.data.domains",
            "clipdr.config.paths",
            "clipdr.training.hparam_search",
            "clipdr.config.job",
        }
        assert names <= ours | {
            "ast",
            "json",
            "re",
            "shlex",
            "functools",
            "pathlib",
            "typing",
            "pydantic",
        }
