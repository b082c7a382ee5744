"""DOMAINS: what is known of every data set, as data. A domain is one hospital's (or one study's) photographs.

Counts are those of GDRBench's official split files (Che et al., 2023), grades 0..4. Longer than other modules: it is the one table of
facts, read by `fetch`, `prepare`, `datasets` and docs/datasets.md. Licences are quoted in short: the page of each data set is what counts.
"""

from dataclasses import dataclass


def is_synthetic(held_out):
    """Whether a held-out name (a domain, or all_but_<source>) stands for drawn images; a domain of the user's own is not."""
    domain = DOMAINS.get(held_out.removeprefix("all_but_"))
    return domain is not None and domain.synthetic


FOLDERS = (
    "nodr",
    "mild_npdr",
    "moderate_npdr",
    "severe_npdr",
    "pdr",
)  # GDRBench's folder of each grade

# How a file's stem names its patient and eye; groups `patient` and `eye`.
LEFT_RIGHT = r"(?P<patient>.+)_(?P<eye>left|right)"
DEEPDRID = r"(?P<patient>\d+)_(?P<eye>l|r)\d+"
UNKNOWN = ""


@dataclass(frozen=True)
class Source:
    """One file that `fetch` downloads.

    file   : name under which it is kept while it is unpacked; the name in a mirror too
    url    : where it lies
    sha256 : hexadecimal where the publisher's file is fixed; "" where it is recorded on first use
    keep   : shell patterns of the members to unpack, "" for all; the rest of the archive is left out
    strip  : leading folders of the archive to leave out
    """

    file: str
    url: str
    sha256: str = ""
    keep: tuple[str, ...] = ()
    strip: int = 0


@dataclass(frozen=True)
class Need:
    """What a complete folder holds.

    what     : the word for it
    patterns : shell patterns over the lower-case path below data/raw/{D}; `*` also crosses folders; any one may match
    count    : files that complete it
    example  : a path as it should be, for the instructions
    """

    what: str
    patterns: tuple[str, ...]
    count: int
    example: str


@dataclass(frozen=True)
class Domain:
    """Facts of one data set.

    title    : name in full
    country  : where the photographs were taken
    camera   : as far as it is documented
    access   : "kaggle" | "github" | "request" | "generated"
    patient  : regular expression over a file's stem with groups `patient` and `eye`, or "" where patients are unknown
    counts   : {"train": images per grade, "val": images per grade} of the official split files, None if there are none
    imitates : for a synthetic domain, the real domain whose style and class prior it takes
    layout   : name of the reader of the publisher's own folders (clipdr.data.sources.published_layouts), "" where there is none
    licence  : what the publisher allows, in short
    page     : the page to visit
    rules    : the page whose terms must be accepted before a download, "" where there is none
    click    : what must be clicked before, in a few words
    steps    : what the user must do, one sentence each
    sources  : what `fetch` downloads; () where the user must place files by hand
    needs    : what a complete folder data/raw/{D} holds
    citation : what to cite
    """

    title: str
    country: str
    camera: str
    access: str
    patient: str = UNKNOWN
    counts: dict[str, tuple[int, int, int, int, int]] | None = None
    imitates: str = ""
    layout: str = ""
    licence: str = ""
    page: str = ""
    rules: str = ""
    click: str = ""
    steps: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    needs: tuple[Need, ...] = ()
    citation: str = ""

    @property
    def synthetic(self) -> bool:
        return self.access == "generated"

    @property
    def total(self) -> int:
        """Photographs in the official split files; 0 where there are none."""
        return sum(map(sum, (self.counts or {}).values()))


def _counts(train, val):
    return {"train": train, "val": val}


KAGGLE = "https://www.kaggle.com"
_COMPETITION = f"{KAGGLE}/api/v1/competitions/data"
_TOKEN = "Make an API token (kaggle.com, Settings, API); save it in ~/.kaggle/access_token or set KAGGLE_API_TOKEN."
_DEEPDRID_COMMIT = "0657068f2437eddd37d6b09a4ce9f7c2c5f97958"

