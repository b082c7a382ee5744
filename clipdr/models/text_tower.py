"""Frozen text towers behind one interface: token embeddings in, text features out.

width, dim                  of a token embedding, of a text feature
start, stop, end            token ids that open a sentence, the full stop, token ids that close it
words(text)                 -> token ids, without start and end
embed(ids)                  (..., L) int64 -> (..., L, width)
encode(embedded, length)    (K, L, width), (K,) -> (K, dim); positions from `length` on are padding and change nothing
"""

import torch
from torch import nn

from clipdr import DataError


class Frozen(nn.Module):
    """Never trained: stays in evaluation mode (no dropout) whatever the method around it does."""

    def train(self, mode=True):
        return super().train(False)


class OpenClipText(Frozen):
    """Text tower of an open_clip model (CLIP or TextTransformer). The causal mask makes a cut to the used positions exact."""

    def __init__(self, tower, tokenizer):
        super().__init__()
        self.token_embedding, self.positional_embedding = (
            tower.token_embedding,
            tower.positional_embedding,
        )
        self.transformer, self.ln_final, self.text_projection = (
            tower.transformer,
            tower.ln_final,
            tower.text_projection,
        )
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        if self.attn_mask is None:
            raise DataError(
                "text tower: open_clip towers without a causal mask are not supported; use one with, or hf/FOLDER"
            )
        self.words = tokenizer.encode
        self.start, self.stop, self.end = (
            [tokenizer.sot_token_id],
            tokenizer.encode("."),
            [tokenizer.eot_token_id],
        )
        self.width = self.token_embedding.embedding_dim
        self.dim = self.encode(torch.zeros(1, 2, self.width), torch.tensor([2])).shape[1]

    def embed(self, ids):
        return self.token_embedding(ids)

    def encode(self, embedded, length):
        used = self.fits(embedded.shape[1])
        hidden = self.transformer(
            embedded + self.positional_embedding[:used], attn_mask=self.attn_mask[:used, :used]
        )  # (K, L, W)
        return self.project(hidden[torch.arange(len(hidden), device=hidden.device), length - 1])

    def encode_shared(self, opening, tails):
        """Features of K sentences that open with the same tokens: (P, width), K times (T_k, width) -> (K, dim).

        One sequence holds the opening once and each tail behind it; a token sees the opening and its own tail up to itself. Exact: under
        the causal mask no tail can change the opening.
        """
        sizes = torch.tensor([len(tail) for tail in tails])
        self.fits(len(opening) + int(sizes.max()))
        first = torch.arange(len(opening))
        place = torch.cat([first, *(len(opening) + torch.arange(size) for size in sizes)])
        owner = torch.cat(
            [torch.full_like(first, -1), torch.arange(len(tails)).repeat_interleave(sizes)]
        )
        seen = ((owner == -1) | (owner == owner[:, None])) & (place <= place[:, None])
        mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).to(opening.device)
        embedded = (
            torch.cat([opening, *tails]) + self.positional_embedding[place.to(opening.device)]
        )
        hidden = self.transformer(embedded[None], attn_mask=mask)[0]
        return self.project(hidden[len(opening) + sizes.cumsum(0) - 1])

    def fits(self, used):
        """used, the number of tokens of a sentence; DataError where the tower reads fewer."""
        if used > len(self.positional_embedding):
            raise DataError(
                f"prompt: {used} tokens, the text tower reads {len(self.positional_embedding)}; shorten the names or the context"
            )
        return used

    def project(self, last):
        """(K, width) hidden states of the closing tokens -> (K, dim). The LayerNorm acts on each position alone."""
        last = self.ln_final(last)
        return (
            self.text_projection(last)
            if isinstance(self.text_projection, nn.Module)
            else last @ self.text_projection
        )


class HuggingFaceText(Frozen):
    """Encoder of the transformers library (BERT and its kin), mean of the used positions, linear projection to `dim`."""

    def __init__(self, model, tokenizer, projection):
        super().__init__()
        self.model, self.projection, self.tokenizer = model, projection, tokenizer
        opened = (
            tokenizer.build_inputs_with_special_tokens([])
            if hasattr(tokenizer, "build_inputs_with_special_tokens")
            else None
        )
        ids = opened if opened and len(opened) == 2 else tokenizer("")["input_ids"]
        if len(ids) != 2:
            raise DataError(
                f"text tower: {tokenizer.name_or_path} opens and closes a sentence with {len(ids)} tokens; expected one and one"
            )
        self.start, self.end, self.stop = ids[:1], ids[1:], self.words(".")
        self.width = model.get_input_embeddings().embedding_dim
        self.dim = projection.out_features

    def words(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embed(self, ids):
        return self.model.get_input_embeddings()(ids)

    def encode(self, embedded, length):
        used = torch.arange(embedded.shape[1], device=embedded.device) < length[:, None]  # (K, L)
        hidden = self.model(inputs_embeds=embedded, attention_mask=used.long()).last_hidden_state
        mean = (hidden * used[..., None]).sum(1) / length[:, None]
        return self.projection(mean)


def sentences(tower, texts):
    """Features of whole sentences: list of K texts -> (K, dim) float32, not normalised, no gradient."""
    ids = [[*tower.start, *tower.words(text), *tower.end] for text in texts]
    length = torch.tensor([len(row) for row in ids])
    padded = torch.zeros(len(ids), int(length.max()), dtype=torch.int64)
    for row, tokens in zip(padded, ids, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    with torch.no_grad():
        return tower.encode(tower.embed(padded), length)
