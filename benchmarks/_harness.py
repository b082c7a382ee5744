"""Shared parts of the benchmarks: clock, paired comparison, printed rows and JSON results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipdr.artifacts.files import as_json, write_text

Clock = Callable[[], float]


def parser(text: str) -> argparse.ArgumentParser:
    """Create the parser of a script; its description is the docstring of the script.

    Args:
        text: Docstring of the script.

    Returns:
        Parser with the option --json.
    """
    result = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    return result


def clock(threads: int) -> Clock:
    """Set the number of threads of torch and choose a clock.

    Args:
        threads: Number of threads.

    Returns:
        Function that returns seconds: CPU time for one thread, because the load of other processes
        hardly changes it, and wall time for more.
    """
    import torch

    torch.set_num_threads(threads)
    # torch reads it at its first large allocation; the commands of clipdr set it too
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    return time.process_time if threads == 1 else time.perf_counter


def seconds_per_call(work: Callable[[], Any], count: int, now: Clock) -> float:
    """Measure the mean time of a function after one call to warm up.

    Args:
        work: Function to measure.
        count: Number of calls.
        now: Clock.

    Returns:
        Seconds per call.
    """
    work()
    start = now()
    for _ in range(count):
        work()
    return (now() - start) / count


def paired(
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    pairs: int,
    now: Clock,
    repeats: int = 1,
) -> tuple[list[float], list[float]]:
    """Measure two functions in interleaved pairs; which one is first alternates.

    On a shared machine seconds drift by 15 % within an hour, and ratios of a pair hardly do.

    Args:
        ours: Function of this project.
        reference: Reference function.
        pairs: Number of pairs.
        now: Clock.
        repeats: Calls of `ours` per measurement, for a short function.

    Returns:
        Seconds per call of both functions, `pairs` entries each.
    """
    functions = ((ours, repeats), (reference, 1))
    for function, _ in functions:
        function()  # imports, caches and first allocations are not measured
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for index in (0, 1) if pair % 2 == 0 else (1, 0):
            function, calls = functions[index]
            start = now()
            for _ in range(calls):
                function()
            seconds[index].append((now() - start) / calls)
    return seconds


class Results:
    """Results of a script, printed at once and written as JSON by `write`.

    Args:
        script: Path of the script (`__file__`).
        arguments: Parsed command line.
    """

    def __init__(self, script: str, arguments: argparse.Namespace) -> None:
        """Create results without rows."""
        self.path: Path | None = arguments.json
        self.head = {
            "benchmark": Path(script).stem,
            "arguments": {name: _plain(value) for name, value in vars(arguments).items()},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"),
        }
        self.rows: list[dict[str, Any]] = []

    def add(self, work: str, line: str, **values: Any) -> None:
        """Print a line and keep a row.

        Args:
            work: What was measured.
            line: Line to print; "" prints nothing.
            **values: Measured values.
        """
        if line:
            print(line, flush=True)
        self.rows.append({"work": work, **{name: _plain(value) for name, value in values.items()}})

    def table(self, *headings: str) -> None:
        """Print the head of a Markdown table.

        Args:
            *headings: Names of the columns.
        """
        print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)

    def compare(
        self,
        work: str,
        seconds: tuple[list[float], list[float]],
        aim: str = "-",
        count: int | None = None,
        cost: bool = False,
    ) -> None:
        """Print a Markdown row of a comparison: work, ours, reference, ratio and aim.

        Args:
            work: What was measured.
            seconds: Result of `paired`.
            aim: Aim of the ratio, for example ">= 8"; "-" if there is none.
            count: Images per call, to print images per second.
            cost: Print ours / reference instead of reference / ours.
        """
        medians = [statistics.median(column) for column in seconds]
        ratio = statistics.median(
            ours / reference if cost else reference / ours
            for ours, reference in zip(*seconds, strict=True)
        )
        cells = [
            f"{count / value:.0f} images/s" if count else f"{value * 1e3:.2f} ms"
            for value in medians
        ]
        self.add(
            work,
            f"| {work} | {cells[0]} | {cells[1]} | {ratio:.2f} | {aim} |",
            ours_seconds=medians[0],
            reference_seconds=medians[1],
            images=count,
            ratio=ratio,
            ratio_is="ours / reference" if cost else "reference / ours",
            aim=aim,
            pairs=len(seconds[0]),
        )

    def write(self) -> None:
        """Write the JSON file, if one was named on the command line."""
        if self.path:
            write_text(self.path, as_json({**self.head, "rows": self.rows}))


COLUMNS = ("work", "ours", "reference", "ratio", "aim")  # of the rows that `compare` prints


def _plain(value: Any) -> Any:
    """Return what JSON can hold; paths and functions as text."""
    try:
        json.dumps(value, default=lambda item: item.item())
    except (TypeError, AttributeError):
        return str(value)
    return value
