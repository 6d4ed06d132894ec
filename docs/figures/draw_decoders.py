"""The images of docs/decoders.md, drawn from the equations and from models with their first weights.

python docs/figures/draw_decoders.py [--output docs/images]
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[0] = str(ROOT)
sys.path.append(str(HERE))

from draw_liif import BLUE, GREEN, ORANGE, PURPLE, VERMILION, bare, save

from liif_core.geometry import coords, windows
from liif_torch.engine import Engine

WAVES = ((0.5, 0.0), (0.0, 1.0), (1.0, 1.5), (2.5, -1.0))  # frequencies down and to the right
EDSR = {"name": "edsr-baseline", "args": {"no_upsampling": True}}
LIIF = {
    "name": "liif",
    "args": {"encoder_spec": EDSR, "imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 4}}},
}
SRNO = {"name": "sronet", "args": {"encoder_spec": EDSR, "width": 256, "blocks": 16}}
THERA = {"name": "thera", "args": {"encoder_spec": EDSR, "hidden_dim": 512}}
SIZE, FACTOR, TOUCHED = (12, 16), 4, (4, 5)  # a feature map, its upscaling, and the feature vector that is changed


def model(spec: dict):
    """A model in PyTorch with its first weights."""
    engine = Engine(spec, "cpu")
    engine.seed(0)
    return engine.networks["model"].module


def draw_waves(folder: Path) -> None:
    """What the perceptron is handed around a feature pixel: places by LIIF, waves by LTE."""
    figure, axes = plt.subplots(2, 4, figsize=(8.2, 4.5), layout="constrained")
    place = np.linspace(-1, 1, 120)
    down, right = np.meshgrid(place, place, indexing="ij")
    for axis, values, title in zip(axes[0], (down, right), ("LIIF: down", "LIIF: right"), strict=False):
        axis.imshow(values, cmap="gray", extent=(-1, 1, 1, -1))
        bare(axis, title)
    for axis in axes[0, 2:]:
        axis.axis("off")
    axes[0, 2].text(0, 0.5, "beside 576 features\nthat are the same\nall around the pixel", fontsize=10, va="center")
    for axis, (first, second) in zip(axes[1], WAVES, strict=True):
        axis.imshow(np.cos(np.pi * (first * down + second * right)), cmap="gray", extent=(-1, 1, 1, -1))
        bare(axis, f"LTE: F = ({first:g}, {second:g})")
    save(figure, folder, "decoder-lte")


def draw_reach(folder: Path) -> None:
    """By how much each output pixel changes when one feature vector does."""
    import torch

    rng = np.random.default_rng(0)
    feat = rng.standard_normal((1, 67, *SIZE)).astype(np.float32)
    touched = feat.copy()
    touched[0, :64, TOUCHED[0], TOUCHED[1]] += 1
    output = tuple(FACTOR * side for side in SIZE)
    coord, cell = coords.make_coord(output)[None], coords.make_cell(output)[None]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, spec, title, channels in zip(axes, (LIIF, SRNO), ("LIIF", "SRNO"), (64, 67), strict=True):
        decoder = model(spec)
        with torch.no_grad():
            answers = [
                decoder.query_rgb(torch.from_numpy(each[:, :channels].copy()), coord, cell) for each in (feat, touched)
            ]
        change = (answers[1] - answers[0]).abs().mean(dim=-1).view(output).numpy()
        print(f"{title}: {np.mean(change > 0):.1%} of the output pixels change")
        change = np.where(change > 0, change / change.max(), np.nan)
        shown = axis.imshow(change, norm=LogNorm(1e-5, 1), cmap="viridis", extent=(0, SIZE[1], SIZE[0], 0))
        axis.plot(TOUCHED[1] + 0.5, TOUCHED[0] + 0.5, "o", color=VERMILION, ms=6)
        bare(axis, f"{title}: what one feature vector changes")
    figure.colorbar(shown, ax=axes, label="change, of the largest")
    save(figure, folder, "decoder-srno")


def draw_work(folder: Path) -> None:
    """Multiply-adds per output pixel behind the encoder, by the tables of the page: those of a feature pixel, shared
    by as many output pixels as the factor makes of it, and those of an output pixel."""
    wide = 3 * 256 * 256 + 3 * 256
    work = {
        "LIIF": (576 * 256, 4 * (2 * 256 + wide), BLUE, "-"),
        "LTE": (2 * 9 * 64 * 256, 4 * (3 * 256 + wide), ORANGE, "--"),
        "SRNO": (0, 10 * 256 * 256 + 2 * 16**3 + 3 * 256, GREEN, "-."),
        "LM-LIIF": (578 * 208 + 208 * 208 + 18 * 16, 4 * (2 * 16 + 5 * 16 * 16 + 16 * 3), VERMILION, "-"),
        "Thera Air": (64 * 128, 5 * 32, PURPLE, "--"),
    }
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    scale = np.linspace(1, 12, 200)
    for name, (feature, pixel, colour, line) in work.items():
        axes.plot(scale, feature / scale**2 + pixel, color=colour, linestyle=line, label=name)
        print(f"{name}: {feature / 16 + pixel:,.0f} multiply-adds per output pixel at x4")
    axes.set(yscale="log", xlim=(1, 12), xlabel="factor", ylabel="multiply-adds per output pixel")
    axes.grid(alpha=0.3)
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.62), fontsize=9)
    save(figure, folder, "decoder-lmf")


def draw_heat(folder: Path) -> None:
    """The field of one feature pixel, at first, as pixels of several sizes see it."""
    import torch

    decoder, side = model(THERA), 160
    feat = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 67, 1, 1)).astype(np.float32))
    coord = coords.make_coord((side, side))[None]
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.6), layout="constrained")
    for axis, scale in zip(axes, (12, 4, 2, 1), strict=True):
        with torch.no_grad():
            field = decoder.query_rgb(feat, coord, np.full((1, 2), 2 / scale, np.float32))[0, :, 0].view(side, side)
        field = field - feat[0, 64, 0, 0] - decoder.offset(feat)[0]
        if scale == 12:
            largest = field.abs().max().item()
        axis.imshow(field, cmap="gray", vmin=-largest, vmax=largest)
        bare(axis, f"x{scale}: t = {scale**-2:.3g}")
        print(f"x{scale}: standard deviation of the field {field.std().item():.3f}")
    save(figure, folder, "decoder-thera")


def draw_windows(folder: Path) -> None:
    """Windows of an image of 27x42 pixels, those of the next block, and what a pixel sees block by block."""
    size = (27, 42)
    padded = tuple(len(windows.reflected(side)) for side in size)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained", width_ratios=(4, 4, 3))
    for axis, shift in zip(axes, (0, windows.SHIFT), strict=False):
        axis.imshow(regions(padded, shift), cmap="Set3", extent=(0, padded[1], padded[0], 0))
        for place in range(shift, padded[0], windows.SIDE):
            axis.axhline(place, color="0.3", lw=1)
        for place in range(shift, padded[1], windows.SIDE):
            axis.axvline(place, color="0.3", lw=1)
        axis.add_patch(plt.Rectangle((0, 0), size[1], size[0], fill=False, ec=VERMILION, lw=2.5))
        bare(axis, "shifted by half a window" if shift else "windows of 8x8")
    around, middle = 72, 37
    seen = np.zeros((around, around), int)
    seen[middle, middle] = 1
    for block in range(6):
        shift = windows.SHIFT * (1 - block % 2)  # backwards: the last block of a group is shifted
        for top in range(shift - windows.SIDE, around, windows.SIDE):
            for left in range(shift - windows.SIDE, around, windows.SIDE):
                part = seen[max(0, top) : top + windows.SIDE, max(0, left) : left + windows.SIDE]
                if part.any():
                    part[part == 0] = block + 2
    axes[2].imshow(np.where(seen, seen, np.nan), cmap="viridis_r", extent=(0, around, around, 0))
    axes[2].plot(middle + 0.5, middle + 0.5, "o", color=VERMILION, ms=4)
    bare(axes[2], "what a pixel sees after 1 to 6 blocks")
    save(figure, folder, "encoder-swinir")


def regions(padded: tuple[int, int], shift: int) -> np.ndarray:
    """A number for each pixel, the same for those that look at each other."""
    axes = [np.roll(np.arange(side), -shift) for side in padded]
    parts = []
    for axis in axes:
        window = np.arange(len(axis)) // windows.SIDE
        beyond = (axis < shift) & (np.arange(len(axis)) >= len(axis) - windows.SIDE)
        parts.append(np.roll(np.where(beyond, window + 1, window), shift))
    return (parts[0][:, None] * 5 + parts[1][None] * 7) % 12


def main() -> None:
    """Draw all images, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images", help="folder for the images")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (draw_waves, draw_reach, draw_work, draw_heat, draw_windows):
        draw(folder)


if __name__ == "__main__":
    main()
