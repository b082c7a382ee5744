"""Report encoders of RET-CLIP: a small transformer with its own vocabulary, and BERT-like ones.

Input: reports as texts. Output: token ids (N, L) int64 with padding, and one vector per report, the
hidden state of [CLS], (N, width) float32. Words that the training reports do not contain become one
unknown token, so that a vocabulary belongs to a checkpoint.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNKNOWN, START, END = range(4)
# words and numbers (0.4; 4-2-1 as three numbers); every CJK character is a word
WORD = re.compile(r"[^\W_\u3400-\u9fff\uf900-\ufaff]+(?:\.\d+)?|[\u3400-\u9fff\uf900-\ufaff]")


def split_words(text: str) -> list[str]:
    """Split a text into lower-case words; each CJK character is a word."""
    return WORD.findall(text.lower())


def build_vocabulary(texts: Iterable[str]) -> list[str]:
    """Collect the tokens of a training set.

    Args:
        texts: Reports.

    Returns:
        SPECIAL, then the words, the most frequent first, ties in alphabetical order.
    """
    counts = Counter(word for text in texts for word in split_words(text))
    return [*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))]


class SmallReportEncoder(nn.Module):
    """Transformer encoder without dropout: [CLS] text [SEP] -> last hidden state of [CLS].

    Args:
        vocabulary: Tokens, SPECIAL first.
        length: Tokens L read of a report; longer reports are truncated.
        width: Width of an embedding.
        layers: Number of transformer layers.
        heads: Attention heads of a layer.
    """

    start: list[int]
    end: list[int]

    def __init__(
        self,
        vocabulary: Iterable[str],
        length: int,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
    ):
        """Create the encoder with random weights."""
        super().__init__()
        self.vocabulary, self.length, self.width = list(vocabulary), length, width
        self.index = {token: index for index, token in enumerate(self.vocabulary)}
        self.start, self.end = [START], [END]
        self.token = nn.Embedding(len(self.vocabulary), width, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.token.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without [CLS] and [SEP]."""
        return [self.index.get(word, UNKNOWN) for word in split_words(text)]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, width) float32."""
        return self.token(ids)

    def hidden(self, embedded: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        """Compute the hidden state of the first token.

        Args:
            embedded: Token embeddings, (B, l, width) float32.
            used: False at padding, (B, l) bool.

        Returns:
            (B, width) float32.

        Raises:
            DataError: If l is more than the encoder's length.
        """
        if embedded.shape[1] > self.length:
            raise DataError(
                f"text: {embedded.shape[1]} tokens, but this encoder reads {self.length}. "
                "Shorten the text."
            )
        return self.encoder(
            embedded + self.position[: embedded.shape[1]], src_key_padding_mask=~used
        )[:, 0]

    def forward(self, token: torch.Tensor) -> torch.Tensor:
        """Encode reports: (B, L) int64 -> (B, width) float32."""
        # positions behind the longest report are padding in every row and change nothing
        longest = int((token != PAD).sum(1).max())
        token = token[:, :longest]
        return self.hidden(self.embed(token), token != PAD)


class HuggingFaceReportEncoder(nn.Module):
    """BERT-like encoder with its own tokenizer: last hidden state of [CLS].

    Args:
        model: Encoder with `get_input_embeddings` and `last_hidden_state`.
        tokenizer: Its tokenizer.
        length: Tokens L read of a report; longer reports are truncated.

    Raises:
        DataError: If the tokenizer has no [CLS], [SEP] or [PAD] token.
    """

    def __init__(self, model: Any, tokenizer: Any, length: int):
        """Take over a model and its tokenizer."""
        super().__init__()
        self.model, self.tokenizer, self.length = model, tokenizer, length
        self.width = model.get_input_embeddings().embedding_dim
        self.start, self.end = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        if None in (*self.start, *self.end, tokenizer.pad_token_id):
            raise DataError(
                f"text: {tokenizer.name_or_path} has no [CLS], [SEP] or [PAD] token. "
                "Use a BERT-like model."
            )

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without [CLS] and [SEP]."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, width) float32."""
        return self.model.get_input_embeddings()(ids)

    def hidden(self, embedded: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        """Compute the hidden state of the first token: (B, l, width), (B, l) bool -> (B, width)."""
        return self.model(inputs_embeds=embedded, attention_mask=used.long()).last_hidden_state[
            :, 0
        ]

    def forward(self, token: torch.Tensor) -> torch.Tensor:
        """Encode reports: (B, L) int64 -> (B, width) float32."""
        used = token != self.tokenizer.pad_token_id
        return self.hidden(self.embed(token), used)


def tokenize_reports(
    encoder: SmallReportEncoder | HuggingFaceReportEncoder, texts: Sequence[str]
) -> tuple[torch.Tensor, float]:
    """Tokenize reports: [CLS], the first L - 2 tokens, [SEP], padding.

    Args:
        encoder: Encoder whose tokenizer and length L are used.
        texts: N reports.

    Returns:
        Token ids, (N, L) int64, and the share of truncated texts, 0..1.
    """
    pad = PAD if isinstance(encoder, SmallReportEncoder) else encoder.tokenizer.pad_token_id
    out, truncated = torch.full((len(texts), encoder.length), pad, dtype=torch.int64), 0
    for row, text in zip(out, texts, strict=True):
        ids = encoder.tokenize(text)
        truncated += len(ids) > encoder.length - 2
        ids = [*encoder.start, *ids[: encoder.length - 2], *encoder.end]
        row[: len(ids)] = torch.tensor(ids)
    return out, truncated / max(1, len(texts))
