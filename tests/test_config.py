"""config.yaml: typed, complete, every wrong key named; the grid; the slice of one job."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from clipdr import DataError
from clipdr.config import read_study
from clipdr.settings import BACKBONES

ROOT = Path(__file__).parents[1]


def config(**changes):
    return yaml.safe_load((ROOT / "config.yaml").read_text()) | changes


def test_the_default_study_is_offline_and_synthetic():
    study = read_study(config())
    assert all(name.startswith("SIM_") for name in study.domains)
    assert study.tower(study.backbone) == json.dumps({"name": "demo", **BACKBONES["demo"].model_dump()}, sort_keys=True)


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
        ({"tolerance": -1}, "tolerance"),
        ({"own": {"MYCLINIC": {"tabel": "x.csv"}}}, "own.MYCLINIC.tabel"),
        ({"own": {"myclinic": {"table": "x.csv"}}}, "'myclinic': use capitals"),
        ({"own": {"SIM_MINE": {"table": "x.csv"}}}, "SIM_MINE"),
        ({"own": {"APTOS": {"table": "x.csv"}}}, "take a new name"),
        ({"own": {"MYCLINIC": {"table": "gone.csv"}}, "domains": ["MYCLINIC", "SIM_APTOS"]}, "own.MYCLINIC.table: there is no gone.csv"),
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
    study = read_study(config(own={"MYCLINIC": {"table": str(table)}}, domains=["MYCLINIC", "SIM_APTOS"], tolerance=3, complete=True))
    assert study.lists("MYCLINIC") == [str(table)] and study.synthetic_domains() == ["SIM_APTOS"]
    assert study.prepare_options("MYCLINIC") == f"--size 112 --tolerance 3 --complete --table '{table}'"
    assert study.prepare_options("SIM_APTOS") == "--size 112 --tolerance 3 --complete"


def test_the_grid_is_in_the_order_of_the_tables():
    study = read_study(config(domains=["SIM_RLDR", "SIM_APTOS"], methods=["erm", "clip_dr"], seeds=[1, 0]))
    runs = study.runs("scores.csv")
    assert len(runs) == 8
    assert runs[:2] == ["results/runs/dg/erm/SIM_RLDR/1/scores.csv", "results/runs/dg/erm/SIM_RLDR/0/scores.csv"]
    assert study.runs("", ["clip_dr"])[0] == "results/runs/dg/clip_dr/SIM_RLDR/1"


def test_frozen_methods_read_features_and_others_photographs():
    study = read_study(config())
    assert "data/features/demo/prompts.npz" in study.inputs("coop")
    assert not any("store" in file for file in study.inputs("coop"))
    assert "data/store/SIM_RLDR.npy" in study.inputs("clip_dr")


def test_local_weights_are_an_input():
    towers = {"mine": {"image": "timm/tf_efficientnet_lite0", "weights": "a/b.safetensors", "text": "small"}}
    study = read_study(config(backbones=towers, backbone="mine"))
    assert "a/b.safetensors" in study.inputs("erm")


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_is_valid(path, tmp_path):
    """A study is merged over config.yaml as Snakemake does: lists replaced, mappings merged. Split files are made up."""
    study = yaml.safe_load(path.read_text())
    merged = config()
    for key, value in study.items():
        merged[key] = merged[key] | value if isinstance(value, dict) else value
    merged["raw"] = str(tmp_path)
    (tmp_path / "splits").mkdir()
    for domain in merged["domains"]:
        for part in ("train", "crossval"):
            (tmp_path / "splits" / f"{domain}_{part}.txt").touch()
    assert read_study(merged).methods


def test_config_imports_nothing_heavy():
    tree = ast.parse((ROOT / "clipdr" / "config.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= {"json", "re", "shlex", "functools", "pathlib", "typing", "pydantic", "clipdr", "clipdr.domains", "clipdr.settings"}
