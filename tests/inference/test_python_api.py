"""The Python API: the README's lines, what goes in and comes out, queries, what is refused, and what stays as it was.

How images are upscaled is in test_image.py; here it is that a program gets what demo.py writes.
"""

import importlib
import io
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from PIL import ExifTags

from helpers import ROOT, image_kinds, made_images
from helpers.small_run import run
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config.schema import DataNorm
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.images import objects, vips
from liif_core.images.image import ImageData
from liif_core.images.normalisation import Normalisation
from liif_core.inference import api
from liif_core.inference.network import Network
from liif_core.system import devices, memory

SIZE, SCALE, LARGE = (13, 19), 3.7, (48, 70)
PROFILE = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def tree(framework):
    return importlib.import_module(f"liif_{framework}")


@pytest.fixture(scope="module")
def model(tree):
    return tree.load(device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An image with a profile in 8 bits, and one in 16 bits."""
    folder = tmp_path_factory.mktemp("api")
    pixels = made_images.make_image(*SIZE)
    PIL.Image.fromarray(pixels).save(folder / "small.png", icc_profile=PROFILE)
    deep = pixels.astype(np.uint16) * 257 + np.uint16(3)
    vips.write(folder / "deep.png", deep, ImageData(deep, depth=16))
    return folder


def lines_of(document: str) -> str:
    """The first Python example of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^ {4}(import liif_torch\n(?: {4}.*\n|\n)*)", text, flags=re.M)[0].replace("\n    ", "\n")


def test_the_readmes_lines_run_as_printed_and_give_what_demo_writes(framework, run_command, files, tmp_path):
    status, _, err = run_command("demo", files / "small.png", files / "deep.png", "-s", SCALE, "-o", tmp_path)
    assert status == 0, err
    small, deep = (vips.read(tmp_path / name) for name in ("small.png", "deep.png"))
    program = lines_of("README.md")
    assert lines_of("README.zh-CN.md").split("\n")[:2] == program.split("\n")[:2]
    results = {}
    for kind, image in (
        ("pillow", PIL.Image.open(files / "small.png")),
        ("array", vips.read(files / "deep.png").pixels),
        ("path", str(files / "small.png")),
    ):
        results[kind] = {"image": image}
        exec(program.replace("liif_torch", f"liif_{framework}"), results[kind])
        colours = results[kind]["colours"]
        assert colours.shape == (1, 3) and colours.dtype == np.float32 and 0 <= colours.min() <= colours.max() <= 1
    for kind in ("pillow", "path"):
        large = results[kind]["large"]
        assert large.mode == "RGB" and large.info["icc_profile"] == PROFILE
        np.testing.assert_array_equal(np.asarray(large), small.pixels)
    large = results["array"]["large"]
    assert large.dtype == np.uint16 and large.shape == (*LARGE, 3)
    np.testing.assert_array_equal(large, deep.pixels)


def test_of_several_frames_it_is_the_one_that_the_image_is_at(tmp_path):
    colours = [(200, 30, 20), (20, 160, 40), (10, 20, 220)]
    first, *others = [PIL.Image.new("RGB", (19, 13), colour) for colour in colours]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[40, 60, 80])
    with PIL.Image.open(tmp_path / "a.gif") as image:
        for number in (2, 0, 1):
            image.seek(number)
            data, restore = objects.read(image)
            result = restore(data.pixels)
            assert result.convert("RGB").getpixel((5, 5)) == colours[number]
            assert result.info["duration"] == (40, 60, 80)[number] and image.tell() == number
    with pytest.warns(UserWarning, match="the first of 3 images in the file"):
        data, _ = objects.read(tmp_path / "a.gif")
    assert tuple(data.pixels[5, 5, :3]) == colours[0]


def test_a_query_of_a_grid_is_what_upscale_gives(model, files):
    """Tolerance: the grid adds the terms of the first layer in another order. A sum of 580 float32 terms is good to
    1e-6, four layers follow, and a colour is 1 at most."""
    deep = vips.read(files / "deep.png").pixels  # in 16 bits, so that hardly anything is rounded
    coord, cell = coords.make_coord(LARGE).reshape(*LARGE, 2), coords.make_cell(LARGE)
    colours = model.query(deep, coord, cell)
    large = model.upscale(deep, size=LARGE)
    assert colours.shape == large.shape
    assert np.abs(colours - large / np.float32(65535)).max() <= 1e-5 + 0.5 / 65535

    features = model.encode(deep)
    np.testing.assert_array_equal(model.query(features, coord, cell), colours)
    np.testing.assert_array_equal(model.query(features, coord, np.broadcast_to(cell, coord.shape)), colours)
    assert np.abs(model.query(features, coord, cell / 3) - colours).max() > 1e-3


