"""TODO"""

import re

import torch

PAD, UNKNOWN, CLS, MASK = range(4)  # ids of the small tokenizer
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]")


class Words:
    """The small tokenizer: lower-case words, single digits and stops; a vocabulary from training texts only, stored with the weights.

    Not that of clipdr.models.report_encoder: here tokens are masked and predicted again, so there is a mask token, and an age of 63 is two digits instead
    of one word that training may not hold.
    """

    pad, cls, mask, first = PAD, CLS, MASK, len(SPECIAL)

    def __init__(self, vocabulary):
        self.vocabulary = list(vocabulary)
        self.ids = {word: place for place, word in enumerate(self.vocabulary)}
        self.size = len(self.vocabulary)

    @classmethod
    def learn(cls, texts):
        """Vocabulary of all words of some texts, in alphabetic order, so that the order of the texts does not matter."""
        return cls([*SPECIAL, *sorted({word for text in texts for word in cls.words(text)})])

    @staticmethod
    def words(text):
        return re.findall(r"[^\W\d_]+|\d|[.,:-]", text.lower())

    def ids_of(self, text):
        return [CLS, *(self.ids.get(word, UNKNOWN) for word in self.words(text))]


class Pretrained:
    """Tokenizer of a local folder of the transformers library, with the same interface."""

    def __init__(self, folder):
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.pad, self.cls, self.mask = (
            getattr(self.tokenizer, f"{name}_token_id") for name in ("pad", "cls", "mask")
        )
        self.size, self.first = len(self.tokenizer), max(self.tokenizer.all_special_ids) + 1

    def ids_of(self, text):
        return self.tokenizer(text)["input_ids"]


def tokens(tokenizer, texts, limit):
    """Texts -> (B, L) int64, L the longest text up to `limit`; and (B,) the length of each before the cut."""
    rows = [tokenizer.ids_of(text) for text in texts]
    width = min(max(map(len, rows)), limit)
    padded = torch.full((len(rows), width), tokenizer.pad)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids[:width])
    return padded, torch.tensor([len(ids) for ids in rows])
