"""The multimodal rules: each names the modules that its verb runs; sisters stay apart; the study is planned without a model."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from test_imports import MODULES, closure, code_lists, imported

from clipdr.multimodal.settings import settings

ROOT = Path(__file__).parents[1]
VERBS = {
    node.name: imported(ast.walk(node))
    for node in ast.parse(MODULES["clipdr.multimodal.__main__"].read_text()).body
    if isinstance(node, ast.FunctionDef) and node.decorator_list
}
RULES = ("prepare", "train", "retrieve", "classify", "controls", "noise", "ceilings", "report")


@pytest.mark.parametrize("verb", RULES)
def test_a_rule_names_the_modules_its_verb_imports(verb):
    assert code_lists()[f"mm_{verb}"] == closure(VERBS[verb])


def test_the_spine_imports_neither_sister_and_sisters_do_not_import_each_other():
    for name, path in MODULES.items():
        sister = name.split(".")[1:2]
        for other in ("multimodal", "pretrain"):
            if sister != [other]:
                assert not any(one.startswith(f"clipdr.{other}") for one in imported(ast.walk(ast.parse(path.read_text())))), (name, other)


def test_the_study_is_planned_and_its_settings_are_known():
    import yaml

    study = yaml.safe_load((ROOT / "workflow/studies/multimodal.yaml").read_text())["multimodal"]
    for name, changed in study["models"].items():
        made = settings(study["settings"] | changed, study["preset"])
        assert made.leaky == (name == "fused")
    command = [sys.executable, "-m", "snakemake", "multimodal", "-n", "--cores", "1", "--configfile", "workflow/studies/multimodal.yaml"]
    values = ["--config", "multimodal={data: none/data, results: none/results}"]
    done = subprocess.run([*command, *values], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"mm_train           {len(study['models'])}" in done.stdout.replace("\t", " "), done.stdout[-2000:]


@pytest.mark.parametrize("verb", [*RULES, "transfer"])
def test_every_verb_explains_itself(verb):
    from typer.testing import CliRunner

    from clipdr.multimodal.__main__ import app

    done = CliRunner().invoke(app, [verb, "--help"])
    assert done.exit_code == 0 and len(done.output.split()) > 30
