"""LIIF's decoding function over bands of output rows, from the first layer's map: where decoding spends its time.

PyTorch: on a GPU one kernel of Triton (https://triton-lang.org) does it where LIIF_TRITON=1 asks for that; Jittor
compiles its kernels itself. By the plain path each layer's rows go through the GPU's memory, 1 KB for each pixel and
neighbour, forward and back; in the kernel they stay where products are made, and weights alone stream through shared
memory. A program of it takes BLOCK rows, each one neighbour of one pixel, the S neighbours of a pixel side by side. Of
two layers that follow each other, the first gives CHUNK features at a time, of which the second takes its part at once:

    h = relu(b_0 + sum over chunks of  relu(first[place] + relative coordinates) W_0)                       (BLOCK, D)
    h = relu(b_2 + sum over chunks of  relu(h W_1 + b_1) W_2)         for each further pair of layers       (BLOCK, D)
    colour = sum over the S rows of a pixel of  weight (h W_last + b_last)

so that it needs an even number of hidden layers. Products are in the type of `first`, sums in float32.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_torch.models.decoders.gather import on_device_of
from liif_torch.models.registry import make

ASKED = os.environ.get("LIIF_TRITON", "")
triton: Any = None
tl: Any = None
if ASKED == "1":  # it takes a quarter of a second
    with contextlib.suppress(ImportError):
        triton, tl = importlib.import_module("triton"), importlib.import_module("triton.language")

# BLOCK, CHUNK and warps. For D = 256 no register is spilled, and of shared memory LARGE takes 104 KiB on an A100 and
# 64 KiB on an H100, SMALL 68 KiB, FLOAT32 66 KiB: tests/trees/test_torch_bands.py compiles them. A larger CHUNK leaves
# an H100 too few registers to have several products on their way.
LARGE, SMALL, FLOAT32 = (128, 32, 8), (64, 32, 8), (32, 16, 8)
LARGE_MEMORY = 160 * 2**10  # bytes of shared memory that a program may have, where LARGE fits
STAGES = 2  # chunks of weights that are on their way at a time
COLOURS = 16  # columns of the last product: three, and zeros, since tensor cores take no fewer
WIDTHS = (64, 128, 256)
# How far the kernel may be from float32, against the largest value, on a small image. float32 adds in another order:
# 1e-6; TF32 would be at 1e-3. With 8 or 11 bits of mantissa, layers are each rounded by 2^-9 or 2^-12.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}

Position = Sequence[Tensor]


def decode_bands(
    imnet: Any, grid: grids.Grid, position: Position, first: Tensor, top: int, bands: Sequence[slice]
) -> Iterator[Tensor]:
    """Bands of output rows, (rows, w, 3) each, from feature vectors ((bottom - top) * W, D).

    imnet: an MLP. position: what LIIF.position_on_grid gives behind the constant. Raises UserError for an LIIF_TRITON
    that is neither 0 nor 1.
    """
    decode = _plain
    if _asked(first.device):
        widths = tuple(layer.out_features for layer in imnet.layers[::2])
        if trouble := _trouble(widths, grid.corners, first.dtype, first.device):
            warnings.warn(f"LIIF_TRITON=1: the kernel of Triton is not used here: {trouble}", stacklevel=2)
        else:
            decode = _by_kernel
    if decode is _plain:
        first = first.float()  # PyTorch: with autocast it has 16 bits, but coordinates are added to it
    for rows in bands:
        yield decode(imnet, grid, position, first, top, rows)


def _plain(imnet: Any, grid: grids.Grid, position: Position, first: Tensor, top: int, rows: slice) -> Tensor:
    on_down, on_right, down, right = position
    band = []
    for columns in grid.across:
        index, weight = on_device_of(first, *grid.neighbours(rows, columns, top))
        x = first.index_select(0, index.flatten()).view(*index.shape, -1)  # (S, rows, columns, D)
        x += down[:, rows].unsqueeze(2) * on_down  # (S, rows, 1, D)
        x += right[:, columns].unsqueeze(1) * on_right  # (S, 1, columns, D)
        x = imnet.after_first(x.flatten(0, 2)).view(*index.shape, -1)
        band.append((x * weight.unsqueeze(-1)).sum(dim=0))  # (rows, columns, 3)
    return torch.cat(band, dim=1)


def _asked(device: torch.device) -> bool:
    """Whether the kernel shall run, and could: on a GPU, or in Triton's interpreter."""
    if ASKED not in ("", "0", "1"):
        raise UserError(f"LIIF_TRITON={ASKED}: expected 1 for the kernel of Triton, or 0")
    runs = device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return ASKED == "1" and runs and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def _jit(function: Any) -> Any:
    return triton.jit(do_not_specialize=["height", "width"])(function) if triton else function


