"""The kernel of Triton that decodes LIIF on a GPU: its numbers in Triton's interpreter, which needs no GPU, and how it
compiles, which needs none either. What a GPU makes of it, liif_torch/models/decoders/bands.py tries before its first
use.

Tolerance: the kernel adds the same products in another order, in float32, at the end of four layers 256 wide: 4e-7 of
the largest value here. With float16 each layer rounds to 11 bits, 7e-4 in all. A slip in an index or a coordinate would
give 1e-2 at least. The interpreter has no products in bfloat16.
"""

import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from helpers import ROOT
from helpers.small_run import run
from liif_core.errors import UserError
from liif_torch.models.decoders import bands

pytest.importorskip("triton", reason="Triton cannot be imported")

# In a process of its own: Triton reads TRITON_INTERPRET when it is imported, and it changes its own functions.
NUMBERS = """
import os, sys, warnings
import numpy as np, torch
sys.path[:0] = ["tests", "benchmarks"]
import decode
from helpers.models import MODELS
from liif_torch.engine import Engine
from liif_torch.models.decoders import bands

warnings.filterwarnings("error", message="LIIF_TRITON")  # where the kernel is not used
calls, band = [], bands._by_kernel
bands._by_kernel = lambda *given: calls.append(given[3].dtype) or band(*given)
inp = np.random.default_rng(0).uniform(-1, 1, (1, 3, 5, 7)).astype(np.float32)

def spec(hidden, **flags):
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden}}
    return {"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet} | flags}

def images(spec):
    engine, found = Engine(spec, "cpu"), []
    engine.seed(0)
    for bands.ASKED in "10":
        found.append(np.concatenate(list(engine.predict_image(inp, 9, 11))))
    return found

def line(title, by_kernel, plain):
    print(title, len(calls), np.abs(by_kernel - plain).max() / np.abs(plain).max())
    calls.clear()

small = spec([64] * 4)
line("full", *images(spec([256] * 4)))
for flag in ("local_ensemble", "feat_unfold", "cell_decode"):
    line(flag, *images(spec([64] * 2, **{flag: False})))
where = torch.device("cpu")
print("float16", 1, bands._apart([256] * 4, 4, torch.float16, where))
bands.ASKED = "1"
work = decode.Kernel("torch", "fp32", "cpu", small, (5, 7), 2)
calls.clear()
work.once()
print("benchmark", len(calls), 0)
calls.clear()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    line("uncovered", *images(spec([64] * 3)))
    line("narrow", *images(spec([48] * 2)))
    bands._trouble.cache_clear()
    bands._by_kernel = lambda *given: band(*given) * 1.01
    line("wrong", *images(small))
    bands._trouble.cache_clear()
    bands._by_kernel = lambda *given: 1 / 0
    line("broken", *images(small))
print(*(warning.message for warning in said), sep="\\n")
"""


@pytest.mark.slow
def test_the_kernels_numbers_and_what_it_leaves_to_the_plain_path():
    result = run([sys.executable, "-c", NUMBERS], ROOT, LIIF_TRITON="1", TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    found = {name: (int(calls), float(apart)) for name, calls, apart in map(str.split, lines[:10])}
    assert {name: calls > 0 for name, (calls, _) in found.items()} == {
        name: name not in ("uncovered", "narrow", "wrong", "broken") for name in found
    }
    for name in ("full", "local_ensemble", "feat_unfold", "cell_decode"):
        assert 0 < found[name][1] < 2e-6, name
    assert 0 < found["float16"][1] < 2e-3
    assert all(found[name][1] == 0 for name in ("uncovered", "narrow", "wrong", "broken"))
    assert len(lines) == 14 and all(line.startswith("LIIF_TRITON=1: ") for line in lines[10:])
    assert "got [64, 64, 64, 3]" in lines[10] and "got [48, 48, 3]" in lines[11]
    assert "off by 1.0e-02" in lines[12] and "ZeroDivisionError: division by zero" in lines[13]


@torch.no_grad()
@pytest.mark.parametrize("asked", ["", "0", "1", "yes"])
def test_without_a_gpu_the_plain_path_stays(asked, monkeypatch):
    monkeypatch.setattr(bands, "ASKED", asked)
    if asked == "yes":
        with pytest.raises(UserError, match="LIIF_TRITON=yes: expected 1 .* or 0"):
            bands._asked(torch.device("cpu"))
    else:
        assert not bands._asked(torch.device("cpu")) and bands._asked(torch.device("cuda")) == (asked == "1")


@pytest.mark.parametrize(("memory", "layout"), [(163, "LARGE"), (227, "LARGE"), (99, "SMALL"), (64, "SMALL")])
def test_a_gpus_shared_memory_says_how_many_rows_a_program_takes(memory, layout, monkeypatch):
    found = SimpleNamespace(shared_memory_per_block_optin=memory * 2**10)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    where = torch.device("cuda")
    assert bands._layout(torch.bfloat16, where) == getattr(bands, layout)
    assert bands._layout(torch.float32, where) == bands.FLOAT32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "layout", "kind", "most"),
    [
        (80, "LARGE", "bf16", 163),
        (90, "LARGE", "bf16", 227),
        pytest.param(86, "SMALL", "bf16", 99, marks=pytest.mark.nightly),
        pytest.param(89, "SMALL", "fp16", 99, marks=pytest.mark.nightly),
        pytest.param(80, "LARGE", "fp16", 163, marks=pytest.mark.nightly),
        pytest.param(90, "LARGE", "fp16", 227, marks=pytest.mark.nightly),
        pytest.param(86, "FLOAT32", "fp32", 99, marks=pytest.mark.nightly),
        pytest.param(90, "FLOAT32", "fp32", 227, marks=pytest.mark.nightly),
    ],
)
def test_it_compiles_without_spilling_into_the_shared_memory_that_is_there(
    capability, layout, kind, most, monkeypatch, tmp_path
):
    """most: KiB that a program may have on that GPU, by NVIDIA's programming guide."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LIIF_TRITON", "1")
    spec = importlib.util.spec_from_file_location("asked", bands.__file__)
    asked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asked)  # which knows the kernel, as LIIF_TRITON was there before it
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    block, chunk, warps = getattr(bands, layout)
    constants = asked._shapes(256, 3, 4, block, chunk)
    types = dict.fromkeys(("first", "weights", "last"), f"*{kind}") | dict.fromkeys(("row", "column"), "*i32")
    types |= dict.fromkeys(("height", "width"), "i32") | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "*fp32") for name in asked._kernel.arg_names}
    aligned = {(n,): [["tt.divisibility", 16]] for n, kind in enumerate(signature.values()) if kind.startswith("*")}
    compiled = triton.compile(
        ASTSource(asked._kernel, signature, constants, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "num_stages": bands.STAGES},
    )
    assert 0 < compiled.metadata.shared <= most * 2**10
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", cubin]
    used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{name}:(\d+)", used)[1]) for name in ("REG", "STACK", "LOCAL"))
    assert 32 < registers <= 255 and stack == local == 0, used  # what does not fit goes to the stack
