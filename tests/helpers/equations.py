"""The oracle: LIIF's equations as they are printed, plain and slow, for the fast decoders to be held against.

    s(x) = sum_t  S_t / S * f(z_t, x - v_t, c)        (Chen et al., CVPR 2021, equations 4 and 5)

MetaSR's (Hu et al., CVPR 2019), LTE's (Lee and Jin, CVPR 2022) and SRNO's (Wei and Zhang, CVPR 2023). Nothing is
taken apart, reordered or precomputed here: the feature map is unfolded, the four corners come one after the other, each
looks its feature vector and that vector's place up with a nearest-neighbour sampler, and the whole MLP runs on every
query. Nothing of liif_core is used.

Letters: B batch, Q queries, C feature channels, H W low-resolution, N inputs of the MLP.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHIFT_OFF_BORDER = 1e-6  # a shifted query that lands between two pixels belongs to the lower right one
INSIDE = 1 - 1e-6
NO_EMPTY_AREA = 1e-9


def decode(model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """feat (B, C, H, W), coord (B, Q, 2) and cell (B, 2) float32 -> (B, Q, 3) in `dtype`.

    model: a LIIF of liif_torch, of which the flags and the MLP's parameters are read. dtype holds for features,
    parameters and colours. Coordinates keep the float32 they are given in: along the border of an image upscaled
    by 1, two areas of 1e-9 plus rounding share the weight, so the result is defined by that rounding only.
    """
    feat = feat.to(dtype)
    if model.imnet is None:
        return at_nearest(feat, coord)
    size = torch.tensor(feat.shape[2:], dtype=coord.dtype)
    if model.feat_unfold:
        feat = unfold(feat)
    colours, areas = [], []
    for moved, relative in corners(coord, feat.shape[2:], model.local_ensemble):
        inputs = [at_nearest(feat, moved), relative]
        if model.cell_decode:
            inputs.append((cell * size).unsqueeze(1).expand_as(relative))
        colours.append(perceptron(model.imnet, torch.cat([part.to(dtype) for part in inputs], dim=-1)))
        areas.append((relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA)
    return weighed(colours, areas)


def corners(coord: Tensor, size: Sequence[int], local_ensemble: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each neighbour, or the nearest alone: where to look it up, and where coord (B, Q, 2) lies from its centre in
    feature pixels times two."""
    height, width = size
    for down, right in [(-1, -1), (-1, 1), (1, -1), (1, 1)] if local_ensemble else [(0, 0)]:
        moved = coord.clone()
        if local_ensemble:
            moved[..., 0] += down / height + SHIFT_OFF_BORDER
            moved[..., 1] += right / width + SHIFT_OFF_BORDER
        moved = moved.clamp(-INSIDE, INSIDE)
        yield moved, (coord - at_nearest(places(height, width), moved)) * torch.tensor(size, dtype=coord.dtype)


def weighed(values: list[Tensor], areas: list[Tensor]) -> Tensor:
    """The sum of the values (B, Q, N) at the neighbours, each weighted with the rectangle on the far side of the query:
    the last neighbour's for the first."""
    total = torch.stack(areas).sum(dim=0)
    weights = [(area / total).to(values[0].dtype).unsqueeze(-1) for area in reversed(areas)]
    return torch.stack([value * weight for value, weight in zip(values, weights, strict=True)]).sum(dim=0)