def test_queries_are_decoded_in_parts(model, files, monkeypatch):
    coord = coords.make_coord(LARGE)
    cell = np.linspace((0.01, 0.02), (0.2, 0.3), len(coord))
    features = model.encode(files / "small.png")
    whole = model.query(features, coord, cell)
    monkeypatch.setattr(api, "QUERIES", 2000)
    assert np.abs(model.query(features, coord, cell) - whole).max() <= 1e-5  # as above
    last = model.query(features, coord[-1:], cell[-1])
    assert np.abs(last - whole[-1]).max() <= 1e-5 < np.abs(last - model.query(features, coord[-1:], cell[0])).max()
    own = coords.make_cell(SIZE)
    np.testing.assert_array_equal(model.query(features, coord), model.query(features, coord, own))
    assert model.query(features, np.zeros((0, 2))).shape == (0, 3)


# What goes in and comes out: no network needed


class Repeat(Network):
    """Repeats pixels twice. queries: whether it looks like a network that can be asked for coordinates."""

    def __init__(self, queries: bool = True):
        module = SimpleNamespace(query_rgb=None) if queries else SimpleNamespace()
        networks = {MODEL: SimpleNamespace(predictor=module)}
        engine = SimpleNamespace(receptive_radius=0, device_kind="cpu", networks=networks)
        super().__init__(engine, Normalisation(DataNorm()))

    def bands(self, image, height, width, white=255, advance=None):
        yield np.repeat(np.repeat(image, 2, 0), 2, 1).astype(np.float32) / white
        advance(height * width)


def rgb(mode: str) -> PIL.Image.Image:
    return PIL.Image.fromarray(made_images.make_image(*SIZE)).convert(mode)


def deep(mode: str) -> PIL.Image.Image:
    values = np.random.default_rng(0).integers(0, 65536, SIZE).astype(">u2" if mode == "I;16B" else "<u2")
    return PIL.Image.frombytes(mode, SIZE[::-1], values.tobytes())


KINDS = {mode: rgb(mode) for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK")} | {
    mode: deep(mode) for mode in ("I;16", "I;16B")
}


@pytest.mark.parametrize("mode", KINDS)
def test_a_pillow_image_keeps_mode_and_profile(mode):
    image = KINDS[mode].copy()
    profile = PROFILE if mode.startswith("RGB") else None if mode == "CMYK" else image_kinds.grey_profile()
    image.info["icc_profile"] = profile
    large = api.Model(Repeat()).upscale(image, scale=2)
    assert (large.mode, large.size) == (mode, (2 * SIZE[1], 2 * SIZE[0]))
    assert large.info["icc_profile"] == profile
    assert large.tobytes() == image.resize(large.size, PIL.Image.Resampling.NEAREST).tobytes()


