"""Verbs of the data: what there is, photographs -> manifests, packed arrays, features; leaks, and the gate before training.

Files in, pure function, files out: every rule of the workflow is one of these lines.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.cli.app import Data, Domain, Processes, RawFolder, Threads, app, limit_threads
from clipdr.data.domains import DOMAINS

command = partial(app.command, rich_help_panel="Data")


@command()
def datasets(
    name: Annotated[
        str,
        typer.Argument(
            help="One data set in detail: facts, what to do, what to cite. Without it: all of them."
        ),
    ] = "",
    raw: RawFolder = Path("data/raw"),
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/datasets.md instead.")
    ] = False,
):
    """Show what each data set is, what of it is here, what is missing, and what to do next.

    Example: clipdr datasets APTOS
    """
    from clipdr.data.sources import catalog as listing

    if markdown:
        print(listing.markdown(), end="")
    elif name:
        print(listing.detail(name, raw))
    else:
        from rich import print as show

        show(listing.table(raw))


@command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A data set (clipdr datasets lists them), or splits for GDRBench's split files."
        ),
    ],
    raw: RawFolder = Path("data/raw"),
    mirror: Annotated[
        str,
        typer.Option(
            help="Folder or http(s) address that replaces every remote: MIRROR/NAME/SHA256SUMS and the files listed there."
        ),
    ] = "",
):
    """Download and unpack a data set, or say step by step how to get it; then count what is there.

    A transfer that was cut goes on with the same command. Writes RAW/NAME in the publisher's own layout, and RAW/fetch.lock.json.

    Example: clipdr fetch APTOS
    """
    from clipdr.data.sources import fetch as fetching

    fetching.fetch(name, raw, mirror)


@command()
def synthesize(
    raw: Annotated[
        Path, typer.Argument(help="Folder to write: images/, splits/ and patients.csv.")
    ],
    domains: Annotated[
        str, typer.Option(help="Names of synthetic domains, separated by commas.")
    ] = ",".join(d for d in DOMAINS if DOMAINS[d].synthetic),
    patients: Annotated[int, typer.Option(min=10, help="Patients per domain, two eyes each.")] = 80,
    size: Annotated[
        int, typer.Option(min=64, help="Nominal side of the photographs in pixels.")
    ] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other patients.")] = 0,
    processes: Processes = 1,
):
    """Draw a synthetic multi-hospital benchmark in GDRBench's folder layout, with patients and reports.

    Example: clipdr synthesize data/synthetic --patients 20
    """
    from clipdr.data.synthetic import dataset

    dataset.write(raw, domains.split(","), patients, size, seed, processes)


@command()
def prepare(
    domain: Domain,
    raw: Annotated[
        Path,
        typer.Option(
            help="Folder with splits/DOMAIN_{train,crossval}.txt and photographs: DOMAIN/ as published, or images/DOMAIN/GRADE/FILE."
        ),
    ] = Path("data/raw"),
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV of a data set of your own (image,grade[,patient,eye,split,camera]); then RAW is not read."
        ),
    ] = None,
    tolerance: Annotated[
        int,
        typer.Option(
            min=0,
            help="Photographs of the split files that may be missing, or graded otherwise by the data set's own labels.",
        ),
    ] = 0,
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 256,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Stop unless the domain holds just the images of the official split files.",
        ),
    ] = False,
    processes: Processes = 1,
):
    """Decode, crop to the fundus and pack the photographs of one domain: one uint8 array and one manifest.

    Writes DATA/manifests/DOMAIN.csv, DATA/store/DOMAIN.npy and DATA/rejected/DOMAIN.csv (what could not be used, and why); where the
    photographs do not agree with the split files, DATA/rejected/DOMAIN_splits.csv lists how. DATA/receipts/DOMAIN.json holds the sha256
    of every file that was read or written (see verify).

    Example: clipdr prepare IDRID --raw data/raw --size 256

    Example: clipdr prepare MYCLINIC --table clinic/table.csv
    """
    from clipdr.data.preprocessing import prepare as store

    paths = (
        data / "manifests" / f"{domain}.csv",
        data / "store" / f"{domain}.npy",
        data / "rejected" / f"{domain}.csv",
    )
    store.prepare(
        domain,
        raw,
        *paths,
        size,
        processes,
        complete,
        tolerance,
        table,
        data / "receipts" / f"{domain}.json",
    )


@command()
def features(
    domain: Domain,
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen image tower once over the packed photographs of a domain: DATA/features/BACKBONE/DOMAIN.npy."""
    limit_threads(threads)
    from clipdr.training.feature_cache import cache_features

    cache_features(json.loads(backbone), side, domain, data)
    folder = data / "features" / json.loads(backbone)["name"]
    receipts.write(
        folder / f"{domain}.receipt.json", f"features {domain}", folder, [f"{domain}.npy"]
    )


