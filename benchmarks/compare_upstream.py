"""Is this LIIF the original LIIF?  python benchmarks/compare_upstream.py PATH, a clone of yinboc/liif

The authors' own code and both trees get the same random weights, through a .pth file as the original LIIF writes it.
Printed are, for every model that the clone knows, the numbers of parameters, the largest differences of the outputs on
a 41x67 image, and of loss and gradients on one training batch. Where load/benchmark is, LIIF's test.py and ours then
count PSNR on the same images with the weights in pretrained/. Clones of the decoders after LIIF (originals.py) are
compared in the same way, without the scores.
"""

import math
import tempfile
from pathlib import Path

import common
import numpy as np
import originals
from common import ROOT

from helpers.models import MODELS, liif, names_in
from liif_core.checkpoints import formats, native
from liif_core.config import load
from liif_core.config.protocol import split
from liif_core.config.schema import TestConfig
from liif_core.data import sets
from liif_core.evaluation import evaluate
from liif_core.experiments import listed
from liif_core.inference import network
from liif_core.system import devices
from liif_core.system.places import PRETRAINED

REGRESSION = {"name": "regression", "args": {}}
STANDSTILL = {"name": "sgd", "args": {"lr": 0}}  # a step that computes gradients and changes nothing
SCALES = (2, 3.7, 6)
QUERIES = 24 * 24  # of a training step: LMF's code asks for one per pixel at least


def all_specs() -> dict[str, dict]:
    """The models of the experiments, and those that no config names: other encoders and factors."""
    specs = {}
    for experiment in listed.read():
        if experiment.group == "diffusion":  # draws images, and is compared elsewhere
            continue
        recipe = "celebAHQ" if experiment.group == "faces" else "div2k"
        specs[experiment.name] = load.load(experiment.config_in(recipe), "train").model.model_dump()
    specs |= {name: model.full for name, model in MODELS.items() if name not in specs}
    specs["rdn-A-liif"] = liif("rdn", no_upsampling=True, RDNconfig="A")
    specs["edsr-baseline-x3"] = liif("edsr-baseline", scale=3)
    specs["rdn-x4"] = liif("rdn", scale=4)
    specs["rcan-x2"] = liif("rcan", scale=2)
    return specs


SPECS = all_specs()


def gradients(name: str, engine) -> dict[str, np.ndarray]:
    """What the last step left behind, by parameter."""
    if name == "torch":
        return {key: parameter.grad.numpy() for key, parameter in engine.networks["model"].module.named_parameters()}
    values = engine.networks["model"].updater.optimizer.param_groups[0]["grads"]
    return {key: value.numpy() for key, value in zip(engine.networks["model"].names, values, strict=True)}


def compare_images(theirs, name: str, engines: dict) -> None:
    """Outputs of a non-square image at integer and other factors."""
    import torch

    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 41, 67)).astype(np.float32)
    for scale in SCALES:
        height, width = round(41 * scale), round(67 * scale)
        expected = originals.upscale(theirs, name, torch.from_numpy(image), height, width)
        for tree, engine in engines.items():
            found = np.concatenate(list(engine.predict_image(image, height, width)))
            worst, largest = np.abs(found - expected).max(), np.abs(expected).max()
            print(f"  x{scale} {height}x{width} {tree}: largest difference {worst:.1e}, outputs up to {largest:.2f}")


def compare_training_step(theirs, name: str, engines: dict) -> None:
    """Loss and gradient of one batch. A ReLU unit within rounding of zero may open in one and stay shut in the other,
    which moves the gradient by 1e-4 to 1e-3. The more units, the likelier that is: it shows in RDN and RCAN. In
    float64 no such unit is left, and the gradients of RDN are equal to 1e-15."""
    import torch

    rng = np.random.default_rng(1)
    batch = {
        "inp": rng.uniform(-1, 1, (2, 3, 24, 24)).astype(np.float32),
        "coord": rng.uniform(-1, 1, (2, QUERIES, 2)).astype(np.float32),
        "cell": rng.uniform(0.021, 0.08, (2, 2)).astype(np.float32),
        "gt": rng.uniform(-1, 1, (2, QUERIES, 3)).astype(np.float32),
    }
    inp, coord, cell, gt = (torch.from_numpy(array) for array in batch.values())
    loss = torch.nn.functional.l1_loss(originals.answer(theirs, name, inp, coord, cell), gt)
    loss.backward()
    expected = {key: p.grad.numpy() for key, p in theirs.named_parameters() if "_mean." not in key}
    for tree, engine in engines.items():
        engine.train_step(batch)
        difference = abs(engine.read_losses()[0]["loss"] - loss.item()) / loss.item()
        found = gradients(tree, engine)
        squares = [[np.sum(array**2) for array in (found[key] - expected[key], expected[key])] for key in expected]
        apart = np.sqrt(np.divide(*np.sum(squares, axis=0)))
        print(f"  training step {tree}: loss differs by {difference:.1e}, the gradient by {apart:.1e} (relative)")


