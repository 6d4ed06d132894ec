"""Every model on the second GPU, without one: fake tensors know their device and refuse to be mixed, as real ones do.

What is computed is not; forward passes, images and losses of the PyTorch tree alone.
"""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers.models import MODELS, ONE_FACTOR, denoiser
from liif_torch.models import build
from liif_torch.models.decoders.features import encode
from liif_torch.models.encoders import swin

DEVICE = "cuda:1"


@pytest.fixture
def second_gpu():
    """What is made within is on a GPU that is not the first, and is no more than a shape."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(DEVICE):
        yield
    for constant in (swin._relative_index, swin._masks):  # fake ones
        constant.cache_clear()


def test_a_tensor_on_another_device_is_noticed(second_gpu):
    with pytest.raises(RuntimeError, match="two devices"):
        torch.zeros(2) + torch.zeros(2, device="cuda:0")


@pytest.mark.parametrize("name", [*MODELS, *ONE_FACTOR])
def test_queries_and_images_stay_on_the_device_of_the_model(second_gpu, name, shallow_rdn):
    model = build.make((MODELS | ONE_FACTOR)[name].spec)
    inp = torch.zeros(2, 3, 9, 11)
    if getattr(model, "scale", None) is not None:
        assert str(getattr(model, "encoder", model)(inp).device) == DEVICE
        return
    rng = np.random.default_rng(1)
    coord, cell = rng.uniform(-1, 1, (2, 7, 2)).astype(np.float32), np.full((2, 2), 0.1, np.float32)
    assert str(model(inp, coord, cell).device) == DEVICE
    with torch.no_grad():
        for band in model.decode_image(encode(model, inp[:1]), 23, 29):
            assert str(band.device) == DEVICE


@pytest.mark.parametrize("name", ["sr3-unet", "ddpm-unet"])
def test_noise_is_told_on_the_device_of_the_model(second_gpu, name):
    model = build.make(denoiser(name))
    x, level = torch.zeros(2, 6, 16, 32), torch.zeros(2, dtype=torch.long if name == "ddpm-unet" else torch.float32)
    assert str(model(x, level).device) == DEVICE
