"""By their names alone: which files of a folder are its images, and which of two folders belong together."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from liif_core.config.load import locate_data
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system.files import is_file, is_folder

# Of images, whether they are read here or not: what is left out shall be known to be none.
ENDINGS = set(
    """.apng .avif .avifs .bmp .bw .cur .dcx .dds .dib .eps .exr .fits .gif .hdr .heic .heif .icb .icns .ico .im .j2c
    .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .mpo .msp .pbm .pcd .pcx .pfm .pgm .png .pnm .ppm .psd .qoi .ras
    .rgb .rgba .sgi .svg .tga .tif .tiff .vda .vst .webp .xbm .xpm .arw .cr2 .cr3 .dng .nef .orf .raf .rw2""".split()
)
EMPTY = "no images in {}: put image files (png, jpg, ...) there"


def files(folder: Path) -> list[os.DirEntry]:
    """The files of a folder that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    return sorted(found, key=lambda entry: entry.name)


def image_files(folder: Path) -> list[os.DirEntry]:
    """Those with an ending of images, and those without any ending that begin like one."""
    return [entry for entry in files(folder) if _is_image(entry)]


def _is_image(entry: os.DirEntry) -> bool:
    return _has_ending(entry.name) or ("." not in entry.name and rgb8.is_image(entry.path))


