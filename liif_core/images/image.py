"""Images as they are: grey, alpha, palettes, 1 to 16 bits, CMYK, profiles and EXIF go in and come out.

For the demo alone: data sets and tests see 8-bit RGB (liif_core.images.rgb8). Files are read and written by
liif_core.images.vips.
"""

import os
from dataclasses import dataclass, field, replace

import numpy as np

# libvips would write its warnings between ours, and asks once, when it is imported.
_asked = "VIPS_WARNING" in os.environ
os.environ.setdefault("VIPS_WARNING", "0")
import pyvips  # noqa: E402

if not _asked:
    del os.environ["VIPS_WARNING"]

from liif_core.images import png_chunks  # noqa: E402

PROFILE = "icc-profile-data"  # libvips' name of an ICC profile


@dataclass(frozen=True)
class Format:
    """What files of a format can hold.

    loader: libvips' name of its reader. depths: bits per sample. longest: pixels along a side. fields: profiles, XMP
    and the like. exif: EXIF, as far as libvips reads and writes it there.
    """

    loader: str
    depths: tuple[int, ...]
    alpha: bool = False
    cmyk: bool = False
    palette: bool = False
    grey: bool = True
    fields: bool = True
    exif: bool = True
    longest: int = 1_000_000


PNG = Format("pngload", (1, 2, 4, 8, 16), alpha=True, palette=True)
JPEG = Format("jpegload", (8,), cmyk=True, longest=65_500)
WEBP = Format("webpload", (8,), alpha=True, grey=False, longest=16_383)
TIFF = Format("tiffload", (1, 8, 16), alpha=True, cmyk=True, exif=False)  # libvips corrupts odd widths of 4 bits
AVIF = Format("heifload", (8, 10, 12), alpha=True, grey=False, longest=16_384)
GIF = Format("gifload", (8,), alpha=True, palette=True, grey=False, fields=False, longest=65_535)
BMP = Format("", (1, 8), palette=True, fields=False, longest=65_535)  # libvips does not know it
FORMATS = {
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".jfif": JPEG,
    ".jpe": JPEG,
    ".webp": WEBP,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".avif": AVIF,
    ".gif": GIF,
    ".bmp": BMP,
}
VIDEO = Format("", (8,), grey=False, fields=False)  # of any ending


@dataclass(frozen=True)
class ImageData:
    """An image, upright.

    pixels: (h, w, c) uint8, or uint16 for more than 8 bits; c is 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB
    and alpha, or CMYK. depth: bits per sample of the file. palette: the file had one. fields: EXIF, XMP, profile and
    the like under libvips' names, with its types. chunks: what a PNG or AVIF says of its colours, and a PNG's texts.
    resolution: pixels per mm, across and down. suffix: of its format. notes: what of the file is not kept, a few words
    each.
    """

    pixels: np.ndarray
    depth: int = 8
    cmyk: bool = False
    palette: bool = False
    fields: dict[str, tuple[int, object]] = field(default_factory=dict)
    chunks: png_chunks.Chunks = ()
    resolution: tuple[float, float] = (1.0, 1.0)
    suffix: str = ".png"
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def alpha(self) -> bool:
        """Whether the last channel is how opaque a pixel is."""
        return self.pixels.shape[2] in (2, 4) and not self.cmyk

    @property
    def step(self) -> int:
        """The distance of two neighbouring levels of the file in `pixels`: 17 for 4 bits, 64 for 10."""
        return 255 // levels(self.depth) if self.depth <= 8 else 1 << (16 - self.depth)

    @property
    def white(self) -> int:
        """The highest value in `pixels`."""
        return levels(self.depth) * self.step

    def rgb(self) -> np.ndarray:
        """(h, w, 3) uint8, over white where it is not opaque: to look at, and to compare with."""
        pixels = self.pixels if self.white == 255 else np.rint(self.pixels * (255 / self.white)).astype(np.uint8)
        if self.cmyk:
            return ((255 - pixels[..., :3]).astype(np.uint16) * (255 - pixels[..., 3:]) // 255).astype(np.uint8)
        colours = pixels[..., : 3 if pixels.shape[2] > 2 else 1]
        if self.alpha:
            opaque = pixels[..., -1:] / np.float32(255)
            colours = np.rint(colours * opaque + 255 * (1 - opaque)).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(colours, (*self.size, 3)))


def levels(depth: int) -> int:
    """The number of levels above black."""
    return (1 << depth) - 1