lying = PIL.Image.Exif()
lying[ExifTags.Base.Orientation] = 6
FILES = {
    "palette": ("RGB", rgb("P"), ".png", {}),
    "transparent entry": ("RGBA", rgb("P"), ".png", {"transparency": 3}),
    "transparent grey": ("LA", rgb("L"), ".png", {"transparency": 60}),
    "transparent colour": ("RGBA", rgb("RGB"), ".png", {"transparency": made_images.make_image(*SIZE)[0, 0].tolist()}),
    "lying": ("RGB", rgb("RGB"), ".jpg", {"exif": lying}),
    "ink": ("CMYK", rgb("CMYK"), ".tif", {}),
    "black and white": ("1", rgb("1"), ".png", {}),
    "16 bits": ("I;16", deep("I;16"), ".tif", {}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_pillow_image_is_seen_as_its_file_is(kind, tmp_path):
    mode, image, suffix, options = FILES[kind]
    if "transparency" in options and isinstance(options["transparency"], list):
        options = {"transparency": tuple(options["transparency"])}
    image.save(tmp_path / f"image{suffix}", **options)
    opened, restore = objects.read(PIL.Image.open(tmp_path / f"image{suffix}"))
    filed, restore_filed = objects.read(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(opened.pixels, filed.pixels)
    assert (opened.depth, opened.cmyk) == (filed.depth, filed.cmyk)
    assert opened.size == (SIZE[::-1] if kind == "lying" else SIZE)
    for result in (restore(opened.pixels), restore_filed(filed.pixels)):
        assert result.mode == mode
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
        np.testing.assert_array_equal(objects.read(result)[0].pixels, opened.pixels)


@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 1), (*SIZE, 3), (*SIZE, 4)])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
def test_an_array_keeps_dtype_and_axes(shape, kind):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
    array[..., -1:] |= np.array(128, kind)  # nowhere transparent, or hidden colours would be replaced
    part = array[::-1]  # not in one piece
    finished = []
    large = api.Model(Repeat()).upscale(part, scale=2, progress=finished.append)
    assert large.dtype == array.dtype
    np.testing.assert_array_equal(large, np.repeat(np.repeat(part, 2, 0), 2, 1))
    assert finished[-1] == 1


# What is refused

GREY = np.zeros(SIZE, np.uint8)
POINT = [(0.0, 0.0)]
OTHERS = api.Features(None, SIZE, coords.WHOLE, None)
REFUSED = {
    "image: expected an array of uint8 or uint16, got float32; multiply": lambda m: m.upscale(np.ones((4, 5), "f4"), 2),
    "image: expected an array of uint8 or uint16, got int64$": lambda m: m.upscale(np.ones((4, 5), int), 2),
    "image: expected an array of shape .* got \\(4, 5, 2\\)": lambda m: m.upscale(np.ones((4, 5, 2), "u1"), 2),
    "image: expected an array of shape .* got \\(3, 40, 50\\)": lambda m: m.upscale(np.ones((3, 40, 50), "u1"), 2),
    "image: expected an array of shape .* got \\(\\)": lambda m: m.upscale(np.array(3, "u1"), 2),
    "image: expected at least one pixel, got an array": lambda m: m.upscale(np.ones((0, 5), "u1"), 2),
    "image: expected at least one pixel, got a Pillow": lambda m: m.upscale(PIL.Image.new("RGB", (0, 5)), 2),
    "image: .* of mode 1, L, .* got F; scale its values": lambda m: m.upscale(PIL.Image.new("F", (4, 5)), 2),
    'image: .* of mode 1, L, .* got La; give image.convert."LA"': lambda m: m.upscale(rgb("LA").convert("La"), 2),
    'image: .* of mode 1, L, .* got HSV; give image.convert."RGB"': lambda m: m.upscale(rgb("HSV"), 2),
    "image: expected a Pillow image, a numpy array or a path, got list": lambda m: m.upscale([[1, 2]], 2),
    "image: Pillow cannot decode it": lambda m: m.upscale(cut_short(), 2),
    "no such image: nowhere.png": lambda m: m.upscale("nowhere.png", 2),
    "cannot read .*README.md": lambda m: m.upscale(ROOT / "README.md", 2),
    "expected scale or size, got neither": lambda m: m.upscale(GREY),
    "expected scale or size, got both": lambda m: m.upscale(GREY, scale=2, size=(4, 5)),
    "scale: expected a number above 0 like 3.7, got 0$": lambda m: m.upscale(GREY, 0),
    "scale: expected a number above 0 like 3.7, got nan": lambda m: m.upscale(GREY, float("nan")),
    "scale: expected a number above 0 like 3.7, got inf": lambda m: m.upscale(GREY, float("inf")),
    "scale: expected a number above 0 like 3.7, got '2'": lambda m: m.upscale(GREY, "2"),
    "output size 0x5: height and width must be at least 1": lambda m: m.upscale(GREY, size=(0, 5)),
    "output size 4x-5: height and width must be at least 1": lambda m: m.upscale(GREY, size=(4, -5)),
    "size: expected two whole numbers, .* got \\(4.0, 5\\)": lambda m: m.upscale(GREY, size=(4.0, 5)),
    "size: expected two whole numbers, .* got 4$": lambda m: m.upscale(GREY, size=4),
    "output size .*: at most 700,000,000 pixels": lambda m: m.upscale(GREY, scale=1e5),
    "coord: expected finite numbers, got NaN": lambda m: m.query(GREY, [(0.0, np.nan)]),
    "coord: expected values in \\[-1, 1\\], got 0 to 1.5": lambda m: m.query(GREY, [(0.0, 1.5)]),
    "coord: expected numbers of shape .*, got float64 of shape \\(3,\\)": lambda m: m.query(GREY, [0.0, 1, 0]),
    "coord: expected numbers of shape \\(..., 2\\), got list": lambda m: m.query(GREY, [(0.0, 1.0), (0.0,)]),
    "cell: expected values above 0, got 0": lambda m: m.query(GREY, POINT, (0.1, 0)),
    "cell: expected finite numbers": lambda m: m.query(GREY, POINT, (np.inf, 0.1)),
    "cell: expected shape \\(2,\\) or that of coord": lambda m: m.query(GREY, POINT, [(0.1, 0.1)] * 3),
    "image: expected grey or RGB to query, got CMYK": lambda m: m.query(KINDS["CMYK"], POINT),
    "this model gives whole images, not colours": lambda m: api.Model(Repeat(queries=False)).query(GREY, POINT),
    "features: expected those of this model's encode": lambda m: m.query(
        api.Features(None, SIZE, coords.WHOLE, None), POINT
    ),
}


