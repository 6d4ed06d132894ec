"""Folders and argument lists for tests/robustness/fuzz_demo.py, plausible and absurd."""

import os
import random
from pathlib import Path

import numpy as np
import PIL.Image

LONG = "long" * 62  # 248 bytes: a name, but only just
TOO_LONG = "x" * 300
NAMES = [
    b"new\nline.png",
    b"a[1].png",
    b"b[Q=3,strip].jpg",
    b"-dash.png",
    b"--scale.png",
    b"\xff\xfe.png",
    "é 图.png".encode(),
    ("图" * 80).encode() + b".png",
    LONG.encode() + b".png",
    b"a; 3x3 -> 4x4 b.png",
    b"%s{0}.png",
    b"UPPER.PNG",
    b".hidden.png",
    b"no_ending",
    b"two.dots.webp",
    b"x_liif.png",
    b"one_compare.png",
    b" .gif",
    b"esc\x1b[31m.bmp",
]
ABSURD = [
    "4x",
    "1,5",
    "12px",
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1",
    "0",
    "abc",
    "10,,3",
    "1e-320",
    "9" * 400,
    "é",
    "\udcff",
    "²",
    "٣",
]


def make_folder(rng: random.Random, root: Path) -> None:
    """images/ with all sorts of names, folders, loops and files that are no images; closed/, to be closed later."""
    place = root / "images"
    for folder in (place / "sub" / "sub", place / "empty", place / "folder.png", root / "closed"):
        folder.mkdir(parents=True)
    _save(rng, place / "one.png")
    _save(rng, place / "one.jpg")
    _save(rng, place / "sub" / "one.png")
    _save(rng, place / "sub" / "sub" / "deep.tif")
    _save(rng, root / "closed" / "in.png")
    for name in rng.sample(NAMES, rng.choice([0, 1, 3])):
        _save(rng, place / os.fsdecode(name))
    frames = [PIL.Image.new("RGB", (9, 7 + number), (90 * number, 20, 99)) for number in range(3)]
    for name, more in {"several.gif": {"duration": [20, 0, 50]}, "pages.tif": {}}.items():
        frames[0].save(place / name, save_all=True, append_images=frames[1:], **more)
    (place / "text.png").write_text("no image")
    (place / "half.png").write_bytes((place / "one.png").read_bytes()[:60])
    if rng.random() < 0.3:
        _add_oddities(root, place)


def _add_oddities(root: Path, place: Path) -> None:
    """Loops, links, pipes."""
    (place / "sub" / "up").symlink_to(place)
    (place / "self.png").symlink_to("self.png")
    (place / "dangling.png").symlink_to("nowhere.png")
    (place / "link.png").symlink_to("one.png")
    os.link(place / "one.png", place / "same.png")
    os.mkfifo(place / "pipe.png")
    (root / "linked").symlink_to("images")


def _save(rng: random.Random, path: Path) -> None:
    mode = rng.choice(["RGB", "RGB", "L"])
    shape = (rng.randrange(1, 14), rng.randrange(1, 14)) + ((3,) if mode == "RGB" else ())
    pixels = np.frombuffer(rng.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)
    form = PIL.Image.registered_extensions().get(path.suffix.lower(), "PNG")
    with open(path, "wb") as file:
        PIL.Image.fromarray(pixels).save(file, form)


