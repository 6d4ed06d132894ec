"""A UNet of diffusion as a candidate of benchmarks: both trees' and that of SR3-PyTorch, with the same weights of seed
0, the same images, noise and levels.
"""

import inspect
import os
from collections.abc import Iterator
from functools import partial

import candidates
import common
import numpy as np
import train_step
from compare_sr3 import as_theirs, module

from liif_core.config.schema import TrainConfig
from liif_core.data import sampling
from liif_core.diffusion import targets
from liif_core.diffusion.schedules import Schedule
from liif_core.system import devices, memory
from liif_core.training.initial import initial_parameters

KINDS = {"sr3-unet": "sr3", "ddpm-unet": "ddpm"}


def of_steps(settings: TrainConfig, steps: int | None = None) -> TrainConfig:
    """The config with the ancestral sampler on all times of its schedule, which has `steps` if that is given."""
    method = settings.method.model_copy(deep=True)
    schedule = Schedule(**method.args.get("schedule", {})).model_dump()
    method.args |= {"schedule": schedule | ({"steps": steps} if steps else {})}
    method.args |= {"sampler": {"name": "ancestral", "steps": None}}
    return settings.model_copy(update={"method": method})


def samples(settings: TrainConfig, side: int) -> dict[str, np.ndarray]:
    """A batch of random images in [-1, 1], each with its noise and its level."""
    rng, schedule = np.random.default_rng(0), Schedule(**settings.method.args["schedule"])
    conditional = settings.model.args.get("scale") is not None
    found = []
    for _ in range(settings.train_dataset.batch_size):
        names = ("inp", "gt") if conditional else ("gt",)
        images = {name: rng.uniform(-1, 1, (3, side, side)).astype(np.float32) for name in names}
        found.append(images | targets.draw(rng, schedule, (3, side, side), KINDS[settings.model.name]))
    return {name: np.stack([sample[name] for sample in found]) for name in found[0]}


class OursStep(train_step.Ours):
    def __init__(self, framework: str, precision: str, gpu: str, settings: TrainConfig, side: int):
        specs = (spec.model_dump() for spec in (settings.model, settings.method, settings.optimizer))
        self.engine = candidates.our_engine(framework, precision, gpu, *specs)
        self.framework, self.steps, self.batch = framework, 1, samples(settings, side)
        self.warm_ups = 3 if framework == "jittor" else 1  # as in train_step.py


class OursSampling(common.Work):
    """seeded: otherwise with any weights, since orthogonal ones of a large network take minutes."""

    def __init__(self, framework: str, precision: str, gpu: str, settings: TrainConfig, side: int, seeded: bool = True):
        specs = settings.model.model_dump(), settings.method.model_dump()
        self.engine = candidates.our_engine(framework, precision, gpu, *specs, seeded=seeded)
        self.condition, self.side = samples(settings, side).get("inp"), side

    def once(self) -> np.ndarray:
        condition = None if self.condition is None else self.condition[:1]
        return self.engine.sample(1, self.side, self.side, sampling.noise(0, 0), condition)


class Theirs:
    """Its diffusion on the device, with our weights of seed 0."""

    def build(self, folder, how: str, gpu: str, settings: TrainConfig, side: int, seeded: bool = True) -> None:
        """Sets diffusion, batch and arithmetic; how: the candidate's name. seeded: as of OursSampling."""
        self.device = devices.choose_device(gpu).kind
        if self.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if "pages kept" in how:
            memory.keep_freed_pages()
        import torch

        from liif_torch.models import build  # noqa: F401
        from liif_torch.models.registry import models

        kind, spec = KINDS[settings.model.name], settings.model
        defaults = inspect.signature(models.entries[spec.name]).parameters.values()
        options = {parameter.name: parameter.default for parameter in defaults} | spec.args
        channels = 3 if options.pop("scale") is None else 6
        network = module(folder, kind, "unet").UNet(in_channel=channels, **options)
        norms = [name for name, layer in network.named_modules() if isinstance(layer, torch.nn.GroupNorm)]
        parameters = dict(network.named_parameters())
        kinds = {key: "norm" for key in parameters if key.rpartition(".")[0] in norms}
        shapes = {key: tuple(p.shape) for key, p in parameters.items()}
        for key, array in initial_parameters(shapes if seeded else {}, 0, kinds, "", True).items():
            parameters[key].data = torch.from_numpy(array)
        loss = {"l1": "l1", "mse": "l2"}[settings.method.args.get("loss", "l1")]
        diffusion = module(folder, kind, "diffusion").GaussianDiffusion
        self.diffusion = diffusion(network, side, loss_type=loss, conditional=channels == 6)
        self.diffusion.set_new_noise_schedule(as_theirs(Schedule(**settings.method.args["schedule"])), self.device)
        self.diffusion.set_loss(self.device)
        self.diffusion.to(self.device)
        self.batch = {name: torch.from_numpy(array) for name, array in samples(settings, side).items()}
        self.arithmetic = partial(torch.autocast, self.device, torch.bfloat16, enabled="bf16" in how)


class TheirStep(Theirs, train_step.Step):
    """optimize_parameters of its model.py."""

    def __init__(self, folder, how: str, gpu: str, settings: TrainConfig, side: int):
        self.build(folder, how, gpu, settings, side)
        import torch

        self.steps, args = 1, settings.optimizer.args
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=args["lr"])
        self.diffusion.train()
        # The level of each sample in the place of what it would draw: all candidates have the same batch.
        np.random.uniform = lambda *_, **__: self.batch["level"].numpy().astype(np.float64)
        torch.randint = lambda *_, **__: self.batch["step"].to(self.device)

    def step(self) -> None:
        on_device = {name: tensor.to(self.device) for name, tensor in self.batch.items()}
        given = {"HR": on_device["gt"], "SR": on_device.get("inp")}
        self.optimizer.zero_grad()
        with self.arithmetic():
            loss = self.diffusion(given, on_device["noise"]).sum() / given["HR"].numel()
        loss.backward()
        self.optimizer.step()
        loss.item()

    def gradients(self) -> Iterator[tuple[str, np.ndarray]]:
        named = self.diffusion.denoise_fn.named_parameters()
        return ((name, p.grad.float().cpu().numpy()) for name, p in named)


class TheirSampling(Theirs, common.Work):
    def __init__(self, folder, how: str, gpu: str, settings: TrainConfig, side: int, seeded: bool = True):
        self.build(folder, how, gpu, settings, side, seeded)
        self.side = side
        self.diffusion.eval()

    def once(self) -> np.ndarray:
        condition = self.batch["inp"][:1].to(self.device) if "inp" in self.batch else (1, 3, self.side, self.side)
        with self.arithmetic():
            return self.diffusion.p_sample_loop(condition).float().cpu().numpy()


class Counted(common.Work):
    """once(): the multiply-adds of one evaluation for one image, as PyTorch counts them."""

    def __init__(self, settings: TrainConfig, side: int):
        self.settings, self.side = settings, side

    def once(self) -> int:
        devices.prepare("torch", "cpu")
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from liif_torch.models import build

        model = build.make(self.settings.model.model_dump()).eval()
        channels = 6 if model.conditional else 3
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, channels, self.side, self.side), torch.empty(1))
        return counter.get_total_flops() // 2
