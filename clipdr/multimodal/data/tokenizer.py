"""Tokenizers of narratives: a small word tokenizer, and one of the transformers library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import torch

PAD, UNKNOWN, CLS, MASK = range(4)  # ids of the small tokenizer
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]")


class Tokenizer(Protocol):
    """Interface of both tokenizers.

    Attributes:
        pad: Id of padding.
        cls: Id of the first token of every text.
        mask: Id of a masked token.
        first: Lowest id above the special tokens.
        size: Number of ids.
    """

    pad: int
    cls: int
    mask: int
    first: int
    size: int

    def ids_of(self, text: str) -> list[int]:
        """Ids of a text, the first of them `cls`."""
        ...


class WordTokenizer:
    """Small tokenizer of lower-case words, single digits and punctuation.

    The vocabulary comes from training texts only and is stored with the weights. Unlike the
    tokenizer of `clipdr.models.report_encoder` it has a mask token, because tokens are masked and
    predicted. An age of 63 is two digits, so that every age is known even if it is absent from
    training.

    Args:
        vocabulary: Words by id, the first four of them `SPECIAL`.
    """

    pad, cls, mask, first = PAD, CLS, MASK, len(SPECIAL)

    def __init__(self, vocabulary: Iterable[str]) -> None:
        """Create a tokenizer of a known vocabulary."""
        self.vocabulary = list(vocabulary)
        self.ids = {word: index for index, word in enumerate(self.vocabulary)}
        self.size = len(self.vocabulary)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> WordTokenizer:
        """Create a tokenizer of all words of some texts.

        Args:
            texts: Texts, whose order does not matter: the vocabulary is alphabetic.

        Returns:
            The tokenizer.
        """
        return cls([*SPECIAL, *sorted({word for text in texts for word in cls.words(text)})])

    @staticmethod
    def words(text: str) -> list[str]:
        """Split a text into lower-case words, single digits and punctuation."""
        return re.findall(r"[^\W\d_]+|\d|[.,:-]", text.lower())

    def ids_of(self, text: str) -> list[int]:
        """Ids of a text, the first of them `cls`."""
        return [CLS, *(self.ids.get(word, UNKNOWN) for word in self.words(text))]


class PretrainedTokenizer:
    """Tokenizer of a local folder of the transformers library, with the same interface.

    Args:
        folder: Folder of the tokenizer.
    """

    def __init__(self, folder: str | Path) -> None:
        """Create a tokenizer from a local folder; nothing is downloaded."""
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.pad, self.cls, self.mask = (
            getattr(self.tokenizer, f"{name}_token_id") for name in ("pad", "cls", "mask")
        )
        self.size, self.first = len(self.tokenizer), max(self.tokenizer.all_special_ids) + 1

    def ids_of(self, text: str) -> list[int]:
        """Ids of a text, the first of them `cls`."""
        return self.tokenizer(text)["input_ids"]


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], limit: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert texts to padded token ids.

    Args:
        tokenizer: Tokenizer.
        texts: B texts.
        limit: Largest number of tokens that is kept.

    Returns:
        (B, L) int64 token ids, L the length of the longest text up to `limit`; and (B,) int64
        lengths before the cut.
    """
    rows = [tokenizer.ids_of(text) for text in texts]
    width = min(max(map(len, rows)), limit)
    padded = torch.full((len(rows), width), tokenizer.pad)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids[:width])
    return padded, torch.tensor([len(ids) for ids in rows])
