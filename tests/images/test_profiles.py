"""ICC profiles that do not go with their image are dropped with a word, whoever reads it."""

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from helpers.image_kinds import SRGB, grey_profile, noise
from liif_core.images import objects, vips
from liif_core.images.image import PROFILE, fit

IMAGE = PIL.Image.fromarray(noise(3))
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
DAMAGED = "its ICC profile is damaged: not kept"
WRONG = {  # mode, profile, what is said
    "no profile at all": ("RGB", b"this is no profile" * 20, DAMAGED),
    "cut short": ("RGB", SRGB[:200], DAMAGED),
    "a head alone": ("RGB", (132).to_bytes(4, "big") + SRGB[4:128] + bytes(4), DAMAGED),
    "Lab": ("RGB", LAB, "its ICC profile is of another kind (Lab, not RGB): not kept"),
    "of RGB for grey": ("L", SRGB, "its ICC profile is of another kind (RGB, not grey): not kept"),
    "of RGB for ink": ("CMYK", SRGB, "its ICC profile is of another kind (RGB, not CMYK): not kept"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_a_profile_that_does_not_go_with_the_image_is_dropped_with_a_word(tmp_path, kind, ending):
    mode, profile, said = WRONG[kind]
    if mode != "RGB" and (ending in (".webp", ".avif") or (ending, mode) == (".png", "CMYK")):
        return  # has no such images
    IMAGE.convert(mode).save(tmp_path / f"in{ending}", icc_profile=profile)
    image = vips.read(tmp_path / f"in{ending}")
    assert PROFILE not in image.fields and image.notes == (said,)
    for source in (tmp_path / f"in{ending}", PIL.Image.open(tmp_path / f"in{ending}")):
        with pytest.warns(UserWarning, match=said.replace("(", ".").replace(")", ".")):
            data, restore = objects.read(source)
        assert "icc_profile" not in restore(data.pixels).info


def test_a_grey_profile_stays_with_grey_and_becomes_srgb_where_there_is_none(tmp_path):
    profile = grey_profile()
    IMAGE.convert("L").save(tmp_path / "in.png", icc_profile=profile)
    image = vips.read(tmp_path / "in.png")
    assert image.notes == () and image.fields[PROFILE][1] == profile
    rgb = fit(image, ".webp")
    assert rgb.notes == ("WEBP has no grey here: converted to sRGB",) and rgb.fields[PROFILE][1] != profile
    assert rgb.pixels.shape == (23, 31, 3) and np.ptp(rgb.pixels, axis=2).max() <= 1
    assert np.abs(rgb.pixels[..., 1].astype(int) - image.pixels[..., 0]).max() < 16  # sRGB is nearly an exponent of 2.2
