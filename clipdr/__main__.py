"""The verbs: files in, pure function, files out. Every rule of the workflow is one of these lines; heavy imports stand inside the verb."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from clipdr import DataError, receipts
from clipdr.domains import DOMAINS

app = typer.Typer(
    name="clipdr",
    help="CLIP-style grading of diabetic retinopathy, from fundus photographs to the tables of a paper.\n\n"
    "The whole study runs with `snakemake --cores all`; these are its steps, to be used one at a time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Domain = Annotated[str, typer.Argument(help="Name of a data set, e.g. APTOS or SIM_APTOS (see clipdr/domains.py).")]
Processes = Annotated[int, typer.Option(min=1, help="Worker processes; the result does not depend on it.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Data = Annotated[Path, typer.Option(help="Folder with manifests/, store/ and features/.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write checkpoints.safetensors too, for rules of selection that need them.")]
RawFolder = Annotated[Path, typer.Option(help="Folder of the user's data: one folder per data set, and splits/.")]
RunFolders = Annotated[list[Path], typer.Argument(help="Run folders: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.")]


def axes(runs):
    """Methods and held-out domains of run folders, in their order: rows and columns of every table."""
    return {"methods": list(dict.fromkeys(run.parts[-3] for run in runs)), "domains": list(dict.fromkeys(run.parts[-2] for run in runs))}


def entry(table, kind, name):
    """One entry of a table of functions; DataError naming the known ones."""
    if name not in table:
        raise DataError(f"{kind} {name!r} is unknown; known are {', '.join(table)}")
    return table[name]


def threads_of(count):
    """Limit torch to `count` threads, before and after its import."""
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's large pages: a fresh batch costs less in page faults
    import torch

    torch.set_num_threads(count)


@app.command()
def datasets(
    name: Annotated[str, typer.Argument(help="One data set in detail: facts, what to do, what to cite. Without it: all of them.")] = "",
    raw: RawFolder = Path("data/raw"),
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/datasets.md instead.")] = False,
):
    """Show what each data set is, what of it is here, what is missing, and what to do next.

    Example: python -m clipdr datasets APTOS
    """
    from clipdr import datasets as listing

    if markdown:
        print(listing.markdown(), end="")
    elif name:
        print(listing.detail(name, raw))
    else:
        from rich import print as show

        show(listing.table(raw))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set (python -m clipdr datasets lists them), or splits for GDRBench's split files.")],
    raw: RawFolder = Path("data/raw"),
    mirror: Annotated[
        str, typer.Option(help="Folder or http(s) address that replaces every remote: MIRROR/NAME/SHA256SUMS and the files listed there.")
    ] = "",
):
    """Download and unpack a data set, or say step by step how to get it; then count what is there.

    A transfer that was cut goes on with the same command. Writes RAW/NAME in the publisher's own layout, and RAW/fetch.lock.json.

    Example: python -m clipdr fetch APTOS
    """
    from clipdr import fetch as fetching

    fetching.fetch(name, raw, mirror)


@app.command()
def synthesize(
    raw: Annotated[Path, typer.Argument(help="Folder to write: images/, splits/ and patients.csv.")],
    domains: Annotated[str, typer.Option(help="Names of synthetic domains, separated by commas.")] = ",".join(
        d for d in DOMAINS if DOMAINS[d].synthetic
    ),
    patients: Annotated[int, typer.Option(min=10, help="Patients per domain, two eyes each.")] = 80,
    size: Annotated[int, typer.Option(min=64, help="Nominal side of the photographs in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other patients.")] = 0,
    processes: Processes = 1,
):
    """Draw a synthetic multi-hospital benchmark in GDRBench's folder layout, with patients and reports.

    Example: python -m clipdr synthesize data/synthetic --patients 20
    """
    from clipdr import synthetic

    synthetic.write(raw, domains.split(","), patients, size, seed, processes)


@app.command()
def prepare(
    domain: Domain,
    raw: Annotated[
        Path,
        typer.Option(
            help="Folder with splits/DOMAIN_{train,crossval}.txt and photographs: DOMAIN/ as published, or images/DOMAIN/GRADE/FILE."
        ),
    ] = Path("data/raw"),
    table: Annotated[
        Path | None, typer.Option(help="CSV of a data set of your own (image,grade[,patient,eye,split,camera]); then RAW is not read.")
    ] = None,
    tolerance: Annotated[
        int,
        typer.Option(min=0, help="Photographs of the split files that may be missing, or graded otherwise by the data set's own labels."),
    ] = 0,
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 256,
    complete: Annotated[
        bool, typer.Option("--complete", help="Stop unless the domain holds just the images of the official split files.")
    ] = False,
    processes: Processes = 1,
):
    """Decode, crop to the fundus and pack the photographs of one domain: one uint8 array and one manifest.

    Writes DATA/manifests/DOMAIN.csv, DATA/store/DOMAIN.npy and DATA/rejected/DOMAIN.csv (what could not be used, and why); where the
    photographs do not agree with the split files, DATA/rejected/DOMAIN_splits.csv lists how. DATA/receipts/DOMAIN.json holds the sha256
    of every file that was read or written (see verify).

    Example: python -m clipdr prepare IDRID --raw data/raw --size 256

    Example: python -m clipdr prepare MYCLINIC --table clinic/table.csv
    """
    from clipdr import store

    paths = (data / "manifests" / f"{domain}.csv", data / "store" / f"{domain}.npy", data / "rejected" / f"{domain}.csv")
    store.prepare(domain, raw, *paths, size, processes, complete, tolerance, table, data / "receipts" / f"{domain}.json")


@app.command()
def features(
    domain: Domain,
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen image tower once over the packed photographs of a domain: DATA/features/BACKBONE/DOMAIN.npy."""
    threads_of(threads)
    from clipdr.features import cache_features

    cache_features(json.loads(backbone), side, domain, data)
    folder = data / "features" / json.loads(backbone)["name"]
    receipts.write(folder / f"{domain}.receipt.json", f"features {domain}", folder, [f"{domain}.npy"])


