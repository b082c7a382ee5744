"""How well copies are found (clipdr.data.duplicates), and what it costs.

`copies`: photographs of a folder in GDRBench's layout and copies planted of them, each photograph with its copies in one of two halves. On
the first half a threshold of correlation is chosen, midway between the highest of different photographs and the lowest of 99 % of the
copies; on the second half recall and false alarms are reported, under it and under the package's. Pairs nobody planted are listed, to be
looked at: they may be the data set's own copies.
`scale`: seconds and memory of comparing all fingerprints of a large data set (random ones), and of one alignment.
Input: options; output: Markdown rows.

    python benchmarks/leaks.py copies --raw FOLDER [--domains APTOS IDRID] [--count 100] [--size 128]
    python benchmarks/leaks.py scale [--count 90000]
"""

import argparse
import io
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from clipdr.data import duplicates
from clipdr.data.preprocessing import prepare


def encoded(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(quality))
    return Image.open(io.BytesIO(file.getvalue()))


def scaled(picture, factor):
    return picture.resize(
        (round(factor * picture.width), round(factor * picture.height)), Image.Resampling.LANCZOS
    )


def cut(picture, rng, around=False):
    """5 % of the width and of the height cut off at one end; around: at both."""
    width, height = picture.size
    x, y = round(0.05 * width), round(0.05 * height)
    if around:
        return picture.crop((x, y, width - x, height - y))
    left, top = rng.integers(0, 2) * x, rng.integers(0, 2) * y
    return picture.crop((left, top, left + width - x, top + height - y))


COPIES = {
    "renamed": lambda picture, rng: picture,
    "re-encoded, JPEG 50-90": lambda picture, rng: encoded(picture, rng.integers(50, 91)),
    "resized 0.5-0.9": lambda picture, rng: scaled(picture, rng.uniform(0.5, 0.9)),
    "cropped, 5 % off each side length": cut,
    "cropped, 5 % off all four edges": lambda picture, rng: cut(picture, rng, around=True),
    "flipped left-right": lambda picture, rng: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "flipped up-down": lambda picture, rng: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "cropped, resized and re-encoded": lambda picture, rng: encoded(
        scaled(cut(picture, rng), rng.uniform(0.5, 0.9)), rng.integers(50, 91)
    ),
}


def listed(raw, domains):
    """Paths of the photographs that the split files of some domains name."""
    files = [
        raw / "splits" / f"{domain}_{part}.txt"
        for domain in domains
        for part in ("train", "crossval")
    ]
    return [
        raw / "images" / line.rpartition(" ")[0]
        for file in files
        for line in file.read_text().split("\n")
        if line.strip()
    ]


def pool(paths, count, size, rng, folder):
    """Photographs and `count` copies per kind: rows (source, kind, cx, cy, r, flag), squares, sha256."""
    wanted = [("", path) for path in paths] + [
        (kind, path)
        for kind in COPIES
        for path in rng.choice(paths, count, replace=count > len(paths))
    ]
    rows, squares = [], []
    for kind, path in duplicates.progress(wanted, "planting"):
        source = path
        if kind not in ("", "renamed"):
            source = folder / "copy.png"
            COPIES[kind](Image.open(path).convert("RGB"), rng).save(source, compress_level=1)
        prepared = prepare.prepare_image(source, path.parts[-3], size)
        if prepared.reason:
            raise SystemExit(f"{path} {kind}: {prepared.reason}")
        cx, cy, r = prepared.disc[:3]
        rows.append(
            (
                "all",
                len(rows),
                f"{path.parts[-3]}/{path.name}",
                kind,
                cx,
                cy,
                r,
                prepared.flag,
                prepared.sha256,
            )
        )
        squares.append(prepared.image)
    return pd.DataFrame(
        rows, columns=["domain", "row", "source", "kind", "cx", "cy", "r", "flag", "sha256"]
    ), np.stack(squares)


def compared(manifest, squares):
    """Every pair that is aligned: rows a and b, correlation, whether it was planted, whether the files' pixels are equal."""
    digests, views, prints = duplicates.looked_at(manifest, {"all": squares})
    duplicates.CONFIRM = -1.0  # all of them, whatever their correlation
    pairs, values, _ = duplicates.near(manifest, {"all": squares}, views, prints)
    a, b = pairs.T
    source = manifest["source"].to_numpy()
    frame = pd.DataFrame({"a": a, "b": b, "value": values, "planted": source[a] == source[b]})
    originals = pd.DataFrame(duplicates.exact(manifest, digests), columns=["a", "b"])
    equal = {frozenset((source[x], source[y])) for x, y in originals.to_numpy()}
    return frame.assign(
        equal=[frozenset((source[x], source[y])) in equal for x, y in zip(a, b, strict=True)]
    )


