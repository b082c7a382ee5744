"""Frozen text encoders behind one interface: token embeddings in, text features out.

Two kinds are supported: text encoders of open_clip with a causal mask, and BERT-like encoders of
the transformers library. Gradients pass through an encoder to the token embeddings, so that prompts
can be learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from clipdr import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextTower(nn.Module):
    """Base class of the frozen text encoders.

    A text encoder is never trained. It stays in evaluation mode (no dropout), also when the method
    around it trains.

    Attributes:
        width: Width W of a token embedding.
        dim: Width D of a text feature.
        start: Token ids that open a sentence.
        stop: Token ids of the full stop.
        end: Token ids that close a sentence.
    """

    width: int
    dim: int
    start: list[int]
    stop: list[int]
    end: list[int]

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002  (the signature of nn.Module)
        """Stay in evaluation mode, whatever the mode asked for."""
        return super().train(False)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without those that open and close a sentence."""
        raise NotImplementedError

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, W) float32."""
        raise NotImplementedError

    def encode(self, embedded: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Encode sentences of token embeddings.

        Args:
            embedded: Token embeddings, (K, L, W) float32.
            length: Tokens of each sentence, (K,) int64. Positions from `length` on are padding and
                change nothing.

        Returns:
            Text features, (K, D) float32, not normalised.
        """
        raise NotImplementedError


