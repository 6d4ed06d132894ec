"""Is this LIIF upstream's LIIF?  python scripts/compare_upstream.py PATH, a clone of yinboc/liif

Upstream's own code and both trees get the same random weights, through a .pth file as upstream writes it. Printed are
the largest differences of the outputs on a 41x67 picture, and of loss and gradients on one training batch.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from liif_core import checkpoint, coords, environment  # noqa: E402

SPEC = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256, 256, 256, 256]}},
    },
}
REGRESSION = {"name": "regression", "args": {}}
STANDSTILL = {"name": "sgd", "args": {"lr": 0}}  # a step that computes gradients and changes nothing
SCALES = (2, 3.7, 6)


def upstream_model(folder: Path):
    """Upstream's model with its own random weights; its decoder asks for a GPU, which the CPU stands in for."""
    import torch

    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    sys.path.insert(0, str(folder))
    import models

    torch.manual_seed(0)
    return models.make(SPEC)


def gradients(name: str, engine) -> dict[str, np.ndarray]:
    """What the last step left behind, by parameter."""
    if name == "torch":
        return {key: parameter.grad.numpy() for key, parameter in engine.model.named_parameters()}
    values = engine.optimizer.param_groups[0]["grads"]
    return {key: value.numpy() for key, value in zip(engine.names, values, strict=True)}


def compare_pictures(theirs, engines: dict) -> None:
    """Outputs of a non-square picture at integer and other factors."""
    import torch

    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 41, 67)).astype(np.float32)
    for scale in SCALES:
        height, width = round(41 * scale), round(67 * scale)
        coord = torch.from_numpy(coords.make_coord((height, width)))[None]
        cell = torch.from_numpy(coords.make_cell((height, width))).expand_as(coord)
        with torch.no_grad():
            wanted = theirs(torch.from_numpy(picture), coord, cell).view(height, width, 3).numpy()
        for name, engine in engines.items():
            found = np.concatenate(list(engine.predict_image(picture, height, width)))
            print(f"x{scale} {height}x{width} {name}: largest difference {np.abs(found - wanted).max():.1e}")


def compare_training_step(theirs, engines: dict) -> None:
    """Loss and gradients of one batch. A small one: a ReLU unit within rounding of zero may open in one and stay
    shut in the other, which moves a gradient by 1e-3; the more units, the likelier that is."""
    import torch

    rng = np.random.default_rng(1)
    batch = {
        "inp": rng.uniform(-1, 1, (2, 3, 24, 24)).astype(np.float32),
        "coord": rng.uniform(-1, 1, (2, 200, 2)).astype(np.float32),
        "cell": rng.uniform(0.02, 0.08, (2, 2)).astype(np.float32),
        "gt": rng.uniform(-1, 1, (2, 200, 3)).astype(np.float32),
    }
    inp, coord, cell, gt = (torch.from_numpy(array) for array in batch.values())
    loss = torch.nn.functional.l1_loss(theirs(inp, coord, cell[:, None].expand_as(coord)), gt)
    loss.backward()
    wanted = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters() if parameter.requires_grad}
    for name, engine in engines.items():
        engine.train_step(batch)
        difference = abs(engine.read_losses()[0] - loss.item()) / loss.item()
        found = gradients(name, engine)
        worst = max(np.linalg.norm(found[key] - wanted[key]) / np.linalg.norm(wanted[key]) for key in wanted)
        print(f"training step {name}: loss differs by {difference:.1e}, gradients by at most {worst:.1e} (relative)")


def main() -> None:
    """Write upstream's weights as it does, read them in both trees, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("upstream", type=Path, help="a clone of yinboc/liif")
    folder = parser.parse_args().upstream
    for framework in ("torch", "jittor"):
        environment.prepare(framework, "cpu")
    import torch

    from liif_jittor.engine import Engine as JittorEngine
    from liif_torch.engine import Engine as TorchEngine

    theirs = upstream_model(folder)
    engines = {
        "torch": TorchEngine(SPEC, "cpu", REGRESSION, STANDSTILL),
        "jittor": JittorEngine(SPEC, "cpu", REGRESSION, STANDSTILL),
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "epoch-last.pth"
        torch.save({"model": {**SPEC, "sd": theirs.state_dict()}, "epoch": 1}, path)
        for engine in engines.values():
            checkpoint.restore(engine, checkpoint.load(path).state, path)
    count = sum(parameter.numel() for parameter in theirs.parameters() if parameter.requires_grad)
    ours = {name: sum(array.size for array in engine.state().parameters.values()) for name, engine in engines.items()}
    print(f"parameters: upstream {count:,} (trainable), torch {ours['torch']:,}, jittor {ours['jittor']:,}")
    compare_pictures(theirs, engines)
    compare_training_step(theirs, engines)


if __name__ == "__main__":
    main()
