"""Noto's emoji as images, for trainings of minutes and hours: clean, of one size, under a free licence.

Noto Color Emoji holds bitmaps of 136x128 in its CBDT table (font under the SIL Open Font License 1.1, artwork under
Apache-2.0). They are laid on white and cut to 128x128; of equal ones the first is kept.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import packages, places
from liif_core.system.files import check_readable

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # where Debian and Ubuntu put it
SIDE, WIDTH = 128, 136  # pixels
COUNT = 3916  # of version 2.042, which configs/train-emoji/split.json divides
PIXELS = "643023c7b9f3caada6821a895b5b2aeadb9466f48c900ca8d5931f6c7a8d71b9"  # SHA-256 of its images, by `digest`
EMOJI = f"""emoji: made of the font Noto Color Emoji, {COUNT:,} images of {SIDE}x{SIDE}:
  1. sudo apt-get install fonts-noto-color-emoji, or unpack that package of Debian 12 (version 2.042) by hand.
  2. {places.command("download", "download_data.py")} emoji [--from PATH/NotoColorEmoji.ttf]"""


def bitmaps(font: Path) -> dict[str, bytes]:
    """The PNG files in a font by their glyphs' names. Raises UserError for a font without them."""
    check_readable(font, "font")
    library = packages.load("fontTools.ttLib", "fonttools")
    try:
        strikes = library.TTFont(font)["CBDT"].strikeData
        found = {name: glyph.imageData for strike in strikes[:1] for name, glyph in strike.items()}
    except Exception as error:  # a file that is no font makes it raise anything
        raise UserError(
            f"{font} has no bitmaps of emoji ({type(error).__name__}: {error}): expected NotoColorEmoji.ttf as Debian "
            "has it, whose table is CBDT"
        ) from None
    return found


def images(found: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The bitmaps on white, uint8 (128, 128, 3), without those that are equal to one before. Raises UserError for one
    of another size."""
    made: dict[bytes, tuple[str, np.ndarray]] = {}
    for name, content in found.items():
        glyph = Image.open(io.BytesIO(content)).convert("RGBA")
        if glyph.size != (WIDTH, SIDE):
            size = f"{glyph.height}x{glyph.width}"
            raise UserError(f"the emoji '{name}' is {size}: expected {SIDE}x{WIDTH}, as in Noto Color Emoji 2.042")
        white = Image.new("RGBA", glyph.size, (255, 255, 255, 255))
        white.alpha_composite(glyph)
        left = (WIDTH - SIDE) // 2
        pixels = np.asarray(white.convert("RGB"))[:, left : left + SIDE]
        made.setdefault(pixels.tobytes(), (name, pixels))
    return dict(made.values())


def digest(made: dict[str, np.ndarray]) -> str:
    """SHA-256 of names and pixels."""
    total = hashlib.sha256()
    for name in sorted(made):
        total.update(name.encode() + b"\0" + np.ascontiguousarray(made[name]).tobytes())
    return total.hexdigest()


def make_emoji(font: Path, target: Path) -> None:
    """Write the emoji of a font into `target`/hr_128, what is there left alone; says if the split is of others."""
    folder = target / f"hr_{SIDE}"
    made = images(bitmaps(font))
    for name, pixels in tqdm(made.items(), desc="writing emoji", unit="image", leave=False, disable=None):
        if not (folder / f"{name}.png").exists():
            rgb8.write_image(folder / f"{name}.png", pixels)
    print(f"{folder}: {len(made):,} images of {SIDE}x{SIDE}")
    if digest(made) != PIXELS:
        print(
            f"not those of version 2.042 ({COUNT:,}), which configs/train-emoji/split.json divides: make another split"
        )
