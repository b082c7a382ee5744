"""DOMAINS: what is known of every data set, as data. A domain is one hospital's (or one study's) photographs.

Counts are those of GDRBench's official split files (Che et al., 2023), grades 0..4.
"""

from dataclasses import dataclass

FOLDERS = ("nodr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr")  # GDRBench's folder of each grade

# How a file's stem names its patient and eye; groups `patient` and `eye`.
LEFT_RIGHT = r"(?P<patient>.+)_(?P<eye>left|right)"
DEEPDRID = r"(?P<patient>\d+)_(?P<eye>l|r)\d+"
UNKNOWN = ""


@dataclass(frozen=True)
class Domain:
    """Facts of one data set.

    title    : name in full
    origin   : country or hospital; camera where it is known
    access   : "kaggle" | "github" | "request" | "generated"
    patient  : regular expression over a file's stem with groups `patient` and `eye`, or "" where patients are unknown
    counts   : {"train": images per grade, "val": images per grade} of the official split files, None if there are none
    imitates : for a synthetic domain, the real domain whose style and class prior it takes
    """

    title: str
    origin: str
    access: str
    patient: str = UNKNOWN
    counts: dict[str, tuple[int, int, int, int, int]] | None = None
    imitates: str = ""

    @property
    def synthetic(self) -> bool:
        return self.access == "generated"


def _counts(train, val):
    return {"train": train, "val": val}


REAL = {
    "APTOS": Domain(
        "APTOS 2019 blindness detection",
        "India (Aravind Eye Hospital), several cameras",
        "kaggle",
        UNKNOWN,
        _counts((1452, 298, 800, 147, 224), (353, 72, 199, 46, 71)),
    ),
    "DEEPDR": Domain(
        "DeepDRiD", "China, regular fundus images", "github", DEEPDRID, _counts((714, 186, 326, 282, 92), (200, 36, 72, 72, 20))
    ),
    "FGADR": Domain(
        "FGADR, Seg-set", "United Arab Emirates", "request", UNKNOWN, _counts((81, 170, 454, 527, 222), (20, 42, 141, 120, 65))
    ),
    "IDRID": Domain(
        "Indian Diabetic Retinopathy Image Dataset",
        "India (Nanded), Kowa VX-10 alpha",
        "request",
        UNKNOWN,
        _counts((134, 20, 136, 74, 49), (34, 5, 32, 19, 13)),
    ),
    "MESSIDOR": Domain(
        "Messidor-2, adjudicated grades",
        "France, Topcon TRC NW6",
        "request",
        UNKNOWN,
        _counts((798, 217, 276, 63, 30), (219, 53, 71, 12, 5)),
    ),
    "RLDR": Domain(
        "Retinal-Lesions (EyePACS photographs)",
        "United States",
        "request",
        LEFT_RIGHT,
        _counts((136, 266, 742, 83, 54), (30, 71, 187, 16, 8)),
    ),
    "DDR": Domain(
        "DDR", "China, 147 hospitals, 42 cameras", "kaggle", UNKNOWN, _counts((4385, 441, 3133, 165, 638), (1880, 189, 1344, 71, 275))
    ),
    "EYEPACS": Domain(
        "EyePACS (Kaggle 2015)",
        "United States, several cameras",
        "kaggle",
        LEFT_RIGHT,
        _counts((25808, 2443, 5292, 873, 708), (39531, 3762, 7860, 1214, 1206)),
    ),
}

# Drawn by clipdr.synthetic: style and class prior of the real domain, under a name that cannot be taken for it.
SYNTHETIC = {
    f"SIM_{name}": Domain(f"synthetic, in the style of {name}", "drawn by clipdr synthesize", "generated", LEFT_RIGHT, None, name)
    for name in ("APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR")
}

DOMAINS = REAL | SYNTHETIC
