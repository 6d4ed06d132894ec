"""Tables as data and as Markdown, and those of the README in both its languages."""

import re
from dataclasses import dataclass, field

from liif_core.checkpoints import shipped
from liif_core.report import reference
from liif_core.report.experiments_folder import FRAMEWORKS, Score
from liif_core.system.places import PRETRAINED

BENCHMARKS = {"set5": "Set5", "set14": "Set14", "b100": "B100", "urban100": "Urban100", "div2k-valid": "DIV2K"}
NOTHING = "—"

WORDS = {
    "en": {
        "set": "set",
        "method": "method",
        "bicubic": "bicubic",
        "published": "published",
        "difference": "difference",
        "psnr": "PSNR in dB",
        "both": "PSNR in dB / SSIM",
        "protocol": "{values}, protocol {protocol}, measured at commit {commit}.",
        "weights": "The weights have a SHA-256 that begins with {weights}.",
        "agree": "The two frameworks differ by at most {psnr} dB and {ssim} in SSIM.",
        "stop": " ",
    },
    "zh": {
        "set": "测试集",
        "method": "方法",
        "bicubic": "双三次插值",
        "published": "已发表数值",
        "difference": "差值",
        "psnr": "PSNR 单位为 dB",
        "both": "PSNR（dB）/ SSIM",
        "protocol": "{values}，评测协议 {protocol}，测于提交 {commit}。",
        "weights": "权重文件的 SHA-256 以 {weights} 开头。",
        "agree": "两个框架之间，PSNR 最多相差 {psnr} dB，SSIM 最多相差 {ssim}。",
        "stop": "",
    },
}


@dataclass(frozen=True)
class Cell:
    """A main figure and smaller ones beside it."""

    main: str
    small: tuple[str, ...] = ()


@dataclass
class Table:
    """Rows of cells under a header; `labels` columns at the left are words, the others figures."""

    title: str
    header: list[str]
    rows: list[list[Cell | str]]
    labels: int = 1
    notes: list[str] = field(default_factory=list)