@app.command()
def prompts(
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen text tower once over the prompt banks: DATA/features/BACKBONE/prompts.npz."""
    threads_of(threads)
    from clipdr.features import cache_prompts

    cache_prompts(json.loads(backbone), side, data)
    folder = data / "features" / json.loads(backbone)["name"]
    receipts.write(folder / "prompts.receipt.json", "prompts", folder, ["prompts.npz"])


@app.command()
def leaks(
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder to write leaks.csv to.")] = Path("results"),
):
    """List the photographs that are one, and those of one patient, across splits and data sets: RESULTS/leaks.csv and a summary.

    Copies are found whatever their name: re-encoded, resized, flipped, or cut by about 5 %.

    Example: python -m clipdr leaks --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr import gate as gates
    from clipdr.files import write_text
    from clipdr.manifest import open_store, read_manifest

    manifests = {domain: read_manifest(data / "manifests" / f"{domain}.csv") for domain in domains.split(",")}
    stores = {domain: open_store(data / "store" / f"{domain}.npy", manifest) for domain, manifest in manifests.items()}
    pairs, aligned = gates.find(manifests, stores)
    write_text(results / "leaks.csv", pairs.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    receipts.write(results / "receipts" / "leaks.json", "leaks", results, ["leaks.csv"])
    print("\n".join(gates.summary(pairs, sum(map(len, manifests.values())), aligned)))


@app.command()
def gate(
    protocol: Annotated[str, typer.Argument(help="A protocol, e.g. dg.")],
    held_out: Annotated[str, typer.Argument(help="Held-out domain of the fold.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder with leaks.csv; the report goes to its gate/.")] = Path("results"),
    allow_leaks: Annotated[bool, typer.Option("--allow-leaks", help="Do not refuse a leaking fold: its tables are marked LEAKY.")] = False,
):
    """Refuse a fold whose training or validation photographs or patients are in its test set: RESULTS/gate/PROTOCOL/HELD_OUT.json.

    Example: python -m clipdr gate dg IDRID --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr import gate as gates
    from clipdr.files import write_text
    from clipdr.folds import fold
    from clipdr.manifest import read_manifests

    manifest = read_manifests([data / "manifests" / f"{domain}.csv" for domain in domains.split(",")])
    report = gates.check(gates.read(results / "leaks.csv"), fold(manifest, protocol, held_out))
    if not allow_leaks:
        gates.refuse(report, f"{protocol}/{held_out}", results / "leaks.csv")
    name = f"gate/{protocol}/{held_out}.json"
    write_text(results / name, json.dumps(report, indent=1) + "\n")
    receipts.write(results / "receipts" / name, f"gate {protocol}/{held_out}", results, [name])
    print(f"fold {protocol}/{held_out}: {report['verdict'] or 'nothing'} shared between training or validation and test")


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Run folder to write: results/runs/PROTOCOL/METHOD/HELD_OUT/SEED.")],
    settings: Annotated[str, typer.Option(help="JSON of backbone, frozen, image, training and options: the whole of what matters.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = 1,
    keep: Keep = False,
):
    """Train one method with one domain held out, and predict its validation and test images.

    The folder's name says which: its last four parts are the protocol, the method, the held-out domain and the seed.
    A run that was cut is resumed.
    """
    threads_of(threads)
    from clipdr import runs

    protocol, method, held_out, seed = folder.parts[-4:]
    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    key = (json.loads(settings), protocol, method, held_out, int(seed))
    runs.run(*key, manifests=manifests, data=data, folder=folder, keep=keep, device=device)


@app.command()
def curve(
    path: Annotated[Path, typer.Argument(help="History to write: results/inner/PROTOCOL/METHOD/HELD_OUT/SEED/LEFT_OUT.csv.")],
    settings: Annotated[str, typer.Option(help="JSON of the run's settings, as for train.")],
    domains: Annotated[str, typer.Option(help="The source domains of the run, separated by commas: not the one it holds out.")],
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Train on all source domains of a run but one, and score that one as often as the run scores source validation."""
    threads_of(threads)
    from clipdr import selection
    from clipdr.files import write_text

    method, seed = path.parts[-4], int(path.parts[-2])
    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    history = selection.curve(json.loads(settings), method, path.stem, seed, manifests=manifests, data=data, device=device)
    write_text(path, history.to_csv(index=False) if len(history) else "step\n")


@app.command()
def select(
    folder: Annotated[Path, typer.Argument(help="Run folder with checkpoints.safetensors.")],
    rules: Annotated[str, typer.Option(help="loso, oracle or both, separated by a comma.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    inner: Annotated[list[Path] | None, typer.Option(help="Curves of the left-out source domains, for loso.")] = None,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Choose among a run's checkpoints by further rules, and predict: selected.parquet beside the predictions. oracle uses test grades."""
    threads_of(threads)
    from clipdr import selection

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    curves = {path.stem: path for path in inner or []}
    selection.select(folder, rules.split(","), curves, manifests=manifests, data=data, device=device)
    receipts.write(folder / "selected.receipt.json", f"select {rules}", folder, ["selected.parquet", "selected.json"])


@app.command()
def search(
    path: Annotated[Path, typer.Argument(help="File to write: results/search/METHOD.json.")],
    settings: Annotated[str, typer.Option(help="JSON of the method's settings, as for train.")],
    domains: Annotated[str, typer.Option(help="The source domains of one fold, separated by commas: not the one it holds out.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials; the first is the study's own setting.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and of every training.")] = 0,
    data: Data = Path("data"),
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
):
    """Try learning rates and one parameter of a method by source validation alone, and write down every trial and the best."""
    threads_of(threads)
    from clipdr.files import write_text
    from clipdr.search import search as tried

    manifests = [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    result = tried(json.loads(settings), path.stem, seed, trials, manifests=manifests, data=data, device=device)
    write_text(path, json.dumps(result, indent=1) + "\n")


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="Run folder with predictions.parquet.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of patients behind every interval.")] = 2000,
    also: Annotated[list[str] | None, typer.Option(help="Further files of predictions in the folder: selected.parquet.")] = None,
):
    """Score the predictions of one run: scores.csv, draws.npz and operating.json beside them."""
    import pandas as pd

    from clipdr import evaluate, predictions
    from clipdr.manifest import read_manifests

    path = folder / "predictions.parquet"
    manifest = read_manifests([data / "manifests" / f"{domain}.csv" for domain in domains.split(",")])
    content = pd.concat([predictions.read(folder / name) for name in (path.name, *(also or []))], ignore_index=True)
    evaluate.write(evaluate.score(content, manifest, bootstrap, str(path)), folder)
    receipts.write(folder / "scores.receipt.json", "score", folder, ["scores.csv", "draws.npz", "operating.json"])


@app.command()
def collect(
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder to write scores.csv and summary.json to.")] = Path("results"),
):
    """Gather the scores of all runs: RESULTS/scores.csv, and RESULTS/summary.json for `dvc metrics show`."""
    from clipdr import evaluate
    from clipdr.files import write_text

    scores = evaluate.collect(runs)
    write_text(results / "scores.csv", scores.to_csv(index=False, lineterminator="\n"))
    write_text(results / "summary.json", json.dumps(evaluate.summary(scores), indent=1, allow_nan=False) + "\n")
    receipts.write(results / "receipts" / "collect.json", "collect", results, ["scores.csv", "summary.json"])


@app.command()
def compare(
    runs: RunFolders,
    reference: Annotated[str, typer.Option(help="Method that all others are compared with.")] = "clip_dr",
    results: Annotated[Path, typer.Option(help="Folder to write comparisons.csv to.")] = Path("results"),
):
    """Compare every method with a reference method, paired by resample and corrected for their number: RESULTS/comparisons.csv."""
    from clipdr import compare, evaluate
    from clipdr.files import write_text

    comparisons = compare.compare(evaluate.collect(runs), evaluate.collect_draws(runs), reference)
    write_text(results / "comparisons.csv", comparisons.to_csv(index=False, lineterminator="\n"))
    receipts.write(results / "receipts" / "compare.json", "compare", results, ["comparisons.csv"])


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="Name of a table, e.g. dg_auc.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the table goes to its tables/.")] = Path("results"),
):
    """Render one table as CSV, Markdown, LaTeX and HTML."""
    from clipdr import clinical, compare, compared, evaluate, leakage, tables

    make = entry(tables.TABLES | clinical.TABLES | compared.COMPARISONS | compared.REPRODUCTIONS, "table", name)
    runs = [run for run in runs if run.parts[-4] == make.keywords["protocol"]]
    if name in compared.COMPARISONS:
        content = compare.read(results / "comparisons.csv", make.keywords["protocol"])
    else:
        content = tables.READS.get(name, tables.rule_averages)(evaluate.collect(runs), evaluate.collect_draws(runs, selection=None))
    made = make(content, **axes(runs), remarks=tables.remarks(runs))
    tables.write(leakage.marked(made, leakage.found(results, runs)), results / "tables")
    names = [f"tables/{name}{suffix}" for suffix in tables.WRITERS]
    receipts.write(results / "receipts" / "tables" / f"{name}.json", f"table {name}", results, names)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of a figure, e.g. similarity.")],
    runs: RunFolders,
    results: Annotated[Path, typer.Option(help="Folder of results; the figure goes to its figures/.")] = Path("results"),
    data: Data = Path("data"),
    backbone: Annotated[str, typer.Option(help="Name of the backbone whose cached features are drawn (embedding).")] = "demo",
):
    """Draw one figure as PNG, PDF and SVG.

    Example: python -m clipdr figure similarity results/runs/dg/clip_dr/*/0
    """
    from clipdr import figures

    module = figures.module(name)
    content = module.read(figures.Place(runs, results, data, data / "features" / backbone))
    figures.write(module.draw(content, **axes(runs)), name, results / "figures")
    names = [f"figures/{name}{suffix}" for suffix in figures.FORMATS]
    receipts.write(results / "receipts" / "figures" / f"{name}.json", f"figure {name}", results, names)


