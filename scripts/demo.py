"""What LIIF does, in one minute: downsample an image, upscale it by 3.7 in both frameworks, compare.

    python scripts/demo.py        (or: make demo, which installs everything first)

Writes into demo_out/: the small image, what each framework makes of it, and sheet.png, all side by
side. The upscaling is done by the commands that the README shows.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from liif_core.system import process

process.begin()

import numpy as np
from PIL import Image

from liif_core.evaluation import psnr_ssim
from liif_core.experiments import jobs
from liif_core.images import comparison, rgb8
from liif_core.system.arguments import Parser

IMAGE = ROOT / "examples" / "chelsea.png"
FACTOR = 3.7
OUT = ROOT / "demo_out"
TITLES = {"torch": "PyTorch", "jittor": "Jittor"}  # Jittor is not on every system
DETAIL = (72, 115, 80, 120)  # top, left, height, width: an eye


def psnr(image: np.ndarray, original: np.ndarray) -> float:
    """RGB PSNR in dB of two uint8 images, a border of 4 pixels cut."""
    return psnr_ssim.psnr(*(rgb8.to_float(each[4:-4, 4:-4]) for each in (image, original)))


def upscale(framework: str, low: Path, height: int, width: int) -> np.ndarray:
    """Run the framework's demo.py as a user would."""
    output = OUT / f"{framework}.png"
    command = [sys.executable, f"liif_{framework}/demo.py", "--input", low.relative_to(ROOT)]
    command += ["--resolution", f"{height},{width}", "--output", output.relative_to(ROOT), "--overwrite"]
    print("$ python", *command[1:], flush=True)
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"the demo stopped: {framework} failed; `python -m liif_core doctor` says what is missing")
    return rgb8.read_image(output)


def main() -> int:
    """Downsample, upscale, measure, draw."""
    Parser(description=__doc__.splitlines()[0]).parse_args()
    OUT.mkdir(exist_ok=True)
    original = rgb8.read_image(IMAGE)
    height, width = original.shape[:2]
    low = rgb8.resize(original, round(height / FACTOR), round(width / FACTOR))
    rgb8.write_image(OUT / "low.png", low)
    print(f"{IMAGE.relative_to(ROOT)} {height}x{width} downsampled to {low.shape[0]}x{low.shape[1]} (x{FACTOR})\n")
    frameworks = [name for name in TITLES if importlib.util.find_spec(name)]
    results = {name: upscale(name, OUT / "low.png", height, width) for name in frameworks}
    bicubic = rgb8.resize(low, height, width)
    rgb8.write_image(OUT / "bicubic.png", bicubic)

    scores = {"bicubic": psnr(bicubic, original)} | {name: psnr(image, original) for name, image in results.items()}
    print("\nPSNR against the original (RGB, border of 4 pixels cut)")
    for name, score in scores.items():
        print(f"  {name:8} {score:.3f} dB")
    if len(results) == 2:
        difference = np.abs(results["torch"].astype(int) - results["jittor"].astype(int))
        share = np.mean(difference > 0)
        print(f"PyTorch and Jittor differ by at most {difference.max()} of 255 levels, in {share:.4%} of the values")
    columns = [
        ("input, pixels repeated", np.array(Image.fromarray(low).resize((width, height), Image.Resampling.NEAREST))),
        (f"bicubic {scores['bicubic']:.2f} dB", bicubic),
        *((f"LIIF, {TITLES[name]} {scores[name]:.2f} dB", image) for name, image in results.items()),
        ("original", original),
    ]
    rgb8.write_image(OUT / "sheet.png", comparison.comparison(columns, DETAIL))
    print(f"look at {(OUT / 'sheet.png').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    jobs.exit_with(main)
