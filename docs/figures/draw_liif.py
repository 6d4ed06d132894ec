"""The images of docs/liif.md, drawn from the weights in pretrained/ and examples/chelsea.png.

    python docs/figures/draw_liif.py [--output docs/images]

Every number in them comes out of liif_core.geometry.coords or out of the network; what is measured is printed as well.
"""

import argparse
import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from liif_core.evaluation import psnr_ssim
from liif_core.geometry import coords
from liif_core.images import rgb8
from liif_core.inference.network import load
from liif_core.system.places import PRETRAINED

# Okabe and Ito's colours, which people with any colour vision tell apart.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
CORNER_COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
CORNER_NAMES = ("up, left", "up, right", "down, left", "down, right")
FACTOR = 4
EYE = (18, 27, 20, 36)  # top, left, height, width of a detail, in low-resolution pixels
LID = (30, 34, 9, 14)  # a smaller one, in which single pixels can be told apart
CHANNELS = (3, 17, 28, 52)  # of the 64 that the encoder gives


class Network:
    """The weights in pretrained/ in the PyTorch tree, and the example downsampled by 4."""

    def __init__(self):
        network = load(PRETRAINED, "torch", "cpu")
        import torch

        torch.set_num_threads(1)
        self.engine, self.normalisation = network.engine, network.normalisation
        self.original = rgb8.read_image(ROOT / "examples" / "chelsea.png")
        height, width = (side // FACTOR * FACTOR for side in self.original.shape[:2])
        self.original = self.original[:height, :width]
        self.low = rgb8.resize(self.original, height // FACTOR, width // FACTOR)
        self.size = self.low.shape[:2]
        self.inp = self.normalisation.inp(self.low)

    def features(self) -> np.ndarray:
        """(C, H, W)"""
        import torch

        with torch.no_grad():
            return self.engine.networks["model"].module.encoder(torch.from_numpy(self.inp))[0].numpy()

    def queries(self, coord: np.ndarray, scale: float, corners: int = 4) -> np.ndarray:
        """Colours (Q, 3) in [0, 1] at coord (Q, 2), decoded with the cell of an image upscaled by `scale`."""
        cell = coords.make_cell((1, 1)) / np.float32(scale) / np.asarray(self.size, np.float32)
        self.engine.networks["model"].module.corners = corners
        found = self.engine.predict_queries(self.inp, coord[None], cell[None].astype(np.float32))[0]
        self.engine.networks["model"].module.corners = 4
        return self.normalisation.rgb(found)

    def detail(self, scale: int, cell_scale: float) -> np.ndarray:
        """The detail EYE upscaled by `scale`, decoded with the cell of another factor: (h, w, 3) in [0, 1]."""
        top, left, height, width = (number * scale for number in EYE)
        down = coords.pixel_centres(self.size[0] * scale)[top : top + height]
        right = coords.pixel_centres(self.size[1] * scale)[left : left + width]
        coord = np.stack(np.meshgrid(down, right, indexing="ij"), axis=-1).reshape(-1, 2)
        return self.queries(coord, cell_scale).reshape(height, width, 3)


def save(figure, folder: Path, name: str, dither: Image.Dither = Image.Dither.NONE) -> None:
    """Write folder/name.png with 256 colours, which takes a third of the bytes; dither where it shows a photograph."""
    png = io.BytesIO()
    figure.savefig(png, dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
    path = folder / f"{name}.png"
    image = Image.open(png).convert("RGB")
    image.quantize(palette=image.quantize(256), dither=dither).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def bare(axes, title: str = "") -> None:
    axes.set_xticks([]), axes.set_yticks([])
    axes.set_title(title, fontsize=10)


def draw_grid(folder: Path) -> None:
    """A 3x4 feature map and the 8x10 pixels that it is asked for."""
    size, output = (3, 4), (8, 10)
    figure, axes = plt.subplots(figsize=(8, 5.4), layout="constrained")
    for sides, colour, width in ((output, "0.85", 0.8), (size, "0.35", 1.6)):
        for count, line in zip(sides, (axes.axhline, axes.axvline), strict=True):
            for place in np.linspace(-1, 1, count + 1):
                line(place, color=colour, lw=width, zorder=1)
    targets, given = coords.make_coord(output), coords.make_coord(size)
    axes.plot(
        targets[:, 1],
        targets[:, 0],
        ".",
        color=SKY,
        ms=7,
        label=f"queries: centres of {output[0]}x{output[1]} output pixels",
    )
    axes.plot(
        given[:, 1],
        given[:, 0],
        "s",
        color="0.2",
        ms=9,
        label=f"feature vectors: centres of {size[0]}x{size[1]} pixels",
    )
    query = targets[3 * output[1] + 5]
    index, _, weight = coords.neighbours(query[None, None], size, 4)
    for corner, colour, name, share in zip(index[:, 0, 0], CORNER_COLOURS, CORNER_NAMES, weight[:, 0, 0], strict=True):
        place = given[corner]
        axes.annotate(
            "", (query[1], query[0]), (place[1], place[0]), arrowprops={"arrowstyle": "-", "color": colour, "lw": 2}
        )
        axes.plot(place[1], place[0], "s", color=colour, ms=11)
        axes.annotate(
            f"{name}\nweight {share:.2f}",
            (place[1], place[0]),
            (10, -32 if place[0] > query[0] else 14),
            textcoords="offset points",
            fontsize=10,
            bbox={"fc": "white", "ec": colour, "boxstyle": "round"},
        )
    axes.plot(query[1], query[0], "o", color=VERMILION, ms=10, label=f"one query, at ({query[0]:.3f}, {query[1]:.3f})")
    axes.set(xlim=(-1.02, 1.02), ylim=(1.02, -1.02), xlabel="second coordinate: right", ylabel="first coordinate: down")
    axes.set_xticks(coords.pixel_centres(size[1])), axes.set_yticks(coords.pixel_centres(size[0]).round(3))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.19), ncols=1, fontsize=10, frameon=False)
    save(figure, folder, "grid")


def draw_relative_coord(folder: Path) -> None:
    """The relative coordinate across one output row, for the nearest feature vector and for both neighbours."""
    features, output = 6, 22
    right = coords.pixel_centres(output)
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for shift, colour, mark, name in (
        (-1, BLUE, "v", "left neighbour"),
        (1, ORANGE, "^", "right neighbour"),
        (0, "0.2", "o", "nearest, without local ensemble"),
    ):
        _, relative = coords.nearest_pixel(right, features, shift)
        axes.plot(
            np.arange(output),
            relative,
            mark,
            color=colour,
            ms=7 if shift else 11,
            mfc=colour if shift else "none",
            label=name,
        )
        print(f"relative coordinate, {name}: {relative.min():.3f} to {relative.max():.3f}")
    for border in np.arange(1, features) * output / features - 0.5:
        axes.axvline(border, color="0.8", lw=1, zorder=0)
    axes.axhspan(-1, 1, color="0.95", zorder=0)
    axes.set(
        xlabel=f"output column, of {output} over {features} feature pixels (grey lines: their borders)",
        ylabel="relative coordinate",
        ylim=(-2.2, 2.2),
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, fontsize=10, frameon=False)
    save(figure, folder, "relative-coord")


def draw_areas(folder: Path) -> None:
    """The four rectangles around a query: each one's area is the weight of the corner diagonally opposite."""
    size = (2, 2)
    query = np.array([[[-0.2, 0.14]]], dtype=np.float32)
    _, relative, weight = coords.neighbours(query, size, 4)
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    x, y = query[0, 0, 1], query[0, 0, 0]
    for corner, (place, colour, name) in enumerate(
        zip(coords.make_coord(size), CORNER_COLOURS, CORNER_NAMES, strict=True)
    ):
        share = weight[corner, 0, 0]
        other = coords.make_coord(size)[3 - corner]  # the rectangle that weighs this corner lies here
        axes.add_patch(
            Rectangle(
                (min(x, other[1]), min(y, other[0])), abs(x - other[1]), abs(y - other[0]), color=colour, alpha=0.45
            )
        )
        axes.text(
            (x + other[1]) / 2, (y + other[0]) / 2, f"{share:.2f}", ha="center", va="center", fontsize=13, weight="bold"
        )
        axes.plot(place[1], place[0], "s", color=colour, ms=14)
        across = 14 if place[1] > 0 else -14
        axes.annotate(
            f"{name}\nweight {share:.2f}\nrelative ({relative[corner, 0, 0, 0]:.2f}, {relative[corner, 0, 0, 1]:.2f})",
            (place[1], place[0]),
            (across, 0),
            textcoords="offset points",
            ha="left" if across > 0 else "right",
            va="center",
            fontsize=10,
        )
    axes.plot(x, y, "o", color=VERMILION, ms=12)
    axes.annotate("query", (x, y), (8, 6), textcoords="offset points", fontsize=11, color="black", weight="bold")
    axes.set(xlim=(-1.05, 1.05), ylim=(0.58, -0.58), aspect="equal")
    axes.axis("off")
    save(figure, folder, "areas")


def draw_weights(folder: Path) -> None:
    """The weight of each corner everywhere on a map of 3x4 feature vectors."""
    size, output = (3, 4), (240, 320)
    _, _, weight = coords.neighbours(coords.make_coord(output)[None], size, 4)
    figure, panels = plt.subplots(1, 4, figsize=(8, 2.4), layout="constrained")
    for axes, values, name in zip(panels, weight, CORNER_NAMES, strict=True):
        shown = axes.imshow(values.reshape(output), cmap="cividis", vmin=0, vmax=1, extent=(-1, 1, 1, -1), aspect=0.75)
        given = coords.make_coord(size)
        axes.plot(given[:, 1], given[:, 0], "s", color="white", mec="black", ms=5)
        bare(axes, name)
    figure.colorbar(shown, ax=panels, shrink=0.75, label="weight")
    save(figure, folder, "weights")


def unswapped(network: Network, coord: np.ndarray, scale: float) -> np.ndarray:
    """What comes out when each corner is weighed with the rectangle on its own side."""
    plain = coords.neighbours

    def wrong(coord, size, corners):
        index, relative, weight = plain(coord, size, corners)
        return index, relative, np.ascontiguousarray(weight[::-1])

    coords.neighbours = wrong
    try:
        return network.queries(coord, scale)
    finally:
        coords.neighbours = plain


def draw_continuity(folder: Path, network: Network) -> None:
    """The green channel along a fine line through the eye, decoded three ways, and the largest jump of each."""
    row, left, columns, fine = 36, 40, 8, 400
    height, width = network.size
    right = -1 + 2 * (left + (np.arange(columns * fine) + 0.5) / fine) / width
    down = np.full_like(right, -1 + 2 * (row + 0.3) / height)
    coord = np.stack([down, right], axis=-1).astype(np.float32)
    place = left + (np.arange(columns * fine) + 0.5) / fine
    ways = {
        "local ensemble": (network.queries(coord, FACTOR), BLUE, "-"),
        "nearest feature vector alone": (network.queries(coord, FACTOR, corners=1), VERMILION, "-"),
        "local ensemble, areas not swapped": (unswapped(network, coord, FACTOR), "0.45", "--"),
    }
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for border in range(left, left + columns + 1):
        axes.axvline(border, color="0.85", lw=1, zorder=0)
    for name, (values, colour, line) in ways.items():
        steps = np.abs(np.diff(values[:, 1])) * 255
        print(f"{name}: largest step between points 1/{fine} feature pixel apart {steps.max():.2f} of 255 levels")
        gaps = values[:, 1] * 255
        gaps[1:][steps > 1.5] = np.nan  # a jump is not joined
        axes.plot(place, gaps, line, color=colour, lw=1.8, label=f"{name}: largest step {steps.max():.1f}")
    axes.set(
        xlabel="place along the row, in feature pixels (grey lines: their borders)",
        ylabel="green, 0 to 255",
        xlim=(left, left + columns),
    )
    axes.legend(fontsize=10, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.26))
    save(figure, folder, "continuity")