@app.command()
def cam(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the maps go to its figures/.")] = Path("results"),
    raw: Annotated[Path | None, typer.Option(help="Folder of drawn photographs, whose lesions are known.", show_default=False)] = None,
    size: Annotated[int, typer.Option(help="Size that they were drawn with.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed that they were drawn with.")] = 0,
    threads: Threads = 1,
):
    """Draw class activation maps of some methods on the domain that they held out: figures/cam.png, .pdf, .svg and cam.csv.

    Beside them stands what tells a map from a decoration: its rank correlation with the map of random weights and, on drawn photographs,
    the share of it that falls on lesions.

    Example: python -m clipdr cam results/runs/dg/{ordinal_clip,clip_dr}/APTOS/0 --domains APTOS,IDRID,MESSIDOR
    """
    threads_of(threads)
    from clipdr import cam as maps
    from clipdr import figures
    from clipdr.files import write_text
    from clipdr.plots.cam import draw

    rows, images, found = maps.compute(runs, data, domains.split(","))
    drawn = maps.lesions(rows, raw, images.shape[-1], size, seed) if raw else None
    numbers = maps.measure(rows, found, drawn)
    figures.write(draw(rows, images, found, numbers), "cam", results / "figures")
    write_text(results / "figures" / "cam.csv", numbers.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    names = [f"figures/cam{suffix}" for suffix in (*figures.FORMATS, ".csv")]
    receipts.write(results / "receipts" / "figures" / "cam.json", "cam", results, names)


@app.command()
def track(
    results: Annotated[Path, typer.Option(help="Folder with runs/, tables/ and figures/; the database is its mlflow.db.")] = Path(
        "results"
    ),
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "clipdr",
):
    """Publish all finished runs to MLflow; at any time, and as often as you like (equal runs are skipped). To look at them: make ui"""
    from clipdr import track as tracking

    counts = tracking.publish(results / "runs", f"sqlite:///{results / 'mlflow.db'}", experiment)
    print("MLflow: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


@app.command("data_report")
def data_report(
    domains: Annotated[str, typer.Argument(help="Domains of the report, separated by commas, in its order.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the report goes to its data/.")] = Path("results"),
    threads: Threads = 1,
):
    """Say what the data are: counts against the official ones, resolutions, rejected files, quality, and a sheet of samples per domain.

    Writes RESULTS/data/index.html, which needs no network, and the tables and figures it shows as files of their own.

    Example: python -m clipdr data_report SIM_APTOS,SIM_IDRID --data data --results results
    """
    threads_of(threads)
    from clipdr import datareport

    names = datareport.write(domains.split(","), data, results / "data")
    receipts.write(results / "receipts" / "data.json", "data_report", results, [f"data/{name}" for name in names])


@app.command()
def page(
    runs: RunFolders,
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    tables: Annotated[str, typer.Option(help="Names of the tables to show, separated by commas; the first one is the main table.")] = "",
    figures: Annotated[str, typer.Option(help="Names of the figures to show, separated by commas.")] = "",
    reference: Annotated[str, typer.Option(help="Method whose worst errors are shown.")] = "clip_dr",
    gallery: Annotated[int, typer.Option(min=0, help="Worst errors shown per domain; 0 leaves all photographs out.")] = 4,
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results; the page is its report.html.")] = Path("results"),
    deviations: Annotated[Path, typer.Option(help="List of deviations from the papers.")] = Path("docs/deviations.md"),
):
    """Write the report of a study: RESULTS/report.html, one file that opens without a network.

    Example: python -m clipdr page results/runs/dg/*/*/* --domains SIM_APTOS,SIM_IDRID --tables dg,dg_auc --figures similarity
    """
    from clipdr import page as pages

    chosen = {"tables": [name for name in tables.split(",") if name], "figures": [name for name in figures.split(",") if name]}
    options = {"domains": domains.split(","), "data": data, "deviations": deviations, "reference": reference, "gallery": gallery}
    size = pages.write(results / "report.html", runs, **chosen, **options)
    receipts.write(results / "receipts" / "page.json", "page", results, ["report.html"])
    over = f": over {pages.LIMIT / 2**20:.0f} MB, mail and browsers may refuse it; lower `gallery`" if size > pages.LIMIT else ""
    print(f"{results / 'report.html'}: {size / 2**20:.1f} MB{over}")


@app.command()
def verify(
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    raw: Annotated[
        Path | None, typer.Option(help="Folder of the photographs, if it is not the one they were prepared from.", show_default=False)
    ] = None,
    with_raw: Annotated[bool, typer.Option("--with-raw/--no-raw", help="Hash the photographs too.")] = True,
):
    """Hash every file again and compare with the receipts: photographs, prepared data, runs, scores, tables, figures.

    One line per damaged, missing or unexpected file; exit status 1 if there is any. DVC and Snakemake trust sizes and times instead.

    Example: python -m clipdr verify --data data/smoke --results results/smoke
    """
    from clipdr import verify as verifying

    problems, count = verifying.verify(data, results, raw, with_raw)
    for problem in problems:
        print(problem)
    print(f"verify: {count} files hashed, {len(problems)} problems", file=sys.stderr)
    raise typer.Exit(bool(problems))


def guarded(verbs):
    """Run a verb of some app; bad input is one line on stderr and exit status 2."""
    try:
        verbs()
    except DataError as error:
        print(f"clipdr: {error}", file=sys.stderr)
        sys.exit(2)


def main():
    """Run a verb of this package."""
    guarded(app)


if __name__ == "__main__":
    main()
