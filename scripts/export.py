"""A model as two graphs that need nothing of this repository: `python scripts/export.py --output FOLDER`.

FOLDER/encoder.onnx turns an image into a feature map, once; FOLDER/decoder.onnx gives the colours at any queries.
Height, width and the number of queries are free. What goes in and comes out, and the normalisation, are in the
metadata of both. docs/export.md has the details, examples/upscale_onnx.py uses them without PyTorch. With --format
torch-export the files end in .pt2 and torch.export.load reads them.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from liif_core.errors import UserError
from liif_core.system import process

process.begin()

import numpy as np

from liif_core.checkpoints import formats, native
from liif_core.commands.entry import CONFIG_HELP
from liif_core.config.schema import DataNorm
from liif_core.experiments import jobs
from liif_core.geometry import coords
from liif_core.inference import network
from liif_core.system import packages, provenance
from liif_core.system.arguments import Parser
from liif_core.system.files import check_new, check_writable, write_atomically
from liif_core.system.places import PRETRAINED

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}
# numpy is named because pip would else replace it with one that Jittor cannot use.
PACKAGES = ("onnx>=1.20", "onnxscript>=0.7", "onnx-ir>=0.2", "onnxruntime>=1.23", "numpy<2")

# What --check upscales, (H, W) and (h, w): by a whole factor, another one, one per axis, by 1, where queries lie on
# pixel centres, and a size that takes long enough to be timed.
CHECKS = [
    ((24, 31), (48, 62)),
    ((41, 67), (152, 248)),
    ((13, 29), (97, 51)),
    ((33, 17), (33, 17)),
    ((96, 96), (384, 384)),
]
REPEATS = 3
TOLERANCE = 1e-4  # of values of about 1; half a level of 8 bits is 4e-3

# Makes of (1, 3, H, W), (1, Q, 2), (1, 2) the colours (1, Q, 3), all float32.
Runner = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Part(NamedTuple):
    """One graph to write: module, example tensors by input name, names of the free sizes by axis for each, output."""

    module: Any
    inputs: dict[str, Any]
    free: tuple[dict[int, Any], ...]
    output: str


def metadata(found: native.Checkpoint, path: str | Path, encoder: Any) -> dict[str, str]:
    """What somebody with the two graphs and nothing else has to know."""
    norm = DataNorm.model_validate(found.data_norm or {})
    height, width = (f"{encoder.scale} {letter}" if encoder.scale > 1 else letter for letter in "HW")
    return {
        "model": f"{found.model['name']} with {found.model['args']['encoder_spec']['name']}",
        "inp_sub": json.dumps(norm.inp.sub),
        "inp_div": json.dumps(norm.inp.div),
        "gt_sub": json.dumps(norm.gt.sub),
        "gt_div": json.dumps(norm.gt.div),
        "inp": "(1, 3, H, W) float32: RGB, (value / 255 - inp_sub) / inp_div",
        "feat": f"(1, {encoder.out_dim}, {height}, {width}) float32: the encoder's output, the decoder's input",
        "coord": "(1, Q, 2) float32: down and right; pixel i of n has its centre at -1 + (2 i + 1) / n",
        "cell": "(1, 2) float32: height and width of an output pixel, 2 / h and 2 / w",
        "rgb": "(1, Q, 3) float32: value / 255 is rgb * gt_div + gt_sub, clamped to [0, 1]",
        "spec": json.dumps(found.model),
        "weights": f"{Path(path).name}, SHA-256 {provenance.sha256(formats.locate(path))}",
    }


def parts_of(model: Any) -> dict[str, Part]:
    """Encoder and decoder, with examples of sizes that no other axis has."""
    import torch
    from torch.export import Dim

    from scripts.export_graphs import decoder_of, encoder_of

    height, width, queries = (Dim(letter, min=1) for letter in "HWQ")
    size = {2: height, 3: width}
    inp, feat = torch.zeros(1, 3, 17, 23), torch.zeros(1, model.encoder.out_dim, 17, 23)
    inputs = {"feat": feat, "coord": torch.zeros(1, 101, 2), "cell": torch.full((1, 2), 0.1)}
    return {
        "encoder": Part(encoder_of(model), {"inp": inp}, (size,), "feat"),
        "decoder": Part(decoder_of(model), inputs, (size, {1: queries}, {}), "rgb"),
    }


def program_of(part: Part) -> Any:
    """A part as torch.export's program."""
    import torch

    with torch.no_grad():
        program = torch.export.export(part.module.eval(), tuple(part.inputs.values()), dynamic_shapes=part.free)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # would carry this machine's paths into the files
    return program


def as_onnx(part: Part, properties: dict[str, str]) -> bytes:
    """The file's content."""
    import torch

    names = {"input_names": list(part.inputs), "output_names": [part.output], "dynamic_shapes": part.free}
    result = torch.onnx.export(program_of(part), dynamo=True, verbose=False, **names)
    result.model.metadata_props.update(properties)
    return result.model_proto.SerializeToString()


