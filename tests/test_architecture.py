"""Who may import whom: rooms, circles, light modules, libraries with one room."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers.paths import ROOT

PACKAGE = ROOT / "clipdr"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
# room -> rooms it may import; every room may import the constants of clipdr/__init__.py
ALLOWED = {
    "artifacts": [],
    "data": ["artifacts"],
    "config": ["data.domains", "data.protocols", "methods.__init__"],
    "models": ["config", "artifacts"],
    "evaluation": ["data", "artifacts"],
    "methods": ["models", "data.loader", "evaluation.metrics"],
    "report": ["evaluation", "data", "artifacts"],
    "training": ["methods", "models", "evaluation", "data", "config", "artifacts"],
    "inference": ["training", "methods", "models", "evaluation", "data", "config", "artifacts"],
    "pretrain": [
        "training",
        "models",
        "methods",
        "evaluation",
        "data",
        "report",
        "config",
        "artifacts",
    ],
    "multimodal": [
        "training",
        "models",
        "methods",
        "evaluation",
        "data",
        "report",
        "config",
        "artifacts",
    ],
}
ALLOWED["cli"] = [*ALLOWED]
WITHIN = {  # inside a room: module or sub-room -> parts of the room that it must not import
    "data.sources": [
        "data.synthetic",
        "data.preprocessing",
        "data.loader",
        "data.splits",
        "data.leakage",
        "data.augmentation",
    ],
    "data.synthetic": [
        "data.sources",
        "data.loader",
        "data.splits",
        "data.leakage",
        "data.augmentation",
    ],
    "data.preprocessing": [
        "data.synthetic",
        "data.loader",
        "data.splits",
        "data.leakage",
        "data.augmentation",
    ],
    "data.domains": ["data"],
    "data.protocols": ["data"],
    "report.tables": [
        "report.figures",
        "report.page",
        "report.data_report",
        "report.data_report_html",
    ],
    "report.figures": ["report.page", "report.data_report", "report.data_report_html"],
    "multimodal.data": [
        "multimodal.evaluation",
        "multimodal.report",
        "multimodal.losses",
        "multimodal.loop",
        "multimodal.run",
    ],
    "multimodal.evaluation": ["multimodal.report"],
}
LIGHT = [
    "clipdr",
    "clipdr.artifacts.files",
    "clipdr.artifacts.receipts",
    "clipdr.artifacts.run_folder",
    "clipdr.config.study",
]
LIGHT += [
    "clipdr.config.source_files",
    "clipdr.data.domains",
    "clipdr.data.protocols",
    "clipdr.methods",
    "clipdr.cli.main",
]
WITHOUT_TORCH = [
    "clipdr.evaluation.aggregate",
    "clipdr.evaluation.scoring",
    "clipdr.report.tables.catalog",
    "clipdr.report.page.build",
]
WITHOUT_TORCH += ["clipdr.data.preprocessing.prepare", "clipdr.data.synthetic.dataset"]
HEAVY = ["torch", "torchvision", "open_clip", "timm", "transformers", "mlflow"]


def module_of(file):
    """clipdr/data/loader.py -> data.loader; clipdr/methods/__init__.py -> methods.__init__."""
    return ".".join(Path(file).with_suffix("").parts[1:])


@cache
def imports(file):
    """Files of the package that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: relative import; write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".replace(".", "/")
                names.add(f"{whole}.py" if (ROOT / f"{whole}.py").is_file() else node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = set()
    for name in names:
        path = name if name.endswith(".py") else f"{name.replace('.', '/')}.py"
        package = f"{path.removesuffix('.py')}/__init__.py"
        files |= {one for one in (path, package) if one in FILES}
    return sorted(files - {file})


def below(module, names):
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("file", FILES)
def test_file_imports_only_what_its_room_may(file):
    module = module_of(file)
    room = module.partition(".")[0]
    for other in map(module_of, imports(file)):
        if other == "__init__" or room in ("__init__", "__main__"):
            continue
        if other.partition(".")[0] != room:
            assert below(other, ALLOWED[room]), (
                f"{file} imports clipdr.{other}; {room} may import {', '.join(ALLOWED[room])}"
            )
        for part, forbidden in WITHIN.items():
            if below(module, [part]) and not below(other, [part]):
                assert not below(other, forbidden), (
                    f"{file} imports clipdr.{other}; {part} must not"
                )


def test_imports_have_no_circle_of_files():
    done, path = set(), []

    def visit(file):
        assert file not in path, f"circle: {' -> '.join([*path[path.index(file) :], file])}"
        if file not in done:
            path.append(file)
            for other in imports(file):
                visit(other)
            path.pop()
            done.add(file)

    for file in FILES:
        visit(file)


def test_command_line_is_imported_by_no_other_room():
    for file in FILES:
        if not file.startswith(("clipdr/cli/", "clipdr/__main__")):
            assert not [other for other in imports(file) if other.startswith("clipdr/cli/")], file


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_imports_neither_torch_nor_pandas(module):
    assert loaded(module, [*HEAVY, "pandas", "matplotlib", "sklearn"]) == "[]"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_module_of_data_evaluation_or_report_imports_no_torch(module):
    assert loaded(module, HEAVY) == "[]"


def loaded(module, names):
    script = f"import sys, {module}; print([name for name in {names} if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


@pytest.mark.parametrize(
    ("library", "room"), [("mlflow", "clipdr/report/tracking.py"), ("typer", "clipdr/cli/")]
)
def test_library_is_imported_in_its_room_alone(library, room):
    for file in FILES:
        nodes = [
            node
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {getattr(node, "module", None) or node.names[0].name for node in nodes}
        assert file.startswith(room) or not [
            name for name in names if name.split(".")[0] == library
        ], file


def test_folders_have_at_most_fourteen_modules():
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 14
    for folder in {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE / "methods"}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 14, (
            folder
        )


def test_run_is_decoded_from_its_path_in_one_module():
    for file in FILES:
        assert (
            file == "clipdr/artifacts/run_folder.py" or "parts[-" not in (ROOT / file).read_text()
        ), file


def test_init_file_holds_its_docstring_alone():
    for file in FILES:
        if file.endswith("__init__.py") and file not in (
            "clipdr/__init__.py",
            "clipdr/methods/__init__.py",
        ):
            assert len(ast.parse((ROOT / file).read_text()).body) == 1, file


def test_every_module_of_methods_is_in_the_table_under_its_name():
    from clipdr.methods import METHODS, load

    shared = {"__init__", "base", "losses", "smoothing", "perturbation"}
    assert {path.stem for path in (PACKAGE / "methods").glob("*.py")} - shared == set(METHODS)
    assert all(load(name).__module__ == f"clipdr.methods.{name}" for name in METHODS)
