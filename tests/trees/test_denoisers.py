"""SR3's and DDPM's networks in both frameworks, against their equations and each other."""

import importlib

import numpy as np
import pytest

from helpers.models import DENOISERS, denoiser
from helpers.plain_unet import unet
from helpers.small_run import FRAMEWORKS, WITHOUT_JITTOR, load_tree
from liif_core.errors import UserError
from liif_core.system import devices

NAMES = {"sr3-unet": "level", "ddpm-unet": "step"}
SGD = {"name": "sgd", "args": {"lr": 1.0}}


def tensor_of(framework: str):
    """How an array becomes the framework's."""
    return (
        importlib.import_module("torch").from_numpy if framework == "torch" else importlib.import_module("jittor").array
    )


def make(framework: str, spec: dict):
    devices.prepare(framework, "cpu")
    engine_class, _ = load_tree(framework)()
    engine = engine_class(spec, "cpu", {"name": "diffusion"}, SGD)
    engine.seed(3)
    return engine


def images(channels: int) -> np.ndarray:
    """Two images that are not square."""
    return np.random.default_rng(0).uniform(-1, 1, (2, channels, 12, 20)).astype(np.float32)


LEVELS = {"level": np.array([0.05, 0.97], np.float32), "step": np.array([3, 1900], np.float32)}


@pytest.mark.parametrize("name", NAMES)
def test_a_denoiser_is_the_plain_unet(framework, name):
    engine = make(framework, denoiser(name))
    network = engine.networks["model"].module
    assert network.told == NAMES[name]
    # Biases and norms start at 0 and 1, with which an exchange would not be seen.
    state = engine.state()
    for key, array in state["model"].parameters.items():
        rng = np.random.default_rng(len(key))
        state["model"].parameters[key] = array + 0.1 * rng.standard_normal(array.shape).astype(np.float32)
    engine.load_state(state)
    array, level = tensor_of(framework), LEVELS[network.told]
    found = network(array(images(6)), array(level))
    expected = unet(state["model"].parameters, images(6), level, denoiser(name)["args"])
    found = found.detach().numpy() if framework == "torch" else found.numpy()
    assert found.shape == (2, 3, 12, 20) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # float32 sums of 288 products near 1


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 2e-6), ("bfloat16", 4e-3)])
@pytest.mark.parametrize("last", [True, False])
def test_pytorchs_group_norm_has_the_gradients_of_torchs_own(dtype, tolerance, last):
    """The tolerances are some roundings of a value, in 53, 24 and 8 bits."""
    import torch
    from torch.nn import functional

    from liif_torch.models.layers import group_norm

    rng, double = np.random.default_rng(1), torch.float64
    arrays = [
        rng.standard_normal((3, 12, 7, 11)) + 1,
        *rng.standard_normal((2, 12)),
        rng.standard_normal((3, 12, 7, 11)),
    ]
    layer = group_norm(4, 12).to(double if dtype == "float64" else torch.float32)
    with torch.no_grad():
        for own, array in zip((layer.weight, layer.bias), arrays[1:], strict=False):
            own.copy_(torch.from_numpy(array))
    image, gradient = (torch.from_numpy(array).to(getattr(torch, dtype)) for array in (arrays[0], arrays[3]))
    image = image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    result = layer(image)
    found = torch.autograd.grad(result, [image, layer.weight, layer.bias], gradient)
    plain = [one.detach().to(double).requires_grad_() for one in (image, layer.weight, layer.bias)]
    expected_result = functional.group_norm(plain[0], 4, *plain[1:], layer.eps)
    expected = torch.autograd.grad(expected_result, plain, gradient.to(double))
    for one, other in zip((result, *found), (expected_result, *expected), strict=True):
        assert one.shape == other.shape
        assert torch.linalg.norm(one.to(double) - other) <= tolerance * torch.linalg.norm(other)


@pytest.mark.jittor
def test_weights_start_orthogonal_and_equal_in_both_frameworks():
    states = [make(framework, denoiser("sr3-unet")).state()["model"].parameters for framework in FRAMEWORKS]
    first = states[0]
    for key, array in first.items():
        assert all(np.array_equal(array, other[key]) for other in states[1:])
        if key.endswith("bias"):
            assert not array.any(), key
        elif array.ndim == 1:
            assert (array == 1).all(), key
        else:
            matrix = array.reshape(len(array), -1).astype(np.float64)
            matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), rtol=0, atol=1e-6)


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="of Jittor")
def test_a_denoiser_in_jittor_has_the_parameters_of_pytorchs():
    """Of one full config, whose shapes are told without a value being computed."""
    devices.prepare("jittor", "cpu")
    from liif_jittor.models import build

    name = "sr_ddpm_16_128"
    module = build.make(DENOISERS[name].full)
    assert sum(parameter.numel() for parameter in module.parameters()) == DENOISERS[name].parameters


def test_what_a_denoiser_cannot_take_is_one_sentence(framework):
    engine = make(framework, denoiser("sr3-unet", scale=None))
    array = tensor_of(framework)
    with pytest.raises(UserError, match="whose sides are multiples of 4, got 12x18 pixels"):
        engine.networks["model"].module(array(images(3)[:, :, :, :18].copy()), array(LEVELS["level"]))
    with pytest.raises(UserError, match="'inner_channel' is 8 and its 'norm_groups' 3: expected .* widths 8, 16, 16"):
        make(framework, denoiser("sr3-unet", norm_groups=3))


def test_images_stay_channels_last_and_the_level_in_float32_with_bf16():
    """Nothing is copied into another layout, and neighbouring levels are not rounded to one."""
    if not devices.cpu_has_bf16():
        pytest.skip("this processor has no bf16 arithmetic")
    import torch

    engine_class, _ = load_tree("torch")()
    engine = engine_class(denoiser("sr3-unet"), "cpu", {"name": "diffusion"}, SGD, "bf16")
    engine.seed(3)
    network, layouts, embedded = engine.networks["model"].module, [], []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.GroupNorm):
            layer.register_forward_hook(lambda _, given, __: layouts.append(given[0]))
    network.noise_level_mlp.register_forward_hook(lambda _, __, found: embedded.append(found))
    levels = torch.tensor([0.9990, 0.9991])
    with torch.no_grad(), engine.backend.arithmetic():
        found = network(engine.backend.images(images(6)), levels)
    assert len(layouts) > 60 and all(x.is_contiguous(memory_format=torch.channels_last) for x in layouts)
    assert found.dtype == torch.bfloat16 and embedded[0].dtype == torch.float32
    assert (embedded[0][0] != embedded[0][1]).any()
    expected = unet(engine.state()["model"].parameters, images(6), levels.numpy(), denoiser("sr3-unet")["args"])
    assert 0 < np.abs(found.float().numpy() - expected).max() < 0.03 * np.abs(expected).max()  # 8 bits of mantissa