def fit(image: ImageData, suffix: str) -> ImageData:
    """The image as a file with that ending can hold it, of FORMATS or of a video; `notes` tells what is lost."""
    form = FORMATS.get(suffix, VIDEO)
    name = suffix[1:].upper()
    notes = list(image.notes)
    if image.cmyk and not form.cmyk:
        image, notes = _to_srgb(image), [*notes, f"{name} has no CMYK: converted to sRGB"]
    elif PROFILE in image.fields and not form.fields:
        image, notes = _to_srgb(image), [*notes, f"{name} has no profiles: converted to sRGB"]
    elif PROFILE in image.fields and not form.grey and image.pixels.shape[2] < 3:
        image, notes = _to_srgb(image), [*notes, f"{name} has no grey here: converted to sRGB"]
    meant = png_chunks.other_colours(image.chunks, PROFILE in image.fields)
    if meant and form is not PNG:
        notes.append(f"{name} has no {', '.join(meant)}: colours will look different")
    lost = {key for key in image.fields if not form.fields or (key.startswith("exif-") and not form.exif)}
    if any(key.startswith(("exif-", "xmp-", "iptc-")) for key in lost):
        notes.append(f"{name} has no EXIF here")
    if form is not PNG and len(image.chunks) > len(png_chunks.colours(image.chunks)):
        notes.append(f"{name} has no texts here")
    image = replace(image, fields={key: value for key, value in image.fields.items() if key not in lost})
    if image.alpha and suffix == ".gif" and not np.isin(image.pixels[..., -1], (0, image.white)).all():
        notes.append("GIF has no half-transparent pixels")
    if image.alpha and not form.alpha:
        image, notes = _over_white(image), [*notes, f"{name} has no alpha: laid over white"]
    if image.depth not in form.depths or (image.depth < 8 and image.pixels.shape[2] > 1):
        depth = min((depth for depth in form.depths if depth >= max(8, image.depth)), default=form.depths[-1])
        notes.append(f"{name} has no {image.depth} bits here: {depth}")
        image = _with_depth(image, depth)
    if image.pixels.shape[2] < 3 and not form.grey:
        notes.append(f"{name} has no grey here: RGB")
    if image.palette and not form.palette:
        notes.append(f"{name} has no palette here: RGB")
    if suffix == ".gif" and not image.palette:
        notes.append("GIF has a palette of 256 colours")
    return replace(image, palette=(image.palette or suffix == ".gif") and form.palette, notes=tuple(notes))


def _over_white(image: ImageData) -> ImageData:
    opaque = image.pixels[..., -1:] / np.float32(image.white)
    flat = np.rint(image.pixels[..., :-1] * opaque + image.white * (1 - opaque))
    return replace(image, pixels=flat.astype(image.pixels.dtype))


def _with_depth(image: ImageData, depth: int) -> ImageData:
    """The same image in other levels."""
    after = replace(image, depth=depth)
    values = image.pixels * np.float32(levels(depth) / (image.step * levels(image.depth)))
    values = np.rint(values, out=values) * np.float32(after.step)
    return replace(after, pixels=values.astype(np.uint8 if depth <= 8 else np.uint16))


def _to_srgb(image: ImageData) -> ImageData:
    """Through its profile, or CMYK without one through libvips' own."""
    deep = image.pixels.dtype == np.uint16
    converted = to_vips(image, image.pixels).icc_transform(
        "srgb", embedded=True, input_profile="cmyk" if image.cmyk else "srgb", depth=16 if deep else 8
    )
    fields = {name: value for name, value in image.fields.items() if name != PROFILE}
    if converted.get_typeof(PROFILE):
        fields[PROFILE] = (converted.get_typeof(PROFILE), converted.get(PROFILE))
    pixels = converted.numpy().reshape(converted.height, converted.width, converted.bands)
    return replace(image, pixels=pixels, cmyk=False, fields=fields)


def to_vips(image: ImageData, pixels: np.ndarray) -> pyvips.Image:
    """pixels (h, w, c) with the image's fields; libvips reads the array itself, which must outlive the image."""
    height, width, channels = pixels.shape
    wide = pixels.dtype == np.uint16
    kind = ("grey16" if wide else "b-w") if channels < 3 else "rgb16" if wide else "srgb"
    made = pyvips.Image.new_from_memory(pixels, width, height, channels, "ushort" if wide else "uchar")
    made = made.copy(interpretation="cmyk" if image.cmyk else kind, xres=image.resolution[0], yres=image.resolution[1])
    for name, (kind_of_value, value) in image.fields.items():
        made.set_type(kind_of_value, name, value)
    if "exif-data" in image.fields:  # which would still say that it is rotated
        made.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return made
