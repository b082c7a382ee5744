"""Memory and rate of `clipdr prepare` on very many images.

Generates a few images, links them (hard links) under as many names as asked in GDRBench's layout,
and runs `clipdr prepare` on them as a user does. Output: peak memory of every process, and images
per second in each quarter of the work. Memory is the kernel's high-water mark (VmHWM) of the
command and of each worker. Rates are per second of wall clock and, because other work on the
machine slows that, per second of processor time of all its processes. Linux only.

    OMP_NUM_THREADS=1 python benchmarks/bench_prepare_scale.py [--count 20000] [--processes 2]
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _harness import Results, parser

from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import eye
from clipdr.data.synthetic.renderer import render

DOMAIN = "EYEPACS"
PARTS = 4
TICK = os.sysconf("SC_CLK_TCK")


def layout(raw: Path, count: int, distinct: int, side: int) -> None:
    """Write split files of `count` images, and hard links to `distinct` synthetic ones.

    Every fourth image is in crossval; images have `side` pixels.
    """
    originals = raw / "originals"
    originals.mkdir(parents=True)
    for number in range(distinct):
        (originals / f"{number}.jpg").write_bytes(
            encode(render(eye("SIM_RLDR", number + 1, "left", number % 5, 0), side)[0], ".jpg", 90)
        )
    (raw / "images" / DOMAIN / "Images").mkdir(parents=True)
    (raw / "splits").mkdir()
    lines = {"train": [], "crossval": []}
    for number in range(count):
        image = f"{DOMAIN}/Images/{number}_left.jpeg"
        os.link(originals / f"{number % distinct}.jpg", raw / "images" / image)
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
    """Peak resident memory in MB and processor seconds of a process; (0, 0) if it has ended."""
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
    """Run the command.

    Returns (wall, processor) seconds when each quarter of the array was written, the start first,
    and the peak memory of every process.
    """
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
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=20000)
    options.add_argument(
        "--distinct", type=int, default=200, help="images; the others are links to them"
    )
    options.add_argument("--side", type=int, default=256, help="nominal side of the images, pixels")
    options.add_argument("--size", type=int, default=112, help="side of the packed square, pixels")
    options.add_argument("--processes", type=int, default=2)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw, data = Path(folder) / "raw", Path(folder) / "data"
        layout(raw, arguments.count, arguments.distinct, arguments.side)
        marks, peak = run(raw, data, arguments.count, arguments.size, arguments.processes)
    results = Results(__file__, arguments)
    work = f"prepare of {arguments.count} images of {arguments.side} to {arguments.size} pixels"
    memory = [value for value in sorted(peak.values(), reverse=True) if value]
    print(f"{work}, {arguments.processes} processes:")
    line = f"  peak memory per process: {', '.join(f'{value:.0f} MB' for value in memory)}"
    results.add(work, line, peak_mb=memory)
    for number, (before, after) in enumerate(itertools.pairwise(marks), start=1):
        wall, processor = (
            arguments.count / PARTS / (b - a) for a, b in zip(before, after, strict=True)
        )
        line = f"  quarter {number}: {wall:.0f} images/s, {processor:.0f} images per second of "
        line += "processor time"
        results.add(f"quarter {number}", line, per_wall_second=wall, per_cpu_second=processor)
    results.write()


if __name__ == "__main__":
    main()