@command()
def prompts(
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
):
    """Run a frozen text tower once over the prompt banks: DATA/features/BACKBONE/prompts.npz."""
    limit_threads(threads)
    from clipdr.training.feature_cache import cache_prompts

    cache_prompts(json.loads(backbone), side, data)
    folder = data / "features" / json.loads(backbone)["name"]
    receipts.write(folder / "prompts.receipt.json", "prompts", folder, ["prompts.npz"])


@command()
def leaks(
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder to write leaks.csv to.")] = Path("results"),
):
    """List the photographs that are one, and those of one patient, across splits and data sets: RESULTS/leaks.csv and a summary.

    Copies are found whatever their name: re-encoded, resized, flipped, or cut by about 5 %.

    Example: clipdr leaks --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr.artifacts.files import write_text
    from clipdr.data import leakage as gates
    from clipdr.data.manifest import open_store, read_manifest

    manifests = {
        domain: read_manifest(data / "manifests" / f"{domain}.csv") for domain in domains.split(",")
    }
    stores = {
        domain: open_store(data / "store" / f"{domain}.npy", manifest)
        for domain, manifest in manifests.items()
    }
    pairs, aligned = gates.find(manifests, stores)
    write_text(
        results / "leaks.csv", pairs.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    )
    receipts.write(results / "receipts" / "leaks.json", "leaks", results, ["leaks.csv"])
    print("\n".join(gates.summary(pairs, sum(map(len, manifests.values())), aligned)))


@command()
def gate(
    protocol: Annotated[str, typer.Argument(help="A protocol, e.g. dg.")],
    held_out: Annotated[str, typer.Argument(help="Held-out domain of the fold.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder with leaks.csv; the report goes to its gate/.")
    ] = Path("results"),
    allow_leaks: Annotated[
        bool,
        typer.Option(
            "--allow-leaks", help="Do not refuse a leaking fold: its tables are marked LEAKY."
        ),
    ] = False,
):
    """Refuse a fold whose training or validation photographs or patients are in its test set: RESULTS/gate/PROTOCOL/HELD_OUT.json.

    Example: clipdr gate dg IDRID --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr.artifacts.files import write_text
    from clipdr.data import leakage as gates
    from clipdr.data.manifest import read_manifests
    from clipdr.data.splits import fold

    manifest = read_manifests(
        [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    )
    report = gates.check(gates.read(results / "leaks.csv"), fold(manifest, protocol, held_out))
    if not allow_leaks:
        gates.refuse(report, f"{protocol}/{held_out}", results / "leaks.csv")
    name = f"gate/{protocol}/{held_out}.json"
    write_text(results / name, json.dumps(report, indent=1) + "\n")
    receipts.write(results / "receipts" / name, f"gate {protocol}/{held_out}", results, [name])
    print(
        f"fold {protocol}/{held_out}: {report['verdict'] or 'nothing'} shared between training or validation and test"
    )
