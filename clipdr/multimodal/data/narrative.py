"""Narratives: English clinical text of an eye, generated from columns of the eye table.

Kinds of text: `history` (age, sex, diabetes, comorbidities: columns that a classifier may read);
`findings` (eye, anatomy, findings, keywords, and both grades under `with_grades`: what an image can
show); `full` (both); `description` (as published). Upper bounds, equal-caption credit and positives
of the contrastive loss compare statements, never strings, because a sampled wording would make
equal captions look distinct. A missing value leaves its sentence out. A narrative holds no
identifier, date, camera or quality word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from clipdr import DataError
from clipdr.multimodal.data.eye_table import ANATOMY, COMORBIDITIES, FLAGS
from clipdr.multimodal.data.sentences import WORDINGS, sentence
from clipdr.multimodal.data.splits import patients_of

Statement = tuple[str, tuple[Any, ...]]  # name of a sentence and its values
Statements = tuple[Statement, ...]

KINDS = {
    "history": ("history",),
    "findings": ("findings",),
    "full": ("history", "findings"),
    "description": ("description",),
}
# Words that reveal a grade or a finding. A text that a classifier reads must hold none of them.
LABEL_WORDS = re.compile(
    r"\b(retinopath\w*|n?pdr|prolifer\w*|icdr|sdrg|scottish|grade\w*|drusen\w*|o?edema\w*"
    r"|h(a)?emorrhag\w*|exudate\w*|aneurysm\w*|macula\w*|na?ev\w*|scars?|occlusion\w*|detach\w*"
    r"|myopi\w*|cup|cotton|irma|neovascular\w*|abnormal|normal|disc|vessels?|glaucoma\w*|laser)\b",
    re.I,
)
LONG_DIGITS = re.compile(r"\d{6,}|\d{4}-\d{2}-\d{2}|\S+@\S+\.\S+")


def statements(row: Mapping[str, Any], kind: str, with_grades: bool = False) -> Statements:
    """List the statements of one eye in the fixed order of evaluation.

    Args:
        row: Row of an eye table.
        kind: Kind of text, a key of `KINDS`.
        with_grades: Whether findings include both grades.

    Returns:
        Pairs (name of a sentence, values).

    Raises:
        DataError: If `kind` is unknown.
    """
    groups = KINDS.get(kind)
    if groups is None:
        raise DataError(f"text {kind!r}: is an unknown kind. Choose {', '.join(KINDS)}.")
    pairs: list[Statement] = []
    if "history" in groups:
        pairs += _history(row)
    if "findings" in groups:
        pairs += _findings(row)
        if with_grades:
            pairs += [(name, (int(row[name]),)) for name in ("icdr", "sdrg") if row[name] >= 0]
    if "description" in groups and row["description"]:
        pairs.append(("description", (row["description"],)))
    return tuple(pairs)


def _history(row: Mapping[str, Any]) -> Iterator[Statement]:
    """Statements of age, sex, diabetes and comorbidities."""
    age, sex = row["age"], row["sex"]
    if not np.isnan(age):
        yield ("person", (int(age), sex)) if sex else ("age", (int(age),))
    elif sex:
        yield "sex", (sex,)
    if row["diabetes"] == "yes":
        years = row["diabetes_years"]
        yield "diabetes", (None if np.isnan(years) else int(years), row["insulin"])
    elif row["diabetes"] == "no":
        yield "no_diabetes", ()
    for name in COMORBIDITIES:
        if row[name] == "yes":
            yield "comorbidity", (name,)


def _findings(row: Mapping[str, Any]) -> Iterator[Statement]:
    """Statements of eye, anatomy, findings and keywords."""
    if row["eye"]:
        yield "eye", (row["eye"],)
    anatomy = tuple((name, int(row[name])) for name in ANATOMY if not np.isnan(row[name]))
    if anatomy:
        yield "anatomy", anatomy
    for name in FLAGS:
        if row[name] == 1:
            yield "finding", (name,)
    for keyword in filter(None, row["keywords"].split("|")):
        yield "finding", (keyword,)


def table_statements(eyes: pd.DataFrame, kind: str, with_grades: bool = False) -> list[Statements]:
    """List the statements of each eye.

    Args:
        eyes: Eye table of N rows.
        kind: Kind of text, a key of `KINDS`.
        with_grades: Whether findings include both grades.

    Returns:
        N tuples, equal if and only if the verbalised values are equal.
    """
    return [statements(row, kind, with_grades) for row in eyes.to_dict("records")]


def text(pairs: Statements, rng: np.random.Generator | None = None) -> str:
    """Verbalise the statements of one eye.

    Args:
        pairs: Statements.
        rng: Generator that samples wordings and order (training), or None (evaluation).

    Returns:
        The text, sentences separated by a space.
    """
    if rng is None:
        return " ".join(sentence(name, values) for name, values in pairs)
    sentences = []
    for index in rng.permutation(len(pairs)):
        name, values = pairs[index]
        sentences.append(sentence(name, values, int(rng.integers(len(WORDINGS[name])))))
    return " ".join(sentences)


def narrate(
    eyes: Sequence[Statements],
    seed: int | None = None,
    epoch: int = 0,
    rows: Iterable[int] | None = None,
) -> list[str]:
    """Verbalise the statements of some eyes.

    Args:
        eyes: Statements of N eyes.
        seed: None for evaluation (one fixed text per statements), else the text is a function of
            (seed, epoch, row).
        epoch: Epoch of training.
        rows: N numbers of the rows. Default: 0 to N - 1.

    Returns:
        N texts.
    """
    if seed is None:
        return [text(pairs) for pairs in eyes]
    rows = range(len(eyes)) if rows is None else rows
    return [
        text(pairs, np.random.default_rng((seed, epoch, int(row), 77)))
        for pairs, row in zip(eyes, rows, strict=True)
    ]


def refuse_labels(texts: Iterable[str], where: str) -> None:
    """Check that no text of a classifier holds a word of a grade or a finding.

    Args:
        texts: Texts that a classifier reads.
        where: Name of the texts in the error message.

    Raises:
        DataError: If a text holds a word of `LABEL_WORDS`.
    """
    for row, content in enumerate(texts):
        if match := LABEL_WORDS.search(content):
            raise DataError(
                f"{where}: row {row}: the word {match[0]!r} reveals the grade or a finding. "
                "Take it out, because a classifier may not read it."
            )


def refuse_identifiers(texts: Iterable[str], eyes: pd.DataFrame, where: str) -> None:
    """Check that no text identifies a patient.

    Names of fewer than four characters are not searched, because they cannot be distinguished from
    an age.

    Args:
        texts: N texts.
        eyes: Eye table of the same N eyes.
        where: Name of the texts in the error message.

    Raises:
        DataError: If a text holds the name of its patient or image, a long number, a date or an
            address.
    """
    stems = eyes["image"].str.replace(r".*/|\.\w+$", "", regex=True)
    identifiers = [
        {patient.rpartition("/")[2], stem}
        for patient, stem in zip(patients_of(eyes), stems, strict=True)
    ]
    for row, (content, names) in enumerate(zip(texts, identifiers, strict=True)):
        words = {word.strip(".") for word in re.findall(r"[\w.-]+", content)}
        named = any(len(name) > 3 and name in words for name in names)
        if named or LONG_DIGITS.search(content):
            what = (
                "its patient's or image's name" if named else "a long number, a date or an address"
            )
            raise DataError(
                f"{where}: row {row}: the text holds {what}. Take it out of the columns."
            )


def lengths(counts: np.ndarray, limit: int = 77) -> dict[str, float]:
    """Summarise the lengths of texts.

    Args:
        counts: (N,) tokens of each text.
        limit: Longest text of CLIP, tokens.

    Returns:
        "mean" and "longest" in tokens, and "above_77", the share above `limit`.
    """
    counts = np.asarray(counts)
    return {
        "mean": float(counts.mean()),
        "longest": int(counts.max()),
        "above_77": float((counts > limit).mean()),
    }