def draw_features(folder: Path, network: Network) -> None:
    """The small image, four real channels, and one channel nine times, shifted."""
    feat = network.features()
    figure, panels = plt.subplots(1, 5, figsize=(8, 1.65), layout="constrained")
    panels[0].imshow(network.low)
    bare(panels[0], f"input {network.size[0]}x{network.size[1]}")
    for axes, channel in zip(panels[1:], CHANNELS, strict=True):
        limit = np.abs(feat[channel]).max()
        axes.imshow(feat[channel], cmap="PuOr", vmin=-limit, vmax=limit)
        bare(axes, f"channel {channel}")
    save(figure, folder, "features")
    top, left, height, width = LID
    values = feat[CHANNELS[0]]
    padded = np.pad(values, 1)
    figure, panels = plt.subplots(3, 3, figsize=(8, 5.6), layout="constrained")
    limit = np.abs(values[top : top + height, left : left + width]).max()
    for number, axes in enumerate(panels.flat):
        down, right = number // 3, number % 3
        shifted = padded[down : down + values.shape[0], right : right + values.shape[1]]
        axes.imshow(shifted[top : top + height, left : left + width], cmap="PuOr", vmin=-limit, vmax=limit)
        axes.plot(width // 2, height // 2, "s", mec=VERMILION, mfc="none", mew=2.5, ms=17)
        bare(axes, f"input {9 * CHANNELS[0] + number}: neighbour ({down - 1:+d}, {right - 1:+d})")
    save(figure, folder, "unfolding")


def draw_cell(folder: Path, network: Network) -> None:
    """The same detail at x8, decoded with the cells of x1, x4 and x8."""
    images = {scale: network.detail(8, scale) for scale in (8, 4, 1)}
    figure, panels = plt.subplots(2, 3, figsize=(7.2, 3.5), layout="constrained")
    for (scale, image), axes in zip(images.items(), panels.T, strict=True):
        axes[0].imshow(rgb8.to_uint8(image))
        bare(axes[0], f"cell of x{scale}, given as {2 / scale:g}")
        if scale == 8:
            axes[1].axis("off")
            continue
        difference = (image - images[8]).mean(axis=-1) * 255
        shown = axes[1].imshow(difference, cmap="PuOr", vmin=-8, vmax=8)
        bare(axes[1], "difference from x8's")
        size = np.abs(difference)
        print(f"x8 with the cell of x{scale}: differs by {size.mean():.2f} levels on average, {size.max():.1f} at most")
    figure.colorbar(shown, ax=panels[1, 0], orientation="horizontal", fraction=0.4, aspect=14, label="levels of 255")
    save(figure, folder, "cell", Image.Dither.FLOYDSTEINBERG)


def measure(network: Network) -> None:
    """PSNR of the whole image at x4: what each part does for a network that was trained with it."""
    coord, target = coords.make_coord(network.original.shape[:2]), rgb8.to_float(network.original)
    ways = {
        "as it is": network.queries(coord, FACTOR),
        "nearest feature vector alone": network.queries(coord, FACTOR, corners=1),
        "areas not swapped": unswapped(network, coord, FACTOR),
        "cell of x1": network.queries(coord, 1),
        "cell of x2": network.queries(coord, 2),
        "cell of x8": network.queries(coord, 8),
    }
    for name, image in ways.items():
        score = psnr_ssim.psnr(image.reshape(target.shape), target, f"benchmark-{FACTOR}")
        print(f"PSNR (Y) at x{FACTOR}, {name}: {score:.2f} dB")


def main() -> None:
    """Draw all images, print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images", help="folder for the images")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (draw_grid, draw_relative_coord, draw_areas, draw_weights):
        draw(folder)
    network = Network()
    for draw in (draw_continuity, draw_features, draw_cell):
        draw(folder, network)
    measure(network)


if __name__ == "__main__":
    main()
