"""LIIF-PyTorch's parameter names (github.com/Lornatang/LIIF-PyTorch, model.py) in this project's terms.

Its .pth.tar files are {epoch, best_psnr, best_ssim, state_dict, ema_state_dict, optimizer, scheduler}. The model is
LIIF with EDSR-baseline whose residuals are multiplied by 0.1; it differs in names alone. Images go in and come out
in [0, 1]. liif_core.checkpoints.pth reads the files. `ema_state_dict` is left alone, as by LIIF-PyTorch's own
inference.py: with its decay the wrong way round it is nearly the last step's weights.
"""

import re

import numpy as np

from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.pth import float32, named_moments
from liif_core.checkpoints.unpickle import plain
from liif_core.engine import MODEL, NetworkState

# imgproc.image_to_tensor, range_norm False
_NONE = {"sub": [0.0], "div": [1.0]}
DATA_NORM = {"inp": _NONE, "gt": _NONE}

RES_SCALE = 0.1  # model.py, _ResidualConvBlock.forward

# By their name; N is the number of residual blocks, after which EDSR has one more convolution.
NAMES = {
    r"encoder\.conv1\.(weight|bias)": r"encoder.head.0.\1",
    r"encoder\.trunk\.(\d+)\.rcb\.([02])\.(weight|bias)": r"encoder.body.\1.body.\2.\3",
    r"encoder\.conv2\.(weight|bias)": r"encoder.body.N.\1",
    r"mlp\.layers\.(\d+)\.(weight|bias)": r"imnet.layers.\1.\2",
}


class AnotherModel(Exception):
    """The message says what is missing, unknown or not to be mapped."""


def describe(shapes: dict[str, tuple[int, ...]]) -> tuple[dict, dict[str, str]]:
    """The spec of the model with parameters of these names and shapes, and our names by theirs.

    Raises AnotherModel for what is not LIIF-PyTorch's model.
    """
    blocks = 0
    while f"encoder.trunk.{blocks}.rcb.0.weight" in shapes:
        blocks += 1
    names = {name: _our_name(name, blocks) for name in shapes}
    layers = sorted(int(name.split(".")[2]) for name in shapes if re.fullmatch(r"mlp\.layers\.\d+\.weight", name))
    for needed in ("encoder.conv1.weight", "encoder.conv2.weight", "mlp.layers.0.weight"):
        if needed not in shapes:
            raise AnotherModel(f"it has no {needed}")
    (n_feats, channels), out_dim = shapes["encoder.conv1.weight"][:2], shapes[f"mlp.layers.{layers[-1]}.weight"][0]
    if (channels, out_dim) != (3, 3):
        raise AnotherModel(f"it makes {out_dim} channels of {channels}, and images have 3 here")
    encoder = {"n_resblocks": blocks, "n_feats": n_feats, "res_scale": RES_SCALE, "no_upsampling": True}
    hidden = [shapes[f"mlp.layers.{layer}.weight"][0] for layer in layers[:-1]]
    args = {
        "encoder_spec": {"name": "edsr-baseline", "args": encoder},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden}},
    }
    return {"name": "liif", "args": args}, names


def _our_name(name: str, blocks: int) -> str:
    for pattern, ours in NAMES.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, ours.replace("N", str(blocks)), name)
    raise AnotherModel(f"it has {name}")


def optimizer_spec(state: dict) -> dict:
    """Adam's spec from the state dict of its optimizer, with the learning rate before its decay."""
    group = state["param_groups"][0]
    args = {name: group[name] for name in ("betas", "eps", "weight_decay")}
    args["betas"] = list(args["betas"])
    return {"name": "adam", "args": {"lr": group.get("initial_lr", group["lr"]), **args}}


def translate(content: dict) -> Checkpoint:
    """An unpickled .pth.tar in this project's terms."""
    model, names = describe({name: np.shape(array) for name, array in content["state_dict"].items()})
    parameters = float32({names[name]: array for name, array in content["state_dict"].items()})
    optimizer = content.get("optimizer")
    moments = named_moments(optimizer, list(names.values())) if optimizer else {}
    return Checkpoint(
        model=model,
        state={MODEL: NetworkState(parameters, optimizer=moments)},
        optimizer=plain(optimizer_spec(optimizer)) if optimizer else None,
        progress={"epoch": int(content.get("epoch", 0)) + 1, "step": int(moments.get("step", 0))},
        data_norm=DATA_NORM,
    )
