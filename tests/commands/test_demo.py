"""demo.py as people type it: one image, folders, names, sizes, what stops it, and how little memory it may have.

What becomes of the kinds of images is in test_image.py, odd arguments in test_bad_input.py and test_fuzz_demo.py.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from helpers import ROOT, made_images
from helpers.small_run import load_tree, run, start
from liif_core.checkpoints import formats, native
from liif_core.config.schema import DataNorm
from liif_core.errors import UserError
from liif_core.images import rgb8, vips
from liif_core.images.image import ImageData
from liif_core.images.normalisation import Normalisation
from liif_core.inference import upscale
from liif_core.inference.network import Network


def size_of(path: Path) -> tuple[int, int]:
    with PIL.Image.open(path) as image:
        image.load()
        return image.height, image.width


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["-s", "2"], (26, 38)),
        (["--width", "38"], (26, 38)),
        (["--height", "26"], (26, 38)),
        (["--resolution", "26,38"], (26, 38)),
    ],
)
def test_a_size_in_four_ways_and_a_name_by_itself(demo, image_folders, tmp_path, arguments, size):
    status, out, err = demo(image_folders / "input.png", *arguments)
    assert status == 0, err
    assert size_of(tmp_path / "input_liif.png") == size
    assert f"{image_folders / 'input.png'} 13x19 -> 26x38 input_liif.png" in out


def folder_of_six(place: Path) -> Path:
    """Three good images, one of them below, a broken one, an empty one and a text."""
    made_images.folder(place / "in", {"a.png": (13, 19), "b.jpg": (13, 19)})
    made_images.folder(place / "in" / "deep", {"c.png": (13, 19)})
    whole = (place / "in" / "a.png").read_bytes()
    (place / "in" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (place / "in" / "empty.jpg").write_bytes(b"")
    (place / "in" / "notes.txt").write_text("not an image")
    return place / "in"


def test_broken_files_do_not_keep_the_good_ones_back(demo, tmp_path):
    status, out, err = demo(folder_of_six(tmp_path), "-o", "out", "-s", 2, "--recursive")
    assert status == 2
    assert listing(tmp_path / "out") == ["a.png", "b.jpg", "deep/c.png"]
    assert all(size_of(tmp_path / "out" / name) == (26, 38) for name in ("a.png", "b.jpg", "deep/c.png"))
    lines = err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: cannot read") for line in lines)
    assert "broken.png" in err and "empty.jpg" in err
    assert "3 upscaled, 0 skipped, 2 failed" in out


def test_a_folder_of_results_is_filled_up(demo, tmp_path):
    folder = folder_of_six(tmp_path)
    for name in ("broken.png", "empty.jpg"):
        (folder / name).unlink()
    assert demo(folder, "-s", 2)[0] == 0
    assert listing(tmp_path / "in_liif") == ["a.png", "b.jpg"]  # deep/ was not asked for
    (tmp_path / "in_liif" / "a.png").write_bytes(b"mine")
    status, _, err = demo(folder, "-s", 2)
    assert status == 2
    assert err == (
        f"error: 2 results, such as {Path('in_liif/a.png')}, exist already: "
        "--overwrite replaces them, --skip-existing leaves them\n"
    )
    (tmp_path / "in_liif" / "b.jpg").unlink()
    status, out, _ = demo(folder, "-s", 2, "--skip-existing")
    assert status == 0 and "1 upscaled, 1 skipped, 0 failed" in out
    assert (tmp_path / "in_liif" / "a.png").read_bytes() == b"mine"
    assert demo(folder, "-s", 2, "--overwrite")[0] == 0
    assert size_of(tmp_path / "in_liif" / "a.png") == (26, 38)


def test_names_formats_and_what_is_refused(demo, image_folders, tmp_path):
    image = tmp_path / "p.png"
    shutil.copy(image_folders / "input.png", image)
    before = image.read_bytes()
    assert demo(image, "-s", 2, "--suffix", "_large", "--ext", "webp")[0] == 0
    assert listing(tmp_path) == ["p.png", "p_large.webp"]
    made_images.folder(tmp_path / "two", {"p.jpg": (13, 19)})
    for message, arguments in (
        ("would replace", [image, "--suffix", "", "--overwrite"]),
        ("would replace", [image, "-o", "p.png", "--overwrite"]),
        ("would both become", [image, "two/p.jpg", "-o", "out", "--ext", "png"]),
        ("names another format", [image, "-o", "x.png", "--ext", "jpg"]),
        ("no such image: nowhere.png", ["nowhere.png"]),
        ("no images in empty: looked for .png", ["empty"]),
        ("no input: name an image or a folder", []),
        ("--tile: expected a side in pixels, 0 for the whole image, or auto, got -3", [image, "--tile=-3"]),
        ("--tile: expected a side in pixels, 0 for the whole image, or auto, got wide", [image, "--tile", "wide"]),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        status, _, err = demo(*arguments, "-s", 2)
        assert status == 2 and message in err, err
    assert image.read_bytes() == before


def test_compare_draws_bicubic_beside(demo, image_folders, tmp_path):
    assert demo(image_folders / "input.png", "-s", 3, "--compare", "-o", "o.png")[0] == 0
    compared = rgb8.read_image(tmp_path / "o_compare.png")
    low = rgb8.read_image(image_folders / "input.png")
    assert np.array_equal(compared[-39:, :57], rgb8.resize(low, 39, 57))
    assert np.array_equal(compared[-39:, -57:], rgb8.read_image(tmp_path / "o.png"))


def test_a_zoom_video_is_made_of_one_image(demo, image_folders, tmp_path):
    arguments = [image_folders / "input.png", "--zoom", 3, "--seconds", 0.5, "--fps", 6, "--resolution", "12,16"]
    status, out, err = demo(*arguments, "-o", "f.gif")
    assert status == 0, err
    with PIL.Image.open(tmp_path / "f.gif") as video:
        assert video.n_frames >= 3
    assert "x3 in 3 frames -> f.gif" in out
    assert demo(*arguments, "-o", "f.gif")[0] == 2
    assert demo(*arguments, "-o", "f.gif", "--skip-existing")[0] == 0
    for message, more in (
        ("video of one image", [image_folders / "HR" / "a.png"]),
        ("--scale does not go with --zoom", ["--scale", 2]),
        ("--centre: expected two fractions", ["--centre", "1;2"]),
        ("accepted are .gif and .mp4", ["-o", "f.png"]),
    ):
        status, _, err = demo(*(arguments[:-2] if "--scale" in more else arguments), "-o", "g.gif", *more)
        assert status == 2 and message in err, err


# Tiles


def test_tiles_give_the_image_that_the_whole_gives(framework, trained):
    """Tolerance: see test_tiling.py."""
    found = formats.load(trained / "epoch-last.safetensors")
    engine = load_tree(framework)()[0](found.model)
    native.restore(engine, found.state, "test")
    norm = Normalisation(DataNorm.model_validate(found.data_norm))
    image = made_images.make_image(41, 67)
    whole, tiled = (Network(engine, norm, tile)(image, 95, 150) for tile in (0, 16))
    assert np.abs(whole - tiled).max() <= 1e-5


class Scarce:
    """An engine's network that has no memory for tiles above `largest`, and repeats pixels in smaller ones."""

    def __init__(self, largest: int, error: Exception, radius: int | None = 4):
        self.largest, self.error, self.tile, self.tried, self.passes = largest, error, None, [], 1
        self.engine = type("Engine", (), {"receptive_radius": radius, "device_kind": "cuda"})()

    def bands(self, image, height, width, white=255, advance=None):
        self.tried.append(self.tile)
        yield np.zeros((1, width, 3), np.float32)  # some rows, before it comes to the worst
        advance(width)
        if self.tile is None or self.tile > self.largest:
            raise self.error
        yield np.ones((height - 1, width, 3), np.float32)
        advance((height - 1) * width)