def cut_short() -> PIL.Image.Image:
    content = io.BytesIO()
    rgb("RGB").save(content, "PNG")
    return PIL.Image.open(io.BytesIO(content.getvalue()[:200]))


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_one_sentence(message):
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        REFUSED[message](api.Model(Repeat()))
    assert refused.type is UserError and "\n" not in str(refused.value)


def test_16_bits_of_colour_in_a_file_are_not_rounded_to_what_pillow_has(files):
    with pytest.raises(UserError, match="deep.png has 16 bits in 3 channels, which no Pillow image holds: give its"):
        api.Model(Repeat()).upscale(files / "deep.png", 2)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("device 'tpu': expected 'auto', 'cpu', 'cuda' or one of several GPUs like 'cuda:1'", {"device": "tpu"}),
        ("device 'cuda:77': ", {"device": "cuda:77"}),
        ("precision 'fp16': .* on this cpu computes in ", {"device": "cpu", "precision": "fp16"}),
        ("no checkpoint 'nowhere.pth'", {"path": "nowhere.pth"}),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence(tree, message, arguments):
    with pytest.raises(UserError, match=f"^{message}"):
        tree.load(**arguments)


def test_a_checkpoint_that_cannot_predict_is_one_sentence(tree, tmp_path):
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    native.save(tmp_path / "encoder.safetensors", Checkpoint(encoder, {MODEL: NetworkState({})}))
    with pytest.raises(UserError, match="^model 'edsr-baseline' gives features, not images"):
        tree.load(tmp_path / "encoder.safetensors", device="cpu")


# What stays as it was


def test_importing_a_tree_imports_no_framework():
    program = "import liif_torch, liif_jittor, sys; print(sorted({'torch', 'jittor', 'numpy'} & set(sys.modules)))"
    result = run([sys.executable, "-c", program])
    assert result.stdout == "[]\n", result.stderr


def test_loading_and_upscaling_change_nothing_in_the_process(tree, framework, files):
    """Jittor is imported by now: what it reads at import is below."""
    pytest.importorskip("resource")
    import resource

    def state():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        found = [dict(os.environ), handlers, resource.getrlimit(resource.RLIMIT_DATA)]
        if framework == "torch":
            import torch

            found += [torch.backends.cudnn.allow_tf32, torch.get_rng_state().tolist(), torch.is_grad_enabled()]
        return found

    tree.load(device="cpu")  # the framework is imported
    before = state()
    tree.load(device="cpu").upscale(files / "small.png", SCALE)
    assert state() == before


UNTOUCHED = """
import os
import PIL.Image
before = dict(os.environ), PIL.Image.MAX_IMAGE_PIXELS
import liif_torch
liif_torch.load(device="cpu").upscale("small.png", scale=2)
print((dict(os.environ), PIL.Image.MAX_IMAGE_PIXELS) == before)
"""


