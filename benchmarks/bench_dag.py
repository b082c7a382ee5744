"""Time that Snakemake needs to build the DAG of a study, and the share of this project in it.

Compares `snakemake --dry-run` of a study with a dry run of a reference workflow. The reference has
the same rules, jobs, wildcards and files, but its inputs are looked up in one dictionary. The
difference is the cost of the project's own code: reading the study, settings as JSON, source files
of every job.

    python benchmarks/bench_dag.py [workflow/studies/gdrbench.yaml] [--repeat 3] [--profile FILE]

Prints CPU-seconds of both and their difference; with --profile, also writes statistics of cProfile.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from _harness import Results, parser

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = ROOT / "workflow" / "Snakefile"
REFERENCE = """
import json

RULES = json.load(open("rules.json"))

wildcard_constraints:
    domain="[A-Z0-9_]+",
    held_out="(all_but_)?[A-Z0-9_]+",
    protocol="[a-z_]+",
    method="[a-z0-9_]+",
    backbone="[a-z0-9_]+",
    seed="[0-9]+",
    name="[a-z0-9_]+",

ruleorder: cam > figure

for _name, _rule in RULES.items():
    rule:
        name: _name
        input: lambda wildcards, jobs=_rule["jobs"]: jobs["/".join(wildcards)]
        output: *_rule["output"]
        log: *_rule["log"]
        shell: "true"
"""


def write_splits(study: Path, raw: Path) -> None:
    """Write empty split files for the real domains of a study."""
    mapping = yaml.safe_load((ROOT / "config.yaml").read_text())
    mapping |= yaml.safe_load(study.read_text())
    (raw / "splits").mkdir(parents=True)
    for domain in [*mapping["domains"], *mapping.get("targets", [])]:
        for split in ("train", "crossval"):
            (raw / "splits" / f"{domain}_{split}.txt").touch()


def write_reference(study: Path, folder: Path, raw: Path) -> tuple[int, int]:
    """Write the reference workflow of a study; return the numbers of its jobs and input files."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

    output = OutputSettings(quiet={Quietness.ALL}, dryrun=True)
    streams = contextlib.ExitStack()
    streams.enter_context(contextlib.redirect_stdout(io.StringIO()))
    streams.enter_context(contextlib.redirect_stderr(io.StringIO()))
    with streams, SnakemakeApi(output) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[study], config={"raw": str(raw)}),
            snakefile=SNAKEFILE,
            workdir=folder,
        )
        workflow.dag().execute_workflow(executor="dryrun")
        jobs = list(workflow._workflow.dag.jobs)
    rules = {}
    for job in sorted(jobs, key=lambda job: job.rule.name != "all"):
        rule = rules.setdefault(
            job.rule.name,
            {
                "output": [str(file) for file in job.rule.output],
                "log": [str(file) for file in job.rule.log],
                "jobs": {},
            },
        )
        rule["jobs"]["/".join(job.wildcards)] = [str(file) for file in job.input]
    folder.mkdir(exist_ok=True)
    (folder / "rules.json").write_text(json.dumps(rules))
    (folder / "Snakefile").write_text(REFERENCE)
    return len(jobs), sum(len(job.input) for job in jobs)


def dry_run(arguments: list[str], profile: str | None = None) -> float:
    """CPU-seconds of a dry run with some arguments, which must succeed."""
    python = [sys.executable, *(["-m", "cProfile", "-o", profile] if profile else [])]
    command = [
        *python,
        "-m",
        "snakemake",
        "--dry-run",
        "--quiet",
        "all",
        "--cores",
        "1",
        *arguments,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument(
        "study", nargs="?", type=Path, default=ROOT / "workflow" / "studies" / "gdrbench.yaml"
    )
    options.add_argument("--repeat", type=int, default=3, help="runs of each; the least counts")
    options.add_argument("--profile", help="file for the statistics of cProfile")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        raw, folder = Path(temporary) / "raw", Path(temporary) / "study"
        folder.mkdir()
        study = arguments.study.resolve()
        write_splits(study, raw)
        jobs, files = write_reference(study, folder, raw)
        ours = ["-s", str(SNAKEFILE), "--directory", str(folder), "--configfile", str(study)]
        ours += ["--config", f"raw={raw}"]
        reference = ["-s", str(folder / "Snakefile"), "--directory", str(folder)]
        reference += ["--workflow-profile", "none"]
        times = {
            name: min(dry_run(command) for _ in range(arguments.repeat))
            for name, command in (("study", ours), ("reference", reference))
        }
        if arguments.profile:
            dry_run(ours, str(Path(arguments.profile).resolve()))
    difference = times["study"] - times["reference"]
    line = (
        f"{study.stem}: {jobs} jobs, {files} input files\n"
        f"  CPU-seconds: study {times['study']:.1f}, reference {times['reference']:.1f}, "
        f"difference {difference:.1f}"
    )
    results = Results(__file__, arguments)
    results.add(study.stem, line, jobs=jobs, input_files=files, difference=difference, **times)
    results.write()


if __name__ == "__main__":
    main()
