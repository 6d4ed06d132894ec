"""What the bands of a TIFF are: colours, alpha, and what is neither."""

import numpy as np
import PIL.Image
import pytest

from helpers.image_kinds import noise, tiff
from liif_core.errors import UserError
from liif_core.images import objects, tiff_tags, vips

EXTRA, FORMAT = 338, 339
DROPPED = "not declared as alpha (ExtraSamples): dropped"
BANDS = {  # photometric, bands, ExtraSamples, the bands that stay, what is said
    "RGB and nothing": (2, 4, (0,), [0, 1, 2], [f"band 4 is {DROPPED}"]),
    "RGB and more than is declared": (2, 4, (), [0, 1, 2], [f"band 4 is {DROPPED}"]),
    "RGB and two": (2, 5, (0, 0), [0, 1, 2], [f"bands 4, 5 are {DROPPED}"]),
    "alpha after another": (2, 5, (0, 2), [0, 1, 2, 4], [f"band 4 is {DROPPED}"]),
    "alpha before another": (2, 5, (2, 0), [0, 1, 2, 3], [f"band 5 is {DROPPED}"]),
    "RGB and alpha": (2, 4, (2,), [0, 1, 2, 3], []),
    "grey and nothing": (1, 2, (0,), [0], [f"band 2 is {DROPPED}"]),
    "grey and alpha": (1, 2, (2,), [0, 1], []),
    "grey, alpha and another": (1, 3, (2, 0), [0, 1], [f"band 3 is {DROPPED}"]),
    "three of grey": (1, 3, (0, 0), [0, 1, 2], ["its grey bands 1 to 3 are taken as RGB"]),
    "CMYK": (5, 4, (), [0, 1, 2, 3], []),
    "CMYK and nothing": (5, 5, (0,), [0, 1, 2, 3], [f"band 5 is {DROPPED}"]),
    "CMYK and alpha": (5, 5, (2,), [0, 1, 2, 3], ["the alpha of CMYK is dropped"]),
}


@pytest.mark.parametrize("kind", BANDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_a_band_that_is_declared_as_alpha_is_alpha(tmp_path, kind, dtype):
    photometric, bands, extra, kept, notes = BANDS[kind]
    pixels = noise(bands, dtype)
    order = "<" if dtype == np.uint8 else ">"
    (tmp_path / "in.tif").write_bytes(tiff(pixels, photometric, {EXTRA: extra} if extra else {}, order))
    if photometric == 5 and dtype == np.uint16:
        pixels, notes = (pixels >> 8).astype(np.uint8), ["CMYK of 16 bits becomes 8 bits", *notes]
    image = vips.read(tmp_path / "in.tif")
    assert np.array_equal(image.pixels, pixels[..., kept])
    assert image.notes == tuple(notes) and image.cmyk == (photometric == 5)


def test_bands_that_lie_one_after_the_other_are_told_apart_as_well(tmp_path):
    pixels = noise(4)
    size = pixels[..., 0].size
    planes = np.moveaxis(pixels, -1, 0).reshape(*pixels.shape)  # the same bytes in the file's order
    tags = {EXTRA: (0,), 284: (2,), 273: tuple(8 + size * band for band in range(4)), 279: (size,) * 4}
    (tmp_path / "in.tif").write_bytes(tiff(planes, 2, tags))
    assert np.array_equal(vips.read(tmp_path / "in.tif").pixels, pixels[..., :3])


def test_a_damaged_directory_says_nothing(tmp_path):
    tags = {tiff_tags.BITS: "8", tiff_tags.SAMPLE_FORMAT: (b"2", 1.5), tiff_tags.PHOTOMETRIC: (8, 8)}
    assert tiff_tags.unknown_samples(tags) == ""
    assert tiff_tags.kept_bands({tiff_tags.EXTRA_SAMPLES: "2"}, 3) == ([0, 1, 2], [])
    (tmp_path / "in.tif").write_bytes(tiff(noise(3), 2, {})[:40])
    with pytest.raises(UserError, match="in.tif as an image .*: its header is damaged$"):
        vips.read(tmp_path / "in.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_that_is_zero_is_white(tmp_path, dtype):
    pixels = noise(1, dtype)
    (tmp_path / "in.tif").write_bytes(tiff(np.iinfo(dtype).max - pixels, 0, {}))
    for source in (tmp_path / "in.tif", PIL.Image.open(tmp_path / "in.tif")):
        image, restore = objects.read(source)
        assert np.array_equal(image.pixels, pixels) and np.array_equal(np.asarray(restore(pixels)), pixels[..., 0])