def compare_model(name: str, spec: dict, folder: Path) -> None:
    """Write LIIF's weights as it does, read them in both trees, compare."""
    import torch

    from liif_jittor.engine import Engine as JittorEngine
    from liif_torch.engine import Engine as TorchEngine

    theirs = originals.load(folder, spec)
    steady = originals.steady(spec)
    engines = {
        framework: engine(steady, "cpu", REGRESSION, STANDSTILL)
        for framework, engine in (("torch", TorchEngine), ("jittor", JittorEngine))
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "epoch-last.pth"
        torch.save({"model": {**spec, "sd": theirs.state_dict()}, "epoch": 1}, path)
        for engine in engines.values():
            native.restore(engine, formats.load(path).state, path)
    count = sum(parameter.numel() for key, parameter in theirs.named_parameters() if "_mean." not in key)
    ours = {
        key: sum(array.size for array in engine.state()["model"].parameters.values()) for key, engine in engines.items()
    }
    print(f"{name}: parameters: authors' code {count:,}, torch {ours['torch']:,}, jittor {ours['jittor']:,}")
    compare_images(theirs, spec["name"], engines)
    compare_training_step(theirs, spec["name"], engines)


def compare_protocols(folder: Path, images: int) -> None:
    """PSNR as LIIF's test.py counts it and as ours does, in both trees, on the first images of B100."""
    import torch

    weights = formats.load(PRETRAINED)
    theirs = originals.load(folder, weights.model, weights.state["model"].parameters)
    import datasets
    import test

    half = {"sub": [0.5], "div": [0.5]}
    networks = {framework: network.load(PRETRAINED, framework, "cpu") for framework in ("torch", "jittor")}
    high = {"root_path": str(ROOT / "load/benchmark/B100/HR"), "first_k": images}
    low_and_high = {"root_path_1": str(ROOT / "load/benchmark/B100/LR_bicubic/X2"), "root_path_2": high["root_path"]}
    for protocol in ("div2k-2", "div2k-6", "benchmark-2", "benchmark-6", "benchmark-2.5"):
        kind, scale = split(protocol)
        if scale == 2:
            dataset = {"name": "paired-image-folders", "args": {**low_and_high, "first_k": images}}
            wrapper = {"name": "sr-implicit-paired", "args": {}}
        else:
            dataset = {"name": "image-folder", "args": high}
            wrapper = {"name": "sr-implicit-downsampled", "args": {"scale_min": scale}}
        loader = torch.utils.data.DataLoader(datasets.make(wrapper, args={"dataset": datasets.make(dataset)}))
        norm = {"inp": half, "gt": half}
        border = f"{kind}-{math.ceil(scale)}"  # all that its eval_type says, and it knows whole numbers alone
        expected = test.eval_psnr(loader, theirs, data_norm=norm, eval_type=border, eval_bsize=30000)
        blocks = {"dataset": dataset, "wrapper": wrapper, "batch_size": 1}
        settings = TestConfig.model_validate({"test_dataset": blocks, "data_norm": norm, "eval_type": protocol})
        test_set = sets.make(blocks, seed=0, training=False)
        for name, predict in networks.items():
            rows = list(evaluate.test(predict, test_set, settings))
            found = evaluate.mean(rows)["psnr"]
            sizes = len({(row.height, row.width) for row in rows})
            print(
                f"{protocol}, {len(rows)} images of {sizes} sizes, {name}: {found:.5f} dB, "
                f"LIIF's code {expected:.5f}, difference {found - expected:+.1e}"
            )


def main() -> None:
    """Models, then protocols."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("upstream", type=common.clone, help="a clone of yinboc/liif, or of a decoder after it")
    parser.add_argument("--models", nargs="*", choices=SPECS, metavar="NAME", help="default: all that the clone knows")
    parser.add_argument(
        "--images", "--pictures", type=int, default=6, help="of B100, for the protocols (default: 6; 0: none)"
    )
    arguments = parser.parse_args()
    for framework in ("torch", "jittor"):
        devices.prepare(framework, "cpu")
    known = originals.registered(arguments.upstream)
    names = arguments.models or [name for name in SPECS if names_in(SPECS[name]) <= known]
    for number, name in enumerate(names):
        same = next((other for other in names[:number] if SPECS[other] == SPECS[name]), None)
        if same:
            print(f"{name}: the model of {same}")
        else:
            compare_model(name, SPECS[name], arguments.upstream)
    of_liif = known.isdisjoint(originals.DECODERS[1:])
    if arguments.images and of_liif and (ROOT / "load/benchmark/B100").exists():
        compare_protocols(arguments.upstream, arguments.images)


if __name__ == "__main__":
    common.exit_with(main)
