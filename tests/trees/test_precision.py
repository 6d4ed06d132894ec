"""16-bit arithmetic: what it may cost, and where it is refused."""

import numpy as np
import pytest
import torch

from helpers import ROOT
from helpers.models import MODELS
from helpers.small_run import losses_of
from liif_core.checkpoints import formats, native
from liif_core.config.schema import DataNorm
from liif_core.engine import choose_precision
from liif_core.errors import UserError
from liif_core.evaluation import psnr_ssim
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference.network import Network
from liif_core.system import devices
from liif_core.system.places import PRETRAINED
from liif_torch.engine import Engine, native_precisions

needs_bf16 = pytest.mark.skipif(not devices.cpu_has_bf16(), reason="this processor has no bf16 arithmetic")
METASR = {
    "name": "metasr",
    "args": {
        "encoder_spec": {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    },
}
REGRESSION, ADAM = {"name": "regression", "args": {}}, {"name": "adam", "args": {"lr": 1e-3}}


def test_a_precision_that_would_be_emulated_is_refused():
    assert choose_precision("auto", ["bf16", "fp32"], "here") == "bf16"
    assert choose_precision("fp32", ["bf16", "fp32"], "here") == "fp32"
    with pytest.raises(UserError, match="precision 'fp16': PyTorch on this cpu computes in"):
        Engine(METASR, "cpu", precision="fp16")


def test_a_processor_without_bf16(monkeypatch):
    monkeypatch.setattr("liif_torch.engine.cpu_has_bf16", lambda: False)
    assert native_precisions("cpu") == ["fp32"]
    assert Engine(METASR, "cpu", precision="auto").precision == "fp32"
    with pytest.raises(UserError, match="precision 'bf16': PyTorch on this cpu computes in fp32"):
        Engine(METASR, "cpu", precision="bf16")


def upscale(precision: str, low: np.ndarray, height: int, width: int) -> np.ndarray:
    found = formats.load(PRETRAINED)
    engine = Engine(found.model, "cpu", precision=precision)
    native.restore(engine, found.state, PRETRAINED)
    return Network(engine, Normalisation(DataNorm.model_validate(found.data_norm)))(low, height, width)


@pytest.mark.slow
@needs_bf16
@pytest.mark.skipif(not PRETRAINED.exists(), reason="needs the weights in pretrained/")
@pytest.mark.parametrize("factor", [3, 3.7])
def test_bf16_costs_less_than_a_hundredth_of_a_decibel(factor):
    high = rgb8.read_image(ROOT / "examples" / "chelsea.png")[60:231, 80:301]  # 171 x 221
    low = rgb8.resize(high, round(171 / factor), round(221 / factor))
    exact, rounded = (upscale(precision, low, 171, 221) for precision in ("fp32", "bf16"))
    assert 0 < np.abs(exact - rounded).max() < 4 / 255  # other arithmetic, the same image
    psnr = [psnr_ssim.psnr(image, rgb8.to_float(high)) for image in (exact, rounded)]
    assert abs(psnr[0] - psnr[1]) < 0.01


@needs_bf16
@pytest.mark.parametrize("spec", [METASR, *(MODELS[f"edsr-baseline-{name}"].spec for name in ("lte", "srno"))])
@pytest.mark.parametrize("size", [(22, 34), (41, 63)], ids=["whole factors", "any factors"])
def test_other_decoders_in_bf16(size, spec):
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 11, 17)).astype(np.float32)
    images = []
    for precision in ("fp32", "bf16"):
        engine = Engine(spec, "cpu", precision=precision)
        engine.seed(0)
        images.append(np.concatenate(list(engine.predict_image(image, *size))))
    # 8 bits of mantissa in products whose sum is near 1: relative errors of 2^-9 that partly cancel.
    assert 0 < np.abs(images[0] - images[1]).max() < 0.03 * np.abs(images[0]).max()


@needs_bf16
def test_training_in_bf16_keeps_parameters_in_float32_and_follows():
    rng = np.random.default_rng(0)
    batch = {
        "inp": rng.uniform(-1, 1, (2, 3, 11, 17)).astype(np.float32),
        "coord": rng.uniform(-1, 1, (2, 64, 2)).astype(np.float32),
        "cell": rng.uniform(0.02, 0.2, (2, 2)).astype(np.float32),
        "gt": rng.uniform(-1, 1, (2, 64, 3)).astype(np.float32),
    }
    losses = []
    for precision in ("fp32", "bf16"):
        engine = Engine(METASR, "cpu", REGRESSION, ADAM, precision)
        engine.seed(0)
        for _ in range(10):
            engine.train_step(batch)
        losses.append(losses_of(engine))
        assert all(parameter.dtype == torch.float32 for parameter in engine.networks["model"].module.parameters())
    assert losses[0] != losses[1] and losses[1][-1] < 0.9 * losses[1][0]
    np.testing.assert_allclose(*losses, rtol=0.03)
