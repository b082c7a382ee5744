"""Shared parts of the benchmarks: interleaved pairs, printed rows, and JSON results."""

import argparse
import importlib.util
import json
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def harness():
    path = ROOT / "benchmarks" / "_harness.py"
    spec = importlib.util.spec_from_file_location("benchmark_harness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_paired_alternates_which_function_is_first(harness):
    calls = []
    ticks = iter(range(100))
    seconds = harness.paired(
        lambda: calls.append("ours"), lambda: calls.append("reference"), 3, lambda: next(ticks)
    )
    first, second = ["ours", "reference"], ["reference", "ours"]
    assert calls == [*first, *first, *second, *first]  # one call of each to warm up
    assert seconds == ([1, 1, 1], [1, 1, 1])


def test_paired_repeats_count_per_call(harness):
    calls = []
    ticks = iter(range(0, 100, 4))
    ours, reference = harness.paired(
        lambda: calls.append(1), lambda: None, 2, lambda: next(ticks), repeats=4
    )
    assert len(calls) == 1 + 2 * 4
    assert (ours, reference) == ([1, 1], [4, 4])


def test_results_are_printed_and_written_as_json(harness, tmp_path, capsys):
    arguments = argparse.Namespace(json=tmp_path / "results.json", pairs=3)
    results = harness.Results("benchmarks/bench_x.py", arguments)
    results.table(*harness.COLUMNS)
    results.compare("step", ([1.0, 2.0, 4.0], [10.0, 10.0, 10.0]), ">= 2", count=20)
    results.compare("loop", ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]), cost=True)
    results.add("memory", "peak 7 MB", peak_mb=float("nan"), folder=Path("a"))
    results.write()
    assert capsys.readouterr().out.splitlines() == [
        "| work | ours | reference | ratio | aim |",
        "|---|---|---|---|---|",
        "| step | 10 images/s | 2 images/s | 5.00 | >= 2 |",
        "| loop | 1000.00 ms | 2000.00 ms | 0.50 | - |",
        "peak 7 MB",
    ]
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["benchmark"] == "bench_x"
    assert content["arguments"]["pairs"] == 3
    assert [row["work"] for row in content["rows"]] == ["step", "loop", "memory"]
    assert content["rows"][0]["ratio"] == 5
    assert content["rows"][1]["ratio_is"] == "ours / reference"
    assert content["rows"][2]["peak_mb"] is None
    assert content["rows"][2]["folder"] == "a"


def test_results_without_a_file_write_nothing(harness, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harness.Results("bench_x.py", argparse.Namespace(json=None)).write()
    assert list(tmp_path.iterdir()) == []


def test_every_script_uses_the_harness(harness):
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    names = {path.name for path in scripts}
    assert all(name == "_harness.py" or name.startswith("bench_") for name in names)
    for path in scripts:
        if path.name != "_harness.py":
            assert "from _harness import" in path.read_text(), path.name
            assert "results.write()" in path.read_text(), path.name
            assert f"`{path.name}" in (ROOT / "benchmarks/README.md").read_text(), path.name
