"""Optimisers: their state goes to numpy and back, and steps after that have the same bits."""

import numpy as np
import pytest
import torch

from helpers.small_run import losses_of
from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.errors import UserError
from liif_torch import optim
from liif_torch.engine import Engine

SPECS = {
    "adam": {"name": "adam", "args": {"lr": 1e-3}},
    "adam-decay": {"name": "adam", "args": {"lr": 1e-3, "weight_decay": 0.01, "betas": [0.8, 0.9], "eps": 1e-6}},
    "adamw": {"name": "adamw", "args": {"lr": 1e-3, "weight_decay": 0.1}},
    "sgd": {"name": "sgd", "args": {"lr": 0.1}},
    "sgd-momentum": {"name": "sgd", "args": {"lr": 0.1, "momentum": 0.9, "nesterov": True}},
}
MODEL = {
    "name": "liif",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}},
        "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}},
    },
}


def make_engine(name: str, seed: int) -> Engine:
    engine = Engine(MODEL, "cpu", {"name": "regression", "args": {}}, SPECS[name])
    engine.seed(seed)
    return engine


def batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {
        "inp": rng.uniform(-1, 1, (2, 3, 9, 7)),
        "coord": rng.uniform(-1, 1, (2, 20, 2)),
        "cell": rng.uniform(0.05, 0.2, (2, 2)),
        "gt": rng.uniform(-1, 1, (2, 20, 3)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def assert_same_bits(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("name", SPECS)
def test_steps_after_a_checkpoint_have_the_same_bits(name, tmp_path):
    first = make_engine(name, seed=1)
    for step in range(3):
        first.train_step(batch(step))
    native.save(tmp_path / "half.safetensors", Checkpoint(MODEL, first.state()))
    for step in range(3, 6):
        first.train_step(batch(step))

    second = make_engine(name, seed=2)
    second.train_step(batch(99))  # moments that must be overwritten
    native.restore(second, formats.load(tmp_path / "half.safetensors").state, "half")
    second.read_losses()
    for step in range(3, 6):
        second.train_step(batch(step))

    assert losses_of(second) == losses_of(first)[3:]
    assert_same_bits(second.state()["model"].parameters, first.state()["model"].parameters)
    assert_same_bits(second.state()["model"].optimizer, first.state()["model"].optimizer)


def test_the_moments_matter(tmp_path):
    """What the test above would not notice if steps with and without moments were the same."""
    first, second = make_engine("adam", seed=1), make_engine("adam", seed=1)
    for step in range(3):
        first.train_step(batch(step))
    state = first.state()
    state["model"].optimizer = {}
    second.load_state(state)
    for engine in (first, second):
        engine.train_step(batch(3))
    difference = (
        first.state()["model"].parameters["imnet.layers.2.bias"]
        - second.state()["model"].parameters["imnet.layers.2.bias"]
    )
    assert np.abs(difference).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "moments"),
    [("adam", {"exp_avg", "exp_avg_sq"}), ("sgd", set()), ("sgd-momentum", {"momentum_buffer"})],
)
def test_moments_stand_under_the_name_of_their_parameter(name, moments):
    engine = make_engine(name, seed=1)
    assert engine.state()["model"].optimizer == {}
    engine.train_step(batch(0))
    state = engine.state()["model"]
    expected = {f"{moment}.{parameter}" for moment in moments for parameter in state.parameters}
    assert set(state.optimizer) - {"step"} == expected
    if name == "adam":
        assert float(state.optimizer["step"]) == 1


def test_state_is_a_copy():
    engine = make_engine("adam", seed=1)
    engine.train_step(batch(0))
    before = engine.state()["model"]
    kept = {name: array.copy() for name, array in (before.parameters | before.optimizer).items()}
    engine.train_step(batch(1))
    assert_same_bits(before.parameters | before.optimizer, kept)


def test_losses_are_read_once_and_in_order():
    engine = make_engine("adam", seed=1)
    assert losses_of(engine) == []
    for step in range(2):
        engine.train_step(batch(step))
    losses = losses_of(engine)
    assert len(losses) == 2 and losses[0] != losses[1]
    assert losses_of(engine) == []


def test_one_adam_step_by_hand():
    """Kingma and Ba, algorithm 1: the first step is lr * g / (|g| + eps)."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = optim.make(SPECS["adam"], params=[parameter])
    optim.set_lr(optimizer, 0.5)
    parameter.grad = torch.tensor([4.0, -0.25])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.5, -1.5]), rtol=0, atol=1e-6)


def test_one_step_of_plain_descent_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = optim.make(SPECS["sgd"], params=[parameter])
    parameter.grad = torch.tensor([4.0, -0.25])
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.6, -1.975]), rtol=0, atol=1e-6)


def test_weight_decay_joins_the_gradient():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = optim.make({"name": "sgd", "args": {"lr": 0.1, "weight_decay": 0.5}}, params=[parameter])
    parameter.grad = torch.tensor([2.0])
    optimizer.step()
    assert parameter.item() == pytest.approx(1 - 0.1 * (2 + 0.5))


@pytest.mark.parametrize("learning_rate", ["1e-3", 1e-3])
def test_a_rate_that_yaml_reads_as_text_is_a_number(learning_rate):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = optim.make({"name": "adam", "args": {"lr": learning_rate}}, params=[parameter])
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_unknown_optimizer_and_argument():
    with pytest.raises(UserError, match="'adam'.*known: adam, adamw, sgd"):
        optim.make({"name": "adan", "args": {"lr": 1}}, params=[])
    with pytest.raises(UserError, match="'momentun'.*did you mean 'momentum'"):
        optim.make({"name": "sgd", "args": {"lr": 1, "momentun": 0.9}}, params=[])


def test_a_predictor_takes_a_training_checkpoint(tmp_path):
    """test.py and demo.py build no optimizer, and the checkpoint of a run brings its moments along."""
    engine = make_engine("adam", seed=1)
    engine.train_step(batch(0))
    predictor = Engine(MODEL, "cpu")
    assert predictor.state()["model"].optimizer == {}
    native.restore(predictor, engine.state(), "run")
    assert_same_bits(predictor.state()["model"].parameters, engine.state()["model"].parameters)


def test_loaded_moments_lie_in_memory_as_their_parameters_do():
    """Channels last, as the model is: other strides would keep a GPU from updating all parameters at once."""
    engine, other = make_engine("adam", seed=1), make_engine("adam", seed=2)
    engine.train_step(batch(0))
    other.load_state(engine.state())
    for parameter in other.networks["model"].module.parameters():
        moments = other.networks["model"].updater.optimizer.state[parameter]
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()
