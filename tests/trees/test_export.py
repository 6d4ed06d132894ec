"""Exported graphs against the engine that they were made from, and the example that upscales with them.

Tolerance: the graphs add the same float32 products in another order. Measured, that is 5e-6 for the weights in
pretrained/, whose values reach 1; a slip in a coordinate gives 1e-3 and more.
"""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from helpers import ROOT, made_images
from helpers.models import MODELS, SMALL
from helpers.small_run import load_script, run, start
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.geometry import coords, corners
from liif_core.images import rgb8
from liif_core.system.places import PRETRAINED
from liif_torch.engine import Engine
from liif_torch.models.encoders import rdn
from scripts import export_graphs

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(
        package, reason=f"{package} is not installed: pip install onnx onnxscript onnxruntime 'numpy<2'"
    )
import onnxruntime

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
EXAMPLE = ROOT / "examples" / "upscale_onnx.py"
export = load_script("export")

# What the decoder leaves out, each flag over another encoder.
FLAGS = {
    "rcan-liif": {"cell_decode": False},
    "rdn-liif": {"feat_unfold": False},
    "edsr-liif": {"local_ensemble": False},
}
# The first is exported in full, from pretrained/.
VARIANTS = {
    name: {"name": model.spec["name"], "args": model.spec["args"] | FLAGS.get(name, {})}
    for name, model in MODELS.items()
    if model.exportable and model.spec != SMALL
}


def save_small(path: Path, model: dict) -> Path:
    engine = Engine(model)
    engine.seed(5)
    norm = {"inp": {"sub": [0.4, 0.5, 0.6], "div": [1.0]}, "gt": {"sub": [0.25], "div": [0.5]}}
    native.save(path, Checkpoint(model, engine.state(), norm))
    return path


