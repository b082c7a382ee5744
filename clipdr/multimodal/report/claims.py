"""Claims of the multimodal report: whether several modalities help, by the paired bootstrap.

Input: bootstrap draws of run folders. Output: a sentence per model and scale, and its paired
differences. A claim without its four controls is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clipdr.evaluation import aggregate
from clipdr.multimodal.evaluation.baselines import CONTROLS, multimodal_gain, run_name
from clipdr.multimodal.report.tables import Measure, Row

SCALES = {"brset_icdr": "ICDR", "brset_sdrg": "SDRG"}  # protocol -> scale


def draws_of(results: Path | str, protocol: str, held_out: str) -> dict[str, np.ndarray]:
    """Read the bootstrap draws of the lowest seed of each run of one scale.

    Args:
        results: Folder with runs/.
        protocol: Protocol of the scale.
        held_out: Name of the test patients in run folders.

    Returns:
        {method: (metrics, R)}.
    """
    runs = Path(results) / "runs" / protocol
    folders = sorted(path.parent for path in runs.glob(f"*/{held_out}/*/draws.npz"))
    draws: dict[str, np.ndarray] = {}
    for (_, method, _, _), by_domain in aggregate.collect_draws(folders).items():
        draws.setdefault(method, by_domain[f"source_val/{held_out}"])
    return draws


def control_runs(method: str, inputs: str) -> dict[str, str]:
    """Name the runs that are the controls of a model.

    Args:
        method: The model.
        inputs: Its setting `inputs`.

    Returns:
        {name of the run: control of `baselines.CONTROLS`}.
    """
    special = {"shuffled_at_test": f"{method}_shuffled_at_test"}
    return {special.get(name, run_name(name, inputs)): name for name in CONTROLS}


def claim(
    draws: Mapping[str, np.ndarray], method: str, inputs: str, metric: str = "qwk"
) -> tuple[str, list[Row]]:
    """State whether several modalities help one model.

    Args:
        draws: As `draws_of` returns them.
        method: The model.
        inputs: Its setting `inputs`.
        metric: A name of `operating_point.MEASURES`.

    Returns:
        The sentence as `baselines.multimodal_gain` allows it, and rows of the paired differences.

    Raises:
        DataError: If one of the four controls is absent.
    """
    controls = control_runs(method, inputs)
    named = {controls.get(name, name): values for name, values in draws.items()}
    gain = multimodal_gain(named, method, metric)
    rows: list[Row] = []
    for name, test in gain.items():
        if isinstance(test, dict):
            value, low, high = (100 * test[key] for key in ("difference", "low", "high"))
            difference = Measure(f"{value:.1f}", value, low, high)
            p = Measure(f"{test['p']:.3f}", test["p"], decimals=3)
            rows.append({"difference": name, f"{metric} x 100": difference, "p": p})
    verdict = (
        "several modalities help"
        if gain["helps"]
        else "these runs do NOT show that several modalities help"
    )
    return f"{method}: {verdict} ({metric.upper()}, paired bootstrap of patients).", rows


def claims(results: Path, held_out: str, folders: Sequence[Path]) -> list[tuple[str, list[Row]]]:
    """Claims per scale of each model that has its four controls; other models make no claim.

    Args:
        results: Folder with runs/.
        held_out: Name of the test patients in run folders.
        folders: Model folders.
    """
    statements = []
    first_seeds: dict[str, Path] = {}
    for folder in folders:
        first_seeds.setdefault(folder.parent.name, folder)
    for protocol, scale in SCALES.items():
        draws = draws_of(results, protocol, held_out)
        for name, folder in first_seeds.items():
            inputs = json.loads((folder / "settings.json").read_text())["inputs"]
            if name in draws and set(control_runs(name, inputs)) <= set(draws):
                sentence, rows = claim(draws, name, inputs)
                statements.append((f"{scale}: {sentence}", rows))
    return statements