REAL = {
    "APTOS": Domain(
        title="APTOS 2019 blindness detection",
        country="India (Aravind Eye Hospital)",
        camera="several, not documented",
        access="kaggle",
        counts=_counts((1452, 298, 800, 147, 224), (353, 72, 199, 46, 71)),
        layout="aptos",
        licence="Kaggle competition rules; no redistribution",
        click="accept the rules, make a token",
        page=f"{KAGGLE}/competitions/aptos2019-blindness-detection",
        rules=f"{KAGGLE}/competitions/aptos2019-blindness-detection/rules",
        steps=(
            "Log in, open its tab Rules and accept them (the button may be called Late Submission).",
            _TOKEN,
        ),
        sources=(
            Source(
                "aptos2019-blindness-detection.zip",
                f"{_COMPETITION}/download-all/aptos2019-blindness-detection",
                keep=("train.csv", "train_images/*"),  # test.csv has no grades
            ),
        ),
        needs=(
            Need("photographs", ("*train_images/*.png",), 3662, "train_images/000c1434d8d7.png"),
            Need("file of grades", ("*train.csv",), 1, "train.csv"),
        ),
        citation="Karthik, Maggie and Dane S. APTOS 2019 Blindness Detection. Kaggle, 2019.",
    ),
    "DEEPDR": Domain(
        title="DeepDRiD, regular fundus photographs",
        country="China (three screening studies)",
        camera="not documented",
        access="github",
        patient=DEEPDRID,
        counts=_counts((714, 186, 326, 282, 92), (200, 36, 72, 72, 20)),
        layout="deepdrid",
        licence="no licence file: public for research, see the repository",
        click="nothing to click",
        page="https://github.com/deepdrdoc/DeepDRiD",
        steps=(
            "The archive also holds ultra-widefield photographs, which are left out. GitHub does not resume a download that is cut.",
        ),
        sources=(
            Source(
                "DeepDRiD.zip",
                f"https://codeload.github.com/deepdrdoc/DeepDRiD/zip/{_DEEPDRID_COMMIT}",
                keep=("regular_fundus_images/*",),
                strip=1,  # GitHub puts everything below REPOSITORY-COMMIT/
            ),
        ),
        needs=(
            Need(
                "photographs",
                ("*images/*.jpg",),
                2000,
                "regular_fundus_images/regular-fundus-training/Images/1/1_l1.jpg",
            ),
            Need(
                "file of training grades",
                ("*regular-fundus-training.csv",),
                1,
                "regular_fundus_images/.../regular-fundus-training.csv",
            ),
            Need(
                "file of validation grades",
                ("*regular-fundus-validation.csv",),
                1,
                "regular_fundus_images/.../regular-fundus-validation.csv",
            ),
            Need(
                "file of test grades",
                ("*challenge1_labels.xlsx",),
                1,
                "regular_fundus_images/.../Challenge1_labels.xlsx",
            ),
        ),
        citation="Liu R, et al. DeepDRiD: Diabetic Retinopathy - Grading and Image Quality Estimation Challenge. "
        "Patterns 3(6):100512, 2022.",
    ),
    "FGADR": Domain(
        title="Fine-Grained Annotated Diabetic Retinopathy, Seg-set",
        country="United Arab Emirates",
        camera="not documented",
        access="request",
        counts=_counts((81, 170, 454, 527, 222), (20, 42, 141, 120, 65)),
        layout="fgadr",
        licence="research only, after a signed agreement; no redistribution",
        click="send a signed agreement",
        page="https://csyizhou.github.io/FGADR/",
        steps=(
            "Fill in and sign the agreement on the page, send it by e-mail, and wait for a link.",
            "Download the Seg-set (the Grade-set is not used).",
        ),
        needs=(
            Need(
                "photographs",
                ("*original_images/*.png",),
                1842,
                "Seg-set/Original_Images/0000_1.png",
            ),
            Need(
                "file of grades",
                ("*dr_seg_grading_label.csv",),
                1,
                "Seg-set/DR_Seg_Grading_Label.csv",
            ),
        ),
        citation="Zhou Y, et al. A Benchmark for Studying Diabetic Retinopathy: Segmentation, Grading, and Transferability. "
        "IEEE Transactions on Medical Imaging 40(3):818-828, 2021.",
    ),
    "IDRID": Domain(
        title="Indian Diabetic Retinopathy Image Dataset, disease grading",
        country="India (Nanded)",
        camera="Kowa VX-10 alpha",
        access="request",
        counts=_counts((134, 20, 136, 74, 49), (34, 5, 32, 19, 13)),
        layout="idrid",
        licence="CC BY 4.0",
        click="make a free account",
        page="https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid",
        steps=(
            "Make a free IEEE account, log in on the page and download 'B. Disease Grading.zip'.",
            "Do not take a copy from Kaggle: 27 grades of one differ from the official ones.",
        ),
        needs=(
            Need(
                "training photographs",
                ("*training set/idrid_*.jpg",),
                413,
                "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg",
            ),
            Need(
                "test photographs",
                ("*testing set/idrid_*.jpg",),
                103,
                "B. Disease Grading/1. Original Images/b. Testing Set/IDRiD_001.jpg",
            ),
            Need(
                "training grades",
                ("*grading_training labels.csv",),
                1,
                "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
            ),
            Need(
                "test grades",
                ("*grading_testing labels.csv",),
                1,
                "B. Disease Grading/2. Groundtruths/b. IDRiD_Disease Grading_Testing Labels.csv",
            ),
        ),
        citation="Porwal P, et al. Indian Diabetic Retinopathy Image Dataset (IDRiD): A Database for Diabetic Retinopathy Screening "
        "Research. Data 3(3):25, 2018.",
    ),
    "MESSIDOR": Domain(
        title="Messidor-2, adjudicated grades",
        country="France",
        camera="Topcon TRC NW6",
        access="request",
        counts=_counts((798, 217, 276, 63, 30), (219, 53, 71, 12, 5)),
        layout="messidor",
        licence="research and education, after a form; no redistribution",
        click="fill in a form",
        page="https://www.adcis.net/en/third-party/messidor2/",
        steps=(
            "Fill in the form on the page, accept the licence, and wait for the link by e-mail; take all parts (IMAGES.zip.001 and so on).",
            f"The grades come from elsewhere: download messidor_data.csv from {KAGGLE}/datasets/google-brain/messidor2-dr-grades.",
        ),
        needs=(
            Need(
                "photographs",
                ("*.png", "*.jpg", "*.tif"),
                1744,
                "IMAGES/20051020_43808_0100_PP.png",
            ),
            Need("file of grades", ("*messidor_data.csv",), 1, "messidor_data.csv"),
        ),
        citation="Decenciere E, et al. Feedback on a Publicly Distributed Image Database: the Messidor Database. "
        "Image Analysis & Stereology 33(3):231-234, 2014. Abramoff MD, et al. JAMA Ophthalmology 131(3):351-357, 2013. "
        "Grades: Krause J, et al. Grader Variability and the Importance of Reference Standards. Ophthalmology 125(8):1264-1272, 2018.",
    ),
    "RLDR": Domain(
        title="Retinal-Lesions (1,593 EyePACS photographs, graded again)",
        country="United States",
        camera="several, not documented",
        access="request",
        patient=LEFT_RIGHT,
        counts=_counts((136, 266, 742, 83, 54), (30, 71, 187, 16, 8)),
        layout="rldr",
        licence="on request, for research; the photographs are under EyePACS' rules",
        click="fill in a form",
        page="https://github.com/WeiQijie/retinal-lesions",
        steps=(
            "Fill in the request form that the page links to, and wait for the link by e-mail.",
            "The grades come from GDRBench's split files: `clipdr fetch splits`.",
        ),
        needs=(
            Need(
                "photographs", ("*_left.jp*g", "*_right.jp*g"), 1593, "images_896x896/10_left.jpg"
            ),
        ),
        citation="Wei Q, et al. Learn to Segment Retinal Lesions and Beyond. International Conference on Pattern Recognition, 2020.",
    ),
    "DDR": Domain(
        title="DDR, diabetic retinopathy graded and segmented",
        country="China, 147 hospitals",
        camera="42 models",
        access="kaggle",
        counts=_counts((4385, 441, 3133, 165, 638), (1880, 189, 1344, 71, 275)),
        layout="ddr",
        licence="see the page; original: https://github.com/nkicsl/DDR-dataset",
        click="make a token",
        page=f"{KAGGLE}/datasets/mariaherrerot/ddrdataset",
        rules=f"{KAGGLE}/datasets/mariaherrerot/ddrdataset",
        steps=(_TOKEN,),
        sources=(
            Source("ddrdataset.zip", f"{KAGGLE}/api/v1/datasets/download/mariaherrerot/ddrdataset"),
        ),
        needs=(
            Need(
                "photographs",
                ("*dr_grading/*.jpg",),
                12521,
                "DR_grading/DR_grading/20170413102628830.jpg",
            ),
            Need("file of grades", ("*dr_grading.csv", "*train.txt"), 1, "DR_grading.csv"),
        ),
        citation="Li T, et al. Diagnostic Assessment of Deep Learning Algorithms for Diabetic Retinopathy Screening. "
        "Information Sciences 501:511-522, 2019.",
    ),
    "EYEPACS": Domain(
        title="EyePACS (Kaggle 2015)",
        country="United States",
        camera="several, not documented",
        access="kaggle",
        patient=LEFT_RIGHT,
        counts=_counts((25808, 2443, 5292, 873, 708), (39531, 3762, 7860, 1214, 1206)),
        layout="eyepacs",
        licence="Kaggle competition rules; no redistribution",
        click="accept the rules, make a token",
        page=f"{KAGGLE}/competitions/diabetic-retinopathy-detection",
        rules=f"{KAGGLE}/competitions/diabetic-retinopathy-detection/rules",
        steps=(
            "Log in, open its tab Rules and accept them (the button may be called Late Submission).",
            _TOKEN,
            "Have 180 GB free: about 85 GB of parts, and the photographs in them.",
            "The grades of the test half come from GDRBench's split files: `clipdr fetch splits`.",
        ),
        sources=tuple(
            Source(file, f"{_COMPETITION}/download/diabetic-retinopathy-detection/{file}")
            for file in (
                "trainLabels.csv.zip",
                *(f"train.zip.{part:03d}" for part in range(1, 6)),
                *(f"test.zip.{part:03d}" for part in range(1, 8)),
            )
        ),
        needs=(
            Need("training photographs", ("*train/*.jp*g",), 35124, "train/10_left.jpeg"),
            Need("test photographs", ("*test/*.jp*g",), 53573, "test/1_left.jpeg"),
            Need("file of training grades", ("*trainlabels.csv",), 1, "trainLabels.csv"),
        ),
        citation="Cuadros J and Bresnick G. EyePACS: An Adaptable Telemedicine System for Diabetic Retinopathy Screening. "
        "Journal of Diabetes Science and Technology 3(3):509-516, 2009. Dugas E, et al. Diabetic Retinopathy Detection. Kaggle, 2015.",
    ),
}

