"""Learning rate and initial parameters: pure functions that both frameworks start from."""

import math

import numpy as np
import pytest
import torch

from liif_core.config.schema import CosineLR, MultiStepLR, Warmup
from liif_core.training.initial import initial_parameters
from liif_core.training.schedule import decay, learning_rate


def test_the_paper_recipe_by_hand():
    steps = MultiStepLR(milestones=[200, 400, 600, 800], gamma=0.5)
    rates = {epoch: learning_rate(1e-4, epoch, steps) for epoch in (1, 200, 201, 400, 401, 801, 1000)}
    assert rates == {1: 1e-4, 200: 1e-4, 201: 5e-5, 400: 5e-5, 401: 2.5e-5, 801: 6.25e-6, 1000: 6.25e-6}


def test_no_milestones_no_decay():
    assert learning_rate(3e-4, 10**6, None) == 3e-4


def test_the_order_of_milestones_does_not_matter():
    steps = MultiStepLR(milestones=[9, 3], gamma=0.1)
    assert [learning_rate(1.0, epoch, steps) for epoch in (3, 4, 9, 10)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_equals_the_scheduler_that_steps_when_an_epoch_ends():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3, 7], gamma=0.5)
    ours = MultiStepLR(milestones=[2, 3, 7], gamma=0.5)
    for epoch in range(1, 11):
        assert learning_rate(1e-3, epoch, ours) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


def test_the_average_is_short_in_the_beginning():
    assert [decay(0.999, steps) for steps in (0, 1, 90, 8990, 10**6)] == [0.1, 2 / 11, 0.91, 0.999, 0.999]
    assert decay(None, 3) is None


def test_warm_up_is_a_line_and_the_cosine_begins_behind_it():
    """SRNO's: 4e-5 times 10 over 50 epochs, then a cosine over the other 1000."""
    warmup, cosine = Warmup(epochs=50, factor=0.1), CosineLR()
    rates = [learning_rate(4e-4, epoch, cosine, 1050, warmup) for epoch in (1, 26, 51, 551, 1051)]
    assert rates == pytest.approx([4e-5, 2.2e-4, 4e-4, 2e-4, 0], abs=1e-12)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=4e-4)
    line = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=50)
    wave = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [line, wave], [50])
    for epoch in range(1, 1051):
        assert learning_rate(4e-4, epoch, cosine, 1050, warmup) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    steps = MultiStepLR(milestones=[3], gamma=0.5)
    assert [learning_rate(1.0, e, steps, 9, Warmup(epochs=2)) for e in (1, 2, 3, 4)] == [0, 0.5, 1, 0.5]


SHAPES = {
    "head.weight": (64, 3, 3, 3),
    "head.bias": (64,),
    "imnet.layers.0.weight": (256, 580),
    "imnet.layers.0.bias": (256,),
}


def test_initial_parameters_are_a_pure_function_of_seed_and_name():
    first, again, other = (initial_parameters(SHAPES, seed) for seed in (7, 7, 8))
    for name in SHAPES:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all()


def test_a_parameter_does_not_depend_on_the_others():
    # So the encoders of two experiments with different MLPs start equal, and the MLPs of two with different encoders.
    alone = initial_parameters({name: SHAPES[name] for name in ("imnet.layers.0.bias", "imnet.layers.0.weight")}, 7)
    for name, array in alone.items():
        np.testing.assert_array_equal(array, initial_parameters(SHAPES, 7)[name])


@pytest.mark.parametrize("name", SHAPES)
def test_distribution_is_uniform_within_one_over_root_fan_in(name):
    array = initial_parameters(SHAPES, 0)[name]
    bound = 1 / math.sqrt(27 if name.startswith("head") else 580)
    assert array.dtype == np.float32 and array.shape == SHAPES[name]
    assert np.abs(array).max() <= bound
    # The standard deviation of a uniform distribution is bound / sqrt(3); four standard errors around it.
    deviation = bound / math.sqrt(3)
    assert abs(array.mean()) < 4 * deviation / math.sqrt(array.size)
    assert abs(array.std() / deviation - 1) < 4 / math.sqrt(array.size)


def test_bounds_are_those_of_pytorch():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 512, 3)
    ours = initial_parameters({"c.weight": (512, 3, 3, 3), "c.bias": (512,)}, 0)
    # The largest of n uniform numbers misses the bound by about bound / n.
    assert convolution.weight.detach().abs().max().item() == pytest.approx(np.abs(ours["c.weight"]).max(), rel=1e-3)
    assert convolution.bias.detach().abs().max().item() == pytest.approx(np.abs(ours["c.bias"]).max(), rel=2e-2)


def test_swins_layers_start_normal_and_without_bias():
    shapes, kinds = {"qkv.weight": (60, 90), "qkv.bias": (60,)}, {"qkv.weight": "normal", "qkv.bias": "zero"}
    parameters = initial_parameters(shapes, 0, kinds)
    assert not parameters["qkv.bias"].any() and parameters["qkv.weight"].dtype == np.float32
    weight = parameters["qkv.weight"] / 0.02
    assert abs(weight.mean()) < 0.05 and weight.std() == pytest.approx(1, abs=0.05)
    assert (np.abs(weight) > 2).mean() == pytest.approx(0.0455, abs=0.015)  # of a uniform one of this deviation none
