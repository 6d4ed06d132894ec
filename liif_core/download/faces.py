"""CelebA-HQ, which has to be fetched by hand, at the sizes that its experiments take."""

import json
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from liif_core.data.names import found
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import places
from liif_core.system.devices import available_cores

COMMAND = places.command("download", "download_data.py")
FACES = f"""CelebA-HQ has to be fetched by hand: it is on Google Drive, which asks for a browser, and links to it have
died before. It is for research that is not commercial.
  1. Get data1024x1024.zip (30,000 images) by the link under 'celebAHQ' in the README of github.com/yinboc/liif,
     and unpack it.
  2. {COMMAND} celebAHQ --from PATH/data1024x1024
     downsamples the images to load/celebAHQ/256 and from there to 128, 64 and 32, with Pillow's bicubic.
  3. Get split.json, which says what is for training, validation and test, by the link in the same place,
     and put it into load/celebAHQ/."""

FFHQ = f"""FFHQ has to be fetched by hand: its images are on Google Drive, and not for commercial use.
  1. Get images1024x1024 (70,000 images) or thumbnails128x128 by the README of github.com/NVlabs/ffhq-dataset.
  2. {places.command("prepare", "prepare_data.py")} --path PATH/images1024x1024 --out load/ffhq --size 16,128
     makes load/ffhq_16_128; CelebA-HQ's 30,000 images become load/celebahq_16_128 in the same way. SR3-PyTorch trains
     on the one and validates on the other."""


def downsample_face(source: Path, target: Path) -> None:
    """One face at four sizes: 256 from 1024, the others from 256, as the original LIIF makes them."""
    targets = {size: target / str(size) / f"{source.stem}.png" for size in (256, 128, 64, 32)}
    if all(target_file.exists() for target_file in targets.values()):
        return
    large = rgb8.read_image(source)
    if large.shape[:2] != (1024, 1024):
        raise UserError(f"{source} is {large.shape[0]}x{large.shape[1]}: CelebA-HQ's images are 1024x1024")
    middle = rgb8.resize(large, 256, 256)
    for size, target_file in targets.items():
        rgb8.write_image(target_file, middle if size == 256 else rgb8.resize(middle, size, size))


def make_faces(source: Path, target: Path) -> None:
    """All faces at all sizes, what is there left alone; says whether the split is there."""
    names = found(source)
    if not names:
        raise UserError(f"no images in {source}: expected the folder data1024x1024 of CelebA-HQ")
    # Ctrl-C reaches the workers as well; they leave it to this process.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(available_cores(), initializer=signal.signal, initargs=quiet) as pool:
        work = [pool.submit(downsample_face, source / name, target) for name in names]
        try:
            for one in tqdm(work, desc="downsampling", unit="image", leave=False, disable=None):
                one.result()
        except (UserError, KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
            raise
    print(f"{target}: {len(names)} images at 256, 128, 64 and 32")
    split = target / "split.json"
    try:
        parts = json.loads(split.read_text(encoding="utf-8"))
        print(f"{split}: {', '.join(f'{key} {len(names)}' for key, names in parts.items())}")
    except FileNotFoundError:
        print(f"{split} is missing: see step 3 of {COMMAND} --list")
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{split} is not a JSON object of lists of names: fetch it again") from None
