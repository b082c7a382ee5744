"""Paths of a study: run folders in the order of the tables, and the inputs of its jobs."""

import ast

from helpers.paths import ROOT
from helpers.study import config

from clipdr.config.paths import StudyPaths
from clipdr.config.study import read_study


def study_paths(**changes):
    return StudyPaths(read_study(config(**changes)))


def test_run_files_are_in_the_order_of_the_tables():
    paths = study_paths(domains=["SIM_RLDR", "SIM_APTOS"], methods=["erm", "clip_dr"], seeds=[1, 0])
    runs = paths.run_files("scores.csv")
    assert len(runs) == 8
    assert runs[:2] == [
        "results/runs/dg/erm/SIM_RLDR/1/scores.csv",
        "results/runs/dg/erm/SIM_RLDR/0/scores.csv",
    ]
    assert paths.run_folders(["clip_dr"])[0] == "results/runs/dg/clip_dr/SIM_RLDR/1"


def test_variant_has_run_folders_of_its_own():
    paths = study_paths(
        methods=["clip_dr", "no_sms"], variants={"no_sms": {"method": "clip_dr", "smooth": False}}
    )
    assert "results/runs/dg/no_sms/SIM_APTOS/0/scores.csv" in paths.run_files("scores.csv")


def test_each_protocol_names_its_runs_and_reads_its_domains():
    two = ["SIM_APTOS", "SIM_IDRID"]
    paths = study_paths(
        protocols=["dg", "esdg", "within"], targets=["SIM_RLDR"], domains=two, methods=["erm"]
    )
    assert paths.run_folders(protocol="esdg") == [
        f"results/runs/esdg/erm/all_but_{domain}/0" for domain in two
    ]
    assert paths.run_folders()[0] == "results/runs/dg/erm/SIM_APTOS/0"
    assert len(paths.run_folders()) == 6
    assert "data/store/SIM_RLDR.npy" in paths.training_inputs("erm", "esdg")
    assert "data/manifests/SIM_RLDR.csv" in paths.manifests("esdg")
    for protocol in ("dg", "within"):
        files = paths.training_inputs("erm", protocol) + paths.manifests(protocol)
        assert not any("RLDR" in file for file in files)
    files = paths.figure_run_files("scores.csv", "scores_by_domain")
    assert files
    assert all(path.startswith("results/runs/dg/") for path in files)
    assert paths.gate_files()[2] == "results/gate/esdg/all_but_SIM_APTOS.json"


def test_activation_maps_are_of_the_first_fold_and_seed():
    paths = study_paths(seeds=[3, 0], figures={"cam": ["clip_dr"]})
    assert paths.cam_run_folders() == ["results/runs/dg/clip_dr/SIM_APTOS/3"]
    assert paths.cam_run_files("model.safetensors") == [
        "results/runs/dg/clip_dr/SIM_APTOS/3/model.safetensors"
    ]
    assert study_paths(figures={}).cam_run_folders() == []


def test_inner_curves_leave_out_one_source_domain_each():
    selections = ["source_val", "last", "loso", "oracle"]
    paths = study_paths(protocols=["dg", "esdg"], selections=selections, methods=["erm"])
    curves = paths.inner_curves("dg", "erm", "SIM_APTOS", "0")
    assert curves[0] == "results/inner/dg/erm/SIM_APTOS/0/SIM_DEEPDR.csv"
    assert len(curves) == 5
    assert paths.inner_curves("esdg", "erm", "all_but_SIM_APTOS", "0") == []


def test_training_inputs_without_a_domain_read_nothing_of_it():
    paths = study_paths(methods=["erm"])
    files = paths.training_inputs("erm", "dg", without="SIM_APTOS")
    assert files
    assert not any("SIM_APTOS" in file for file in files)
    assert any("SIM_APTOS" in file for file in paths.training_inputs("erm", "dg"))


def test_frozen_methods_read_features_and_others_images():
    paths = study_paths()
    assert "data/features/demo/prompts.npz" in paths.training_inputs("coop")
    assert not any("store" in file for file in paths.training_inputs("coop"))
    assert "data/store/SIM_RLDR.npy" in paths.training_inputs("clip_dr")


def test_local_weights_are_an_input():
    backbone = {
        "image": "timm/tf_efficientnet_lite0",
        "weights": "a/b.safetensors",
        "text": "small",
    }
    paths = study_paths(backbones={"mine": backbone}, backbone="mine")
    assert "a/b.safetensors" in paths.training_inputs("erm")


def test_files_of_an_exported_backbone_are_an_input():
    paths = study_paths(backbone="results/pretrain/backbones/odir_0")
    files = paths.training_inputs("erm")
    assert "results/pretrain/backbones/odir_0/visual.safetensors" in files


def test_search_files_are_of_methods_with_a_search_space():
    paths = study_paths(methods=["zero_shot", "erm"])
    assert paths.search_files() == ["results/search/erm.json"]


def test_config_imports_nothing_heavy():
    light = {"ast", "collections", "dataclasses", "functools", "json", "os", "pathlib", "re"}
    light |= {"shlex", "typing", "pydantic", "clipdr"}
    for path in (ROOT / "clipdr" / "config").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imports = [node for node in nodes if isinstance(node, ast.Import)]
        names = {alias.name for node in imports for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= light, path
        ours = {name for name in names if name.startswith("clipdr.")}
        allowed = {"clipdr.data.domains", "clipdr.data.protocols", "clipdr.methods"}
        assert {name for name in ours if not name.startswith("clipdr.config")} <= allowed, path
