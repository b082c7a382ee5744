"""What imports what: the arrows of the house, lazy imports, and the modules that each rule names as its code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clipdr.config import Config
from clipdr.figures import FIGURES
from clipdr.grid import behind

ROOT = Path(__file__).parents[1]
STUDY = Config(**yaml.safe_load((ROOT / "config.yaml").read_text()))
PACKAGE = ROOT / "clipdr"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}
LIGHT = {"clipdr", "clipdr.files", "clipdr.receipts"}  # constants, atomic writes, digests: no rule's numbers depend on them
HEAVY = ("torch", "torchvision", "open_clip", "timm", "mlflow", "matplotlib", "seaborn", "sklearn", "transformers")


FIGURE_READS = {"scores_by_domain": [], "confusion": [], "reliability": [], "roc": [], "training": []} | ast.literal_eval(
    re.search(r"^FIGURE_CODE = (\{.*?^\})", (ROOT / "workflow/rules/report.smk").read_text(), re.M | re.S)[1]
)


def imported(nodes):
    """clipdr modules that a list of syntax nodes imports."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clipdr"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} | ({node.module} if names - set(MODULES) else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def closure(modules):
    """All clipdr modules behind some modules; methods/__init__ stands for the table, not for every method."""
    seen, todo = set(), set(modules)
    while todo:
        module = todo.pop()
        seen.add(module)
        if module != "clipdr.methods":
            todo |= imported(ast.walk(ast.parse(MODULES[module].read_text()))) - seen
    return seen - LIGHT - {"clipdr.methods"}


def verbs(package=""):
    """{verb: clipdr modules it imports}, of clipdr or of one of its sub-packages; there the helpers beside the verbs too."""
    paths = [PACKAGE / package / "__main__.py"] if package else sorted((PACKAGE / "verbs").glob("*.py"))
    nodes = [node for path in paths for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: imported(ast.walk(node)) for node in nodes if package or node.decorator_list}


def code_lists():
    """{rule: clipdr modules that its `code` input names}; of the methods, clip_dr's."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    constants = {}
    for name, body in re.findall(r"^([A-Z_]+_CODE) = (expand\(.*?\n?\))$", text, re.M | re.S):
        constants[name] = set(re.findall(r'"([a-z_/]+)"', body))
    found = {}
    for rule, body in re.findall(r"rule (\w+):(.*?)(?=\n *rule |\Z)", text, re.S):
        code = re.search(r"code=(.*?)\n +output:", body, re.S)
        if code is None:  # a rule that only names files runs nothing
            continue
        code = code[1]
        modules = set(re.findall(r'"(?:clipdr/)?([a-z_/]+?)(?:\.py)?"', code))
        for name in constants:
            modules |= constants[name] if name in code else set()
        if "FIGURE_CODE.get" in code:  # of all figures together; each alone: test_a_figure_names_the_modules_that_it_reads
            modules |= {name for figure, names in FIGURE_READS.items() for name in (*names, f"plots/{figure}")}
        if "behind(" in code:
            modules = {path.removeprefix("clipdr/").removesuffix(".py") for path in behind(*re.findall(r'"([a-z_/]+)"', code))}
        if "study.code(" in code:
            modules |= {path.removeprefix("clipdr/").removesuffix(".py") for path in STUDY.code("clip_dr")}
        found[rule] = {"clipdr." + module.replace("/", ".") for module in modules}
    return found


RULES = [
    "synthesize",
    "prepare",
    "data_report",
    "features",
    "prompts",
    "leaks",
    "gate",
    "train",
    "curve",
    "select",
    "search",
    "score",
    "collect",
    "compare",
    "table",
    "figure",
    "cam",
    "track",
    "page",
]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_names_the_modules_its_verb_imports(rule):
    """Snakemake does not see an edit of an imported module, so each rule lists them; no more and no fewer."""
    needed = closure(verbs()[rule])
    if rule in ("train", "curve", "select", "search", "cam"):
        needed |= closure({"clipdr.methods.clip_dr"})
    if rule == "figure":
        needed |= closure({f"clipdr.plots.{name}" for name in FIGURES})
    assert code_lists()[rule] == needed


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("pairs", ["pairs", "_upstream"]),
        ("pretrain", ["pretrain"]),
        ("export_backbone", ["export"]),
        ("evaluate_pretrained", ["retrieve", "probe", "zeroshot"]),
        ("pretrain_report", ["report"]),
    ],
)
def test_a_rule_of_pretrain_names_the_modules_its_verbs_import(rule, names):
    found = verbs("pretrain")
    assert code_lists()[rule] == closure(set().union(*(found[name] for name in names)))


def test_the_spine_imports_no_sub_package():
    for name, path in MODULES.items():
        if not name.startswith(("clipdr.pretrain", "clipdr.multimodal")):
            assert not any(
                one.startswith(("clipdr.pretrain", "clipdr.multimodal")) for one in imported(ast.walk(ast.parse(path.read_text())))
            ), name


def test_a_figure_names_the_modules_that_it_reads():
    """Beside what all figures read: so that an edit of one figure's module draws no other again."""
    shared = closure({"clipdr.figures"})
    assert set(FIGURE_READS) == set(FIGURES)
    for name, further in FIGURE_READS.items():
        own = closure({f"clipdr.plots.{name}"}) - shared - {f"clipdr.plots.{name}"}
        assert own == {f"clipdr.{module}" for module in further}, name


@pytest.mark.parametrize(
    "module", ["clipdr", "clipdr.config", "clipdr.__main__", "clipdr.evaluate", "clipdr.tables", "clipdr.store", "clipdr.synthetic"]
)
def test_light_modules_stay_light(module):
    script = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    assert heavy == "[]"


def test_jobs_on_cached_features_import_no_towers(cached, manifests, tmp_path, settings):
    """zero_shot, linear_probe: neither open_clip nor timm, each worth seconds per job."""
    import json

    script = (
        "import sys, json; from clipdr import runs\n"
        f"runs.run(json.loads({json.dumps(settings(True))!r}), 'dg', sys.argv[1], 'SIM_APTOS', 0, manifests=sys.argv[3:],"
        f" data={str(cached)!r}, folder=sys.argv[2], device='cpu')\n"
        "print([name for name in ('open_clip', 'timm', 'torchvision', 'transformers') if name in sys.modules])"
    )
    for method in ("zero_shot", "linear_probe"):
        command = [sys.executable, "-c", script, method, str(tmp_path / method), *map(str, manifests)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "[]"


def test_only_track_imports_mlflow():
    for name, path in MODULES.items():
        assert name == "clipdr.track" or not re.search(r"^\s*(import|from) mlflow", path.read_text(), re.M), name


def test_every_module_of_methods_is_in_the_table_under_its_name():
    from clipdr.methods import METHODS

    modules = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__", "base"}
    assert modules == set(METHODS)
    assert all(cls.__module__ == f"clipdr.methods.{name}" for name, cls in METHODS.items())


def test_no_job_calls_dvc():
    for path in (ROOT / "workflow").rglob("*"):
        assert not path.is_file() or not re.search(r"\bdvc (add|repro|push|pull|run)", path.read_text(errors="ignore"))
