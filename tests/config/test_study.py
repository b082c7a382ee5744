"""config.yaml as a checked study: wrong keys are named, and the settings that follow from it."""

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
from clipdr.report.tables.catalog import TABLES

STUDIES = sorted((ROOT / "workflow" / "studies").glob("*.yaml"))


def test_default_study_is_offline_and_synthetic():
    study = read_study(config())
    assert all(name.startswith("SIM_") for name in study.domains)
    assert study.backbone_json(study.backbone) == json.dumps(
        {"name": "demo", **BACKBONES["demo"].model_dump()}, sort_keys=True
    )


@pytest.mark.parametrize(
    ("changes", "message"),
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
        ({"search": {"held_out": "APTOS"}}, "search.held_out: 'APTOS' is not a domain"),
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
        ({"own": {"myclinic": {"table": "x.csv"}}}, "'myclinic' is not a valid new name"),
        ({"own": {"SIM_MINE": {"table": "x.csv"}}}, "SIM_MINE"),
        ({"own": {"APTOS": {"table": "x.csv"}}}, "do not reuse a known name"),
        (
            {"own": {"MYCLINIC": {"table": "gone.csv"}}, "domains": ["MYCLINIC", "SIM_APTOS"]},
            "own.MYCLINIC.table: there is no gone.csv",
        ),
        ({"domains": ["MYCLINIC", "SIM_APTOS"]}, "MYCLINIC"),
        ({"raw": "nowhere", "domains": ["APTOS", "IDRID"]}, "nowhere/splits/APTOS_train.txt"),
    ],
)
def test_wrong_value_is_named(changes, message):
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        read_study(config(**changes))


def test_options_of_a_method_override_the_shared_training():
    study = read_study(config(options={"erm": {"training": {"lr": 0.5}, "backbone": "tiny"}}))
    erm, clip_dr = study.settings("erm"), study.settings("clip_dr")
    assert erm["training"] == clip_dr["training"] | {"lr": 0.5}
    assert (erm["backbone"]["name"], clip_dr["backbone"]["name"]) == ("tiny", "demo")
    assert json.loads(study.settings_json("erm")) == erm


def test_changed_settings_do_not_change_those_of_the_next_call():
    study = read_study(config())
    study.settings("erm")["training"]["lr"] = 5
    assert study.settings("erm")["training"]["lr"] == study.training.lr
    assert json.loads(study.settings_json("erm")) == study.settings("erm")


def test_custom_dataset_is_prepared_from_its_table(tmp_path):
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
    assert study.image_lists("MYCLINIC") == [str(table)]
    assert study.synthetic_domains == ["SIM_APTOS"]
    assert (
        study.prepare_options("MYCLINIC")
        == f"--size 112 --tolerance 3 --complete --table '{table}'"
    )
    assert study.prepare_options("SIM_APTOS") == "--size 112 --tolerance 3 --complete"


def test_variant_overrides_the_options_of_its_method():
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
    assert full["options"] == {"max_rank": 2, "smooth": True}
    assert "variant_of" not in full
    assert variant["options"] == {"max_rank": 2, "smooth": False, "bank": "B"}
    assert variant["variant_of"] == "clip_dr"
    assert variant["training"] == full["training"] | {"lr": 0.5}
    assert full["training"]["batch_size"] == 8
    assert study.base_method("no_sms") == study.base_method("clip_dr") == "clip_dr"
    assert study.method_module("no_sms") == "methods/clip_dr"


def test_checkpoint_rules_depend_on_the_protocol():
    selections = ["source_val", "last", "loso", "oracle"]
    study = read_study(config(protocols=["dg", "esdg"], selections=selections, methods=["erm"]))
    assert study.checkpoint_rules("dg") == ["loso", "oracle"]
    assert study.checkpoint_rules("esdg") == ["oracle"]
    assert read_study(config()).checkpoint_rules("dg") == []


def test_figure_of_methods_that_the_study_lacks_is_left_out():
    figures = {"similarity": ["ordinal_clip", "clip_dr"], "scores_by_domain": []}
    study = read_study(config(figures=figures, methods=["erm"]))
    assert study.figure_names == ["scores_by_domain"]
    study = read_study(config(figures=figures, methods=["erm", "clip_dr"]))
    assert study.figure_names == list(figures)
    study = read_study(config(figures=figures | {"similarity": None}))
    assert study.figure_names == ["scores_by_domain"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_valid(path, tmp_path):
    """Snakemake merges a study over config.yaml: lists are replaced, mappings are merged."""
    from snakemake.utils import update_config

    merged = config()
    update_config(merged, yaml.safe_load(path.read_text()))
    merged["raw"] = str(tmp_path)
    (tmp_path / "splits").mkdir()
    for domain in merged["domains"]:
        for split in ("train", "crossval"):
            (tmp_path / "splits" / f"{domain}_{split}.txt").touch()
    study = read_study(merged)
    assert study.methods
    assert set(study.tables) <= set(TABLES)
    assert all(TABLES[name].protocol in study.protocols for name in study.tables)
    for method in study.methods:
        options = study.settings(method)["options"]
        parameters = inspect.signature(load(study.base_method(method))).parameters
        assert set(options) <= set(parameters), method
