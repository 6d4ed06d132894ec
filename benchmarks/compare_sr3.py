"""Is this SR3 the original SR3-PyTorch?  python benchmarks/compare_sr3.py --original PATH, a clone of
Janspiry/Image-Super-Resolution-via-Iterative-Refinement

Its code and both trees get the same random weights, in small networks of both kinds, conditional and not. Printed are
the parameters of its five configs as its code counts them, and the largest differences of the buffers of every
schedule, of the noise that is told, of all images of an ancestral trajectory with the same noise, and of the loss of a
batch.
"""

import argparse
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import common
import numpy as np

from helpers.models import DENOISERS
from liif_core.data import sampling
from liif_core.diffusion import schedules, targets
from liif_core.diffusion.schedules import Schedule
from liif_core.engine import NetworkState
from liif_core.system import devices
from liif_core.system.places import expand

UNET = {"inner_channel": 16, "res_blocks": 1, "norm_groups": 8, "dropout": 0.0, "image_size": 16}
UNET |= {"channel_mults": [1, 2, 2], "attn_res": [8]}
SIZE = 16, 24  # of the images
SHORT = Schedule(name="linear", steps=10, start=1e-4, end=0.5)
KINDS = {"sr3": "sr3-unet", "ddpm": "ddpm-unet"}
NOISE_SEED = 4, 2


def clone(path: str) -> Path:
    """The folder, if it is that of the original."""
    folder = Path(expand(path))
    if not (folder / "model/sr3_modules/unet.py").is_file():
        raise argparse.ArgumentTypeError(f"{path} is no clone of SR3-PyTorch: it has no model/sr3_modules/unet.py")
    return folder.resolve()


def module(folder: Path, kind: str, name: str) -> ModuleType:
    """One file of the original; kind: sr3 or ddpm."""
    found = importlib.util.spec_from_file_location(f"{kind}_{name}", folder / f"model/{kind}_modules/{name}.py")
    assert found and found.loader
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


def original(folder: Path, kind: str, channels: int, schedule: Schedule):
    """Its diffusion over a small network, with weights that are random everywhere."""
    import torch

    torch.manual_seed(0)
    network = module(folder, kind, "unet").UNet(in_channel=channels, **UNET)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    diffusion = module(folder, kind, "diffusion").GaussianDiffusion(network, SIZE, conditional=channels == 6)
    diffusion.set_new_noise_schedule(as_theirs(schedule), "cpu")
    diffusion.set_loss("cpu")
    return diffusion.eval()


def as_theirs(schedule: Schedule) -> dict:
    """A schedule in its words."""
    ends = {"linear_start": schedule.start, "linear_end": schedule.end}
    return {"schedule": schedule.name, "n_timestep": schedule.steps} | ends


def compare_counts(folder: Path) -> None:
    """Parameters of the five configs, as its code makes them."""
    import torch

    from liif_torch.models import build

    for name, model in DENOISERS.items():
        said = json.loads(re.sub(r"//.*", "", (folder / f"config/{name}.json").read_text()))["model"]
        options, size = said["unet"], said["diffusion"]["image_size"]
        options["channel_mults"] = options.pop("channel_multiplier")
        options["norm_groups"] = options.get("norm_groups") or 32
        with torch.device("meta"):
            theirs = module(folder, said["which_model_G"], "unet").UNet(**options, image_size=size)
            ours = build.make(model.full)
        expected, found = ({key: p.shape for key, p in one.named_parameters()} for one in (theirs, ours))
        counts = [sum(shape.numel() for shape in shapes.values()) for shapes in (expected, found)]
        same = "the same names, shapes and order" if list(expected.items()) == list(found.items()) else "OTHER NAMES"
        print(f"{name}: parameters: the original {counts[0]:,}, ours {counts[1]:,}, {same}")


def compare_buffers(folder: Path) -> None:
    """All schedules, at 2,000 times; infinities, which jsd has, must be where the original's are."""
    theirs = module(folder, "sr3", "diffusion")
    for name in schedules.Name.__args__:  # type: ignore[attr-defined]
        schedule = Schedule(name=name)
        diffusion = theirs.GaussianDiffusion(None, SIZE)
        with np.errstate(all="ignore"):
            diffusion.set_new_noise_schedule(as_theirs(schedule), "cpu")
        expected = {key: value.numpy() for key, value in diffusion.named_buffers()}
        found = schedules.buffers(schedule)
        assert expected.keys() == found.keys()
        worst = 0.0
        for key, array in expected.items():
            finite = np.isfinite(array)
            assert np.array_equal(finite, np.isfinite(found[key])), key
            apart = np.abs(array[finite].astype(np.float64) - found[key][finite])
            worst = max(worst, float(np.max(apart / np.maximum(np.abs(array[finite]), 1e-30))))
        print(f"schedule {name}: {len(found)} buffers, largest relative difference {worst:.1e}")


