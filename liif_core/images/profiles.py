"""Whether an ICC profile goes with an image: libvips and libpng drop those that do not, without a word."""

import io

from PIL import ImageCms

SPACES = {"GRAY": "grey", "RGB": "RGB", "CMYK": "CMYK", "Lab": "Lab"}
DAMAGED = "its ICC profile is damaged: not kept"
IMAGES = "mntr", "scnr", "prtr", "spac"  # classes of profiles: others lead from device to device, or name colours


def problem(profile: bytes, channels: int, cmyk: bool) -> str:
    """Why it does not go with an image of so many channels, in a few words; empty if it does."""
    kind = "CMYK" if cmyk else "grey" if channels < 3 else "RGB"
    try:
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
        space, use = read.xcolor_space.strip(), read.device_class
    except (OSError, ValueError, UnicodeDecodeError):  # as littlecms and its binding refuse bytes
        return DAMAGED
    space = SPACES.get(space, space)
    if space == kind and use in IMAGES:
        return ""
    return f"its ICC profile is of another kind ({space}, not {kind}): not kept"