def markdown(table: Table) -> str:
    """A table for GitHub, and its notes as one paragraph. The title is left to the text around it."""
    lines = [table.header, ["---"] * table.labels + ["---:"] * (len(table.header) - table.labels)]
    lines += [[_plain(cell) for cell in row] for row in table.rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([text, *table.notes])


def _plain(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return cell.replace("|", r"\|")
    return cell.main + (f" ({', '.join(cell.small)})" if cell.small else "")


def decibel(value: float | None) -> str:
    """Two decimals, as the papers have them; a dash for what was not measured."""
    return NOTHING if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """A difference in dB: its sign is always seen, except that of nothing."""
    if value is None:
        return NOTHING
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def tiny(value: float | None) -> str:
    """A difference that should be nothing: with two significant digits."""
    return NOTHING if value is None else f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}" if value else "0"


def code(text: str) -> str:
    """Machine words in Markdown's code quotes; page.py turns them into HTML's."""
    return f"`{text}`" if text else NOTHING


def short(commit: str) -> str:
    """A commit's first seven digits, and whether the tree had changes."""
    return commit[:7] + ("-dirty" if commit.endswith("-dirty") else "")


def protocols(scores: list[Score]) -> str:
    """The protocols of some scores in one word; `benchmark-S` where they go with the scale."""
    names = {re.sub(r"-[\d.]+$", "-S", score.protocol) for score in scores}
    return ", ".join(code(name) for name in sorted(names))


def commits(scores: list[Score]) -> str:
    """The commits of some scores, each once."""
    return ", ".join(code(short(commit)) for commit in sorted({score.commit for score in scores}))


def largest(differences: list[float]) -> float | None:
    """The largest absolute value, None without any."""
    return max(map(abs, differences), default=None)


def _by_place(scores: list[Score]) -> dict[tuple[str, float], Score]:
    return {(score.dataset, score.scale): score for score in scores if score.scale is not None}


def bicubic_table(scores: list[Score], language: str) -> Table:
    """Pillow's bicubic on the usual low-resolution images beside what the literature says."""
    words, scales = WORDS[language], (2, 3, 4)
    found = _by_place([score for score in scores if score.model == "bicubic"])
    joined = " / ".join(f"x{scale}" for scale in scales)
    header = [words["set"], *(f"x{scale}" for scale in scales), *(f"{words[w]} {joined}" for w in _BESIDE)]
    rows: list[list[Cell | str]] = []
    for test_set in _CHECKED:
        ours = [found[test_set, scale].psnr if (test_set, scale) in found else None for scale in scales]
        theirs = [reference.published(test_set, "bicubic", scale) for scale in scales]
        gaps = [found[test_set, scale].gap if (test_set, scale) in found else None for scale in scales]
        beside = [" / ".join(map(decibel, theirs)), " / ".join(map(signed, gaps))]
        rows.append([BENCHMARKS[test_set], *map(decibel, ours), *beside])
    used = [found[key] for key in found if key[0] in _CHECKED and key[1] in scales]
    return Table("bicubic", header, rows, notes=[_notes(used, words, words["psnr"])])


_CHECKED = ("set5", "set14", "b100")
_BESIDE = ("published", "difference")


def pretrained_table(scores: list[Score], language: str, whole: bool = True) -> Table:
    """The weights that test.py and demo.py take by themselves, in both frameworks below bicubic, PSNR and SSIM.

    whole: at the whole scales; or else at the others, which have a table of their own.
    """
    words = WORDS[language]
    scores = [score for score in scores if isinstance(score.scale, float) is not whole]
    bicubic = _by_place([score for score in scores if score.model == "bicubic"])
    networks = [score for score in scores if score.model == PRETRAINED.stem]
    ours = {name: _by_place([s for s in networks if s.framework == name]) for name in FRAMEWORKS}
    methods = {words["bicubic"]: bicubic} | {f"LIIF, {FRAMEWORKS[name]}": found for name, found in ours.items()}
    places = {place for found in methods.values() for place in found if place[0] in BENCHMARKS}
    scales = sorted({scale for _, scale in places})
    rows: list[list[Cell | str]] = []
    for test_set in (name for name in BENCHMARKS if name in {place[0] for place in places}):
        for number, (method, found) in enumerate(methods.items()):
            at = [found.get((test_set, scale)) for scale in scales]
            values = [f"{decibel(score.psnr)} / {score.ssim:.4f}" if score else NOTHING for score in at]
            rows.append(["" if number else BENCHMARKS[test_set], method, *values])
    notes = [_notes([*networks, *bicubic.values()], words, words["both"])]
    both = [(ours["torch"][place], ours["jittor"][place]) for place in ours["torch"].keys() & ours["jittor"].keys()]
    if both:
        psnr_gap = largest([a.psnr - b.psnr for a, b in both if a.psnr is not None and b.psnr is not None])
        ssim_gap = largest([a.ssim - b.ssim for a, b in both])
        notes[0] += words["stop"] + words["agree"].format(psnr=tiny(psnr_gap), ssim=tiny(ssim_gap))
    header = [words["set"], words["method"], *(f"x{scale}" for scale in scales)]
    return Table("pretrained", header, rows, labels=2, notes=notes)


DEGRADED = {  # of the sets of configs/test-degraded/, in the words of the table
    "": "none",
    "-jpeg90": "JPEG 90",
    "-jpeg60": "JPEG 60",
    "-jpeg30": "JPEG 30",
    "-noise5": "noise 5",
    "-noise15": "noise 15",
    "-blur1": "blur 1",
    "-mixed": "mixed",
}


def degraded_table(scores: list[Score], language: str) -> Table:
    """PSNR of bicubic, of the weights `clean` and of `photo` on degraded test sets: PyTorch's, and how far Jittor's
    are from them."""
    words, weights = WORDS[language], {"clean": PRETRAINED.stem, "photo": shipped.PHOTO}
    by_model = {
        (name, framework): _by_place([s for s in scores if s.model == model and s.framework == framework])
        for name, model in (("bicubic", "bicubic"), *weights.items())
        for framework in ("pillow", *FRAMEWORKS)
    }
    shown = [by_model["bicubic", "pillow"], *(by_model[name, "torch"] for name in weights)]
    scales = sorted({scale for found in shown for _, scale in found})
    rows: list[list[Cell | str]] = []
    for test_set, title in BENCHMARKS.items():
        kinds = [kind for kind in DEGRADED if any((test_set + kind, scale) in one for one in shown for scale in scales)]
        for number, kind in enumerate(kinds):
            found = [one.get((test_set + kind, scale)) for scale in scales for one in shown]
            figures = [decibel(score.psnr if score else None) for score in found]
            rows.append(["" if number else title, DEGRADED[kind], *figures])
    header = [f"{name} x{scale}" for scale in scales for name in ("bicubic", *weights)]
    pairs = [(by_model[name, "torch"], by_model[name, "jittor"]) for name in weights]
    used = [score for found in (*shown, *(two for _, two in pairs)) for score in found.values()]
    notes = [_notes(used, words, words["psnr"])]
    gaps = [(a[place].psnr, b[place].psnr) for a, b in pairs for place in a.keys() & b.keys()]
    if gaps:
        furthest = largest([one - other for one, other in gaps if one is not None and other is not None])
        notes.append(f"PyTorch's; Jittor's differ by at most {tiny(furthest)} dB.")
    return Table("degraded", [words["set"], "degradation", *header], rows, labels=2, notes=notes)


def _notes(scores: list[Score], words: dict[str, str], values: str) -> str:
    sentences = [words["protocol"].format(values=values, protocol=protocols(scores), commit=commits(scores))]
    weights = sorted({score.weights for score in scores if score.weights})
    if weights:
        sentences.append(words["weights"].format(weights=", ".join(code(sha[:12]) for sha in weights)))
    return words["stop"].join(sentences)