def engines(kind: str, channels: int, parameters: dict[str, np.ndarray]) -> dict:
    """Both trees with these weights, the ancestral sampler and a step that changes nothing."""
    from liif_jittor.engine import Engine as JittorEngine
    from liif_torch.engine import Engine as TorchEngine

    spec = {"name": KINDS[kind], "args": UNET | {"scale": 4 if channels == 6 else None}}
    sampler = {"name": "ancestral", "steps": None}
    method = {"name": "diffusion", "args": {"schedule": SHORT.model_dump(), "sampler": sampler}}
    made = {
        framework: engine(spec, "cpu", method, {"name": "sgd", "args": {"lr": 0}})
        for framework, engine in (("torch", TorchEngine), ("jittor", JittorEngine))
    }
    for engine in made.values():
        engine.load_state({"model": NetworkState(parameters)})
    return made


def array_of(framework: str, value: np.ndarray):
    """An array as the framework's."""
    import jittor
    import torch

    return torch.from_numpy(value) if framework == "torch" else jittor.array(value)


def compare_noise(kind: str, theirs, made: dict, channels: int) -> None:
    """What the networks tell in random images."""
    import torch

    x = np.random.default_rng(1).uniform(-1, 1, (2, channels, *SIZE)).astype(np.float32)
    told = np.array([0.03, 0.98] if kind == "sr3" else [2, 1700], np.float32)
    with torch.no_grad():
        theirs_told = torch.from_numpy(told)[:, None] if kind == "sr3" else torch.from_numpy(told).long()
        expected = theirs.denoise_fn(torch.from_numpy(x), theirs_told).numpy()
    for name, engine in made.items():
        with torch.no_grad():
            found = engine.networks["model"].module(array_of(name, x), array_of(name, told)).numpy()
        worst = np.abs(found - expected).max()
        print(f"  noise, {name}: largest difference {worst:.1e}, values up to {np.abs(expected).max():.2f}")


def compare_trajectory(theirs, made: dict, channels: int) -> None:
    """All ten images, with the same noise; of its DDPM without a condition the last, which is all that it returns."""
    import torch

    condition = np.random.default_rng(2).uniform(-1, 1, (1, 3, *SIZE)).astype(np.float32) if channels == 6 else None
    (generator,) = sampling.noise(*NOISE_SEED).spawn(1)

    def drawn(*_, **__):
        return torch.from_numpy(generator.standard_normal((1, 3, *SIZE), np.float32))

    before, before_like = torch.randn, torch.randn_like
    torch.randn = torch.randn_like = drawn
    try:
        start = (1, 3, *SIZE) if condition is None else torch.from_numpy(condition)
        images = theirs.p_sample_loop(start, continous=True).numpy()
    finally:
        torch.randn, torch.randn_like = before, before_like
    expected = images.reshape(-1, 3, *SIZE).transpose(0, 2, 3, 1)
    expected = expected[1:] if len(expected) > 1 else expected  # the first is the condition or the start
    for name, engine in made.items():
        process: list[np.ndarray] = []
        engine.sample(1, *SIZE, sampling.noise(*NOISE_SEED), condition, process)
        assert len(process) == SHORT.steps
        found = np.concatenate(process)[-len(expected) :]
        worst = [np.abs(one - other).max() for one, other in zip(found, expected, strict=True)]
        print(f"  {SHORT.steps} ancestral steps, {name}: largest difference {max(worst):.1e}, the last {worst[-1]:.1e}")


def compare_loss(kind: str, theirs, made: dict, channels: int) -> None:
    """The loss of a batch of three, each with a level of its own."""
    import torch

    rng = np.random.default_rng(3)
    names = ("gt", "inp") if channels == 6 else ("gt",)
    samples = [
        {name: rng.uniform(-1, 1, (3, *SIZE)).astype(np.float32) for name in names}
        | targets.draw(rng, SHORT, (3, *SIZE), kind)
        for _ in range(3)
    ]
    batch = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    given = {"HR": tensors["gt"], "SR": tensors.get("inp")}
    before, before_int = np.random.uniform, torch.randint
    np.random.uniform = lambda *_, **__: batch["level"].astype(np.float64)
    torch.randint = lambda *_, **__: tensors["step"]
    try:
        with torch.no_grad():
            expected = float(theirs.p_losses(given, tensors["noise"])) / batch["gt"].size
    finally:
        np.random.uniform, torch.randint = before, before_int
    for name, engine in made.items():
        engine.train_step(batch)
        found = engine.read_losses()[0]["loss"]
        print(f"  loss, {name}: {found:.7f}, the original {expected:.7f}, difference {abs(found - expected):.1e}")


def main() -> None:
    """Counts, schedules, then the four small networks."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=clone, required=True, metavar="PATH", help="a clone of SR3-PyTorch")
    folder = parser.parse_args().original
    for framework in ("torch", "jittor"):
        devices.prepare(framework, "cpu")
    compare_counts(folder)
    compare_buffers(folder)
    for kind in KINDS:
        for channels in (6, 3):
            print(f"{KINDS[kind]}, {'conditional' if channels == 6 else 'without a condition'}:")
            theirs = original(folder, kind, channels, SHORT)
            parameters = {key: value.detach().numpy() for key, value in theirs.denoise_fn.named_parameters()}
            made = engines(kind, channels, parameters)
            compare_noise(kind, theirs, made, channels)
            compare_trajectory(theirs, made, channels)
            compare_loss(kind, theirs, made, channels)


if __name__ == "__main__":
    common.exit_with(main)