# GDRBench's split files at one commit. sha256 fixed: an official split file is these bytes or it is refused.
SPLITS_PAGE = "https://github.com/chehx/DGDR"
SPLITS_CITATION = "Che H, et al. Towards Generalizable Diabetic Retinopathy Grading in Unseen Domains. MICCAI, 2023."
_SPLITS = "https://raw.githubusercontent.com/chehx/DGDR/74fe127a6e5b097089003dbcbbf618730960501f/GDRBench/splits"
SPLITS = tuple(
    Source(file, f"{_SPLITS}/{file}", sha256)
    for file, sha256 in {
        "APTOS_crossval.txt": "ba7d3996c5fd73725748d51b0f4bd1cc90dd187adbfbb74359e29050055bbc23",
        "APTOS_train.txt": "9152f94c098fc56617077f2450fd5d5861b9ae49594c018f0197b5624dfc3164",
        "DDR_crossval.txt": "105912ac27f4c74a4595d46fc8069c82b45dd76a58a16d2968d875c34edfbefc",
        "DDR_train.txt": "b67f883d2970ca41283afa2054263cc85a4a6805b401593397558e3908b15e06",
        "DEEPDR_crossval.txt": "22ff197c07350226825e5ca97e855219a9f646653bdd2bbb62d2fa3aefa1b42d",
        "DEEPDR_train.txt": "9fee939831aad07f9b27b403a486b23dd011319cc566655d15390d2ce464259f",
        "EYEPACS_crossval.txt": "9b2d1e4ef14f878cb04f27ef9eefa97f10500e729e637909522a7e66c9099255",
        "EYEPACS_train.txt": "aabc02e080469ba4581b3af0f40f5f47218f02663cdffe0e36466b0f048ae654",
        "FGADR_crossval.txt": "ea44c22f6df9c0cf7b598bdf2df25ebfc06fb867d373d3f46fe82acd6c7e25c6",
        "FGADR_train.txt": "b9d116b5fc2de36bb80815ace668cf61c096c77953d6425e66ba947cb7faad59",
        "IDRID_crossval.txt": "ee0afa7c73d6f9b7acbe4d5ed3ac36146333e8cdf6a68703884d9700b7fb4dae",
        "IDRID_train.txt": "d1e231a25bccb0ed7fd5716e4fc7d9c0d4146603530cb4dad3d840b8b52cd46f",
        "MESSIDOR_crossval.txt": "cd509a4e8d83a2dbe09b3d3dfe54f8839b22d6d42487eea575bdd91949c73c58",
        "MESSIDOR_train.txt": "7860aa06bfe0c5816511f19801f63d0f9ec3d8f1b85a038683268b1620114b3b",
        "RLDR_crossval.txt": "cc043fe90d995e8b79586c5b8e23aa684c674267360349649e04ae743fd2d46b",
        "RLDR_train.txt": "98e47590d288ff4ca4e75070a2925182c105270f9a3ffa7aeff3f2f465cfec2f",
    }.items()
)

# Drawn by clipdr.data.synthetic.dataset: style and class prior of the real domain, under a name that cannot be taken for it.
SYNTHETIC = {
    f"SIM_{name}": Domain(
        f"synthetic, in the style of {name}",
        "drawn by clipdr synthesize",
        "none",
        "generated",
        LEFT_RIGHT,
        imitates=name,
    )
    for name in ("APTOS", "DEEPDR", "FGADR", "IDRID", "MESSIDOR", "RLDR")
}

DOMAINS = REAL | SYNTHETIC

SAME_PATIENTS = {
    "RLDR": "EYEPACS"
}  # RLDR's photographs, file names and patient numbers are EyePACS's
