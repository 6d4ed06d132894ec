"""Where the public data sets come from, what they are checked by, and where they go below load/."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """One archive, or several that hold the same images.

    data_set: the name under which it is asked for. urls: tried in this order. members, becomes: which files are
    taken, and their places below load/ (see `unpack`). counts: images in each folder. size: bytes; exact with a
    sha256, about right without. contents: SHA-256 of a folder's images by `contents_digest`, for sources
    that pack the same images in different archives.
    """

    data_set: str
    urls: tuple[str, ...]
    members: str
    becomes: str
    counts: dict[str, int]
    size: int
    sha256: str | None = None
    contents: dict[str, str] = field(default_factory=dict)


ETH = "data.vision.ee.ethz.ch/cvl/DIV2K"
HUGGING_FACE = "https://huggingface.co/datasets/eugenesiow/Div2k/resolve/main/data"

# Sizes and SHA-256: TensorFlow Datasets, tensorflow_datasets/datasets/div2k/checksums.tsv.
DIV2K = {
    "DIV2K_train_HR": (3530603713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
    "DIV2K_valid_HR": (448993893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
    "DIV2K_valid_LR_bicubic_X2": (117763600, "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57"),
    "DIV2K_valid_LR_bicubic_X3": (54513392, "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3"),
    "DIV2K_valid_LR_bicubic_X4": (31505881, "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553"),
    "DIV2K_train_LR_bicubic_X2": (925390592, "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850"),
}


def _div2k(name: str) -> Archive:
    size, digest = DIV2K[name]
    # Plain http stands in when the server's certificate has lapsed; the digest makes it no less safe.
    urls = [f"https://{ETH}/{name}.zip", f"http://{ETH}/{name}.zip"]
    if name.endswith("HR"):
        urls.insert(1, f"{HUGGING_FACE}/{name}.zip")
    folder = name.replace("bicubic_X", "bicubic/X")
    return Archive(
        data_set="div2k",
        urls=tuple(urls),
        members=rf"{folder}/([^/]+\.png)",
        becomes=rf"div2k/{folder}/\1",
        counts={f"div2k/{folder}": 800 if "train" in name else 100},
        size=size,
        sha256=digest,
    )


BENCHMARK = Archive(
    data_set="benchmark",
    urls=("https://cv.snu.ac.kr/research/EDSR/benchmark.tar",),
    members=r"(?:\./)?benchmark/((?:Set5|Set14|B100|Urban100)/(?:HR|LR_bicubic/X[234]))/([^/]+\.png)",
    becomes=r"benchmark/\1/\2",
    counts={
        f"benchmark/{name}/{part}": count
        for name, count in {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100}.items()
        for part in ("HR", "LR_bicubic/X2", "LR_bicubic/X3", "LR_bicubic/X4")
    },
    size=250_000_000,
)

# BSDS500's parts train and test. Its part val is B100, which stays out of training.
BSDS400 = Archive(
    data_set="bsds400",
    urls=(
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
        "https://github.com/BIDS/BSDS500/archive/a04b7c6c3a9f0ace74bf205c72a43d32e1c72722.zip",
    ),
    members=r"[^/]+/BSDS500/data/images/(?:train|test)/([^/]+\.jpg)",
    becomes=r"bsds400/\1",
    counts={"bsds400": 400},
    size=75_000_000,
    contents={"bsds400": "cdb7b153a8eee0ba60eb7a1793bf28eb36ecf612d4e047f939d1c57ee7413d10"},
)

ARCHIVES = [*(_div2k(name) for name in DIV2K), BENCHMARK, BSDS400]
DATA_SETS = list(dict.fromkeys(archive.data_set for archive in ARCHIVES))


def known_count(folder: Path) -> int | None:
    """How many images the complete folder holds, for the folders of these sets."""
    path = folder.absolute().as_posix()
    known = [count for a in ARCHIVES for below, count in a.counts.items() if path.endswith(f"/{below}")]
    return known[0] if known else None
