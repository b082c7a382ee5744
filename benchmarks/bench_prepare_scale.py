"""`prepare` on very many photographs: peak memory of every process, and images per second in each quarter of the work.

Draws a few photographs, links them (hard links) under as many names as asked in GDRBench's layout, and runs `clipdr prepare` on them as a
user does. Memory is the kernel's high-water mark (VmHWM) of the command and of each worker. Rates are given per second of wall clock and,
since other work on the machine slows that, per second of processor time of all its processes. Linux only.

    OMP_NUM_THREADS=1 python benchmarks/prepare_scale.py [--count 20000] [--distinct 200] [--side 256] [--size 112] [--processes 2]
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import eye
from clipdr.data.synthetic.renderer import paint

DOMAIN = "EYEPACS"
PARTS = 4
TICK = os.sysconf("SC_CLK_TCK")


def layout(raw: Path, count: int, distinct: int, side: int) -> None:
    """Split files of `count` photographs, every fourth in crossval, and their hard links to `distinct` drawn ones of `side` pixels."""
    drawn = raw / "drawn"
    drawn.mkdir(parents=True)
    for number in range(distinct):
        (drawn / f"{number}.jpg").write_bytes(
            encode(paint(eye("SIM_RLDR", number + 1, "left", number % 5, 0), side)[0], ".jpg", 90)
        )
    (raw / "images" / DOMAIN / "Images").mkdir(parents=True)
    (raw / "splits").mkdir()
    lines = {"train": [], "crossval": []}
    for number in range(count):
        image = f"{DOMAIN}/Images/{number}_left.jpeg"
        os.link(drawn / f"{number % distinct}.jpg", raw / "images" / image)
        lines["crossval" if number % 4 == 3 else "train"].append(
            f"{image} {number % distinct % 5}\n"
        )
    for word, content in lines.items():
        (raw / "splits" / f"{DOMAIN}_{word}.txt").write_text("".join(content))


def family(pid: int) -> list[int]:
    """A process and its descendants that are alive."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def use(pid: int) -> tuple[float, float]:
    """(MB of peak resident memory, seconds of processor time) of a process; (0, 0) where it has ended."""
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(status.get("VmHWM", "0 kB").split()[0]) / 1000, (
            int(times[11]) + int(times[12])
        ) / TICK
    except OSError:
        return 0.0, 0.0


def run(
    raw: Path, data: Path, count: int, size: int, processes: int
) -> tuple[list[tuple[float, float]], dict[int, float]]:
    """(wall, processor) seconds when each quarter of the store was written, the start first; peak memory per process."""
    command = [
        sys.executable,
        "-m",
        "clipdr",
        "prepare",
        DOMAIN,
        "--raw",
        str(raw),
        "--data",
        str(data),
        "--size",
        str(size),
    ]
    child = subprocess.Popen([*command, "--processes", str(processes)], stderr=subprocess.DEVNULL)
    part, marks, peak, spent = data / "store" / f".{DOMAIN}.npy.part", [], {}, {}
    while child.poll() is None:
        for pid in family(child.pid):
            memory, seconds = use(pid)
            peak[pid], spent[pid] = max(peak.get(pid, 0), memory), max(spent.get(pid, 0), seconds)
        try:
            done = part.stat().st_size / (3 * size * size)
        except OSError:
            done = 0
        while done >= 1 and len(marks) <= PARTS and done >= count * len(marks) / PARTS:
            marks.append((time.monotonic(), sum(spent.values())))
        time.sleep(0.05)
    if child.returncode:
        raise SystemExit(child.returncode)
    return [*marks, (time.monotonic(), sum(spent.values()))][: PARTS + 1], peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument(
        "--distinct", type=int, default=200, help="photographs drawn; the others are links to them"
    )
    parser.add_argument(
        "--side", type=int, default=256, help="nominal side of the photographs, pixels"
    )
    parser.add_argument("--size", type=int, default=112, help="side of the stored square, pixels")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw, data = Path(folder) / "raw", Path(folder) / "data"
        layout(raw, arguments.count, arguments.distinct, arguments.side)
        marks, peak = run(raw, data, arguments.count, arguments.size, arguments.processes)
    print(
        f"prepare of {arguments.count} photographs of {arguments.side} pixels to {arguments.size}, {arguments.processes} processes:"
    )
    print(
        "  peak memory per process: "
        + ", ".join(f"{memory:.0f} MB" for memory in sorted(peak.values(), reverse=True) if memory)
    )
    for number, (before, after) in enumerate(itertools.pairwise(marks), start=1):
        wall, processor = (
            arguments.count / PARTS / (b - a) for a, b in zip(before, after, strict=True)
        )
        print(
            f"  quarter {number}: {wall:.0f} images/s, {processor:.0f} images per second of processor time"
        )


if __name__ == "__main__":
    main()
