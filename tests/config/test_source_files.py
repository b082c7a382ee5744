"""Source files behind a command: the closure over imports, and that every rule names its code."""

import re

import pytest
from helpers.paths import ROOT

from clipdr import DataError
from clipdr.config import source_files
from clipdr.config.source_files import closure, code, command_imports, package_files

RULES = sorted((ROOT / "workflow").rglob("*.smk"))
TOY = {
    "__init__.py": "",
    "files/__init__.py": "",
    "files/writer.py": "import json\n",
    "loop.py": "import numpy as np\nimport toy.metrics as measures\n",
    "metrics.py": "from toy import loop\n",  # a circle with loop.py
    "late.py": "def run():\n    from toy.files import writer as pen, reader\n",
    "files/reader.py": "import missing_library\n",
    "lonely.py": "",
    "cli/__init__.py": "",
    "cli/app.py": "import toy.lonely\n",
    "cli/main.py": """
from toy.cli.app import app

@app.command()
def train():
    from toy import loop
    _helper()

@app.command("late-run", hidden=True)
def late():
    import toy.late

@command("other")
@app.command("alias")
def another(value: int = 0):
    return value

def _helper():
    _second()

def _second():
    from toy.files.writer import write

def uncalled():
    import toy.lonely
""",
    "cli/pretrain.py": """
@pretrain_app.command()
def train():
    import toy.metrics
""",
}


@pytest.fixture
def toy(tmp_path):
    """A package with a command line."""
    for name, text in TOY.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def test_closure_follows_imports_inside_functions_and_of_packages(toy):
    files = closure(frozenset({"late.py"}), toy)
    assert files == {"late.py", "files/writer.py", "files/reader.py"}


def test_closure_follows_renamed_imports_and_ends_in_a_circle(toy):
    assert closure(frozenset({"loop.py"}), toy) == {"loop.py", "metrics.py"}


def test_closure_leaves_out_files_that_change_no_number(toy):
    (toy / "artifacts").mkdir()
    (toy / "artifacts/files.py").write_text("import toy.lonely\n")
    (toy / "late.py").write_text("import toy.artifacts.files\n")
    assert closure(frozenset({"late.py"}), toy) == {"late.py"}


def test_command_imports_include_those_of_called_helpers(toy):
    assert command_imports(toy, "train") == {"loop.py", "files/writer.py"}


def test_command_is_found_by_its_name_alias_and_group(toy):
    assert command_imports(toy, "late-run") == {"late.py"}
    assert command_imports(toy, "alias") == command_imports(toy, "other") == set()
    assert command_imports(toy, "pretrain train") == {"metrics.py"}


def test_unknown_command_is_named_with_the_known_ones(toy):
    with pytest.raises(DataError, match=r"'retrain' is unknown\. Known commands: train, late-run"):
        command_imports(toy, "retrain")
    with pytest.raises(DataError, match="'uncalled' is unknown"):
        command_imports(toy, "uncalled")


def test_unknown_module_is_named():
    with pytest.raises(DataError, match=r"there is no clipdr/methods/clip_rd\.py"):
        code("train", "methods/clip_rd")


def test_pattern_without_a_file_is_named():
    with pytest.raises(DataError, match=r"no file matches 'report/\*\.doc'"):
        package_files("report/*.doc")


def test_code_of_a_method_is_its_module_and_its_imports():
    drgen = code("train", "methods/drgen")
    names = {"clipdr/methods/drgen.py", "clipdr/methods/fishr.py", "clipdr/methods/base.py"}
    assert names <= {re.sub(".*clipdr/", "clipdr/", path) for path in drgen}
    assert any(path.endswith("methods/perturbation.py") for path in code("train", "methods/ddaig"))
    clip_dr = code("train", "methods/clip_dr")
    assert any(path.endswith("methods/clip_dr.py") for path in clip_dr)
    assert not any(path.endswith("methods/fishr.py") for path in clip_dr)


@pytest.mark.parametrize(
    ("folder", "prefix"), [(ROOT, ""), (ROOT.parent, f"{ROOT.name}/"), (None, f"{ROOT}/")]
)
def test_code_is_relative_in_the_repository_and_absolute_elsewhere(
    folder, prefix, monkeypatch, tmp_path
):
    monkeypatch.chdir(folder or tmp_path)
    paths = code("score")
    assert f"{prefix}clipdr/evaluation/scoring.py" in paths
    assert all(path.startswith(f"{prefix}clipdr/") for path in paths)
    assert all((source_files.Path.cwd() / path).is_file() for path in paths)
    assert source_files.project_file("docs/x.md") == f"{prefix}docs/x.md"


def rules_with_commands():
    """(file and rule, text of the rule, commands that its shell line runs)."""
    for path in RULES:
        for rule in re.split(r"(?m)^ *(?=(?:use )?rule \w+)", path.read_text())[1:]:
            commands = re.findall(r"python -m clipdr ((?:pretrain |multimodal )?[a-z-]+)", rule)
            if commands:
                name = re.match(r"(?:use )?rule (\w+)", rule)[1]
                yield pytest.param(rule, commands, id=f"{path.stem}-{name}")


@pytest.mark.parametrize(("rule", "commands"), list(rules_with_commands()))
def test_rule_names_the_code_of_every_command_it_runs(rule, commands):
    for command in commands:
        assert f'code("{command}"' in rule
        assert code(command)
    assert len(re.findall(r'code\("', rule)) == len(commands)
    # no list of module names beside it
    inputs = rule.split("output:")[0]
    assert not re.search(r"\.py\b|clipdr/", inputs.split("input:")[1])


def test_every_command_is_found_in_every_rule_file():
    assert len(list(rules_with_commands())) >= 25