class OpenClipText(TextTower):
    """Text encoder of an open_clip model.

    The causal mask makes it exact to cut the sentences at the last used position.

    Args:
        tower: `CLIP` or `TextTransformer` of open_clip.
        tokenizer: The tokenizer of the model (`open_clip.get_tokenizer`).

    Raises:
        DataError: If the encoder has no causal mask.
    """

    attn_mask: torch.Tensor

    def __init__(self, tower: Any, tokenizer: Any):
        """Take over the layers of an open_clip model."""
        super().__init__()
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        if tower.attn_mask is None:
            raise DataError(
                "text encoder: an open_clip encoder without a causal mask is not supported. "
                "Use one with a causal mask, or hf/FOLDER."
            )
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        self.tokenizer = tokenizer
        self.start = [tokenizer.sot_token_id]
        self.stop = tokenizer.encode(".")
        self.end = [tokenizer.eot_token_id]
        self.width = self.token_embedding.embedding_dim
        self.dim = self.encode(torch.zeros(1, 2, self.width), torch.tensor([2])).shape[1]

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without those that open and close a sentence."""
        return self.tokenizer.encode(text)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, W) float32."""
        return self.token_embedding(ids)

    def encode(self, embedded: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Encode sentences, see `TextTower.encode`: (K, L, W), (K,) -> (K, D).

        Raises:
            DataError: If L is more than the encoder's context length.
        """
        used = self.check_length(embedded.shape[1])
        hidden = self.transformer(
            embedded + self.positional_embedding[:used], attn_mask=self.attn_mask[:used, :used]
        )  # (K, L, W)
        return self.project(hidden[torch.arange(len(hidden), device=hidden.device), length - 1])

    def encode_shared(self, opening: torch.Tensor, tails: Sequence[torch.Tensor]) -> torch.Tensor:
        """Encode K sentences that open with the same tokens, in one sequence.

        The sequence holds the opening once and then each tail. A token attends to the opening and
        to the earlier tokens of its own tail. The result is exact, because under the causal mask no
        tail can change the opening.

        Args:
            opening: Embeddings of the shared first P tokens, (P, W) float32.
            tails: Embeddings of the rest of each sentence, K tensors (T_k, W) float32.

        Returns:
            Text features, (K, D) float32, not normalised.

        Raises:
            DataError: If a sentence is longer than the encoder's context length.
        """
        sizes = torch.tensor([len(tail) for tail in tails])
        self.check_length(len(opening) + int(sizes.max()))
        first = torch.arange(len(opening))
        position = torch.cat([first, *(len(opening) + torch.arange(len(tail)) for tail in tails)])
        owner = torch.cat(
            [torch.full_like(first, -1), torch.arange(len(tails)).repeat_interleave(sizes)]
        )
        visible = ((owner == -1) | (owner == owner[:, None])) & (position <= position[:, None])
        mask = torch.zeros(visible.shape).masked_fill(~visible, float("-inf")).to(opening.device)
        embedded = (
            torch.cat([opening, *tails]) + self.positional_embedding[position.to(opening.device)]
        )
        hidden = self.transformer(embedded[None], attn_mask=mask)[0]
        return self.project(hidden[len(opening) + sizes.cumsum(0) - 1])

    def check_length(self, used: int) -> int:
        """Return the number of tokens of a sentence if the encoder can read it.

        Raises:
            DataError: If the encoder reads fewer tokens.
        """
        if used > len(self.positional_embedding):
            raise DataError(
                f"prompt: {used} tokens, but the text encoder reads "
                f"{len(self.positional_embedding)}. "
                "Shorten the names or the context."
            )
        return used

    def project(self, last: torch.Tensor) -> torch.Tensor:
        """Project hidden states of the closing tokens: (K, W) -> (K, D).

        The LayerNorm acts on each position alone, so it is applied to these positions only.
        """
        last = self.ln_final(last)
        return (
            self.text_projection(last)
            if isinstance(self.text_projection, nn.Module)
            else last @ self.text_projection
        )


class HuggingFaceText(TextTower):
    """BERT-like encoder of the transformers library: mean over positions, linear projection.

    Args:
        model: Encoder with `get_input_embeddings` and `last_hidden_state`.
        tokenizer: Its tokenizer.
        projection: Linear layer (W -> D).

    Raises:
        DataError: If the tokenizer does not add exactly one token before and one after a sentence.
    """

    def __init__(self, model: Any, tokenizer: Any, projection: nn.Linear):
        """Take over a model and find the tokens that open and close a sentence."""
        super().__init__()
        self.model, self.projection, self.tokenizer = model, projection, tokenizer
        special = (
            tokenizer.build_inputs_with_special_tokens([])
            if hasattr(tokenizer, "build_inputs_with_special_tokens")
            else None
        )
        ids = special if special and len(special) == 2 else tokenizer("")["input_ids"]
        if len(ids) != 2:
            raise DataError(
                f"text encoder: {tokenizer.name_or_path} opens and closes a sentence "
                f"with {len(ids)} tokens instead of 2. "
                "Use a model whose tokenizer adds one token at each end."
            )
        self.start, self.end, self.stop = ids[:1], ids[1:], self.tokenize(".")
        self.width = model.get_input_embeddings().embedding_dim
        self.dim = projection.out_features

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, without those that open and close a sentence."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token embeddings: (..., L) int64 -> (..., L, W) float32."""
        return self.model.get_input_embeddings()(ids)

    def encode(self, embedded: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Encode sentences, see `TextTower.encode`: (K, L, W), (K,) -> (K, D)."""
        used = torch.arange(embedded.shape[1], device=embedded.device) < length[:, None]  # (K, L)
        hidden = self.model(inputs_embeds=embedded, attention_mask=used.long()).last_hidden_state
        mean = (hidden * used[..., None]).sum(1) / length[:, None]
        return self.projection(mean)


def encode_sentences(tower: TextTower, texts: Sequence[str]) -> torch.Tensor:
    """Encode whole sentences without gradient.

    Args:
        tower: Text encoder.
        texts: K sentences.

    Returns:
        Text features, (K, D) float32, not normalised.
    """
    ids = [[*tower.start, *tower.tokenize(text), *tower.end] for text in texts]
    length = torch.tensor([len(row) for row in ids])
    padded = torch.zeros(len(ids), int(length.max()), dtype=torch.int64)
    for row, tokens in zip(padded, ids, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    with torch.no_grad():
        return tower.encode(tower.embed(padded), length)
