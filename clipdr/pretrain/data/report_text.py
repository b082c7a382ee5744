"""Reports, made uniform and turned round: raw text -> cleaned text, flags of possible identifiers, and the mirrored patient's text.

The paper's texts were corrected and expanded by hand (second-hand account); these are fixed rules, recorded beside the raw text.
"""

import hashlib
import re
import unicodedata

ABBREVIATIONS = {  # language -> abbreviation as written -> words; OD, OS and OU in capitals only, the others in any case
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


def clean(text, language="en"):
    """A report without noise: NFKC, no control characters, Western punctuation, single spaces, abbreviations written out.

    Idempotent; side words and negations are never deleted. An unknown language keeps its abbreviations.
    """
    text = unicodedata.normalize("NFKC", text.translate(PUNCTUATION)).translate(PUNCTUATION)
    text = "".join(" " if character.isspace() else character for character in text)
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    for short, words in ABBREVIATIONS.get(language, {}).items():
        text = re.sub(
            rf"(?<![A-Za-z/]){re.escape(short)}(?![A-Za-z/])",
            words,
            text,
            flags=0 if short in CAPITALS_ONLY else re.I,
        )
    while (tidied := _tidy(text)) != text:  # to the fixed point: one rule can make work for another
        text = tidied
    return text


def _tidy(text):
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+(?=[,;:](\s|$))", "", text)
    return re.sub(
        r"([,;:!?])(?:\s*\1)+|(?<!\d)(\.)(?:\s*\.)+", lambda found: found[1] or found[2], text
    )


def identifiers(text):
    """Kinds of possible identifiers in a text, keys of IDENTIFIERS: [] where there are none."""
    return [kind for kind, pattern in IDENTIFIERS.items() if re.search(pattern, text)]


def sha256(text):
    """sha256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def swap_sides(text, language="en"):
    """The text of the mirrored patient: left and right exchanged, in the case they were written in. Twice is the identity."""
    for one, other in SIDE_WORDS.get(language, ()):
        exchanged = {one: other, other: one}
        pattern = f"{one}|{other}"
        border = rf"\b(?:{pattern})\b" if one.isascii() else pattern
        text = re.sub(
            border,
            lambda found, exchanged=exchanged: _cased(found[0], exchanged[found[0].lower()]),
            text,
            flags=re.I,
        )
    return text


def _cased(written, word):
    if written.isupper() and len(written) > 1:
        return word.upper()
    return word.capitalize() if written[0].isupper() else word