@pytest.fixture(autouse=True)
def without_the_timed_image(monkeypatch):
    monkeypatch.setattr(export, "CHECKS", [check for check in export.CHECKS if check[0] != (96, 96)])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Folder, engine: LIIF in full, in both formats."""
    folder = tmp_path_factory.mktemp("pretrained")
    export.export(PRETRAINED, folder, "torch-export")
    engine, _ = export.export(PRETRAINED, folder, "onnx")
    return folder, engine


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_graphs_give_the_engines_images(pretrained, form):
    folder, engine = pretrained
    rows = list(export.compare(engine, export.OPEN[form](folder)))
    assert len(rows) == len(export.CHECKS) and all(row.difference < TOLERANCE for row in rows)


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_graphs_give_the_engines_colours_at_any_queries(pretrained, form):
    folder, engine = pretrained
    rng = np.random.default_rng(1)
    inp = rng.uniform(-1, 1, (1, 3, 11, 7)).astype(np.float32)
    coord = rng.uniform(-1, 1, (1, 53, 2)).astype(np.float32)
    coord[0, :4] = [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    cell = np.array([[0.013, 0.09]], dtype=np.float32)
    found, expected = export.OPEN[form](folder)(inp, coord, cell), engine.predict_queries(inp, coord, cell)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_the_smallest_image_and_a_single_query(pretrained, form):
    folder, engine = pretrained
    inp, coord = np.full((1, 3, 1, 1), 0.3, np.float32), np.zeros((1, 1, 2), np.float32)
    cell = np.full((1, 2), 2, np.float32)
    found, expected = export.OPEN[form](folder)(inp, coord, cell), engine.predict_queries(inp, coord, cell)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("shallow_rdn")
@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=pytest.mark.nightly if name == "rdn-x3" else ()) for name in VARIANTS]
)
def test_every_model_in_onnxruntime(tmp_path, monkeypatch, variant):
    path = save_small(tmp_path / "a.safetensors", VARIANTS[variant])
    engine, _ = export.export(path, tmp_path, "onnx")
    graphs = export.OPEN["onnx"](tmp_path)
    for row in export.compare(engine, graphs):
        assert row.difference < TOLERANCE, row
    inp = np.random.default_rng(0).uniform(-1, 1, (1, 3, 9, 14)).astype(np.float32)
    coord, cell = coords.make_coord((31, 23))[None], coords.make_cell((31, 23))[None]
    found, expected = graphs(inp, coord, cell), engine.predict_queries(inp, coord, cell)
    assert expected.std() > 0.003  # so that what follows means something
    np.testing.assert_allclose(found, expected, rtol=0, atol=expected.std() * 1e-4)


def test_metasr_as_torch_export(tmp_path):
    path = save_small(tmp_path / "a.safetensors", VARIANTS["edsr-baseline-metasr"])
    engine, _ = export.export(path, tmp_path, "torch-export")
    assert all(row.difference < TOLERANCE for row in export.compare(engine, export.OPEN["torch-export"](tmp_path)))


@torch.no_grad()
@pytest.mark.parametrize("no_upsampling", [True, False])
def test_rdn_over_concatenated_maps_is_rdn(monkeypatch, no_upsampling):
    monkeypatch.setitem(rdn.CONFIGS, "A", (3, 4, 5))
    model = rdn.make_rdn(G0=6, RDNconfig="A", no_upsampling=no_upsampling)
    x = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(export_graphs.RDNEncoder(model)(x), model(x))


# Where the coordinates lie. Numpy and the graph must find the same feature vectors, ties included.

SIZES = [(1, 1), (8, 6), (7, 5), (48, 31), (3, 64)]


def awkward_places(size: tuple[int, int]) -> np.ndarray:
    """(1, Q, 2) float32: borders between pixels and a hair off them, pixel centres at several factors, any places."""
    axes = []
    for n in size:
        borders = np.linspace(-1, 1, 2 * n + 1).astype(np.float32)  # and centres
        off = [borders + np.float32(step) for step in (0, 1e-6, 2e-6, 5e-7)]
        # Where a shift leads to a border the last bits decide, and so does how its constant was rounded.
        spacing = np.spacing(np.abs(borders))
        off += [borders - np.float32(step) + bits * spacing for step in (0, 1e-6) for bits in np.float32(range(-8, 9))]
        grids = [coords.pixel_centres(round(n * scale)) for scale in (1, 2, 3, 3.7)]
        axes.append(np.concatenate(off + grids + [np.random.default_rng(n).uniform(-1, 1, 99).astype(np.float32)]))
    count = max(map(len, axes))
    return np.stack([np.resize(axis, count) for axis in axes], axis=-1).clip(-1, 1)[None]


class Locate(torch.nn.Module):
    def __init__(self, corners):
        super().__init__()
        self.corners = corners

    def forward(self, feat, coord, cell):
        return export_graphs.locate(coord, cell, feat.shape[2:], self.corners)


class LocateCorner(torch.nn.Module):
    def forward(self, feat, coord, cell):
        return export_graphs.locate_corner(coord, cell, feat.shape[2:])


def numpy_locate(corners):
    return lambda coord, cell, size: coords.locate(coord, cell, size, corners)


PLACES = {
    "4 corners": (Locate(4), numpy_locate(4)),
    "nearest": (Locate(1), numpy_locate(1)),
    "MetaSR": (LocateCorner(), corners.locate_corner),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_graph_finds_the_feature_vectors_that_numpy_finds(kind):
    module, in_numpy = PLACES[kind]
    size = {2: torch.export.Dim("H", min=1), 3: torch.export.Dim("W", min=1)}
    inputs = {"feat": torch.zeros(1, 1, 17, 23), "coord": torch.zeros(1, 101, 2), "cell": torch.full((1, 2), 0.1)}
    part = export.Part(module, inputs, (size, {1: torch.export.Dim("Q", min=1)}, {}), "index")
    graph = onnxruntime.InferenceSession(export.as_onnx(part, {}), providers=["CPUExecutionProvider"])
    for height, width in SIZES:
        coord = awkward_places((height, width))
        cell = np.array([[2 / (height * 3.7), 2 / (width * 2.1)]], dtype=np.float32)
        expected = in_numpy(coord, cell, (height, width))
        arrays = {"feat": np.zeros((1, 1, height, width), np.float32), "coord": coord, "cell": cell}
        eager = [value.numpy() for value in module(*map(torch.from_numpy, arrays.values()))]
        for found in (eager, graph.run(None, arrays)):
            np.testing.assert_array_equal(found[0], expected[0])  # index
            np.testing.assert_array_equal(found[1], expected[1])  # position
            if len(expected) == 3:  # four areas are added in an order that is not fixed
                np.testing.assert_allclose(found[2], expected[2], rtol=3e-7, atol=0)


def test_the_constants_are_numpys_for_every_size():
    for n in [*range(1, 3000), 4096, 9999, 16383, 65535]:
        size = export_graphs.as_floats((n, n))
        centres = export_graphs.centre(torch.tensor([0.0, n - 1]), size).numpy()
        np.testing.assert_array_equal(centres, coords.pixel_centres(n)[[0, -1]])


# What lies in the files


def test_the_metadata_tells_a_user_all_there_is_to_know(tmp_path, pretrained):
    save_small(tmp_path / "a.safetensors", VARIANTS["edsr-baseline-x2"])
    export.export(tmp_path / "a.safetensors", tmp_path, "onnx")
    for name in ("encoder", "decoder"):
        meta = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx").get_modelmeta().custom_metadata_map
        numbers = {key: json.loads(meta[key]) for key in ("inp_sub", "inp_div", "gt_sub", "gt_div")}
        assert numbers == {"inp_sub": [0.4, 0.5, 0.6], "inp_div": [1.0], "gt_sub": [0.25], "gt_div": [0.5]}
        assert meta["model"] == "liif with edsr-baseline" and json.loads(meta["spec"]) == VARIANTS["edsr-baseline-x2"]
        assert meta["feat"].startswith("(1, 3, 2 H, 2 W)") and meta["weights"].startswith("a.safetensors, SHA-256 ")
    found = {"metadata.json": ""}
    torch.export.load(pretrained[0] / "decoder.pt2", extra_files=found)
    assert json.loads(found["metadata.json"])["feat"].startswith("(1, 64, H, W)")


def test_sizes_are_free_and_have_names(pretrained):
    encoder, decoder = (onnxruntime.InferenceSession(pretrained[0] / f"{n}.onnx") for n in ("encoder", "decoder"))
    assert [(one.name, one.shape) for one in encoder.get_inputs()] == [("inp", [1, 3, "H", "W"])]
    assert [(one.name, one.shape) for one in encoder.get_outputs()] == [("feat", [1, 64, "H", "W"])]
    shapes = {"feat": [1, 64, "H", "W"], "coord": [1, "Q", 2], "cell": [1, 2]}
    assert {one.name: one.shape for one in decoder.get_inputs()} == shapes
    assert [(one.name, one.shape) for one in decoder.get_outputs()] == [("rgb", [1, "Q", 3])]


def test_no_path_of_this_machine_is_in_the_files(pretrained):
    for path in pretrained[0].iterdir():
        assert str(ROOT).encode() not in path.read_bytes(), path


# Commands


def test_the_example_gives_the_demos_image(tmp_path, pretrained):
    made_images.write(tmp_path / "low.png", 13, 19)
    command = [sys.executable, str(EXAMPLE), str(pretrained[0]), str(tmp_path / "low.png"), str(tmp_path / "high.png")]
    result = run([*command, "--scale", "3.7"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "13x19 -> 48x70" in result.stdout
    found = rgb8.read_image(tmp_path / "high.png")
    demo = ["liif_torch/demo.py", "-i", str(tmp_path / "low.png"), "-s", "3.7"]
    demo += ["--border", "zeros"]
    result = start("torch", [*demo, "-o", str(tmp_path / "demo.png"), "--gpu", "cpu"])
    assert result.returncode == 0, result.stderr
    expected = rgb8.read_image(tmp_path / "demo.png")
    assert found.shape == expected.shape == (48, 70, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1 and expected.std() > 10


def test_the_example_cuts_the_queries_without_a_seam(tmp_path, pretrained):
    module = example()
    image = made_images.make_image(9, 11)
    whole = module.upscale(pretrained[0], image, 29, 31)
    module.QUERIES = 100
    np.testing.assert_allclose(module.upscale(pretrained[0], image, 29, 31).astype(int), whole, rtol=0, atol=1)


def example():
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("upscale_onnx", EXAMPLE))
    module.__spec__.loader.exec_module(module)
    return module


def test_the_example_reads_what_it_can_and_refuses_the_rest(tmp_path):
    read, path = example().read_image, tmp_path / "a.png"
    rgb = made_images.make_image(5, 7)
    grey, opaque, clear = rgb[..., :1], np.full((5, 7, 1), 255, np.uint8), np.full((5, 7, 1), 255, np.uint8)
    clear[2, 3] = 254
    threefold = np.repeat(grey, 3, axis=2)
    deep = PIL.Image.fromarray(grey[..., 0].astype(np.uint16) * 256 + 255)
    for image, expected in (
        (PIL.Image.fromarray(rgb), rgb),
        (PIL.Image.fromarray(grey[..., 0]), threefold),
        (deep, threefold),
        (PIL.Image.fromarray(np.concatenate([rgb, opaque], axis=2)), rgb),
        (PIL.Image.fromarray(np.concatenate([grey, opaque], axis=2)), threefold),
        (PIL.Image.fromarray(grey[..., 0] > 99), np.where(threefold > 99, 255, 0)),
        (PIL.Image.fromarray(grey[..., 0]).convert("P"), threefold),
    ):
        image.save(path)
        np.testing.assert_array_equal(read(path), expected)
    deep.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), threefold)
    palette = PIL.Image.fromarray(grey[..., 0]).convert("P")
    for image, name, message, more in (
        (PIL.Image.fromarray(np.concatenate([rgb, clear], axis=2)), "b.png", "transparent pixels", {}),
        (PIL.Image.fromarray(np.concatenate([grey, clear], axis=2)), "b.png", "transparent pixels", {}),
        (palette, "b.png", "transparent pixels", {"transparency": int(np.asarray(palette)[0, 0])}),
        (deep, "b.png", "transparent|is I", {"transparency": 255}),
        (PIL.Image.fromarray(rgb).convert("CMYK"), "b.tif", "is CMYK: expected grey, RGB or a palette", {}),
        (deep, "b.tif", "is I;16: expected grey", {"tiffinfo": {262: 0}}),
        (PIL.Image.fromarray(grey[..., 0].astype(np.float32)), "b.tif", "is F: expected grey", {}),
        (PIL.Image.fromarray(grey[..., 0].astype(np.int32)), "b.tif", "is I: expected grey", {}),
    ):
        image.save(tmp_path / name, **more)
        with pytest.raises(SystemExit, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no folder", "FOLDER must hold encoder.onnx and decoder.onnx"),
        ("no graph", "is not a graph that onnxruntime can read"),
        ("no metadata", "does not say how images are normalised"),
        ("no image", "cannot read .* as an image"),
        ("scale", "--scale -2.0: above 0"),
        ("ending", "cannot write .*high.xyz"),
    ],
)
def test_the_example_ends_with_one_sentence(tmp_path, pretrained, kind, message):
    folder, low, high, scale = tmp_path / "graphs", tmp_path / "low.png", tmp_path / "high.png", "2"
    made_images.write(low, 5, 7)
    if kind != "no folder":
        shutil.copytree(pretrained[0], folder)
    if kind == "no graph":
        (folder / "encoder.onnx").write_text("hello")
    elif kind == "no metadata":
        shutil.copy(stripped(folder / "encoder.onnx"), folder / "encoder.onnx")
    elif kind == "no image":
        low.write_text("hello")
    elif kind == "scale":
        scale = "-2"
    elif kind == "ending":
        high = tmp_path / "high.xyz"
    result = run([sys.executable, str(EXAMPLE), str(folder), str(low), str(high), "--scale", scale])
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert re.search(message, result.stderr), result.stderr


def stripped(path: Path) -> Path:
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path.with_suffix(".bare"))
    return path.with_suffix(".bare")


def call(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
    export.main()


def test_the_command_writes_and_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "CHECKS", export.CHECKS[2:3])
    model = save_small(tmp_path / "a.safetensors", VARIANTS["edsr-baseline-x2"])
    call(monkeypatch, "--model", model, "--output", tmp_path / "new", "--check")
    output = capsys.readouterr().out
    assert "encoder.onnx: 0.13 MB" in output and "13x29 -> 26x58" in output
    wrong = export.open_onnx(tmp_path / "new")
    monkeypatch.setitem(export.OPEN, "onnx", lambda folder: lambda *arrays: wrong(*arrays) + np.float32(2e-4))
    before = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    with pytest.raises(UserError, match="encoder.onnx exists already: --overwrite replaces it"):
        call(monkeypatch, "--model", model, "--output", tmp_path / "new")
    shutil.copy(model, tmp_path / "new" / "decoder.onnx")
    with pytest.raises(UserError, match="decoder.onnx is the file that is read"):
        call(monkeypatch, "--model", tmp_path / "new/decoder.onnx", "--output", tmp_path / "new", "--overwrite")
    with pytest.raises(RuntimeError, match="the graphs are wrong"):
        call(monkeypatch, "--model", model, "--output", tmp_path / "new", "--check", "--overwrite")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == before


def import_without(missing: str):
    known = importlib.import_module

    def import_module(name: str):
        if name == missing:
            raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)
        return known(name)

    return import_module


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_package_is_one_sentence_with_the_command(tmp_path, monkeypatch, check):
    monkeypatch.setattr(importlib, "import_module", import_without("onnxscript"))
    with pytest.raises(UserError, match=r"'onnxscript' is not installed: run `.* -m pip install 'onnx.* 'numpy<2'`"):
        call(monkeypatch, "--output", tmp_path, *["--check"][: int(check)])
    assert not list(tmp_path.iterdir())


def test_bad_input_to_the_command_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no checkpoint"):
        call(monkeypatch, "--model", "nowhere.safetensors", "--output", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        call(monkeypatch, "--output", tmp_path / "file")
    model = VARIANTS["edsr-baseline-metasr"]["args"]["encoder_spec"]
    native.save(tmp_path / "encoder.safetensors", Checkpoint(model, {"model": NetworkState({})}))
    with pytest.raises(UserError, match="gives features, not images"):
        call(monkeypatch, "--model", tmp_path / "encoder.safetensors", "--output", tmp_path / "new")
    save_small(tmp_path / "lte.safetensors", MODELS["edsr-baseline-lte"].spec)
    with pytest.raises(UserError, match="model 'lte': .* knows those of liif and metasr"):
        call(monkeypatch, "--model", tmp_path / "lte.safetensors", "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()
