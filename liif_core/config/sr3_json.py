"""SR3-PyTorch's configs, JSON with comments (github.com/Janspiry/Image-Super-Resolution-via-Iterative-Refinement,
config/), in this project's keys.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from liif_core.errors import UserError

COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')  # a string, which may hold two slashes, or a comment
KINDS = {"sr3": "sr3-unet", "ddpm": "ddpm-unet"}
SAMPLER = {"name": "ddim", "steps": 50}  # SR3-PyTorch's walks all of the schedule
NORM_GROUPS = 32  # where a config does not say
SCHEDULE = {"schedule": "name", "n_timestep": "steps", "linear_start": "start", "linear_end": "end"}  # ours by theirs


def read(path: Path) -> dict:
    """The content of such a config. Raises UserError for what is none."""
    try:
        content = json.loads(COMMENT.sub(lambda found: found[1] or "", path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON, comments aside: {error}") from None
    kind = _at(content, "model.which_model_G")
    missing = [key for key in ("model.unet", "model.beta_schedule.train", "datasets.train") if not _at(content, key)]
    if kind not in KINDS or missing:
        lacks = f"no {missing[0]}" if kind in KINDS else f"model.which_model_G '{kind}'" if kind else "no which_model_G"
        raise UserError(f"{path} is not a config of SR3-PyTorch, sr3 or ddpm: it has {lacks}")
    return content


def _at(content: Any, key: str) -> Any:
    """What is under a key with dots, None where nothing is."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def convert(content: dict, images: int, where: str = "config") -> dict:
    """The same training in our keys. images: how many an epoch has, since SR3-PyTorch counts iterations.

    Raises UserError for a key that is missing, of another kind, or that nothing here corresponds to.
    """
    try:
        return _converted(content, images)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        said = f"key {error} is missing" if isinstance(error, KeyError) else f"a key is of another kind ({error})"
        raise UserError(f"{where} cannot be converted: {said}") from None


def _converted(content: dict, images: int) -> dict:
    model, train, data = content["model"], content["train"], content["datasets"]
    unet, schedule = model["unet"], model["beta_schedule"]["train"]
    conditional = bool(model["diffusion"]["conditional"])
    low, high = data["train"]["l_resolution"], data["train"]["r_resolution"]
    if model.get("finetune_norm"):
        raise UserError("finetune_norm is set, which trains nothing in these networks: set it to false")
    if model["beta_schedule"].get("val", schedule) != schedule:
        raise UserError("beta_schedule.val is another than train: a network has one; the sampler says what to skip")
    if train["optimizer"]["type"] != "adam":
        raise UserError(f"optimizer.type is '{train['optimizer']['type']}': expected adam")
    batches = math.ceil(images / data["train"]["batch_size"])
    resume = _at(content, "path.resume_state")
    parts = {"train_dataset": _data(data["train"], conditional, True)}
    if conditional and "val" in data:
        parts["val_dataset"] = _data(data["val"], True, False)
    return {
        **parts,
        "data_norm": {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")},
        "model": {
            "name": KINDS[model["which_model_G"]],
            "args": {
                **({"scale": high // low} if conditional else {}),
                "inner_channel": unet["inner_channel"],
                "channel_mults": list(unet["channel_multiplier"]),
                "attn_res": list(unet["attn_res"]),
                "res_blocks": unet["res_blocks"],
                "norm_groups": unet.get("norm_groups") or NORM_GROUPS,
                "dropout": unet["dropout"],
                "image_size": model["diffusion"]["image_size"],
            },
        },
        "method": {
            "name": "diffusion",
            "args": {
                "schedule": {ours: schedule[theirs] for theirs, ours in SCHEDULE.items()},
                "loss": "l1",
                "sampler": dict(SAMPLER),
            },
        },
        "optimizer": {"name": "adam", "args": {"lr": train["optimizer"]["lr"]}},
        "epoch_max": math.ceil(train["n_iter"] / batches),
        **({"ema": train["ema_scheduler"]["ema_decay"]} if train.get("ema_scheduler") else {}),
        **({"epoch_val": max(1, round(train["val_freq"] / batches))} if "val" in data else {}),
        "step_save": int(train["save_checkpoint_freq"]),
        **({"resume": f"{resume}_gen.pth"} if resume else {}),
    }


def _data(data: dict, conditional: bool, training: bool) -> dict:
    """A data set, its wrapper and batch."""
    low, high = data["l_resolution"], data["r_resolution"]
    if data["datatype"] not in ("lmdb", "img"):
        raise UserError(f"datatype is '{data['datatype']}': expected lmdb or img")
    args = {"root_path": data["dataroot"], "low": low, "high": high}
    if data.get("data_len", -1) > 0:
        args["first_k"] = data["data_len"]
    wrapper = {"scale": high // low} if conditional else {"size": high}
    return {
        "dataset": {"name": "prepared-lmdb" if data["datatype"] == "lmdb" else "prepared-folders", "args": args},
        "wrapper": {
            "name": "sr-diffusion-paired" if conditional else "diffusion-images-paired",
            "args": wrapper | ({"augment": True} if training else {}),
        },
        "batch_size": data["batch_size"] if training else 1,
    }
