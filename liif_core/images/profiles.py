"""Whether an ICC profile goes with an image: libvips and libpng drop those that do not, without a word."""

import io

from PIL import ImageCms

SPACES = {"GRAY": "grey", "RGB": "RGB", "CMYK": "CMYK", "Lab": "Lab"}
DAMAGED = "its ICC profile is damaged: not kept"
MODES = {"grey": "L", "RGB": "RGB", "CMYK": "CMYK"}
IMAGES = "mntr", "scnr", "prtr", "spac"  # classes of profiles: others lead from device to device, or name colours


def problem(profile: bytes, channels: int, cmyk: bool) -> str:
    """Why it does not go with an image of so many channels, in a few words; empty if it does."""
    kind = "CMYK" if cmyk else "grey" if channels < 3 else "RGB"
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space, use = opened.profile.xcolor_space.strip(), opened.profile.device_class
        space = SPACES.get(space, space)
        if space == kind and use in IMAGES:
            ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), MODES[kind], "RGB")
            return ""
    except (OSError, ValueError, ImageCms.PyCMSError):  # as littlecms and its binding refuse bytes
        return DAMAGED
    return f"its ICC profile is of another kind ({space}, not {kind}): not kept"