def copies(arguments):
    rng, confirm = np.random.default_rng(arguments.seed), duplicates.CONFIRM
    paths = listed(arguments.raw, arguments.domains)
    order = rng.permutation(len(paths))
    with tempfile.TemporaryDirectory() as folder:
        halves = [
            pool(
                [paths[n] for n in order[half::2]],
                arguments.count,
                arguments.size,
                rng,
                Path(folder),
            )
            for half in (0, 1)
        ]
    propose, duplicates.PROPOSE = (
        duplicates.PROPOSE,
        0.7,
    )  # more different photographs to choose on than the package looks at
    first = compared(*halves[0])
    duplicates.PROPOSE = propose
    second = compared(*halves[1])
    other = first.loc[~first["planted"] & ~first["equal"], "value"]
    lowest = first.loc[first["planted"] & (first["value"] > duplicates.HOPELESS), "value"].quantile(
        0.01
    )
    highest = other[other < lowest].max()
    chosen = (highest + lowest) / 2
    print(
        f"{len(paths)} photographs; chosen on the first half: {chosen:.3f}, between {highest:.3f} and {lowest:.3f}"
    )
    manifest = halves[1][0]
    print(
        "\n| copies in the second half | planted | recall at the chosen threshold | recall at the package's |\n|---|---|---|---|"
    )
    to_original = second[second["planted"] & (manifest["kind"].to_numpy()[second["a"]] == "")]
    best = (
        to_original.groupby("b")["value"]
        .max()
        .reindex(manifest.index[manifest["kind"] != ""])
        .fillna(-1)
    )
    for kind in COPIES:
        values = best[manifest["kind"] == kind]
        print(
            f"| {kind} | {len(values)} | {(values >= chosen).mean():.1%} | {(values >= confirm).mean():.1%} |"
        )
    for name, threshold in (("chosen", chosen), ("package's", confirm)):
        found = second[second["value"] >= threshold]
        wrong = found[~found["planted"] & ~found["equal"]]
        names = sorted(
            {
                tuple(sorted((manifest["source"][x], manifest["source"][y])))
                for x, y in wrong[["a", "b"]].to_numpy()
            }
        )
        precision = found["planted"].sum() / max(found["planted"].sum() + len(wrong), 1)
        print(
            f"\n{name} threshold {threshold:.3f}: {len(found)} pairs, precision {precision:.2%} if these {len(names)} are false: {names}"
        )
    print(
        f"aligned: {len(second)} of {len(manifest) * (len(manifest) - 1) // 2} pairs, {(~second['planted']).sum()} of them not planted"
    )


def scale(arguments):
    rng = np.random.default_rng(arguments.seed)
    prints = rng.standard_normal((arguments.count, 4, duplicates.COARSE**2 // 4), np.float32)
    for print_ in prints:
        print_ /= np.linalg.norm(print_)
    prints[-100:] = prints[:100] * np.array([1, -1, 1, -1])[:, None]  # flipped left-right
    began = time.perf_counter(), time.process_time()
    pairs = duplicates.propose(prints)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    if len(pairs) != 100:
        raise SystemExit(f"{len(pairs)} of 100 flipped copies found")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"| all pairs of {arguments.count} fingerprints, four flips | {wall:.0f} s | {cpu:.0f} CPU-s | peak {peak:.0f} MiB |"
    )
    picture = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    where = duplicates.view(128, 128, 128, "", 256)
    for name, work in {
        "fingerprint": lambda: duplicates.fingerprint(picture, where),
        "alignment": lambda: duplicates.agreement(picture, where, np.roll(picture, 40, 0), where),
    }.items():
        began = time.process_time()
        for _ in range(50):
            work()
        print(f"| one {name}, 256 px | | {20 * (time.process_time() - began):.2f} CPU-ms | |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("copies")
    verb.add_argument("--raw", type=Path, required=True, help="folder with images/ and splits/")
    verb.add_argument(
        "--domains", nargs="+", default=["APTOS", "EYEPACS", "IDRID", "MESSIDOR", "RLDR"]
    )
    verb.add_argument("--count", type=int, default=100, help="copies per kind and half")
    verb.add_argument("--size", type=int, default=128, help="side of the stored square, pixels")
    verb.set_defaults(work=copies)
    verb = verbs.add_parser("scale")
    verb.add_argument("--count", type=int, default=90_000)
    verb.set_defaults(work=scale)
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
