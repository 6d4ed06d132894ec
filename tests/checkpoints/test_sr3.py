"""SR3-PyTorch's checkpoints: which weights they give, and what is refused."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import yaml

from helpers.models import NARROW_DENOISER
from liif_core.checkpoints import formats, native, sr3
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load as configs
from liif_core.diffusion.schedules import Schedule, buffers
from liif_core.engine import MODEL
from liif_core.errors import UserError
from liif_torch.engine import Engine

SCHEDULE = {"name": "linear", "steps": 20, "start": 1e-3, "end": 0.2}
HALF = {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")}


def config_of(tmp_path, name="sr3-unet", schedule=None, **args):
    method = {"name": "diffusion", "args": {"schedule": schedule or SCHEDULE, "sampler": {"steps": 4}}}
    path = tmp_path / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({"model": {"name": name, "args": NARROW_DENOISER | args}, "data_norm": HALF, "method": method})
    )
    return path


def engine_of(config, optimizer=None):
    found = configs.load_model(config)
    return Engine(found.model.model_dump(), "cpu", found.method.model_dump(), optimizer)


@pytest.fixture
def written(tmp_path):
    """A network of each kind, its config, and its file in SR3-PyTorch's order: the schedule, then the network."""

    def write(name="sr3-unet", **args):
        config = config_of(tmp_path, name, **args)
        engine = engine_of(config)
        engine.seed(3)
        path = tmp_path / "I30_E2_gen.pth"
        state = OrderedDict((key, torch.tensor(value)) for key, value in buffers(Schedule(**SCHEDULE)).items())
        state |= {f"denoise_fn.{key}": torch.tensor(value) for key, value in engine.state()[MODEL].parameters.items()}
        if name == "ddpm-unet":
            state["denoise_fn.time_mlp.0.inv_freq"] = torch.ones(4)
        torch.save(state, path)
        return engine, config, path

    return write


def test_a_network_may_be_narrower_than_its_images(written):
    _, config, path = written(image_size=512, attn_res=[256])
    assert formats.load_for(path, config).model["args"]["image_size"] == 512


@pytest.mark.parametrize("name", ["sr3-unet", "ddpm-unet"])
def test_a_generator_gives_the_network_of_its_config(written, name):
    engine, config, path = written(name)
    found = formats.load_for(path, config)
    assert found.method["args"]["schedule"] == SCHEDULE and found.data_norm == HALF
    again = engine_of(config)
    native.restore(again, found.state, path)
    for key, array in engine.state()[MODEL].parameters.items():
        np.testing.assert_array_equal(again.state()[MODEL].parameters[key], array)
    noise = [np.random.default_rng(1) for _ in range(2)]
    inp = np.zeros((1, 3, 16, 24), np.float32)
    images = [one.sample(1, 16, 24, rng, inp) for one, rng in zip((engine, again), noise, strict=True)]
    np.testing.assert_array_equal(*images)


def test_a_training_goes_on_with_the_optimizer_beside_it(written, tmp_path):
    engine, config, path = written()
    parameters = {name: torch.nn.Parameter(torch.tensor(a)) for name, a in engine.state()[MODEL].parameters.items()}
    adam = torch.optim.Adam(list(parameters.values()), lr=3e-4)
    for step in range(2):
        for number, parameter in enumerate(parameters.values()):
            parameter.grad = torch.full_like(parameter, number + step + 1.0)
        adam.step()
    opt = tmp_path / "I30_E2_opt.pth"
    torch.save({"epoch": 2, "iter": 30, "scheduler": None, "optimizer": adam.state_dict()}, opt)
    found = formats.load(path, configs.load_model(config), training=True)
    assert found.progress == {"epoch": 3, "step": 30} and found.optimizer == {"name": "adam", "args": {"lr": 3e-4}}
    assert "after iteration 30" in found.notes[-1]
    trained = engine_of(config, {"name": "adam", "args": {"lr": 3e-4}})
    native.restore(trained, found.state, path)
    moments = trained.state()[MODEL].optimizer
    assert moments["step"] == 2
    for name, parameter in parameters.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(moments[f"{moment}.{name}"], adam.state[parameter][moment].numpy())
    assert not formats.load_for(path, config).progress  # to predict with, it is not even read
    torch.save({"epoch": 2}, opt)
    with pytest.raises(UserError, match="_opt.pth is not SR3-PyTorch's: expected epoch, iter and optimizer in it"):
        formats.load(path, configs.load_model(config), training=True)


def test_weights_go_back_into_the_form_of_sr3_pytorch(written, tmp_path):
    engine, config, path = written("ddpm-unet")
    found = formats.load_for(path, config)
    sr3.save(tmp_path / "back_gen.pth", Checkpoint(found.model, found.state, method=found.method))
    before, after = torch.load(path, weights_only=True), torch.load(tmp_path / "back_gen.pth", weights_only=True)
    assert list(before) == list(after)
    for name, tensor in before.items():
        if name != "denoise_fn.time_mlp.0.inv_freq":
            assert torch.equal(tensor, after[name]), name
    exponents = torch.arange(4) * 2 / 8
    torch.testing.assert_close(after["denoise_fn.time_mlp.0.inv_freq"], 10000.0**-exponents)


def test_what_does_not_belong_together_is_one_sentence(written, tmp_path):
    _, config, path = written()
    with pytest.raises(UserError, match="weights of a sr3-unet, and not its config: .*with train-faces/sr_sr3"):
        formats.load_for(path, None)
    with pytest.raises(UserError, match="weights of a sr3-unet, the config has the model 'ddpm-unet'"):
        formats.load_for(path, config_of(tmp_path, "ddpm-unet"))
    for change, message in (
        ({"steps": 30}, "has 20 steps, the config's schedule 30"),
        ({"end": 0.1}, "has betas from 0.001 to 0.2, the config's schedule 'linear' from 0.001 to 0.1"),
    ):
        with pytest.raises(UserError, match=message):
            formats.load_for(path, config_of(tmp_path, schedule=SCHEDULE | change))
    narrow = config_of(tmp_path, channel_mults=[1, 2, 4])
    with pytest.raises(UserError, match="holds another model"):
        native.restore(engine_of(narrow), formats.load_for(path, narrow).state, path)