REFUSED = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_too_little_memory_leads_to_smaller_tiles(error):
    network, done = Scarce(100, error), []
    result = np.zeros((600, 2000, 3), np.uint8)
    upscale.upscale(network, ImageData(np.zeros((300, 1000, 3), np.uint8)), result, done.append)
    assert network.tried == [None, 500, 250, 125, 62] and network.tile is None
    assert (result[1:] == 255).all() and (result[0] == 0).all()
    assert sum(done) == 600 * 2000 and min(done) < 0


@pytest.mark.parametrize("radius", [4, None])
def test_no_memory_at_all_is_one_sentence(radius):
    network = Scarce(0, MemoryError(), radius)
    with pytest.raises(UserError, match="not enough memory to upscale 30x40 pixels: .*(16 pixels|see it whole)"):
        upscale.upscale(network, ImageData(np.zeros((30, 40, 3), np.uint8)), np.zeros((60, 80, 3), np.uint8), int)


def test_another_error_is_not_called_one_of_memory():
    network = Scarce(0, RuntimeError("expected scalar type Half but found Float"))
    with pytest.raises(RuntimeError, match="scalar type"):
        upscale.upscale(network, ImageData(np.zeros((30, 40, 3), np.uint8)), np.zeros((60, 80, 3), np.uint8), int)
    assert network.tried == [None]


