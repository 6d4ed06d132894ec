"""How losses become updates, in both frameworks: parts of a batch, clipping, the average of the weights, float16."""

import importlib

import numpy as np
import pytest
import torch

from helpers.small_run import load_tree, losses_of, model_spec
from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.data.sampling import step_seed
from liif_core.engine import NetworkState, Update, split
from liif_core.system import devices

REGRESSION = {"name": "regression", "args": {}}
ADAM = {"name": "adam", "args": {"lr": 1e-3}}
PLAIN_STEP = {"name": "sgd", "args": {"lr": 1.0}}  # with a rate of 1 and no momentum the step is the gradient
# float32 sums in another order, of gradients up to 1: some 1e-7 each; 1e-5 leaves room for other processors.
TOLERANCE = 1e-5


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {
        "inp": rng.uniform(-1, 1, (5, 3, 9, 7)),
        "coord": rng.uniform(-1, 1, (5, 20, 2)),
        "cell": rng.uniform(0.05, 0.2, (5, 2)),
        "gt": rng.uniform(-1, 1, (5, 20, 3)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.fixture
def make(framework):
    """An engine that trains, from its seed; `rules` are those of an Update."""
    devices.prepare(framework, "cpu")

    def call(optimizer=PLAIN_STEP, precision="fp32", **rules):
        engine_class, _ = load_tree(framework)()
        engine = engine_class(model_spec(8), "cpu", REGRESSION, optimizer, precision, Update(**rules))
        engine.seed(1)
        return engine

    return call


def moved(engine, *batches) -> np.ndarray:
    """How far the steps went, all parameters in one vector."""
    before = engine.state()["model"].parameters
    for step in batches:
        engine.train_step(step)
    after = engine.state()["model"].parameters
    return np.concatenate([(after[name] - before[name]).ravel() for name in before])


def test_micro_batches_have_all_samples_and_their_weights():
    whole = batch()
    micro = split(whole, 3, 0.5)
    assert [len(each["inp"]) for each in micro] == [2, 2, 1]
    assert [each["weight"] for each in micro] == [0.2, 0.2, 0.1]
    np.testing.assert_array_equal(np.concatenate([each["gt"] for each in micro]), whole["gt"])
    assert len(split(whole, 9, 1.0)) == 5


def test_micro_batches_give_the_update_of_the_whole(make):
    whole, micro = make(), make(accumulate=2)
    np.testing.assert_allclose(moved(micro, batch()), moved(whole, batch()), rtol=0, atol=TOLERANCE)
    assert losses_of(micro) == pytest.approx(losses_of(whole), rel=TOLERANCE)


def test_micro_batches_count_as_one_update_of_adam(make):
    """Its bias correction depends on the number of updates; after 3 a wrong one would be off by a third."""
    steps = [batch(seed) for seed in range(3)]
    whole, micro = make(ADAM), make(ADAM, accumulate=2)
    expected, found = moved(whole, *steps), moved(micro, *steps)
    assert whole.state()["model"].optimizer["step"] == micro.state()["model"].optimizer["step"] == 3
    # Where a gradient is near zero its rounding error decides on the direction of Adam's step; elsewhere:
    assert np.mean(np.abs(found - expected) < 1e-5) > 0.99


def test_gradients_are_clipped_by_their_common_norm(make):
    free = moved(make(), batch())
    norm = np.linalg.norm(free)
    clipped = moved(make(clip_grad=norm / 3), batch())
    np.testing.assert_allclose(clipped, free / 3, rtol=0, atol=TOLERANCE)
    loose = moved(make(clip_grad=norm * 3), batch())
    np.testing.assert_allclose(loose, free, rtol=0, atol=TOLERANCE)


def test_the_average_follows_the_weights(make):
    engine = make(ADAM, ema=0.75)
    start = engine.state()["model"]
    expected = {name: array.astype(np.float64) for name, array in start.parameters.items()}
    for name, array in start.average.items():
        np.testing.assert_array_equal(array, start.parameters[name])
    for seed in range(3):
        engine.train_step(batch(seed))
        now = engine.state()["model"].parameters
        expected = {name: 0.75 * average + 0.25 * now[name] for name, average in expected.items()}
    for name, array in engine.state()["model"].average.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-6, err_msg=name)  # float32 near 0.1, 3 steps
    engine.begin_step(0, lambda base: base, 0.0)
    engine.train_step(batch())
    now = engine.state()["model"]
    for name, array in now.average.items():
        np.testing.assert_allclose(array, now.parameters[name], rtol=0, atol=1e-7, err_msg=name)


def test_the_average_is_what_predicts_and_what_others_read(make, framework, tmp_path):
    engine = make(ADAM, ema=0.9)
    for seed in range(3):
        engine.train_step(batch(seed))
    path = tmp_path / "run.safetensors"
    native.save(path, Checkpoint(model_spec(8), engine.state()))
    found = formats.load(path)
    assert found.state["model"].average.keys() == found.state["model"].parameters.keys()
    engine_class, _ = load_tree(framework)()
    predictor = engine_class(model_spec(8), "cpu")
    native.restore(predictor, found.state, path)
    queries = (batch()["inp"], batch()["coord"], batch()["cell"])
    averaged = predictor.predict_queries(*queries)
    np.testing.assert_array_equal(averaged, engine.predict_queries(*queries))
    predictor.load_state({"model": NetworkState(found.state["model"].parameters)})
    assert np.abs(predictor.predict_queries(*queries) - averaged).max() > 1e-4


def test_with_all_of_it_a_resumed_run_has_the_same_bits(make, tmp_path):
    rules = {"accumulate": 2, "clip_grad": 0.1, "ema": 0.9}
    first = make(ADAM, **rules)
    for seed in range(2):
        first.train_step(batch(seed))
    native.save(tmp_path / "half.safetensors", Checkpoint(model_spec(8), first.state()))
    second = make(ADAM, **rules)
    native.restore(second, formats.load(tmp_path / "half.safetensors").state, "half")
    for engine in (first, second):
        engine.train_step(batch(7))
    for kind in ("parameters", "optimizer", "average"):
        found, expected = (getattr(engine.state()["model"], kind) for engine in (second, first))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{kind} {name}")


def test_a_checkpoint_without_average_starts_one(make):
    source, engine = make(ADAM), make(ADAM, ema=0.9)
    source.train_step(batch())
    engine.load_state(source.state())
    for name, array in engine.state()["model"].average.items():
        np.testing.assert_array_equal(array, source.state()["model"].parameters[name])


def test_random_numbers_of_a_step_depend_on_seed_and_step_alone(make, framework):
    def draw(engine, seed, step):
        engine.begin_step(step_seed(seed, step), lambda base: base)
        if framework == "torch":
            return torch.rand(3).tolist()
        return importlib.import_module("jittor").rand(3).numpy().tolist()

    first, second = make(), make()
    third_step = [draw(first, 5, step) for step in (1, 2, 3)][-1]
    assert draw(second, 5, 3) == third_step  # as after a resume
    assert draw(second, 5, 4) != third_step and draw(second, 6, 3) != third_step


def test_float16_scales_its_gradients_and_resumes_to_the_same_bits(monkeypatch):
    """PyTorch alone. The CPU emulates float16, which the command refuses, for it is slow."""
    from liif_torch import engine as torch_engine

    monkeypatch.setattr(torch_engine, "native_precisions", lambda device: ["fp32", "fp16"])

    def make():
        engine = torch_engine.Engine(model_spec(8), "cpu", REGRESSION, ADAM, "fp16")
        engine.seed(1)
        return engine

    first, exact = make(), torch_engine.Engine(model_spec(8), "cpu", REGRESSION, ADAM)
    exact.seed(1)
    for seed in range(2):
        first.train_step(batch(seed))
        exact.train_step(batch(seed))
    assert losses_of(first) == pytest.approx(losses_of(exact), rel=2e-3)  # float16 keeps 11 bits
    first.networks["model"].updater.scaler.update(512.0)
    state = first.state()
    assert state["model"].optimizer["scaler.scale"] == 512
    second = make()
    second.load_state(state)
    for engine in (first, second):
        engine.train_step(batch(7))
    for name, array in first.state()["model"].parameters.items():
        np.testing.assert_array_equal(second.state()["model"].parameters[name], array)


def test_float16_leaves_out_a_step_whose_gradients_overflow(monkeypatch):
    from liif_torch import engine as torch_engine

    monkeypatch.setattr(torch_engine, "native_precisions", lambda device: ["fp32", "fp16"])
    engine = torch_engine.Engine(model_spec(8), "cpu", REGRESSION, ADAM, "fp16")
    engine.seed(1)
    engine.train_step(batch())
    engine.networks["model"].updater.scaler.update(2.0**60)
    assert not moved(engine, batch(1)).any()
    assert engine.state()["model"].optimizer["scaler.scale"] == 2.0**59
