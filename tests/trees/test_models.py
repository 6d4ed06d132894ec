"""The models in PyTorch: numbers of parameters as LIIF's, and the encoders' layers against plain formulations."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.models import DENOISERS, EDSR_X8, MODELS, NARROW, ONE_FACTOR, OTHERS, names_in, narrow_encoder
from liif_core.errors import UserError
from liif_torch.models import build as models
from liif_torch.models import registry


def count(spec: dict) -> int:
    return sum(parameter.numel() for parameter in models.make(spec).parameters())


def test_every_registered_model_has_a_row_in_the_table():
    """So that nothing that loops over the table leaves one out."""
    used = set(OTHERS).union(*(names_in(model.full) for model in (MODELS | ONE_FACTOR | DENOISERS).values()))
    assert used == set(registry.models.entries)


@pytest.mark.parametrize("name", [name for name, model in (MODELS | ONE_FACTOR).items() if model.parameters])
def test_parameters_are_as_many_as_counted_elsewhere(name):
    """Of MODELS printed by: python benchmarks/compare_upstream.py CLONE"""
    assert count((MODELS | ONE_FACTOR)[name].full) == (MODELS | ONE_FACTOR)[name].parameters


@pytest.mark.parametrize("name", OTHERS)
def test_networks_without_images_have_as_many_parameters_as_counted_by_hand(name):
    assert count({"name": name}) == OTHERS[name]


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_have_as_many_parameters_as_sr3_pytorchs(name):
    with torch.device("meta"):  # shapes alone
        assert count(DENOISERS[name].full) == DENOISERS[name].parameters


@torch.no_grad()
def test_vgg19_is_torchvisions_up_to_the_last_relu():
    torchvision = pytest.importorskip("torchvision")
    known = torchvision.models.vgg19(weights=None).features[:36]
    model = models.make({"name": "vgg19-features"})
    model.load_state_dict({f"features.{name}": value for name, value in known.state_dict().items()})
    x = torch.rand(1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    normalised = torchvision.transforms.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected = known(normalised)
    assert expected.shape == (1, 512, 2, 2) and expected.std() > 0.001
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_srcnn_works_on_pillows_bicubic_and_leaves_its_chroma():
    model = models.make({"name": "srcnn", "args": {"scale": 3, "kernel": 1}})
    image = np.random.default_rng(0).random((11, 17, 3), dtype=np.float32)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    resized = [Image.fromarray(plane).resize((51, 33), Image.Resampling.BICUBIC) for plane in planes]
    bicubic = np.stack([np.asarray(plane) for plane in resized])
    found = model(torch.from_numpy(planes)[None])[0].numpy()
    difference = found - bicubic
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:1], difference.shape), rtol=0, atol=1e-5)
    for layer in (model.conv1, model.conv2, model.conv3):
        layer.weight.zero_()
    restored = model(torch.from_numpy(planes)[None])[0].numpy()
    luma = np.tensordot([0.299, 0.587, 0.114], restored, axes=1)
    np.testing.assert_allclose(luma, float(model.conv3.bias), rtol=0, atol=1e-5)


def test_three_upsamplers_have_as_many_parameters_as_liifs():
    spec, parameters = EDSR_X8
    assert count(spec) == parameters


@torch.no_grad()
@pytest.mark.parametrize("config", ["A", "B"])
def test_rdn_fuses_its_blocks_as_their_concatenation(config):
    """The sum of one 1x1 convolution per block is the 1x1 convolution over all of them, side by side. Sums of 160
    products near 0.1 in another order: 1e-6 is ten times their rounding."""
    model = models.make({"name": "rdn", "args": {"G0": 8, "RDNconfig": config, "no_upsampling": True}})
    x = torch.randn(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    shallow = model.SFENet1(x)
    features, outputs = model.SFENet2(shallow), []
    for block in model.RDBs:
        dense = features
        for layer in block.convs:
            dense = torch.cat([dense, layer.conv[0](dense).relu()], dim=1)
        features = features + block.LFF(dense)
        outputs.append(features)
    expected = model.GFF(torch.cat(outputs, dim=1)) + shallow
    assert len(outputs) == {"A": 20, "B": 16}[config] and expected.std() > 0.01
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_rcan_weighs_its_channels():
    model = models.make(
        {
            "name": "rcan",
            "args": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4, "no_upsampling": True},
        }
    )
    x = torch.randn(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    head = model.head(x)
    first, _, second, attention = model.body[0].body[0].body
    down, _, up, _ = attention.conv_du
    body = second(first(head).clamp(min=0))
    means = body.flatten(2).mean(dim=2)
    hidden = (means @ down.weight[:, :, 0, 0].T + down.bias).clamp(min=0)
    weight = 1 / (1 + torch.exp(-(hidden @ up.weight[:, :, 0, 0].T + up.bias)))
    group = head + model.body[0].body[1](head + body * weight[:, :, None, None])
    torch.testing.assert_close(model(x), head + model.body[1](group), rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoder", NARROW)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_encoders_upscale_by_their_factor(encoder, scale):
    model = models.make(narrow_encoder(encoder, scale=scale))
    assert model(torch.zeros(1, 3, 5, 9)).shape == (1, 3, 5 * scale, 9 * scale)


@pytest.mark.parametrize(("encoder", "scale"), [("rdn", 8), ("rcan", 6), ("edsr", 5), ("edsr-baseline", 0)])
def test_other_factors_are_refused(encoder, scale):
    with pytest.raises(UserError, match=f"scale is {scale}: accepted is"):
        models.make({"name": encoder, "args": {"scale": scale}})


def test_a_configuration_that_rdn_does_not_have():
    with pytest.raises(UserError, match="RDNconfig.*'A' or 'B'"):
        models.make({"name": "rdn", "args": {"RDNconfig": "C"}})