LIMITED = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from liif_core.system import memory
assert memory.free_memory() > 100 << 20
memory.free_memory = lambda: 64 << 20
memory.limit_memory()
np.ones(8 << 20, np.uint8)
try:
    np.ones(512 << 20, np.uint8)
except MemoryError:
    print("refused")
"""


def test_memory_that_is_not_there_is_refused():
    result = run([sys.executable, "-c", LIMITED.format(root=str(ROOT))])
    assert result.stdout == "refused\n", result.stderr


# What stops it

STOPPED = """
import os, resource, signal, sys
sys.path.insert(0, {root!r})
from liif_core.commands import demo, entry
from liif_core.inference import upscale

plain = upscale._fill_channels

def stopped(network, image, part, result, advance):
    def count(pixels):
        {action}
        advance(pixels)
    plain(network, image, part, result, count)

upscale._fill_channels = stopped
from liif_{framework} import load_tree
entry.run(demo.demo, {framework!r}, load_tree)
"""
SIGNALS = {"SIGTERM": "stopped; no image is left half written", "SIGINT": "interrupted"}


@pytest.mark.parametrize("name", SIGNALS)
def test_stopped_in_the_middle_it_leaves_nothing_half_done(framework, trained, image_folders, tmp_path, name):
    shutil.copy(image_folders / "input.png", tmp_path / "out.png")
    before = (tmp_path / "out.png").read_bytes()
    action = f"os.kill(os.getpid(), signal.{name})"
    code = STOPPED.format(root=str(ROOT), framework=framework, action=action)
    arguments = ["-i", image_folders / "input.png", "-s", 2, "-o", tmp_path / "out.png", "--overwrite", "--gpu", "cpu"]
    words = ["-c", code, *map(str, arguments), "--model", str(trained / "epoch-last.safetensors")]
    result = start(framework, words)
    assert result.returncode == 130 and SIGNALS[name] in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "out.png").read_bytes() == before and listing(tmp_path) == ["out.png"]


FULL = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from liif_core.commands import demo, entry

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
plain = {function}

def on_a_full_disk(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # no file may grow; not before, since Jittor writes its own
    return plain(*arguments)

{function} = on_a_full_disk
from liif_{framework} import load_tree
entry.run(demo.demo, {framework!r}, load_tree)
"""


@pytest.mark.parametrize("function", ["demo.scratch", "demo.vips.write", "demo.compared"])
def test_a_full_disk_is_one_sentence(framework, trained, image_folders, tmp_path, function):
    code = FULL.format(root=str(ROOT), framework=framework, function=function)
    arguments = ["-i", image_folders / "input.png", "-s", 2, "-o", tmp_path / "out.png", "--compare", "--gpu", "cpu"]
    words = ["-c", code, *map(str, arguments), "--model", str(trained / "epoch-last.safetensors")]
    result = start(framework, words)
    assert result.returncode == 2, result.stderr
    assert re.match("error: .*cannot write", result.stderr) and len(result.stderr.splitlines()) == 1, result.stderr
    assert listing(tmp_path) == (["out.png"] if function == "demo.compared" else [])


def test_a_result_can_be_read_by_all(demo, image_folders, tmp_path):
    """Temporary files are private; results are not."""
    assert demo(image_folders / "input.png", "-s", 1, "-o", "o.png")[0] == 0
    assert os.stat(tmp_path / "o.png").st_mode & 0o777 == 0o644
    assert vips.read(tmp_path / "o.png").size == (13, 19)