def decode_lte(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode`, for an LTE, whose features (B, C + 3, H, W) have the image behind them."""
    feat, image = feat.to(dtype).split([feat.shape[1] - 3, 3], dim=1)
    coef, freq = (
        F.conv2d(feat, layer.weight.to(dtype), layer.bias.to(dtype), padding=1) for layer in (model.coef, model.freq)
    )
    relative_cell = cell * torch.tensor(feat.shape[2:], dtype=coord.dtype)
    if model.scale_max is not None:
        relative_cell = relative_cell.clamp(min=2 / model.scale_max)
    phase = F.linear(relative_cell.to(dtype), model.phase.weight.to(dtype)).unsqueeze(1)  # (B, 1, K / 2)
    colours, areas = [], []
    for moved, relative in corners(coord, feat.shape[2:]):
        down, right = relative.to(dtype).unsqueeze(-2).unbind(-1)  # (B, Q, 1) each
        pairs = at_nearest(freq, moved).unflatten(-1, (-1, 2))  # (B, Q, K / 2, 2)
        theta = pairs[..., 0] * down + pairs[..., 1] * right + phase
        waves = torch.cat([torch.cos(torch.pi * theta), torch.sin(torch.pi * theta)], dim=-1)
        colours.append(perceptron(model.imnet, at_nearest(coef, moved) * waves))
        areas.append((relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA)
    return weighed(colours, areas) + at_bilinear(image, coord)


def decode_srno(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode_lte`, for an SRNO, which answers all Q queries together."""
    feat, image = feat.to(dtype).split([feat.shape[1] - 3, 3], dim=1)
    relative_cell = cell * torch.tensor(feat.shape[2:], dtype=coord.dtype)
    if model.scale_max is not None:
        relative_cell = relative_cell.clamp(min=2 / model.scale_max)
    found = [(at_nearest(feat, moved), relative) for moved, relative in corners(coord, feat.shape[2:])]
    areas = [(relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA for _, relative in found]
    total = torch.stack(areas).sum(dim=0)
    weights = [(area / total).to(dtype).unsqueeze(-1) for area in reversed(areas)]
    parts = [relative.to(dtype) for _, relative in found]
    parts += [features * weight for (features, _), weight in zip(found, weights, strict=True)]
    parts.append(relative_cell.to(dtype).unsqueeze(1).expand_as(coord))
    z = pointwise(model.conv00, torch.cat(parts, dim=-1))
    for layer in (model.conv0, model.conv1):
        heads = pointwise(layer.qkv_proj, z).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (B, heads, Q, 3 c)
        query, key, value = heads.chunk(3, dim=-1)
        key, value = normalised(layer.kln, key), normalised(layer.vln, value)
        attention = query @ ((key.transpose(-2, -1) @ value) / coord.shape[1])
        attended = attention.transpose(1, 2).flatten(2) + z
        z = pointwise(layer.o_proj2, F.gelu(pointwise(layer.o_proj1, attended))) + z
    return pointwise(model.fc2, F.gelu(pointwise(model.fc1, z))) + at_bilinear(image, coord)


def decode_lmliif(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode`, for an LMLIIF; the hypernetwork runs for every query and neighbour."""
    feat = feat.to(dtype)
    unfolded = unfold(feat) if model.feat_unfold else feat
    relative_cell = cell * torch.tensor(feat.shape[2:], dtype=coord.dtype)
    if model.scale_max is not None:
        relative_cell = relative_cell.clamp(min=2 / model.scale_max)
    colours, areas = [], []
    for moved, relative in corners(coord, feat.shape[2:], model.corners == 4):
        cells = [relative_cell.unsqueeze(1).expand_as(relative).to(dtype)] if model.cell_decode else []
        told = perceptron(model.hypernet, torch.cat([at_nearest(unfolded, moved), *cells], dim=-1))
        code = told[..., model.imnet.mod_dim :] if model.mod_input else at_nearest(feat, moved)
        inputs = torch.cat([code, relative.to(dtype), *cells], dim=-1)
        colours.append(modulated(model.imnet, inputs, told[..., : model.imnet.mod_dim]))
        areas.append((relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA)
    return weighed(colours, areas)


def decode_lmlte(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode`, for an LMLTE, whose features (B, C + 3, H, W) have the image behind them; the hypernetwork runs for
    every query and neighbour."""
    feat, image = feat.to(dtype).split([feat.shape[1] - 3, 3], dim=1)
    coef, freq = (
        F.conv2d(feat, layer.weight.to(dtype), layer.bias.to(dtype), padding=1) for layer in (model.coef, model.freq)
    )
    relative_cell = cell * torch.tensor(feat.shape[2:], dtype=coord.dtype)
    if model.scale_max is not None:
        relative_cell = relative_cell.clamp(min=2 / model.scale_max)
    wide, narrow = (F.linear(relative_cell.to(dtype), part.weight.to(dtype)) for part in (model.phase, model.imphase))
    colours, areas = [], []
    for moved, relative in corners(coord, feat.shape[2:]):
        psi = at_nearest(freq, moved).unflatten(-1, (-1, 2)).sum(dim=-1) + wide.unsqueeze(1)
        waves = torch.cat([torch.cos(torch.pi * psi), torch.sin(torch.pi * psi)], dim=-1)
        told = perceptron(model.hypernet, at_nearest(coef, moved) * waves)
        width = model.imnet.hidden_dim
        modulation, amplitudes, pairs = told.split([model.imnet.mod_dim, width, width], dim=-1)
        theta = (pairs.unflatten(-1, (-1, 2)) * relative.to(dtype).unsqueeze(-2)).sum(dim=-1) + narrow.unsqueeze(1)
        waves = torch.cat([torch.cos(torch.pi * theta), torch.sin(torch.pi * theta)], dim=-1)
        colours.append(modulated(model.imnet, amplitudes * waves, modulation))
        areas.append((relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA)
    return weighed(colours, areas) + at_bilinear(image, coord)


def decode_thera(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode`, for a Thera, whose features (B, C + 3, H, W) have the image behind them."""
    feat, image = feat.to(dtype).split([feat.shape[1] - 3, 3], dim=1)
    ((moved, relative),) = corners(coord, feat.shape[2:], local_ensemble=False)
    told = at_nearest(F.conv2d(feat, model.hypernet.weight.to(dtype), model.hypernet.bias.to(dtype)), moved)
    weights, phases = told[..., : -model.hidden_dim].unflatten(-1, (-1, 3)), told[..., -model.hidden_dim :]
    components = model.components.to(dtype)
    time = ((cell[:, 0] * feat.shape[2]).to(dtype) / 2).square().view(-1, 1, 1)  # 1 / scale^2
    cooled = torch.exp(-(components.norm(dim=0) ** 2) * model.k.to(dtype) * time)
    waves = torch.sin(relative.to(dtype) / 2 @ components + phases) * cooled  # (B, Q, D)
    mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=dtype)
    return (waves.unsqueeze(-2) @ weights).squeeze(-2) + mean / 0.5 + at_nearest(image, moved)


def modulated(imnet: nn.Module, x: Tensor, modulation: Tensor) -> Tensor:
    """The render MLP of LMF on (..., N): all scales come first in the modulations, then all shifts."""
    linear = [layer for layer in imnet.layers if isinstance(layer, nn.Linear)]
    widths = [layer.out_features for layer in linear[:-1]]
    parts = modulation.split(widths * 2, dim=-1)
    for layer, scale, shift in zip(linear[:-1], parts[: len(widths)], parts[len(widths) :], strict=True):
        x = (F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype)) * (scale + 1) + shift).relu()
    return F.linear(x, linear[-1].weight.to(x.dtype), linear[-1].bias.to(x.dtype))


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """x (B, heads, Q, c) by the mean and the deviation of its c numbers, times weight plus bias (heads, 1, c)."""
    centred = (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-5)
    return norm.weight.to(x.dtype) * centred + norm.bias.to(x.dtype)


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution on (B, Q, N)."""
    return F.linear(x, layer.weight.flatten(1).to(x.dtype), layer.bias.to(x.dtype))


def decode_image(model: nn.Module, feat: Tensor, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """feat (1, C, H, W) -> (height, width, 3): `decode` at every pixel centre."""
    coord = places(height, width).permute(0, 2, 3, 1).reshape(1, -1, 2)
    cell = torch.tensor([[2 / height, 2 / width]])
    of_model = ORACLES[type(model).__name__]
    at_a_time = coord.shape[1] if of_model is decode_srno else 1 << 14
    parts = [of_model(model, feat, part, cell, dtype) for part in coord.split(at_a_time, dim=1)]
    return torch.cat(parts, dim=1).view(height, width, 3)


def decode_metasr(
    model: nn.Module, feat: Tensor, coord: Tensor, cell: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """As `decode`, for a MetaSR: each query's own matrix (9 C, 3), and the unfolded features times it."""
    height, width = feat.shape[2:]
    size = torch.tensor([height, width], dtype=coord.dtype)
    begin = coord - cell.unsqueeze(1) / 2  # where the query's own pixel begins
    inside = (begin + SHIFT_OFF_BORDER).clamp(-INSIDE, INSIDE)
    pixel_begin = at_nearest(places(height, width), inside) - 1 / size
    offset = (begin - pixel_begin) * size / 2
    one_over_scale = (cell[:, :1] * (height / 2)).unsqueeze(1).expand_as(offset[..., :1])
    weights = perceptron(model.imnet, torch.cat([offset, one_over_scale], dim=-1).to(dtype))  # (B, Q, 9 C * 3)
    features = at_nearest(unfold(feat.to(dtype)), inside)  # (B, Q, 9 C)
    return (features.unsqueeze(-2) @ weights.unflatten(-1, (-1, 3))).squeeze(-2)


def places(height: int, width: int) -> Tensor:
    """(1, 2, height, width) float32: the pixel centres of an image that covers [-1, 1] x [-1, 1]."""
    axes = [(-1 + 1 / n) + (2 / n) * torch.arange(n, dtype=torch.float32) for n in (height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)


def at_nearest(values: Tensor, coord: Tensor) -> Tensor:
    """values (1 or B, N, H, W) at the pixel nearest to coord (B, Q, 2) -> (B, Q, N)."""
    height, width = values.shape[2:]
    # The sampler gives pixel numbers, so that it works in float32 whatever the values are: a query half-way between
    # two pixels goes where float32 rounds it.
    numbers = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width).expand(len(coord), -1, -1, -1)
    grid = coord.flip(-1).unsqueeze(1)  # grid_sample takes (right, down)
    number = F.grid_sample(numbers, grid, mode="nearest", align_corners=False).flatten(1).long()  # (B, Q)
    rows = values.expand(len(coord), -1, -1, -1).flatten(2).transpose(1, 2)  # (B, H * W, N)
    return rows.gather(1, number.unsqueeze(-1).expand(-1, -1, values.shape[1]))


def at_bilinear(image: Tensor, coord: Tensor) -> Tensor:
    """image (B, 3, H, W) between its pixels at coord (B, Q, 2), beyond them those of its edge -> (B, Q, 3)."""
    grid = coord.flip(-1).unsqueeze(1).to(image.dtype)
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.squeeze(2).transpose(1, 2)


def unfold(feat: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 9 C, H, W): every vector with its 8 neighbours, zeros outside (equation 3)."""
    batch, channels, height, width = feat.shape
    return F.unfold(feat, 3, padding=1).view(batch, 9 * channels, height, width)


ORACLES = {
    "LIIF": decode,
    "MetaSR": decode_metasr,
    "LTE": decode_lte,
    "SRNO": decode_srno,
    "LMLIIF": decode_lmliif,
    "LMLTE": decode_lmlte,
    "Thera": decode_thera,
}


def perceptron(imnet: nn.Module, x: Tensor) -> Tensor:
    """The decoding function f on (..., N)."""
    for layer in imnet.layers:
        x = F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype)) if isinstance(layer, nn.Linear) else x.relu()
    return x
