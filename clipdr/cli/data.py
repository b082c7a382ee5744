"""Commands of the data: data sets, preparation, feature cache, leakage check."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clipdr.artifacts import receipts
from clipdr.cli.app import (
    Data,
    Domain,
    Processes,
    RawFolder,
    Threads,
    app,
    json_object,
    limit_threads,
)
from clipdr.data.domains import DOMAINS

command = partial(app.command, rich_help_panel="Data")


@command()
def datasets(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set to describe in detail: facts, steps, citation. Default: all data sets."
        ),
    ] = "",
    raw: RawFolder = Path("data/raw"),
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the text of docs/datasets.md.")
    ] = False,
) -> None:
    """List the data sets: facts, which files are here, which are missing, and the next step.

    Example: clipdr datasets APTOS
    """
    from rich.console import Console

    from clipdr.data.sources import catalog, catalog_markdown

    if markdown:
        print(catalog_markdown.markdown(), end="")
    elif name:
        print(catalog.detail(name, raw))
    else:
        Console().print(catalog.table(raw))


@command("fetch")
def fetch_dataset(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set (see `clipdr datasets`), or `splits` for GDRBench's split files."
        ),
    ],
    raw: RawFolder = Path("data/raw"),
    mirror: Annotated[
        str,
        typer.Option(
            help="Folder or http(s) address in place of every remote: MIRROR/NAME/SHA256SUMS "
            "and the files listed there."
        ),
    ] = "",
) -> None:
    """Download and unpack a data set, or print the steps to get it by hand; then count its files.

    Repeat the command to resume an interrupted download. Writes RAW/NAME in the publisher's layout
    and RAW/fetch.lock.json.

    Example: clipdr fetch APTOS
    """
    from clipdr.data.sources.fetch import fetch

    fetch(name, raw, mirror)


@command()
def synthesize(
    raw: Annotated[
        Path, typer.Argument(help="Folder to write: images/, splits/ and patients.csv.")
    ],
    domains: Annotated[
        str, typer.Option(help="Names of synthetic domains, separated by commas.")
    ] = ",".join(d for d in DOMAINS if DOMAINS[d].synthetic),
    patients: Annotated[int, typer.Option(min=10, help="Patients per domain, two eyes each.")] = 80,
    size: Annotated[int, typer.Option(min=64, help="Nominal side of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated patients.")] = 0,
    processes: Processes = 1,
) -> None:
    """Generate a synthetic benchmark of several hospitals in GDRBench's folder layout.

    Example: clipdr synthesize data/synthetic --patients 20
    """
    from clipdr.data.synthetic import dataset

    dataset.write(raw, domains.split(","), patients, size, seed, processes)


@command("prepare")
def prepare_domain(
    domain: Domain,
    raw: Annotated[
        Path,
        typer.Option(
            help="Folder with splits/DOMAIN_{train,crossval}.txt and the images: DOMAIN/ as "
            "published, or images/DOMAIN/GRADE/FILE."
        ),
    ] = Path("data/raw"),
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV of a custom dataset (image,grade[,patient,eye,split,camera]). RAW is then "
            "not read."
        ),
    ] = None,
    tolerance: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images of the split files that may be missing or have another grade in the "
            "data set's own labels.",
        ),
    ] = 0,
    data: Data = Path("data"),
    size: Annotated[int, typer.Option(min=32, help="Side of the stored square in pixels.")] = 256,
    complete: Annotated[
        bool,
        typer.Option(
            "--complete",
            help="Stop unless the domain holds exactly the images of the official split files.",
        ),
    ] = False,
    processes: Processes = 1,
) -> None:
    """Decode, crop and pack the images of one domain: one uint8 array and one manifest.

    Writes DATA/manifests/DOMAIN.csv, DATA/store/DOMAIN.npy and DATA/rejected/DOMAIN.csv (unusable
    images, with reasons). DATA/rejected/DOMAIN_splits.csv lists disagreements with the split files.
    DATA/receipts/DOMAIN.json holds the sha256 of every file read or written (see `clipdr verify`).

    Example: clipdr prepare IDRID --raw data/raw --size 256

    Example: clipdr prepare MYCLINIC --table clinic/table.csv
    """
    from clipdr.data.preprocessing.prepare import prepare

    prepare(
        domain,
        raw,
        data / "manifests" / f"{domain}.csv",
        data / "store" / f"{domain}.npy",
        data / "rejected" / f"{domain}.csv",
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
) -> None:
    """Compute the image features of a domain with a frozen image encoder.

    Writes DATA/features/BACKBONE/DOMAIN.npy.
    """
    limit_threads(threads)
    from clipdr.training.feature_cache import cache_features

    cache_features(json_object(backbone, "--backbone"), side, domain, data)
    folder = data / "features" / json_object(backbone, "--backbone")["name"]
    receipts.write(
        folder / f"{domain}.receipt.json", f"features {domain}", folder, [f"{domain}.npy"]
    )


@command()
def prompts(
    backbone: Annotated[str, typer.Option(help="JSON of a backbone: name, image, weights, text.")],
    side: Annotated[int, typer.Option(help="Side of the network's input in pixels.")],
    data: Data = Path("data"),
    threads: Threads = 1,
) -> None:
    """Compute the text features of the prompt banks with a frozen text encoder.

    Writes DATA/features/BACKBONE/prompts.npz.
    """
    limit_threads(threads)
    from clipdr.training.feature_cache import cache_prompts

    cache_prompts(json_object(backbone, "--backbone"), side, data)
    folder = data / "features" / json_object(backbone, "--backbone")["name"]
    receipts.write(folder / "prompts.receipt.json", "prompts", folder, ["prompts.npz"])


@command()
def leaks(
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder to write leaks.csv to.")] = Path("results"),
) -> None:
    """List images and patients that occur in more than one split or data set.

    Writes RESULTS/leaks.csv and prints a summary.

    Copies are found under any name: re-encoded, resized, flipped, or cropped by about 5 %.

    Example: clipdr leaks --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr.artifacts.files import write_text
    from clipdr.data import leakage
    from clipdr.data.manifest import open_store, read_manifest

    manifests = {
        domain: read_manifest(data / "manifests" / f"{domain}.csv") for domain in domains.split(",")
    }
    stores = {
        domain: open_store(data / "store" / f"{domain}.npy", manifest)
        for domain, manifest in manifests.items()
    }
    pairs, aligned = leakage.find_pairs(manifests, stores)
    write_text(
        results / "leaks.csv", pairs.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    )
    receipts.write(results / "receipts" / "leaks.json", "leaks", results, ["leaks.csv"])
    print("\n".join(leakage.summary(pairs, sum(map(len, manifests.values())), aligned)))


