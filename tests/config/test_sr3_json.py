"""SR3-PyTorch's JSON configs: what becomes of them, and what is refused."""

import copy
import json
import sys

import pytest

from liif_core.commands import convert_config
from liif_core.config import load as configs
from liif_core.errors import UserError

SR3 = {
    "name": "sr_ffhq",
    "gpu_ids": [0],
    "path": {"log": "logs", "resume_state": None},
    "datasets": {
        "train": {"name": "FFHQ", "mode": "HR", "dataroot": "./load/ffhq_16_128", "datatype": "lmdb"}
        | {"l_resolution": 16, "r_resolution": 128, "batch_size": 4, "num_workers": 8, "data_len": -1},
        "val": {"name": "CelebaHQ", "mode": "LRHR", "dataroot": "./load/celebahq_16_128", "datatype": "lmdb"}
        | {"l_resolution": 16, "r_resolution": 128, "data_len": 50},
    },
    "model": {
        "which_model_G": "sr3",
        "finetune_norm": False,
        "unet": {"in_channel": 6, "out_channel": 3, "inner_channel": 64, "channel_multiplier": [1, 2, 4, 8, 8]}
        | {"attn_res": [16], "res_blocks": 2, "dropout": 0.2},
        "beta_schedule": {
            phase: {"schedule": "linear", "n_timestep": 2000, "linear_start": 1e-6, "linear_end": 1e-2}
            for phase in ("train", "val")
        },
        "diffusion": {"image_size": 128, "channels": 3, "conditional": True},
    },
    "train": {
        "n_iter": 1000000,
        "val_freq": 1e4,
        "save_checkpoint_freq": 1e4,
        "print_freq": 200,
        "optimizer": {"type": "adam", "lr": 1e-4},
        "ema_scheduler": {"step_start_ema": 5000, "update_ema_every": 1, "ema_decay": 0.9999},
    },
}


def changed(content, **changes):
    """A copy in which each key, with two underlines for a dot, has another value."""
    content = copy.deepcopy(content)
    for key, value in changes.items():
        *path, last = key.split("__")
        block = content
        for part in path:
            block = block[part]
        block[last] = value
    return content


def unconditional(content):
    changes = {"model__unet__in_channel": 3, "model__diffusion__conditional": False, "datasets__val__mode": "HR"}
    return changed(content, **changes)


def of_ddpm(content):
    content = changed(content, model__which_model_G="ddpm", datasets__train__batch_size=12, datasets__val__data_len=3)
    content["model"]["unet"]["channel_multiplier"] = [1, 1, 2, 2, 4, 4]
    for schedule in content["model"]["beta_schedule"].values():
        schedule |= {"linear_start": 1e-4, "linear_end": 2e-2}
    return content


def of_512(content):
    content = changed(content, train__optimizer__lr=3e-6, model__diffusion__image_size=512)
    content["model"]["unet"] |= {"norm_groups": 16, "channel_multiplier": [1, 2, 4, 8, 16], "attn_res": []}
    content["model"]["unet"] |= {"res_blocks": 1, "dropout": 0}
    for data in content["datasets"].values():
        data |= {"datatype": "img", "l_resolution": 64, "r_resolution": 512}
        data["dataroot"] = data["dataroot"].replace("16_128", "64_512")
    return changed(content, datasets__train__batch_size=2)


CONFIGS = {
    "sr_sr3_16_128": SR3,
    "sr_sr3_64_512": of_512(SR3),
    "sample_sr3_128": changed(unconditional(SR3), train__n_iter=10000000),
    "sr_ddpm_16_128": of_ddpm(SR3),
    "sample_ddpm_128": changed(unconditional(of_ddpm(SR3)), datasets__val__data_len=10),
}


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Convert a text or content; returns the config that came of it."""

    def call(content, *words):
        (tmp_path / "in.json").write_text(content if isinstance(content, str) else json.dumps(content))
        line = ["convert", str(tmp_path / "in.json"), str(tmp_path / "out.yaml"), *words]
        monkeypatch.setattr(sys, "argv", line)
        assert convert_config.main() == 0
        return configs.load(tmp_path / "out.yaml", "train")

    return call


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configs_of_sr3_pytorch_become_those_of_their_names_here(convert, name):
    assert convert(CONFIGS[name]) == configs.load(f"train-faces/{name}.yaml", "train")


def test_comments_are_left_out_and_slashes_in_texts_are_not(convert):
    text = json.dumps(changed(SR3, datasets__train__dataroot="//host/ffhq"), indent=1)
    text = text.replace('"gpu_ids"', '// a "comment" // {\n"gpu_ids"').replace('"mode": "HR",', '"mode": "HR", // LR\n')
    assert convert(text).train_dataset.dataset.args["root_path"] == "//host/ffhq"


def test_iterations_become_epochs_of_as_many_images(convert):
    content = changed(SR3, train__n_iter=1001, train__val_freq=60, datasets__train__name="mine")
    found = convert(content, "--images", "101")  # 26 batches
    assert (found.epoch_max, found.epoch_val, found.step_save) == (39, 2, 10000)
    with pytest.raises(UserError, match="how many images has an epoch. give --images: no folder or file './load/ffhq"):
        convert(content, "--overwrite")


def test_what_would_be_no_config_is_not_written(convert, tmp_path):
    convert(SR3)
    before = (tmp_path / "out.yaml").read_bytes()
    with pytest.raises(UserError, match="in.json: 'step_save' is 0"):
        convert(changed(SR3, train__save_checkpoint_freq=0), "--overwrite")
    assert (tmp_path / "out.yaml").read_bytes() == before


def test_a_run_that_went_on_does_so_from_the_same_file(convert):
    assert convert(changed(SR3, path__resume_state="checkpoint/I10_E2")).resume == "checkpoint/I10_E2_gen.pth"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"arch": {"type": "Palette"}}, "in.json is not a config of SR3-PyTorch, sr3 or ddpm: it has no which_model_G"),
        ([1], "it has no which_model_G"),
        (changed(SR3, model__which_model_G="edsr"), "it has model.which_model_G 'edsr'"),
        (changed(SR3, model__unet=None), "it has no model.unet"),
        ("{1: 2}", "in.json is no JSON, comments aside"),
        (changed(SR3, model__unet={"inner_channel": 64}), "key 'channel_multiplier' is missing"),
        (changed(SR3, datasets__train__batch_size="four"), "a key is of another kind"),
        (changed(SR3, model__finetune_norm=True), "finetune_norm is set"),
        (changed(SR3, train__optimizer__type="sgd"), "optimizer.type is 'sgd': expected adam"),
        (changed(SR3, datasets__train__datatype="hdf5"), "datatype is 'hdf5': expected lmdb or img"),
        (changed(SR3, model__beta_schedule__val={"n_timestep": 100}), "beta_schedule.val is another than train"),
    ],
)
def test_what_is_no_such_config_is_one_sentence(convert, content, message):
    with pytest.raises(UserError) as caught:
        convert(content)
    assert message in str(caught.value) and "\n" not in str(caught.value)
