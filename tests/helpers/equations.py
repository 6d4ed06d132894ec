"""The oracle: LIIF's equations as they are printed, plain and slow, for the fast decoders to be held against.

    s(x) = sum_t  S_t / S * f(z_t, x - v_t, c)        (Chen et al., CVPR 2021, equations 4 and 5)

and MetaSR's (Hu et al., CVPR 2019). Nothing is taken apart, reordered or precomputed here: the feature map is unfolded,
the four corners come one after the other, each looks its feature vector and that vector's place up with a
nearest-neighbour sampler, and the whole MLP runs on every query. Nothing of liif_core is used.

Letters: B batch, Q queries, C feature channels, H W low-resolution, N inputs of the MLP.
"""

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
    height, width = feat.shape[2:]
    if model.feat_unfold:
        feat = unfold(feat)
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if model.local_ensemble else [(0, 0)]
    size = torch.tensor([height, width], dtype=coord.dtype)
    colours, areas = [], []
    for down, right in corners:
        moved = coord.clone()
        if model.local_ensemble:
            moved[..., 0] += down / height + SHIFT_OFF_BORDER
            moved[..., 1] += right / width + SHIFT_OFF_BORDER
        moved = moved.clamp(-INSIDE, INSIDE)
        relative = (coord - at_nearest(places(height, width), moved)) * size  # (B, Q, 2)
        inputs = [at_nearest(feat, moved), relative]
        if model.cell_decode:
            inputs.append((cell * size).unsqueeze(1).expand_as(relative))
        colours.append(perceptron(model.imnet, torch.cat([part.to(dtype) for part in inputs], dim=-1)))
        areas.append((relative[..., 0] * relative[..., 1]).abs() + NO_EMPTY_AREA)
    total = torch.stack(areas).sum(dim=0)
    # Each corner is weighted with the rectangle on the far side of the query: the last corner's for the first.
    weights = [(area / total).to(dtype).unsqueeze(-1) for area in reversed(areas)]
    weighted = [rgb * weight for rgb, weight in zip(colours, weights, strict=True)]
    return torch.stack(weighted).sum(dim=0)


def decode_image(model: nn.Module, feat: Tensor, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """feat (1, C, H, W) -> (height, width, 3): `decode` at every pixel centre, 2^14 queries at a time."""
    coord = places(height, width).permute(0, 2, 3, 1).reshape(1, -1, 2)
    cell = torch.tensor([[2 / height, 2 / width]])
    of_model = decode if hasattr(model, "local_ensemble") else decode_metasr
    parts = [of_model(model, feat, part, cell, dtype) for part in coord.split(1 << 14, dim=1)]
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


def unfold(feat: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 9 C, H, W): every vector with its 8 neighbours, zeros outside (equation 3)."""
    batch, channels, height, width = feat.shape
    return F.unfold(feat, 3, padding=1).view(batch, 9 * channels, height, width)


def perceptron(imnet: nn.Module, x: Tensor) -> Tensor:
    """The decoding function f on (..., N)."""
    for layer in imnet.layers:
        x = F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype)) if isinstance(layer, nn.Linear) else x.relu()
    return x
