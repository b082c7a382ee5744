"""Accuracy and cost of the search for near-duplicates (clipdr.data.duplicates).

copies: images of a folder in GDRBench's layout and planted copies of them, each image with its
    copies in one of two halves. On the first half a threshold of correlation is chosen, midway
    between the highest value of different images and the lowest of 99 % of the copies. On the
    second half recall and false alarms are reported, at this threshold and at the package's. Pairs
    that were not planted are listed for inspection, because they may be copies in the dataset.
scale: seconds and memory of the comparison of all fingerprints of a large dataset (random ones),
    and of one alignment.

Output: Markdown rows.

    python benchmarks/bench_duplicates.py copies --raw FOLDER [--domains APTOS IDRID] [--count 100]
    python benchmarks/bench_duplicates.py scale [--count 90000]
"""

import io
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _harness import Results, parser
from PIL import Image

from clipdr.data import duplicates
from clipdr.data.preprocessing import prepare


def encoded(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    return Image.open(io.BytesIO(file.getvalue()))


def scaled(image, factor):
    return image.resize(
        (round(factor * image.width), round(factor * image.height)), Image.Resampling.LANCZOS
    )


def cut(image, rng, around=False):
    """5 % of the width and of the height cut off at one end; around: at both."""
    width, height = image.size
    x, y = round(0.05 * width), round(0.05 * height)
    if around:
        return image.crop((x, y, width - x, height - y))
    left, top = rng.integers(0, 2) * x, rng.integers(0, 2) * y
    return image.crop((left, top, left + width - x, top + height - y))


COPIES = {
    "renamed": lambda image, _: image,
    "re-encoded, JPEG 50-90": lambda image, rng: encoded(image, rng.integers(50, 91)),
    "resized 0.5-0.9": lambda image, rng: scaled(image, rng.uniform(0.5, 0.9)),
    "cropped, 5 % off each side length": cut,
    "cropped, 5 % off all four edges": lambda image, rng: cut(image, rng, around=True),
    "flipped left-right": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "flipped up-down": lambda image, _: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "cropped, resized and re-encoded": lambda image, rng: encoded(
        scaled(cut(image, rng), rng.uniform(0.5, 0.9)), rng.integers(50, 91)
    ),
}


def listed(raw, domains):
    """Paths of the images that the split files of some domains name."""
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
    """Images and `count` copies per kind: rows of a manifest, and squares."""
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
    """Every aligned pair: rows, correlation, whether planted, and whether pixels are equal."""
    digests, views, prints = duplicates.describe_images(manifest, {"all": squares})
    duplicates.CONFIRM = -1.0  # all pairs, at any correlation
    pairs, values, _ = duplicates.near_pairs(manifest, {"all": squares}, views, prints)
    a, b = pairs.T
    source = manifest["source"].to_numpy()
    frame = pd.DataFrame({"a": a, "b": b, "value": values, "planted": source[a] == source[b]})
    originals = pd.DataFrame(duplicates.exact_pairs(manifest, digests), columns=["a", "b"])
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
    # a lower value than the package's gives more pairs of different images to choose on
    propose, duplicates.PROPOSE = duplicates.PROPOSE, 0.7
    first = compared(*halves[0])
    duplicates.PROPOSE = propose
    second = compared(*halves[1])
    other = first.loc[~first["planted"] & ~first["equal"], "value"]
    lowest = first.loc[first["planted"] & (first["value"] > duplicates.HOPELESS), "value"].quantile(
        0.01
    )
    highest = other[other < lowest].max()
    chosen = (highest + lowest) / 2
    results = Results(__file__, arguments)
    line = f"{len(paths)} images; chosen on the first half: {chosen:.3f}, between {highest:.3f} and"
    results.add("threshold", f"{line} {lowest:.3f}", chosen=chosen, package=confirm)
    manifest = halves[1][0]
    columns = ("recall at the chosen threshold", "recall at the package's")
    results.table("copies in the second half", "planted", *columns)
    to_original = second[second["planted"] & (manifest["kind"].to_numpy()[second["a"]] == "")]
    best = (
        to_original.groupby("b")["value"]
        .max()
        .reindex(manifest.index[manifest["kind"] != ""])
        .fillna(-1)
    )
    for kind in COPIES:
        values = best[manifest["kind"] == kind]
        recalls = [float((values >= threshold).mean()) for threshold in (chosen, confirm)]
        line = f"| {kind} | {len(values)} | {recalls[0]:.1%} | {recalls[1]:.1%} |"
        results.add(kind, line, planted=len(values), recall_chosen=recalls[0], recall=recalls[1])
    for name, threshold in (("chosen", chosen), ("package's", confirm)):
        pairs = second[second["value"] >= threshold]
        wrong = pairs[~pairs["planted"] & ~pairs["equal"]]
        names = sorted(
            {
                tuple(sorted((manifest["source"][x], manifest["source"][y])))
                for x, y in wrong[["a", "b"]].to_numpy()
            }
        )
        precision = pairs["planted"].sum() / max(pairs["planted"].sum() + len(wrong), 1)
        line = f"\n{name} threshold {threshold:.3f}: {len(pairs)} pairs, precision {precision:.2%}"
        line += f" if these {len(names)} are false: {names}"
        results.add(f"{name} threshold", line, pairs=len(pairs), precision=precision, false=names)
    total = len(manifest) * (len(manifest) - 1) // 2
    other = int((~second["planted"]).sum())
    line = f"aligned: {len(second)} of {total} pairs, {other} of them not planted"
    results.add("aligned pairs", line, aligned=len(second), pairs=total, not_planted=other)
    results.write()


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
    results = Results(__file__, arguments)
    results.table("work", "wall", "CPU", "memory")
    work = f"all pairs of {arguments.count} fingerprints, four flips"
    line = f"| {work} | {wall:.0f} s | {cpu:.0f} CPU-s | peak {peak:.0f} MiB |"
    results.add(work, line, wall_seconds=wall, cpu_seconds=cpu, peak_mib=peak)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    where = duplicates.inner_view(128, 128, 128, "", 256)
    for name, work in {
        "fingerprint": lambda: duplicates.fingerprint(image, where),
        "alignment": lambda: duplicates.aligned_correlation(
            image, where, np.roll(image, 40, 0), where
        ),
    }.items():
        began = time.process_time()
        for _ in range(50):
            work()
        cpu = (time.process_time() - began) / 50
        line = f"| one {name}, 256 px | | {1000 * cpu:.2f} CPU-ms | |"
        results.add(f"one {name}, 256 px", line, cpu_seconds=cpu)
    results.write()


def main():
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=0)
    commands = options.add_subparsers(dest="command", required=True)
    command = commands.add_parser("copies")
    command.add_argument("--raw", type=Path, required=True, help="folder with images/ and splits/")
    command.add_argument(
        "--domains", nargs="+", default=["APTOS", "EYEPACS", "IDRID", "MESSIDOR", "RLDR"]
    )
    command.add_argument("--count", type=int, default=100, help="copies per kind and half")
    command.add_argument("--size", type=int, default=128, help="side of the square, pixels")
    command = commands.add_parser("scale")
    command.add_argument("--count", type=int, default=90_000)
    arguments = options.parse_args()
    {"copies": copies, "scale": scale}[arguments.command](arguments)


if __name__ == "__main__":
    main()
