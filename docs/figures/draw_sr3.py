"""The images of docs/sr3.md, drawn from the tables of liif_core.diffusion and an emoji of load/emoji.

python docs/figures/draw_sr3.py [--output docs/images]
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

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from liif_core.data import sampling
from liif_core.diffusion import samplers, schedules
from liif_core.diffusion.schedules import Schedule
from liif_core.images import rgb8

# Okabe and Ito's colours, which people with any colour vision tell apart, and a line for each.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
EMOJI = ROOT / "load" / "emoji" / "hr_128" / "u1F994.png"  # a hedgehog
TIMES = (0, 100, 300, 600, 1000, 2000)
STEPS = 10


def draw_schedules() -> plt.Figure:
    """sqrt(gamma) of all schedules, and where ten levels lie by either spacing."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, colour, line in zip(schedules.Name.__args__, COLOURS, LINES, strict=True):
        gamma = schedules.gammas(Schedule(name=name))
        left.plot(np.sqrt(gamma), color=colour, linestyle=line, label=name)
    left.set(xlabel="time t", ylabel="sqrt(gamma), the image's share", title="what is left of the image")
    left.legend(fontsize=8)
    known = schedules.log_snr(schedules.gammas(Schedule()))
    right.plot(known, color="#999999", label="linear, all 2,000 times")
    for spacing, marker, colour in (("time", "o", COLOURS[0]), ("log-snr", "s", COLOURS[1])):
        times, gamma = samplers.levels(Schedule(), STEPS, spacing)
        right.plot(times[:-1], schedules.log_snr(gamma[:-1]), marker, color=colour, label=f"{STEPS} steps by {spacing}")
        print(f"{STEPS} levels by {spacing}: times {', '.join(f'{time:.0f}' for time in times)}")
    right.set(xlabel="time t", ylabel="lambda = log(alpha / sigma)", title="where a sampler asks the network")
    right.legend(fontsize=8)
    return figure


def draw_process() -> plt.Figure:
    """An emoji at some times, and its condition."""
    image = rgb8.read_image(EMOJI)
    condition = rgb8.resize(rgb8.resize(image, 16, 16), 128, 128)
    gamma, noise = schedules.gammas(Schedule()), sampling.noise(0, 0).standard_normal(image.shape, np.float32)
    figure, axes = plt.subplots(1, len(TIMES) + 1, figsize=(10, 1.95), layout="constrained")
    for axis, time in zip(axes, TIMES, strict=False):
        root = np.sqrt(gamma[time])
        noisy = root * (image / 127.5 - 1) + np.sqrt(1 - gamma[time]) * noise
        axis.imshow(rgb8.to_uint8(np.clip(noisy / 2 + 0.5, 0, 1).astype(np.float32)))
        axis.set_title(f"t = {time}\nsqrt(gamma) {root:.3f}", fontsize=9)
    axes[-1].imshow(condition)
    axes[-1].set_title("the condition,\n16 to 128 pixels", fontsize=9)
    for axis in axes:
        axis.axis("off")
    return figure


def main() -> None:
    """Draw both, in few colours, for noise does not compress."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().output
    if not EMOJI.is_file():
        sys.exit(f"{EMOJI} is not there: python scripts/download_data.py emoji makes it")
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw, colours in (("noise-levels", draw_schedules, 64), ("noise-process", draw_process, 160)):
        data = io.BytesIO()
        draw().savefig(data, dpi=100)
        image = Image.open(data).convert("RGB").quantize(colours, Image.Quantize.FASTOCTREE)
        image.save(folder / f"{name}.png", optimize=True)
        print(f"{folder / name}.png: {(folder / name).with_suffix('.png').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
