"""What training knew of the test images, said on every table.

Input: results/gate/{protocol}/{held_out}.json and a Table. Output: a Table.
"""

import json
from dataclasses import replace
from pathlib import Path


def found(results, runs):
    """Per held-out domain of the runs, all of one protocol: "27 pairs (...)", "" nothing, None nobody looked."""
    verdicts = {}
    for protocol, held_out in dict.fromkeys((run.parts[-4], run.parts[-2]) for run in map(Path, runs)):
        path = Path(results) / "gate" / protocol / f"{held_out}.json"
        verdicts[held_out] = json.loads(path.read_text())["verdict"] if path.is_file() else None
    return verdicts


def marked(table, verdicts):
    """The table, LEAKY in its caption and with a note if training knew test images. verdicts : as `found` returns them"""
    leaky = [f"{held_out}: {text}" for held_out, text in verdicts.items() if text]
    unknown = [held_out for held_out, text in verdicts.items() if text is None]
    notes = table.notes
    if leaky:
        notes += (f"LEAKY: training or validation holds photographs or patients of the test set ({'; '.join(leaky)}).",)
    if unknown:
        notes += (f"Leaks between training and test were not looked for: {', '.join(unknown)} (clipdr leaks, clipdr gate).",)
    caption = f"LEAKY: {table.caption}" if leaky else table.caption
    return replace(table, caption=caption, cells=table.cells.assign(caption=caption), notes=notes)
