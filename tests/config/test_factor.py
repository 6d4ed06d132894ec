"""The factor of a model from its spec alone, against the signatures and the networks of the PyTorch tree."""

import inspect

import pytest
import torch

from helpers.models import EDSR_X8, MODELS, ONE_FACTOR
from liif_core.config.factor import SCALES, factor_of
from liif_torch.models import build
from liif_torch.models.registry import models


def test_every_model_with_a_scale_is_listed_with_its_default():
    found = {}
    for name, make in models.entries.items():
        scale = inspect.signature(make).parameters.get("scale")
        if scale is not None:
            found[name] = None if scale.default is scale.empty else scale.default
    assert found == SCALES


@pytest.mark.parametrize("name", [*MODELS, *ONE_FACTOR])
def test_the_factor_is_that_of_the_network(name):
    spec = (MODELS | ONE_FACTOR)[name].full
    with torch.device("meta"):
        network = build.make(spec)
    assert factor_of(spec) == getattr(network, "scale", None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "srresnet", "args": {}}, 4),
        ({"name": "srresnet"}, 4),
        ({"name": "edsr-baseline", "args": {"scale": 3}}, 3),
        ({"name": "liif", "args": {"encoder_spec": {"name": "edsr-baseline"}}}, 2),
        ({"name": "liif", "args": {"encoder_spec": {"name": "rdn", "args": {"scale": 4}}, "imnet_spec": None}}, 4),
        ({"name": "liif", "args": {"encoder_spec": EDSR_X8, "imnet_spec": {"name": "mlp"}}}, None),
        (
            {"name": "thera", "args": {"encoder_spec": {"name": "rdn", "args": {"scale": 3, "no_upsampling": True}}}},
            None,
        ),
        ({"name": "sr3-unet", "args": {"scale": None}}, None),
        ({"name": "a stranger's", "args": {"scale": 3}}, None),
        ({}, None),
    ],
)
def test_the_factor_is_what_the_spec_says_or_its_default(spec, expected):
    assert factor_of(spec) == expected