def arguments(rng: random.Random, root: Path) -> list[str]:
    """A command line for that folder, whose working directory is `root`."""
    words = [*_inputs(rng, root), *_size(rng)]
    if rng.random() < 0.7:
        words.append(f"--output={_output(rng, root)}")
    if rng.random() < 0.25:
        suffixes = ["", "_x", "/x", "../x", "..", "/", ".png", "\n", "é", TOO_LONG, "[1]", "-", "\0", "\udcff", "a/b"]
        words.append(f"--suffix={rng.choice(suffixes)}")
    if rng.random() < 0.3:
        words += [
            "--ext",
            rng.choice(["auto", "png", "jpg", "jpeg", "webp", "tif", "avif", "gif", "bmp", "mp4", "xyz"]),
        ]
    if rng.random() < 0.15:
        words.append(f"--tile={rng.choice(['-1', 'abc', '1', '0', 'auto', '2', '24', '1e9', '9' * 30, '', '²', '٣'])}")
    if rng.random() < 0.3:
        words.append(f"--frames={rng.choice(['all', 'all', 'first', 'auto', 'last', ''])}")
    if rng.random() < 0.05:
        words.append(f"--gpu={rng.choice(['', 'cpu', '99', 'x', '-1', '0,0', '²', '9' * 50])}")
    if rng.random() < 0.05:
        words.append(f"--precision={rng.choice(['auto', 'fp32', 'fp8', ''])}")
    if rng.random() < 0.03:
        words.append(f"--model={rng.choice(['', '.', 'nowhere', 'images', 'images/one.png', TOO_LONG, '/dev/null'])}")
    for flag, chance in (
        ("--overwrite", 0.35),
        ("--skip-existing", 0.2),
        ("--recursive", 0.4),
        ("--compare", 0.3),
        ("--metadata=strip", 0.1),
        ("--metadata=x", 0.02),
        ("--nonsense", 0.01),
        ("--", 0.02),
        ("", 0.01),
    ):
        if rng.random() < chance:
            words.insert(rng.randrange(len(words) + 1) if rng.random() < 0.1 else len(words), flag)
    return words


def _names(root: Path) -> list[str]:
    """All that lies there, from the working directory."""
    found = []
    for folder, folders, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *files)]
    return sorted(found)


def _inputs(rng: random.Random, root: Path) -> list[str]:
    odd = [
        "",
        ".",
        "..",
        "/dev/null",
        "/dev/zero",
        "nowhere.png",
        "images/one.png/x",
        TOO_LONG,
        "a/" * 2100 + "x.png",
    ]
    odd += ["images/../images/one.png", str(root / "images" / "one.png"), "\n", "~", "*", "images/"]
    odd += ["~/images", "$HOME/images/one.png", "${NOWHERE}/one.png", "~nobody/one.png"]
    common = ["images", "images/one.png", "images/one.jpg", "images/sub", "images/text.png"]
    common += ["images/several.gif", "images/pages.tif"]
    count = rng.choice([0] + [1] * 20 + [2] * 10 + [3, 3, 5])
    chosen = [rng.choice(rng.choice([odd, common, common, common, _names(root)])) for _ in range(count)]
    if count > 1 and rng.random() < 0.2:
        chosen[1] = chosen[0]
    if rng.random() < 0.5:
        return chosen
    return ["--input", *chosen]


def _size(rng: random.Random) -> list[str]:
    absurd = rng.random() < 0.1
    kind = rng.choice(["--scale", "--scale", "--resolution", "--width", "--height"])
    value = {
        "--scale": rng.choice(["2", "1", "0.3", "3.7", "1e-9", "+2", "1_0", " 2"]),
        "--resolution": rng.choice(
            ["5,7", "1,1", " 3 , 4 ", "30,1", "1,70000", "0,3", "-3,5", "3", "3,4,5", "²,3", "٣,3"]
        ),
        "--width": rng.choice(["9", "1", "30", "1_0", "70000"]),
        "--height": rng.choice(["9", "1", "31", "70000"]),
    }[kind]
    words = [f"{kind}={rng.choice(ABSURD) if absurd else value}"]
    if rng.random() < 0.03:
        words += ["--width", "4"]
    return words if rng.random() < 0.97 else []


def _output(rng: random.Random, root: Path) -> str:
    usual = [
        "out",
        "out.png",
        "deep/er/out",
        "out.jpg",
        "out.webp",
        "out.avif",
        "out.tif",
        "out.gif",
        "out.bmp",
        "out.mp4",
    ]
    odd = ["", ".", "..", "/dev/null", "/dev/full", "/proc/x.png", "closed", "closed/x.png", "closed/in.png"]
    odd += [
        "images",
        "images/new",
        "images/one.png",
        "images/text.png",
        "images/one.png/x",
        "out.xyz",
        "out.",
    ]
    odd += ["images/new\nline.png", ".png", "a[1].png", "out\udcff.png", "图" * 80 + ".png", LONG + ".png"]
    odd += [TOO_LONG, TOO_LONG + ".png", "a/" * 2100 + "x.png", "images/folder.png", "linked", "out.PNG", "out .png"]
    return rng.choice(rng.choice([usual, usual, odd, _names(root)]))