@command()
def gate(
    protocol: Annotated[str, typer.Argument(help="Protocol, for example dg.")],
    held_out: Annotated[str, typer.Argument(help="Held-out domain of the fold.")],
    domains: Annotated[str, typer.Option(help="Domains of the study, separated by commas.")],
    data: Data = Path("data"),
    results: Annotated[
        Path, typer.Option(help="Folder with leaks.csv. The result goes to its gate/.")
    ] = Path("results"),
    allow_leaks: Annotated[
        bool,
        typer.Option("--allow-leaks", help="Accept a leaking fold. Its tables are marked LEAKY."),
    ] = False,
) -> None:
    """Leakage check of one fold: stop if its test split shares images or patients.

    Neither training nor validation may share an image or a patient with the test split.

    Writes RESULTS/gate/PROTOCOL/HELD_OUT.json.

    Example: clipdr gate dg IDRID --domains APTOS,IDRID,MESSIDOR
    """
    from clipdr.artifacts.files import write_text
    from clipdr.data import leakage
    from clipdr.data.manifest import read_manifests
    from clipdr.data.splits import fold

    manifest = read_manifests(
        [data / "manifests" / f"{domain}.csv" for domain in domains.split(",")]
    )
    pairs = leakage.read_pairs(results / "leaks.csv")
    report = leakage.check(pairs, fold(manifest, protocol, held_out))
    if not allow_leaks:
        leakage.refuse(report, f"{protocol}/{held_out}", results / "leaks.csv")
    name = f"gate/{protocol}/{held_out}.json"
    write_text(results / name, json.dumps(report, indent=1) + "\n")
    receipts.write(results / "receipts" / name, f"gate {protocol}/{held_out}", results, [name])
    verdict = report["verdict"] or "nothing"
    print(f"fold {protocol}/{held_out}: {verdict} shared between training or validation and test")
