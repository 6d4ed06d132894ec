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


@torch.no_grad()
@pytest.mark.parametrize("size", [(11, 29), (24, 8), (1, 3)])
def test_swinirs_pixels_look_at_those_of_their_window(size):
    """Pixel by pixel: of the second block of a group the windows begin at 4, 12, .., and what comes from beyond an edge
    is masked; with biases that tell offsets apart, and an image that is reflected to whole windows."""
    args = {"depths": [2], "num_heads": [2], "embed_dim": 6, "no_upsampling": True}
    model = models.make({"name": "swinir", "args": args}).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    image = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (0, -size[0] % 8), (0, -size[1] % 8)), mode="reflect")
    first = model.conv_first(torch.from_numpy(padded))
    x = model.patch_embed.norm(first[0].permute(1, 2, 0))  # (H, W, C)
    group = model.layers[0]
    before = x
    for number, block in enumerate(group.residual_group.blocks):
        x = x + attended(block.attn, block.norm1(x), 4 * number)
        hidden = block.mlp.fc1(block.norm2(x))
        x = x + block.mlp.fc2(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2)
    x = before + group.conv(x.permute(2, 0, 1))[None][0].permute(1, 2, 0)
    x = model.conv_before_upsample[0](first + model.conv_after_body(model.norm(x).permute(2, 0, 1)[None]))
    expected = torch.where(x > 0, x, x / 100)[:, :, : size[0], : size[1]]
    assert expected.std() > 0.1
    torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-10)


def attended(attention: torch.nn.Module, x: torch.Tensor, shift: int) -> torch.Tensor:
    """(H, W, C): every pixel with all that lie in the same square of 8x8, where the squares begin at `shift`."""
    height, width, channels = x.shape
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    window = (place - shift).div(8, rounding_mode="floor")
    together = (window[:, None] == window[None]).all(dim=-1)
    offset = (place[:, None] - place[None] + 7).clamp(0, 14)
    bias = attention.relative_position_bias_table[offset[..., 0] * 15 + offset[..., 1]]
    found = []
    for head, part in enumerate(attention.qkv(x.flatten(0, 1)).view(-1, 3, 2, channels // 2).unbind(2)):
        query, key, value = part.unbind(1)
        scores = query @ key.T / (channels // 2) ** 0.5 + bias[..., head]
        found.append(scores.where(together, -torch.inf).softmax(dim=-1) @ value)
    return attention.proj(torch.cat(found, dim=1)).view(height, width, channels)


def test_swinirs_samples_go_by_a_block_with_its_probability():
    """By the first of two never, by the second every other time, and in prediction never."""
    args = {"depths": [2], "num_heads": [1], "embed_dim": 4, "no_upsampling": True, "drop_path_rate": 0.5}
    model = models.make({"name": "swinir", "args": args})
    first, last = model.layers[0].residual_group.blocks
    x = torch.rand(2000, 1, 1, 64, 4)
    torch.manual_seed(0)
    assert torch.equal(first.dropped(x), x) and torch.equal(last.eval().dropped(x), x)
    kept = last.train().dropped(x)[:, 0, 0, 0, 0] / x[:, 0, 0, 0, 0]
    assert set(kept.unique().tolist()) == {0, 2} and 0.45 < kept.mean() / 2 < 0.55


def test_heads_that_swinir_cannot_have():
    for args in ({"num_heads": [6]}, {"depths": [2], "num_heads": [7]}):
        with pytest.raises(UserError, match="expected num_heads for each of"):
            models.make({"name": "swinir", "args": args})


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