def as_torch_export(part: Part, properties: dict[str, str]) -> bytes:
    """The file's content; the metadata are in it as metadata.json."""
    import torch

    buffer = io.BytesIO()
    torch.export.save(program_of(part), buffer, extra_files={"metadata.json": json.dumps(properties)})
    return buffer.getvalue()


def open_onnx(folder: Path) -> Runner:
    """The graphs in onnxruntime, on the CPU."""
    import onnxruntime

    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder")
    )

    def run(inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        (feat,) = encoder.run(None, {"inp": inp})
        return decoder.run(None, {"feat": feat, "coord": coord, "cell": cell})[0]

    return run


def open_torch_export(folder: Path) -> Runner:
    """The graphs in PyTorch."""
    import torch

    encoder, decoder = (torch.export.load(folder / f"{name}.pt2").module() for name in ("encoder", "decoder"))

    def run(*arrays: np.ndarray) -> np.ndarray:
        inp, coord, cell = map(torch.from_numpy, arrays)
        with torch.no_grad():
            return decoder(encoder(inp), coord, cell).numpy()

    return run


WRITE = {"onnx": as_onnx, "torch-export": as_torch_export}
OPEN = {"onnx": open_onnx, "torch-export": open_torch_export}


def export(path: str | Path, folder: Path, form: str, config: str | None = None) -> tuple[Any, list[Path]]:
    """Write a checkpoint's two graphs; returns the engine that they were made from and the files."""
    found = formats.load_for(path, config)
    engine = network.load(path, "torch", "cpu", config=config).engine
    if (name := found.model["name"]) not in ("liif", "metasr"):
        raise UserError(
            f"{path}: model '{name}': export splits a model into an encoder and a decoder of coordinates, and knows "
            "those of liif and metasr"
        )
    model = engine.networks["model"].module
    import torch

    files = [folder / f"{name}{ENDINGS[form]}" for name in ("encoder", "decoder")]
    for file in files:
        check_writable(file)
    model.to(memory_format=torch.contiguous_format)  # torch.export.save takes channels last for a part of a tensor
    properties = metadata(found, path, model.encoder)
    # Both before either is written: an old decoder beside a new encoder would go unnoticed.
    for file, content in zip(files, [WRITE[form](part, properties) for part in parts_of(model).values()], strict=True):
        write_atomically(file, content)
    return engine, files


class Comparison(NamedTuple):
    """Sizes (H, W) and (h, w), the largest difference of a graph's values from those of the engine, seconds of both."""

    size: tuple[int, int]
    output: tuple[int, int]
    difference: float
    graph_seconds: float
    engine_seconds: float


def compare(engine: Any, run: Runner, repeats: int = 1) -> Iterator[Comparison]:
    """Run both in turn on the images of CHECKS; the seconds are those of the fastest of the repeats. A model of one
    factor gives its own sizes."""
    rng = np.random.default_rng(0)
    for size, output in CHECKS:
        if engine.scale is not None:
            output = engine.scale * size[0], engine.scale * size[1]
        inp = rng.uniform(-1, 1, (1, 3, *size)).astype(np.float32)
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            found = run(inp, coords.make_coord(output)[None], coords.make_cell(output)[None])
            halfway = time.perf_counter()
            expected = np.concatenate(list(engine.predict_image(inp, *output)))
            seconds.append((halfway - started, time.perf_counter() - halfway))
        difference = float(np.abs(found.reshape(expected.shape) - expected).max())
        yield Comparison(size, output, difference, *map(min, zip(*seconds, strict=True)))


def main() -> int:
    """Write, and compare if asked to; returns the exit status."""
    parser = Parser(description="Write a model as two graphs, encoder and decoder.")
    parser.add_argument("--model", default=PRETRAINED, help="checkpoint (default: the one in pretrained/)")
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="FOLDER", help="where the two files go")
    parser.add_argument("--config", "--model-config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--overwrite", action="store_true", help="replace the two files if they exist")
    parser.add_argument("--format", choices=ENDINGS, default="onnx", help="default: onnx")
    parser.add_argument("--check", action="store_true", help="run the graphs and compare them with PyTorch")
    arguments = parser.parse_args()
    if arguments.format == "onnx":
        for name in ("onnx", "onnxscript", *(["onnxruntime"] if arguments.check else [])):
            packages.load(name, *PACKAGES)
    for name in ("encoder", "decoder"):
        file = arguments.output / f"{name}{ENDINGS[arguments.format]}"
        check_new(file, formats.locate(arguments.model), arguments.overwrite)
    engine, files = export(arguments.model, arguments.output, arguments.format, arguments.config)
    for path in files:
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    if arguments.check:
        print(f"{'image':>20} {'largest difference':>20} {arguments.format:>14} {'PyTorch':>10}")
        for row in compare(engine, OPEN[arguments.format](arguments.output), REPEATS):
            sizes = " -> ".join(f"{height}x{width}" for height, width in row[:2])
            print(f"{sizes:>20} {row.difference:>20.1e} {row.graph_seconds:>12.3f} s {row.engine_seconds:>8.3f} s")
            if not row.difference < TOLERANCE:
                raise RuntimeError(f"the graphs are wrong: more than {TOLERANCE} from PyTorch")
    return 0


if __name__ == "__main__":
    jobs.exit_with(main)