@pytest.mark.slow
def test_the_first_load_of_a_process_leaves_environment_and_limits(files):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", UNTOUCHED], cwd=files, env=environment, capture_output=True, text=True
    )
    assert result.stdout == "True\n", result.stderr


def test_what_getexif_says_is_kept_and_an_orientation_that_was_taken_away_stays_away(tmp_path):
    model = api.Model(Repeat())
    tiff = KINDS["RGB"].copy()
    tiff.getexif()[271] = "Canon"
    assert model.upscale(tiff, scale=2).getexif()[271] == "Canon"
    tiff.save(tmp_path / "a.tif", exif=tiff.getexif())
    found = model.upscale(PIL.Image.open(tmp_path / "a.tif"), scale=2).getexif()
    assert dict(found) == {271: "Canon"}  # nothing of how the TIFF is laid out
    turned = PIL.Image.Exif()
    turned[274], turned[271] = 6, "Canon"
    tiff.save(tmp_path / "a.jpg", exif=turned)
    image = PIL.Image.open(tmp_path / "a.jpg")
    image.getexif()[274] = 1
    result = model.upscale(image, scale=2)
    assert result.size == (2 * image.width, 2 * image.height) and dict(result.getexif()) == {271: "Canon"}


def test_a_name_with_a_nul_is_a_sentence():
    with pytest.raises(UserError, match="no such image"):
        api.Model(Repeat()).upscale("a\0b.png", scale=2)


def test_memory_that_is_refused_is_one_sentence_and_no_limit_is_set(monkeypatch):
    resource = pytest.importorskip("resource")

    class Scarce(Repeat):
        def bands(self, *arguments, **rest):
            raise MemoryError

    monkeypatch.setattr(memory, "_limit_at_start", None)  # as in a process in which no command has run
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(UserError, match="^not enough memory to upscale 13x19 pixels"):
        api.Model(Scarce()).upscale(KINDS["RGB"], scale=2)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.jittor
def test_what_jittor_reads_at_import_is_named(monkeypatch):
    import liif_jittor

    monkeypatch.delitem(sys.modules, "jittor", raising=False)
    monkeypatch.setattr(os, "environ", {key: os.environ[key] for key in ("HOME", "PATH")})
    before = set(os.environ)
    devices.prepare_import("jittor", "cpu")
    added = set(os.environ) - before
    assert {"nvcc_path", "use_mpi"} <= added
    for name in added:
        assert f"`{name}`" in liif_jittor.load.__doc__


SIGNALS = """
import os, signal, subprocess
import liif_jittor
model = liif_jittor.load(device="cpu")
print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.jittor
def test_jittor_does_not_end_the_program_with_a_child_or_at_ctrl_c():
    result = run([sys.executable, "-c", SIGNALS])
    assert result.stdout.splitlines()[-2:] == ["-9", "interrupted"], result.stderr


STOPPED = """
import os, signal, sys, time
os.setpgrp()
signal.signal(signal.SIGTSTP, signal.SIG_DFL)
from liif_core.system import devices
devices.prepare("jittor", "cpu")
import jittor  # its handlers are there, as while a command imports it and compilers are its children
child = os.fork()
if child == 0:
    print("up", flush=True)  # by now it leaves Ctrl-Z to its parent
    time.sleep(60)
    os._exit(0)
sys.stdin.readline()
os.kill(child, signal.SIGTERM)
print("goes on")
"""


@pytest.mark.jittor
@pytest.mark.timeout(300)
def test_jittor_goes_on_after_ctrl_z():
    """The terminal sends it to the whole group, and `fg` continues it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", STOPPED], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate("\n", timeout=60)[0] == "goes on\n" and process.returncode == 0


def test_what_pillow_says_of_damaged_exif_is_not_passed_on(tmp_path, recwarn):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x0f\x01\x02\0\x05\0\0\0\x1a\0\0\0"  # nine entries, one there
    rgb("RGB").save(tmp_path / "a.webp", exif=exif)
    image, restore = objects.read(tmp_path / "a.webp")
    assert restore(image.pixels).size == SIZE[::-1]
    assert not [warning for warning in recwarn if not str(warning.message).startswith(str(tmp_path))]
