"""Thera's checkpoints (prs-eth/thera) in this project's terms: pickled trees of Flax parameters, {"model": {"params":
...}, "backbone": ..., "size": ...}. The restricted unpickler has read them: numpy arrays in plain containers."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.pth import float32
from liif_core.checkpoints.unpickle import Refused
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError

NORM = {"sub": [0.4488, 0.4371, 0.4040], "div": [0.5]}
# Flax's standardize divides by sqrt(0.25 + 1e-5); here the first convolution makes up for it.
FIRST = re.compile(r"(head\.0|SFENet1)\.weight$")
DIVISOR = 2 * math.sqrt(0.25 + 1e-5)
PARTS = {"encoder", "refine", "out_conv", "k", "components"}

SWINIR = ("conv_first", "conv_after_body", "conv_before_upsample.0")

# Flax names by ours: what is called alike in both is not listed. RDN's layers are numbered as they are called.
RENAMED: list[tuple[str, Any]] = [
    (r"layers_(\d+)", r"\1"),
    (r"^refine\.RSTB_(\d+)\.BasicLayer_0\.SwinTransformerBlock_(\d+)", r"refine.layers.\1.residual_group.blocks.\2"),
    (r"blocks\.(\d+)\.LayerNorm_([01])", lambda found: f"blocks.{found[1]}.norm{int(found[2]) + 1}"),
    (r"Mlp_0\.Dense_([01])", lambda found: f"mlp.fc{int(found[1]) + 1}"),
    (r"WindowAttention_0", "attn"),
    (r"^refine\.RSTB_(\d+)", r"refine.layers.\1"),
    (r"^refine\.PatchEmbed_0", "refine.patch_embed"),
    (r"^refine\.Conv_([012])", lambda found: f"refine.{SWINIR[int(found[1])]}"),
    (r"^encoder\.RDB_(\d+)\.RDB_Conv_(\d+)\.Conv_0", r"encoder.RDBs.\1.convs.\2.conv.0"),
    (r"^encoder\.RDB_(\d+)\.Conv_0", r"encoder.RDBs.\1.LFF"),
    (r"^encoder\.Conv_([01])", lambda found: f"encoder.SFENet{int(found[1]) + 1}"),
    (r"^encoder\.Conv_([23])", lambda found: f"encoder.GFF.{int(found[1]) - 2}"),
    (r"^out_conv", "hypernet"),
    (r"LayerNorm_0", "norm"),
    (r"Conv_0", "conv"),
    (r"\.(kernel|scale)$", ".weight"),
]


def is_thera(content: dict) -> bool:
    """Whether a pickle is a checkpoint of Thera's code."""
    tree = content.get("model")
    tree = tree.get("params") if isinstance(tree, dict) else None
    return isinstance(tree, dict) and {"encoder", "out_conv", "components"} <= set(tree)


def translate(path: Path, content: dict) -> Checkpoint:
    """An unpickled checkpoint of Thera Air, Plus or Pro in this project's terms. Raises UserError for another one of
    Thera's code, Refused for what are no arrays."""
    parameters = renamed(content["model"]["params"])
    parameters = {name: array / DIVISOR if FIRST.search(name) else array for name, array in parameters.items()}
    name = "edsr-baseline" if any(".head." in name for name in parameters) else "rdn"
    encoder: dict[str, Any] = {"name": name, "args": {"no_upsampling": True}}
    if "refine" in content["model"]["params"]:
        encoder = _refined(path, encoder, parameters)
    args = {"encoder_spec": encoder, "hidden_dim": int(parameters["components"].shape[1])}
    return Checkpoint(
        model={"name": "thera", "args": args},
        state={MODEL: NetworkState(float32(parameters))},
        optimizer=None,
        progress={"epoch": 1, "step": 0},
        data_norm={"inp": NORM, "gt": NORM},
    )


def _refined(path: Path, encoder: dict, parameters: dict[str, np.ndarray]) -> dict:
    """What refines an encoder's features: ConvNeXt in Plus, SwinIR in Pro."""
    if "encoder.layers.0.residual.0.weight" in parameters:
        return {"name": "convnext", "args": {"encoder_spec": encoder}}
    found = [
        re.match(r"encoder\.layers\.(\d+)\.residual_group\.blocks\.\d+\.attn\.relative", name) for name in parameters
    ]
    groups = [int(match[1]) for match in found if match]
    first = parameters.get("encoder.conv_first.weight")
    if not groups or first is None:
        raise UserError(
            f"{path} has a tail that is not known: expected Thera Air, or the ConvNeXt of Thera Plus or SwinIR of Pro"
        )
    table = "encoder.layers.{}.residual_group.blocks.0.attn.relative_position_bias_table"
    args = {
        "depths": [groups.count(group) for group in sorted(set(groups))],
        "num_heads": [parameters[table.format(group)].shape[1] for group in sorted(set(groups))],
        "embed_dim": len(first),
    }
    args |= {"no_upsampling": True, "gelu": "tanh", "encoder_spec": encoder}
    return {"name": "swinir", "args": args}


def renamed(tree: dict) -> dict[str, np.ndarray]:
    """The arrays of a tree by this project's names, in its layout: kernels (h, w, in, out) become (out, in, h,
    w), those of linear layers (out, in)."""
    prefix = "encoder." if "refine" in tree else ""
    parameters = {}
    for path, array in _leaves({key: tree[key] for key in tree if key in PARTS}, ""):
        name = path
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if name.startswith("encoder."):
            name = prefix + name
        if path.endswith(".kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        name = re.sub(r"^refine\.(?=\d)", "encoder.layers.", name)  # of Plus; of Pro the rest
        parameters[re.sub("^refine", "encoder", name)] = array.reshape(1) if name == "k" else array
    return parameters


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (np.ndarray, float)):
        yield path, np.asarray(tree)
    else:
        raise Refused(f"a {type(tree).__name__} in place of the array {path}")
