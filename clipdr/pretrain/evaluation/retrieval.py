"""Cross-modal retrieval of a pre-training run at three levels, and a few examples of it.

Input: embeddings of `clipdr.pretrain.run.embed`. Output: rows of retrieval.csv, and
examples.json. The examples name images and hold no pixels, so that the file may be shared.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clipdr.artifacts.files import write_text
from clipdr.evaluation.retrieval import ranks, retrieve, similarity
from clipdr.pretrain.data import patients_table
from clipdr.pretrain.model import LEVELS

if TYPE_CHECKING:
    from pathlib import Path

QUERIES = 6  # examples per direction
ANSWERS = 3  # per example


def retrieve_run(
    run_folder: Path,
    table: pd.DataFrame,
    data: Path,
    split: str = "test",
    visit: str = "",
    permute: int | None = None,
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Score the retrieval of a pre-training run.

    Args:
        run_folder: Folder of a finished pre-training run.
        table: Patients table.
        data: Folder with manifests/ and store/ of its images.
        split: Rows of this split are query and gallery. Rows without a report are left out.
        visit: Only rows of this visit_id; "": all.
        permute: Seed that pairs images and reports at random (a control); None: as they are.

    Returns:
        Rows of retrieval.csv, and the examples of `choose_examples` at the patient level.
    """
    from clipdr.pretrain import run

    model, rules = run.load(run_folder)
    chosen = (
        (table["split"] == split)
        & (table["text"] != "")
        & ((table["visit_id"] == visit) | (visit == ""))
    )
    table = table[chosen].reset_index(drop=True)
    embedded = run.embed(model, table, data, rules)
    rows = score_levels(
        embedded.image,
        embedded.text,
        embedded.member,
        embedded.content,
        patients_table.patients(table),
        permute,
    )
    level = LEVELS.index("patient")
    examples = choose_examples(embedded.image[level], embedded.text[level], table)
    return pd.DataFrame(rows), examples


def score_levels(
    image: np.ndarray,
    text: np.ndarray,
    member: np.ndarray,
    content: np.ndarray,
    patient: np.ndarray,
    permute: int | None = None,
) -> list[dict[str, Any]]:
    """Score both directions of retrieval at every level; the rows of the level are the gallery.

    Args:
        image: (3, N, E) unit vectors, float32.
        text: (3, N, E) unit vectors, float32.
        member: (3, N) bool, the rows that take part at each level.
        content: (3, N) int64; equal numbers stand for equal texts.
        patient: (N,) group key of the resamples.
        permute: Seed that pairs the texts at random (a control); None: as they are.

    Returns:
        Rows of retrieval.csv. A level with fewer than two rows has none.
    """
    rows = []
    for number, level in enumerate(LEVELS):
        chosen = np.flatnonzero(member[number])
        if len(chosen) < 2:
            continue
        order = chosen if permute is None else np.random.default_rng(permute).permutation(chosen)
        values = np.unique(content[number][order], return_inverse=True)[1]
        scores = retrieve(
            image[number][chosen],
            text[number][order],
            content=values,
            patient=patient[chosen],
            key=f"test/{level}",
        )
        rows += [{"level": level, "text": "report"} | row for row in scores]
    return rows


def choose_examples(
    image: np.ndarray, text: np.ndarray, table: pd.DataFrame
) -> list[dict[str, Any]]:
    """Choose queries evenly over the table, in both directions, with their first answers.

    Args:
        image: (N, E) unit vectors of the patient level.
        text: (N, E) unit vectors of the patient level.
        table: Patients table, N rows.

    Returns:
        Up to `QUERIES` entries per direction: direction, query (see `describe`), rank (expected
        rank of the true answer, 1 = first) and found, the first `ANSWERS` answers, each with
        `true`.
    """
    score = similarity(image, text)
    queries = np.unique(np.linspace(0, len(table) - 1, min(QUERIES, len(table))).round())
    examples = []
    for direction, matrix in (("image_to_text", score), ("text_to_image", score.T)):
        true_rank = ranks(matrix)
        for row in queries.astype(int):
            order = np.argsort(-matrix[row], kind="stable")
            answers = [
                describe(table, answer) | {"true": bool(answer == row)}
                for answer in order[:ANSWERS]
            ]
            examples.append(
                {
                    "direction": direction,
                    "query": describe(table, row),
                    "rank": float(true_rank[row]),
                    "found": answers,
                }
            )
    return examples


def describe(table: pd.DataFrame, row: int) -> dict[str, str]:
    """Return names of images and report of a row."""
    return {
        name: table[name].iloc[row]
        for name in ("dataset", "patient_id", "left_image", "right_image", "text")
    }


def write_examples(path: Path, examples: list[dict[str, Any]], data: Path) -> None:
    """Write examples.json.

    Args:
        path: Of the file.
        examples: As `choose_examples` returns them.
        data: Folder with manifests/ and store/ of the images; its name is stored.
    """
    content = {"data": str(data), "examples": examples}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