@_jit
def _relu(x):
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@_jit
def _area(down, right, corner, y, x, height, width, MIN_AREA: tl.constexpr):
    """Of the rectangle between queries and a neighbour (equation 4)."""
    return tl.abs(tl.load(down + corner * height + y) * tl.load(right + corner * width + x)) + MIN_AREA


@_jit
def _kernel(
    first,  # (n, D)
    row,  # (S, height) int32: the first feature vector of a neighbour's feature row
    column,  # (S, width) int32
    down,  # (S, height): relative coordinates
    right,  # (S, width)
    on_down,  # (D,): what they are multiplied with
    on_right,  # (D,)
    weights,  # (layers, D in, D out)
    biases,  # (layers, D)
    last,  # (D, COLOURS)
    last_bias,  # (COLOURS,)
    out,  # (height, width, 3)
    height,
    width,
    S: tl.constexpr,
    D: tl.constexpr,
    PAIRS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    COLOURS: tl.constexpr,
    MIN_AREA: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    corner = rows % S
    pixel = tl.minimum(rows // S, height * width - 1)  # behind the last one it is computed again, and not stored
    y, x = pixel // width, pixel % width
    place = tl.load(row + corner * height + y) + tl.load(column + corner * width + x)
    vectors = first + place.to(tl.int64)[:, None] * D
    relative_down = tl.load(down + corner * height + y)[:, None]
    relative_right = tl.load(right + corner * width + x)[:, None]

    every = tl.arange(0, D)
    total = tl.zeros((BLOCK, D), tl.float32)
    for start in range(0, D, CHUNK):
        some = start + tl.arange(0, CHUNK)
        h = tl.load(vectors + some).to(tl.float32)
        h += relative_down * tl.load(on_down + some)
        h += relative_right * tl.load(on_right + some)
        h = _relu(h).to(weights.dtype.element_ty)
        total = tl.dot(h, tl.load(weights + some[:, None] * D + every), total, input_precision="ieee")
    h = _relu(total + tl.load(biases + every)).to(weights.dtype.element_ty)

    for pair in tl.static_range(PAIRS):
        w1, b1 = weights + (2 * pair + 1) * D * D, biases + (2 * pair + 1) * D
        w2, b2 = w1 + D * D, b1 + D
        total = tl.zeros((BLOCK, D), tl.float32)
        for start in range(0, D, CHUNK):
            some = start + tl.arange(0, CHUNK)
            part = tl.dot(h, tl.load(w1 + every[:, None] * D + some), input_precision="ieee")
            part = _relu(part + tl.load(b1 + some)).to(h.dtype)
            total = tl.dot(part, tl.load(w2 + some[:, None] * D + every), total, input_precision="ieee")
        h = _relu(total + tl.load(b2 + every)).to(h.dtype)

    colour = tl.arange(0, COLOURS)
    rgb = tl.dot(h, tl.load(last + every[:, None] * COLOURS + colour), input_precision="ieee")
    rgb += tl.load(last_bias + colour)
    areas = tl.zeros((BLOCK,), tl.float32)
    for other in tl.static_range(S):
        areas += _area(down, right, other, y, x, height, width, MIN_AREA)
    weight = _area(down, right, S - 1 - corner, y, x, height, width, MIN_AREA) / areas
    rgb = tl.sum(tl.reshape(rgb * weight[:, None], (BLOCK // S, S, COLOURS)), axis=1)
    pixel = tl.program_id(0) * (BLOCK // S) + tl.arange(0, BLOCK // S)
    tl.store(out + pixel[:, None] * 3 + colour, rgb, (pixel < height * width)[:, None] & (colour < 3))


def _by_kernel(imnet: Any, grid: grids.Grid, position: Position, first: Tensor, top: int, rows: slice) -> Tensor:
    """As `_plain`, in products of the type of `first`. No gradient."""
    on_down, on_right, down, right = position
    layers, last = list(imnet.layers[2:-1:2]), imnet.layers[-1]
    dtype, (_, width) = first.dtype, first.shape
    weights = torch.stack([layer.weight.T for layer in layers]).to(dtype)
    biases = torch.stack([layer.bias for layer in layers])
    colours = COLOURS - 3
    row, column = on_device_of(
        first, ((grid.row[:, rows] - top) * grid.size[1]).astype(np.int32), grid.column.astype(np.int32)
    )
    out = torch.empty(rows.stop - rows.start, grid.output[1], 3, device=first.device)
    block, chunk, warps = _layout(dtype, first.device)
    programs = triton.cdiv(out.shape[0] * out.shape[1] * grid.corners, block)
    with torch.cuda.device_of(first):
        _kernel[(programs,)](
            *(first.contiguous(), row, column, down[:, rows].contiguous(), right.contiguous()),
            *(on_down.contiguous(), on_right.contiguous(), weights, biases),
            *(F.pad(last.weight.T, (0, colours)).to(dtype), F.pad(last.bias, (0, colours)), out, *out.shape[:2]),
            **_shapes(width, len(layers), grid.corners, block, chunk),
            num_warps=warps,
            num_stages=STAGES,
        )
    return out


def _layout(dtype: torch.dtype, device: torch.device) -> tuple[int, int, int]:
    """BLOCK, CHUNK and warps on a device."""
    if dtype == torch.float32:
        return FLOAT32
    if device.type != "cuda":  # Triton's interpreter
        return SMALL
    properties: Any = torch.cuda.get_device_properties(device)
    return LARGE if properties.shared_memory_per_block_optin >= LARGE_MEMORY else SMALL


def _shapes(width: int, layers: int, corners: int, block: int, chunk: int) -> dict[str, Any]:
    """What the kernel is compiled for. width: D. layers: hidden ones behind the first."""
    found = {"S": corners, "D": width, "PAIRS": layers // 2, "BLOCK": block, "CHUNK": chunk}
    return found | {"COLOURS": COLOURS, "MIN_AREA": float(coords.MIN_AREA)}


@functools.cache
def _trouble(widths: tuple[int, ...], corners: int, dtype: torch.dtype, device: torch.device) -> str:
    """Why `_by_kernel` cannot take the place of `_plain` for an MLP of these widths; empty where it can.

    widths: of the hidden layers and of the output. It is tried on a small image, which compiles it.
    """
    if not triton:
        return "it cannot be imported"
    *hidden, colours = widths
    if len(set(hidden)) != 1 or hidden[0] not in WIDTHS or len(hidden) % 2 or colours != 3:
        one_of = ", ".join(map(str, WIDTHS))
        return f"it needs an even number of hidden layers, all {one_of} wide, and 3 colours, got {list(widths)}"
    try:
        difference = _apart(hidden, corners, dtype, device)
    except Exception as error:  # of Triton, of what it compiles with, of CUDA: they share no class
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    limit = TOLERANCE[dtype]
    return "" if difference <= limit else f"on a trial it is off by {difference:.1e} of the largest value, not {limit}"


@torch.no_grad()
def _apart(hidden: list[int], corners: int, dtype: torch.dtype, device: torch.device) -> float:
    """How far `_by_kernel` is from `_plain` in float32 on a small image, against the largest value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        imnet = make({"name": "mlp", "args": {"out_dim": 3, "hidden_list": hidden}}, in_dim=1).to(device)
    grid, rows, rng = grids.Grid((11, 13), (5, 7), corners), slice(3, 11), np.random.default_rng(0)
    top = int(grid.row[:, rows].min())
    normal = [rng.standard_normal(shape).astype(np.float32) for shape in ((5 * 7, hidden[0]), *[(hidden[0],)] * 2)]
    first, *position = on_device_of(next(imnet.parameters()), *normal, grid.relative_down, grid.relative_right)
    position[2:] = [axis.unsqueeze(-1) for axis in position[2:]]
    first = first.to(dtype)
    found = _by_kernel(imnet, grid, position, first, top, rows)
    with torch.autocast(device.type, enabled=False):
        expected = _plain(imnet, grid, position, first.float(), top, rows)
    return ((found - expected).abs().max() / expected.abs().max()).item()
