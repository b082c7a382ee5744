"""Text of clinical reports: cleaning, possible identifiers, and the report of the mirrored patient.

The texts of the paper were corrected and expanded by hand (second-hand account). Here fixed rules
do so, and the raw text stays beside the result.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

# language -> abbreviation -> words; OD, OS and OU in capitals only, the others in any case
ABBREVIATIONS = {
    "en": {
        "OD": "right eye",
        "OS": "left eye",
        "OU": "both eyes",
        "C/D": "cup-to-disc ratio",
        "CDR": "cup-to-disc ratio",
        "NPDR": "non-proliferative diabetic retinopathy",
        "PDR": "proliferative diabetic retinopathy",
        "DME": "diabetic macular edema",
        "AMD": "age-related macular degeneration",
        "CRVO": "central retinal vein occlusion",
        "BRVO": "branch retinal vein occlusion",
        "ERM": "epiretinal membrane",
        "IRMA": "intraretinal microvascular abnormalities",
        "NVD": "neovascularisation of the disc",
        "NVE": "neovascularisation elsewhere",
    },
    "zh": {
        "OD": "右眼",
        "OS": "左眼",
        "OU": "双眼",
        "C/D": "杯盘比",
        "NPDR": "非增殖性糖尿病视网膜病变",
        "PDR": "增殖性糖尿病视网膜病变",
    },
    "pt": {
        "OD": "olho direito",
        "OS": "olho esquerdo",
        "OU": "ambos os olhos",
        "RDNP": "retinopatia diabética não proliferativa",
    },
}
CAPITALS_ONLY = ("OD", "OS", "OU")
SIDE_WORDS = {  # what is exchanged when a patient is mirrored
    "en": (("left", "right"), ("os", "od")),
    "zh": (("左", "右"),),
    "pt": (("esquerdo", "direito"), ("esquerda", "direita")),
}
PUNCTUATION = str.maketrans(  # full-width marks and curly quotes
    {"\uff0c": ", ", "\u3001": ", ", "\uff1b": "; ", "\u3002": ". ", "\uff1a": ": "}
    | dict(zip("\u201c\u201d\u2018\u2019", "\"\"''", strict=True))
)
IDENTIFIERS = {
    "number": r"\d{6,}",
    "date": r"\b(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})\b",
    "e-mail": r"[\w.+-]+@[\w-]+\.\w+",
}


def clean(text: str, language: str = "en") -> str:
    """Clean a report.

    The result is in Unicode NFKC, without control characters, with Western punctuation, single
    spaces and written-out abbreviations. Cleaning is idempotent and never deletes side words or
    negations.

    Args:
        text: Report as it was written.
        language: Key of `ABBREVIATIONS`; another language keeps its abbreviations.
    """
    text = unicodedata.normalize("NFKC", text.translate(PUNCTUATION)).translate(PUNCTUATION)
    text = "".join(" " if character.isspace() else character for character in text)
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    for short, words in ABBREVIATIONS.get(language, {}).items():
        text = re.sub(
            rf"(?<![A-Za-z/]){re.escape(short)}(?![A-Za-z/])",
            words,
            text,
            flags=0 if short in CAPITALS_ONLY else re.IGNORECASE,
        )
    while (tidied := _tidy(text)) != text:  # repeated, because one rule can make work for another
        text = tidied
    return text


def _tidy(text: str) -> str:
    """Collapse spaces and repeated punctuation once."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+(?=[,;:](\s|$))", "", text)
    return re.sub(
        r"([,;:!?])(?:\s*\1)+|(?<!\d)(\.)(?:\s*\.)+", lambda match: match[1] or match[2], text
    )


def identifiers(text: str) -> list[str]:
    """Return the kinds of possible identifiers in a text, keys of `IDENTIFIERS`."""
    return [kind for kind, pattern in IDENTIFIERS.items() if re.search(pattern, text)]


def sha256(text: str) -> str:
    """Return the sha256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def swap_sides(text: str, language: str = "en") -> str:
    """Exchange left and right in a text, as for a mirrored patient; twice is the identity.

    Args:
        text: A report.
        language: Key of `SIDE_WORDS`; a text in another language stays as it is.

    Returns:
        The text with side words exchanged, in the case they were written in.
    """
    for first, second in SIDE_WORDS.get(language, ()):
        exchanged = {first: second, second: first}
        pattern = f"{first}|{second}"
        border = rf"\b(?:{pattern})\b" if first.isascii() else pattern
        text = re.sub(
            border,
            lambda match, exchanged=exchanged: _cased(match[0], exchanged[match[0].lower()]),
            text,
            flags=re.IGNORECASE,
        )
    return text


def _cased(written: str, word: str) -> str:
    """Return a word in the case of another: lower, Capitalised or UPPER."""
    if written.isupper() and len(written) > 1:
        return word.upper()
    return word.capitalize() if written[0].isupper() else word
