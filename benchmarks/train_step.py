"""How long is a training step?  python benchmarks/train_step.py [--config train-div2k/train_edsr-baseline-liif.yaml]

Random samples in the shape of the config's, the same weights for all; to and from the device, forward, backward,
update. Loading is not part of it. LIIF's step is that of its train_liif.py, and the same under bf16 autocast.
--set changes the config, as in train.py.
"""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial

import candidates
import common
import gemm
import numpy as np

from liif_core.config import load
from liif_core.config.schema import TrainConfig

AUTOCAST = "LIIF's code, pages kept, bf16 autocast"


def samples(settings: TrainConfig) -> dict[str, np.ndarray]:
    """A normalised batch as liif_core.engine describes it, of random images, places and scales."""
    rng = np.random.default_rng(0)
    wrapper, batch = settings.train_dataset.wrapper.args, settings.train_dataset.batch_size
    side, queries = wrapper["inp_size"], wrapper["sample_q"]
    scale = rng.uniform(wrapper.get("scale_min", 1), wrapper.get("scale_max") or 1, (batch, 1))
    return {
        "inp": rng.uniform(-1, 1, (batch, 3, side, side)).astype(np.float32),
        "coord": rng.uniform(-1, 1, (batch, queries, 2)).astype(np.float32),
        "cell": np.repeat(2 / np.round(side * scale), 2, axis=1).astype(np.float32),
        "gt": rng.uniform(-1, 1, (batch, queries, 3)).astype(np.float32),
    }


class Step(common.Work):
    """`steps` training steps; a subclass has step(), shapes() and gradients() by name, of the step before."""

    warm_ups = 1
    first: np.ndarray | None = None

    def warm_up(self) -> None:
        """The first step's gradients are kept: all candidates start from the same weights."""
        self.step()
        names, arrays = zip(*sorted(self.gradients()), strict=True)
        self.first = np.concatenate([array.ravel() for array in arrays])
        for _ in range(self.warm_ups - 1):
            self.step()

    def once(self) -> None:
        for _ in range(self.steps):
            self.step()

    def output(self) -> np.ndarray:
        """The first step's gradients, by sorted names."""
        return self.first


class Ours(Step):
    def __init__(self, framework: str, precision: str, gpu: str, settings: TrainConfig, steps: int):
        specs = (spec.model_dump() for spec in (settings.model, settings.method, settings.optimizer))
        self.engine = candidates.our_engine(framework, precision, gpu, *specs)
        self.framework, self.steps, self.batch = framework, steps, samples(settings)
        if framework == "jittor":
            self.warm_ups = 3  # Jittor: the second step is another graph than the first

    def shapes(self) -> dict:
        return {name: array.shape for name, array in self.engine.state()["model"].parameters.items()}

    def step(self) -> None:
        self.engine.train_step(self.batch)

    def once(self) -> None:
        super().once()
        self.engine.read_losses()

    def gradients(self) -> Iterator[tuple[str, np.ndarray]]:
        if self.framework == "torch":
            return (
                (name, p.grad.float().cpu().numpy())
                for name, p in self.engine.networks["model"].module.named_parameters()
            )
        found = self.engine.networks["model"].updater.optimizer.param_groups[0]["grads"]
        return (
            (name, value.float32().numpy())
            for name, value in zip(self.engine.networks["model"].names, found, strict=True)
        )


class Original(Step):
    """Its loop reads the loss in every step."""

    def __init__(self, folder, keep_pages: bool, gpu: str, settings: TrainConfig, steps: int, autocast: bool = False):
        spec = settings.model.model_dump()
        self.model, self._shapes, self.device = candidates.original_model(folder, keep_pages, gpu, spec)
        import torch
        from utils import make_optimizer

        self.optimizer = make_optimizer(self.model.parameters(), settings.optimizer.model_dump())
        self.loss_of, self.steps = torch.nn.L1Loss(), steps
        self.arithmetic = partial(torch.autocast, self.device, torch.bfloat16, enabled=autocast)
        batch = samples(settings)
        batch["cell"] = np.broadcast_to(
            batch["cell"][:, None], batch["coord"].shape
        ).copy()  # its samples have one each
        self.batch = {name: torch.from_numpy(array) for name, array in batch.items()}
        if self.device == "cuda":
            self.batch = {name: tensor.pin_memory() for name, tensor in self.batch.items()}
        self.model.train()

    def shapes(self) -> dict:
        return self._shapes

    def step(self) -> None:
        inp, coord, cell, gt = (tensor.to(self.device) for tensor in self.batch.values())
        with self.arithmetic():
            loss = self.loss_of(self.model(inp, coord, cell), gt)
        loss.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def gradients(self) -> Iterator[tuple[str, np.ndarray]]:
        named = self.model.named_parameters()
        return ((name, p.grad.float().cpu().numpy()) for name, p in named if name in self._shapes)


def columns(settings: TrainConfig, children: dict, seconds: dict, ceiling: gemm.Ceiling) -> dict[str, dict[str, str]]:
    """Rates, memory, differences of the gradients."""
    gradients = {name: child("output") for name, child in children.items()}
    first, base = next(iter(gradients.items()))
    batch = samples(settings)
    pixels, queries = batch["inp"].size // 3, batch["gt"].size // 3
    work = candidates.multiply_adds(settings.model.model_dump(), children[first]("shapes"), pixels, queries)
    if work is not None:
        work *= 3  # backward, each layer multiplies its gradient with its input and with its weights
    norm = np.linalg.norm(base)
    apart = {name: f"{np.linalg.norm(array - base) / norm:.1e}" for name, array in gradients.items() if name != first}
    return ceiling.columns(children, seconds, work) | {f"gradients differ from {first} by (relative)": apart}


def start(arguments: Namespace, settings: TrainConfig) -> dict[str, common.Child]:
    """All candidates, the original LIIF first."""
    rest = (arguments.gpu, settings, arguments.steps)
    found = candidates.choose(arguments, Original, Ours, *rest)
    if arguments.upstream and "bf16" in arguments.precision:
        found[AUTOCAST] = (Original, arguments.upstream, True, *rest, True)
    return candidates.start(arguments, found)


def main() -> None:
    """Warm up, time in turn, compare."""
    parser = common.options(__doc__)
    parser.add_argument("--config", default="train-div2k/train_edsr-baseline-liif.yaml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, help="in each run (default: 1, on a GPU 20)")
    arguments = common.parse(parser)
    arguments.steps = arguments.steps or {"cpu": 1, "cuda": 20}[arguments.kind]
    settings = load.load(arguments.config, "train", arguments.set)
    children = start(arguments, settings)
    for child in children.values():
        child("warm_up")
    ceiling = gemm.Ceiling(arguments)
    ceiling.measure()
    runs = common.in_turn({name: partial(child, "run") for name, child in children.items()}, arguments.runs)
    seconds = {name: [value / arguments.steps for value in values] for name, values in runs.items()}
    ceiling.measure()

    common.print_head(arguments.kind)
    shape = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in samples(settings).items())
    title = f"A training step of {arguments.config}, {shape}; {arguments.runs} runs of {arguments.steps}"
    common.print_times(title, seconds, candidates.BASELINES, columns(settings, children, seconds, ceiling))
    print(f"\n{gemm.EXPLAINED} {ceiling}")


if __name__ == "__main__":
    common.exit_with(main)
