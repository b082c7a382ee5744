"""A small text encoder with a vocabulary of its own: reports -> tokens -> one vector per report.

Input: texts. Output: token ids (N, L) int64, 0 = padding; hidden state of [CLS], (N, width) float32. Words that the training reports do not
hold become one unknown token, so a vocabulary belongs to a checkpoint.
"""

import re
from collections import Counter

import torch
from torch import nn

from clipdr import DataError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNKNOWN, START, END = range(4)
# words and numbers (0.4, 4-2-1 in parts), every CJK character by itself
WORD = re.compile(r"[^\W_\u3400-\u9fff\uf900-\ufaff]+(?:\.\d+)?|[\u3400-\u9fff\uf900-\ufaff]")


def words(text):
    """Lower-case words of a text; each CJK character is one."""
    return WORD.findall(text.lower())


def vocabulary(texts):
    """Tokens of a training set: SPECIAL, then its words, the frequent first, ties by name."""
    counts = Counter(word for text in texts for word in words(text))
    return [*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))]


class SmallText(nn.Module):
    """Transformer encoder without dropout; reads [CLS] text [SEP], gives the last layer's [CLS].

    vocabulary : list of tokens, SPECIAL first;  length : L, tokens read of a report
    """

    def __init__(self, vocabulary, length, width=128, layers=2, heads=4):
        super().__init__()
        self.vocabulary, self.length, self.width = list(vocabulary), length, width
        self.number = {token: number for number, token in enumerate(self.vocabulary)}
        self.token = nn.Embedding(len(self.vocabulary), width, padding_idx=PAD)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.token.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )

    start, end = [START], [END]

    def words(self, text):
        """Token ids of a text, without [CLS] and [SEP]."""
        return [self.number.get(word, UNKNOWN) for word in words(text)]

    def embed(self, ids):
        return self.token(ids)

    def hidden(self, embedded, used):
        """(B, l, width), (B, l) bool -> (B, width). DataError where l is beyond the encoder's length."""
        if embedded.shape[1] > self.length:
            raise DataError(
                f"text: {embedded.shape[1]} tokens, this encoder reads {self.length}; shorten the text"
            )
        return self.encoder(
            embedded + self.position[: embedded.shape[1]], src_key_padding_mask=~used
        )[:, 0]

    def forward(self, token):
        """(B, L) int64 -> (B, width)."""
        longest = int(
            (token != PAD).sum(1).max()
        )  # what lies behind is padding in every row and changes nothing
        token = token[:, :longest]
        return self.hidden(self.embed(token), token != PAD)


class HuggingFaceReports(nn.Module):
    """Encoder of the transformers library (BERT and its kin), last layer's [CLS]; tokens of its own tokenizer."""

    def __init__(self, model, tokenizer, length):
        super().__init__()
        self.model, self.tokenizer, self.length = model, tokenizer, length
        self.width = model.get_input_embeddings().embedding_dim
        self.start, self.end = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        if None in (*self.start, *self.end, tokenizer.pad_token_id):
            raise DataError(
                f"text: {tokenizer.name_or_path} has no [CLS], [SEP] or [PAD] token; use a BERT-like model"
            )

    def words(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embed(self, ids):
        return self.model.get_input_embeddings()(ids)

    def hidden(self, embedded, used):
        return self.model(inputs_embeds=embedded, attention_mask=used.long()).last_hidden_state[
            :, 0
        ]

    def forward(self, token):
        used = token != self.tokenizer.pad_token_id
        return self.hidden(self.embed(token), used)


def tokens(encoder, texts):
    """[CLS] + the first L - 2 tokens + [SEP], padded: (N, L) int64; and the share of texts that were cut."""
    pad = PAD if isinstance(encoder, SmallText) else encoder.tokenizer.pad_token_id
    out, cut = torch.full((len(texts), encoder.length), pad, dtype=torch.int64), 0
    for row, text in zip(out, texts, strict=True):
        ids = encoder.words(text)
        cut += len(ids) > encoder.length - 2
        ids = [*encoder.start, *ids[: encoder.length - 2], *encoder.end]
        row[: len(ids)] = torch.tensor(ids)
    return out, cut / max(1, len(texts))
