"""SR3-PyTorch's checkpoints (github.com/Janspiry/Image-Super-Resolution-via-Iterative-Refinement, model/model.py).

`I<iteration>_E<epoch>_gen.pth` is a bare state dict: the UNet's names behind "denoise_fn.", and 12 buffers of its
schedule. `..._opt.pth` beside it has the iteration, the epoch and Adam's moments. Neither says of which config they
are: the groups of the norms and the factor do not show in shapes.
"""

from pathlib import Path

import numpy as np

from liif_core.checkpoints import pth
from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.pth import float32, named_moments
from liif_core.config.schema import ModelConfig, TrainConfig
from liif_core.diffusion.schedules import Schedule, buffers
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.system.files import is_file

NETWORK = "denoise_fn."
FREQUENCIES = "time_mlp.0.inv_freq"  # a buffer of DDPM's network, which follows from its width
EMBEDDINGS = {"noise_level_mlp.1.weight": "sr3-unet", "time_mlp.1.weight": "ddpm-unet"}
GENERATOR, OPTIMIZER = "_gen.pth", "_opt.pth"  # how the names end
CLOSE = 1e-4  # relative: of float32 buffers that another library has computed


def is_sr3(content: object) -> bool:
    """Whether what was unpickled is such a state dict."""
    return isinstance(content, dict) and any(f"{NETWORK}{name}" in content for name in EMBEDDINGS)


def translate(path: Path, content: dict, config: ModelConfig | TrainConfig | None, training: bool) -> Checkpoint:
    """The checkpoint of a state dict, which a config says everything else of; for a training with the optimizer's file
    beside it, if it is there.

    Raises UserError without a config, and for one of another network or schedule.
    """
    weights = {name.removeprefix(NETWORK): array for name, array in content.items() if name.startswith(NETWORK)}
    weights.pop(FREQUENCIES, None)
    kind = next(model for name, model in EMBEDDINGS.items() if name in weights)
    if config is None:
        known = f"{'sr' if weights['downs.0.weight'].shape[1] == 6 else 'sample'}_{kind.removesuffix('-unet')}"
        raise UserError(
            f"{path} holds SR3-PyTorch's weights of a {kind}, and not its config: name that by --config "
            f"(--model-config for test.py, config= in Python), like those that begin with train-faces/{known}"
        )
    if config.model.name != kind or config.method.name != "diffusion":
        said = f"the model '{config.model.name}' and the method '{config.method.name}'"
        raise UserError(f"{path} holds the weights of a {kind}, the config has {said}: expected {kind} and 'diffusion'")
    _require_schedule(path, content, config.method.args.get("schedule") or {})
    found = Checkpoint(
        model=config.model.model_dump(),
        state={MODEL: NetworkState(float32(weights))},
        data_norm=config.data_norm.model_dump(),
        method=config.method.model_dump(),
        notes=[f"SR3-PyTorch's weights of a {kind}"],
    )
    beside = path.with_name(path.name.removesuffix(GENERATOR) + OPTIMIZER)
    if training and path.name.endswith(GENERATOR) and is_file(beside):
        _go_on(beside, found, list(weights))
    return found


def _require_schedule(path: Path, content: dict, spec: dict) -> None:
    """Raise UserError for buffers of another schedule than the config's method has."""
    schedule = Schedule.model_validate(spec)
    found, expected = np.asarray(content.get("betas", [])), buffers(schedule)["betas"]
    if len(found) != len(expected):
        steps = f"{len(found)} steps" if len(found) else "no schedule"
        raise UserError(f"{path} has {steps}, the config's schedule {len(expected)}: set the method's schedule.steps")
    if not np.allclose(found, expected, rtol=CLOSE, atol=0):
        theirs, ours = (f"{betas[0]:.3g} to {betas[-1]:.3g}" for betas in (found, expected))
        raise UserError(
            f"{path} has betas from {theirs}, the config's schedule '{schedule.name}' from {ours}: expected the same"
        )


def _go_on(path: Path, found: Checkpoint, names: list[str]) -> None:
    """Add what the optimizer's file says: Adam's moments, by the order of the parameters, and where training is."""
    content = pth.read(path)
    if not isinstance(content, dict) or not {"epoch", "iter", "optimizer"} <= set(content):
        raise UserError(f"{path} is not SR3-PyTorch's: expected epoch, iter and optimizer in it")
    moments = named_moments(content["optimizer"], names)
    found.state[MODEL].optimizer = moments
    found.optimizer = {"name": "adam", "args": {"lr": float(content["optimizer"]["param_groups"][0]["lr"])}}
    found.progress = {"epoch": int(content["epoch"]) + 1, "step": int(content["iter"])}
    found.notes.append(f"its optimizer is that of {path.name}, after iteration {content['iter']:,}")


def save(path: Path, bare: Checkpoint) -> None:
    """Write such a state dict: the weights, and the buffers of the method's schedule."""
    torch = pth.writer()
    weights = {f"{NETWORK}{name}": array for name, array in bare.state[MODEL].parameters.items()}
    if bare.model["name"] == "ddpm-unet":
        width = bare.state[MODEL].parameters["downs.0.weight"].shape[0]
        inverse = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10000) / width))
        weights[f"{NETWORK}{FREQUENCIES}"] = inverse
    arrays = buffers(Schedule.model_validate(bare.method.get("args", {}).get("schedule") or {})) | weights
    pth.write(path, {name: torch.tensor(array) for name, array in arrays.items()})
