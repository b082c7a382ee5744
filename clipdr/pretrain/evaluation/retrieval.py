"""Retrieved pairs to look at: a few test patients, the reports found for their eyes, the patients found for their report.

Input: what jobs.embed gives. Output: examples.json, with names of photographs and no pixels, so that the file may leave the machine.
"""

import json

import numpy as np

from clipdr.artifacts.files import write_text
from clipdr.evaluation.retrieval import ranks, retrieve, similarity
from clipdr.pretrain.model import LEVELS


def levels_retrieved(image, text, member, content, patient, permute=None):
    """Rows of retrieval.csv: both directions at every level, the rows of the level as gallery.

    image, text : (3, N, E);  member : (3, N) bool;  content : (3, N) numbers of equal texts;  patient : (N,) str
    permute     : pair the texts anew with this seed (the control)
    """
    rows = []
    for number, level in enumerate(LEVELS):
        chosen = np.flatnonzero(member[number])
        if len(chosen) < 2:
            continue
        order = chosen if permute is None else np.random.default_rng(permute).permutation(chosen)
        values = np.unique(content[number][order], return_inverse=True)[1]
        found = retrieve(
            image[number][chosen],
            text[number][order],
            content=values,
            patient=patient[chosen],
            key=f"test/{level}",
        )
        rows += [{"level": level, "text": "report"} | row for row in found]
    return rows


COUNT, SHOWN = 6, 3


def choose(image, text, table):
    """Up to COUNT queries evenly over the split at the patient level, each with the SHOWN first answers, in both directions.

    image, text : (N, E) unit vectors;  returns [{direction, query: {...}, rank, found: [{..., true}]}]; rank: expected, 1 = first
    """
    score = similarity(image, text)
    rows = np.unique(np.linspace(0, len(table) - 1, min(COUNT, len(table))).round().astype(int))
    out = []
    for direction, matrix in (("image_to_text", score), ("text_to_image", score.T)):
        place_of_true = ranks(matrix)
        for row in rows:
            order = np.argsort(-matrix[row], kind="stable")
            found = [said(table, place) | {"true": bool(place == row)} for place in order[:SHOWN]]
            out.append(
                {
                    "direction": direction,
                    "query": said(table, row),
                    "rank": float(place_of_true[row]),
                    "found": found,
                }
            )
    return out


def said(table, row):
    """Names and report of a row."""
    return {
        name: table[name].iloc[row]
        for name in ("dataset", "patient_id", "left_image", "right_image", "text")
    }


def write(found, table, data, path):
    """Write examples.json: the patient level."""
    write_text(
        path,
        json.dumps(
            {"data": str(data), "examples": choose(found.image[2], found.text[2], table)},
            indent=1,
            ensure_ascii=False,
        )
        + "\n",
    )
