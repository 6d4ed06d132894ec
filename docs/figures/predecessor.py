"""Where the predecessor's figures mislead: the numbers in docs/migration.md, computed from reference/*.csv.

python docs/figures/predecessor.py            from the files alone
python docs/figures/predecessor.py --measure  also what its mistakes cost here; needs load/, takes some minutes
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from liif_core.config import load
from liif_core.config.schema import MultiStepLR
from liif_core.data import sets
from liif_core.data.batching import Batches
from liif_core.evaluation import psnr_ssim
from liif_core.images import rgb8
from liif_core.inference import network
from liif_core.inference.network import Network
from liif_core.report import reference
from liif_core.system.places import PRETRAINED
from liif_core.training.schedule import learning_rate

WEIGHTS = PRETRAINED.with_name("edsr-baseline-liif_bsds400.safetensors")  # the same whatever becomes the default
MILESTONES = MultiStepLR(milestones=[200, 400, 600, 800], gamma=0.5)  # of the paper, kept for 100 epochs


def gaps() -> dict[tuple[str, int], list[float]]:
    """Jittor's PSNR minus PyTorch's in dB, one per experiment, by data set and scale."""
    found = defaultdict(list)
    for (framework, experiment, dataset, scale), value in reference.scores().items():
        other = reference.scores().get(("torch", experiment, dataset, scale))
        if framework == "jittor" and other is not None:
            found[dataset, scale].append(value - other)
    return dict(sorted(found.items()))


def curves(last: int = 100) -> dict[tuple[str, str], list[float]]:
    """Validation PSNR in dB of the first `last` epochs, by framework and experiment."""
    return {key: curve.psnr[: curve.epochs.index(last) + 1] for key, curve in reference.curves().items()}


def best_against_last(values: list[float]) -> float:
    """By how many dB the best epoch is above the last."""
    return max(values) - values[-1]


def unrest(values: list[float]) -> float:
    """Mean change of PSNR from one epoch to the next in dB, over the second half."""
    late = values[len(values) // 2 :]
    return statistics.mean(abs(b - a) for a, b in zip(late, late[1:], strict=False))


def downsample(image, scale: int, swapped: bool):
    """An image (h, w, 3), cut to a multiple, downsampled by `scale`; swapped: with height and width exchanged."""
    height, width = (side // scale for side in image.shape[:2])
    return rgb8.resize(image, width, height) if swapped else rgb8.resize(image, height, width)


def cost_of_swapping(predict, image, scale: int, eval_type: str) -> float:
    """What a swapped resize costs in dB; `predict` as in liif_core.evaluation.evaluate."""
    height, width = (side // scale * scale for side in image.shape[:2])
    image = image[:height, :width]
    scores = [
        psnr_ssim.psnr(predict(downsample(image, scale, swapped), height, width), rgb8.to_float(image), eval_type)
        for swapped in (False, True)
    ]
    return scores[0] - scores[1]


def random_crops(predict: Network, draws: int = 6) -> list[float]:
    """Validation PSNR in dB of one network on crops drawn anew `draws` times, 400 of 10 images each."""
    settings = load.load("train-bsds400/train_edsr-baseline-liif.yaml", "train")
    spec = settings.val_dataset.model_dump()
    spec["dataset"]["args"] |= {"repeat": 40, "cache": "in_memory"}
    spec["wrapper"]["args"] |= {"sample_q": 576}
    crops = sets.make(spec, seed=0, training=True)  # as in training, so that an epoch has crops of its own
    return [
        statistics.mean(
            psnr_ssim.psnr(
                predict.normalisation.rgb(
                    predict.engine.predict_queries(predict.normalisation.inp(b["inp"]), b["coord"], b["cell"])
                ),
                rgb8.to_float(b["gt"]),
            )
            for b in Batches(crops, 16, seed=0, epoch=draw)
        )
        for draw in range(1, draws + 1)
    ]


def measure() -> None:
    """What a swapped resize and random validation crops cost with this project's own weights."""
    predict = network.load(WEIGHTS, "torch", "cpu")
    for name in ("Set5", "Set14", "B100"):
        images = [rgb8.read_image(path) for path in sorted((ROOT / "load/benchmark" / name / "HR").glob("*.png"))]
        for scale in (6, 8):
            costs = [cost_of_swapping(predict, image, scale, f"benchmark-{scale}") for image in images]
            pairs = zip(costs, images, strict=True)
            oblong = [cost for cost, p in pairs if p.shape[0] // scale != p.shape[1] // scale]
            print(
                f"swapped resize, {name} x{scale}: costs {statistics.mean(costs):.2f} dB on {len(costs)} images, "
                f"{statistics.mean(oblong):.2f} dB on the {len(oblong)} that are not square"
            )
    scores = random_crops(predict)
    print(
        f"one network on {len(scores)} draws of 400 validation crops: {min(scores):.2f} to {max(scores):.2f} dB, "
        f"standard deviation {statistics.stdev(scores):.3f}"
    )


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="also measure, with weights in pretrained/")
    arguments = parser.parse_args()
    print("Jittor minus PyTorch, mean over the experiments in dB")
    for (dataset, scale), values in gaps().items():
        spread = f"{min(values):+.2f} to {max(values):+.2f}, {len(values)}"
        print(f"  {dataset} x{scale}: {statistics.mean(values):+.2f} ({spread})")
    print("validation PSNR of epochs 1 to 100: best minus last, mean change from epoch to epoch after 50, in dB")
    for (framework, experiment), values in sorted(curves().items()):
        print(f"  {framework} {experiment}: {best_against_last(values):.2f}, {unrest(values):.2f}")
    means = (statistics.mean(map(count, curves().values())) for count in (best_against_last, unrest))
    print("  mean:", ", ".join(f"{mean:.2f}" for mean in means))
    rates = [learning_rate(1e-4, epoch, MILESTONES) for epoch in (1, 100, 201)]
    print("learning rate at epochs 1, 100 and 201:", *rates)
    if arguments.measure:
        measure()


if __name__ == "__main__":
    main()