def _has_ending(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def found(root: Path) -> list[str]:
    """The names of a folder's images, sorted. Raises UserError for what is no folder."""
    if not is_folder(root):
        raise UserError(f"{root} is not a folder: expected a folder of images")
    names = [entry.name for entry in image_files(root)]
    # Without the scale suffix, or 10x4.png would come before 1x4.png where 1.png comes before 10.png.
    return sorted(names, key=lambda name: (re.sub(r"x\d+$", "", stem(name)), name))


def listed(root: Path, split_file: str, split_key: str | None) -> list[str]:
    """The names that a JSON file lists under a key. Raises UserError for those that are not in the folder."""
    path = locate_data(split_file)
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the split file {path}: {error}") from None
    if not isinstance(split, dict):
        raise UserError(f"{path} is no split file: expected a JSON object of lists of file names")
    if split_key not in split:
        raise UserError(f"{path} has no split '{split_key}': known: {', '.join(map(str, split))}")
    if not isinstance(split[split_key], list) or not all(isinstance(name, str) for name in split[split_key]):
        raise UserError(f"{path}: the split '{split_key}' is not a list of file names")
    missing = [name for name in split[split_key] if not is_file(root / name)]
    if missing:
        raise UserError(f"{path} names {some(missing)} under '{split_key}', which is not in {root}")
    return split[split_key]


def taken(root: Path, split_file: str | None, split_key: str | None) -> list[str]:
    """The names that a data set takes of a folder, in its order. Raises UserError where there are none."""
    names = listed(root, split_file, split_key) if split_file else found(root)
    if not names:
        raise UserError(EMPTY.format(root))
    return names


def some(names: list[str]) -> str:
    """The first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def stem(name: str) -> str:
    """A name, below the folder, without its ending."""
    return os.path.splitext(name)[0]


def twins(names: list[str]) -> list[str]:
    """The first files that differ in their ending alone: a.jpg and a.png; none, if no two do."""
    by_stem: dict[str, set[str]] = {}
    for name in names:
        by_stem.setdefault(stem(name), set()).add(name)
    return next((sorted(same) for same in by_stem.values() if len(same) > 1), [])


def told_apart(taken: list[str]) -> list[str]:
    """What to call images in tables and results: by their names without ending, if no two have the same."""
    counts = Counter(Path(name).stem for name in set(taken))
    return [Path(name).stem if counts[Path(name).stem] == 1 else name for name in taken]


# Pairs


MARK = r"[-_](?:HR|HQ|GT|(?:bic)?LR(?:BI|BD|DN)?|LQ|BI|bicubic)"
SCALE = r"[-_]?x\d+(?:\.\d+)?|[-_]\d+(?:\.\d+)?x"
RULE = "equal names belong together, or else those with a suffix less, like x4, _x4, _LR_x4, _LR and _HR"
Key = Callable[[str], str | None]


def _without(suffix: str, kept: str = "") -> Key:
    expression = re.compile(f"(?<=.)(?:{suffix})$", re.IGNORECASE)
    return lambda name: expression.sub(kept, stem(name))


_unscaled = _without(SCALE)
_unmarked = _without(rf"{MARK}[-_]?(x[\d.]+|[\d.]+x)?", r"\1")
_bare = _without(rf"(?:_SRF_\d+)?(?:{MARK})?(?:{SCALE})?")
# What is left of a low and of a high resolution's name where they are compared: as much as possible first.
COMPARED: tuple[tuple[Key, Key], ...] = (
    (stem, stem),
    (_unscaled, stem),  # a_480x2 and a_480
    (_bare, stem),
    (_unmarked, _unmarked),  # a_LR_x2 and a_HR_x2
    (_bare, _unmarked),
    (stem, _unscaled),
)


def partners(low: list[str], high: list[str], low_name: str | None, high_name: str | None) -> dict[str, str]:
    """The low resolution of each high one that has one; the arguments are `paired-image-folders`'s.

    A comparison that joins all of them comes first: boxx2.png and boxx2x2.png are those of box.png and boxx2.png.
    """
    ways = COMPARED if (low_name, high_name) == (None, None) else ((pattern(low_name), pattern(high_name)),)
    for ways_low, ways_high in ways:
        one, two = _by_key(low, ways_low), _by_key(high, ways_high)
        if one.keys() == two.keys() and len(one) == len(set(low)) and len(two) == len(set(high)):
            return {two[key]: one[key] for key in two}
    joined: dict[str, str] = {}
    for ways_low, ways_high in ways:
        taken_low = set(joined.values())
        one = _by_key([name for name in low if name not in taken_low], ways_low)
        two = _by_key([name for name in high if name not in joined], ways_high)
        joined |= {two[key]: one[key] for key in two.keys() & one.keys()}
    return joined


def _by_key(names: list[str], key: Key) -> dict[str, str]:
    """The names by what is compared of them, without those of which nothing is, or the same as of another."""
    keys = {name: key(name) for name in names}
    counts = Counter(keys.values())
    return {found: name for name, found in keys.items() if found is not None and counts[found] == 1}


def pattern(text: str | None) -> Key:
    """What stands for {name} in a name that is like `text`, None for other names. Raises UserError for a wrong text."""
    before, name, after = (stem(text) if text and _has_ending(text) else text or "{name}").partition("{name}")
    if not name or "{name}" in after or "/" in before + after:
        raise UserError(f"a name's pattern is '{text}': expected {{name}} in it once, and no folder, like {{name}}x4")
    expression = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")

    def key(name: str) -> str | None:
        match = expression.fullmatch(stem(name))
        return match and match[1]

    return key


def pairs(
    roots: tuple[Path, Path],
    low: list[str],
    high: list[str],
    low_name: str | None = None,
    high_name: str | None = None,
    first_k: int | None = None,
) -> tuple[list[tuple[str, str]], list[str]]:
    """The low and the high names of two folders that belong together, in the high ones' order, and what is wrong.

    first_k: of the first so many high names; of the others nothing is asked.
    """
    problems = []
    for root, names in zip(roots, (low, high), strict=True):
        if same := twins(names[:first_k]):
            problems.append(f"{root} has {' and '.join(same)}, which differ in their ending alone: keep one of them")
    if problems:
        return [], problems
    low_of = partners(low, high, low_name, high_name)
    joined = set(low_of.values())
    lonely = {name for name in low[:first_k] if name not in joined}
    lonely |= {name for name in high[:first_k] if name not in low_of}
    if lonely:
        where = f"{roots[0]} ({len(low)} images) and {roots[1]} ({len(high)})"
        rule = f"{RULE}; or set low_name and high_name, like {{name}}x4"
        if (low_name, high_name) != (None, None):
            rule = f"the config says low_name '{low_name or '{name}'}' and high_name '{high_name or '{name}'}'"
        problems.append(f"{where} do not pair up: no partner for {some(sorted(lonely))}; {rule}")
    return [(low_of[name], name) for name in high[:first_k] if name in low_of], problems
