"""From a data set to one row per image and their mean."""

import functools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from liif_core.config.schema import TestConfig, TrainConfig
from liif_core.data.batching import Batches, checked
from liif_core.evaluation import psnr_ssim
from liif_core.images import comparison, rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference.network import Network
from liif_core.system.distributed import ALONE, Ranks


@dataclass
class Row:
    """The score of one image; size is that of the target."""

    name: str
    height: int
    width: int
    psnr: float
    ssim: float


def test(predict, test_set, config: TestConfig):
    """Yield one Row per image. predict(uint8 low, h, w) -> float32 (h, w, 3) in [0, 1]."""
    for index in range(len(test_set)):
        low, high = test_set.pair(index)
        height, width = high.shape[:2]
        prediction, target = predict(low, height, width), rgb8.to_float(high)
        scores = (metric(prediction, target, config.eval_type) for metric in (psnr_ssim.psnr, psnr_ssim.ssim))
        yield Row(test_set.name(index), height, width, *scores)


def mean(rows: list[Row]) -> tuple[float, float]:
    """Mean PSNR in dB and mean SSIM over images."""
    return float(np.mean([row.psnr for row in rows])), float(np.mean([row.ssim for row in rows]))


def summary(name: str, test_set, config: TestConfig, rows: list[Row]) -> dict:
    """What `test.py --json` keeps of a test: the set, its scale, the protocol, the means and all rows.

    The data set is called as its config is, "set5" in test-set5-4.yaml. The scale is the eval_type's; without
    one it is how much larger the first image's high resolution is.
    """
    stem = Path(name).stem.lower().removeprefix("test-")
    if config.eval_type:
        scale = int(config.eval_type.rpartition("-")[2])
    else:
        low, high = test_set.pair(0)
        scale = round(high.shape[0] / low.shape[0])
    psnr, ssim = mean(rows)
    return {
        "dataset": stem.removesuffix(f"-{scale}"),
        "scale": scale,
        "protocol": config.eval_type,
        "psnr": psnr if math.isfinite(psnr) else None,  # JSON has no infinity
        "ssim": ssim,
        "images": len(rows),
        "rows": [asdict(row) | {"psnr": row.psnr if math.isfinite(row.psnr) else None} for row in rows],
    }


def validate(
    engine, make_loader, val_set, config: TrainConfig, normalisation: Normalisation, ranks: Ranks = ALONE
) -> float:
    """Validation PSNR in dB as the original LIIF counts it: of a batch's queries, averaged over batches by their size.

    With an eval_type in the config, of whole images under that protocol. Several processes take every n-th batch or
    image each, and get the same result as one.
    """
    assert config.val_dataset is not None
    bar = functools.partial(tqdm, desc="val", leave=False, disable=ranks.rank > 0 or None)
    if config.eval_type is not None:
        network = Network(engine, normalisation)
        scores, weights = np.zeros(len(val_set)), np.ones(len(val_set))
        for index in bar(range(ranks.rank, len(val_set), ranks.world_size)):
            low, high = val_set.pair(index)
            scores[index] = psnr_ssim.psnr(network(low, *high.shape[:2]), rgb8.to_float(high), config.eval_type)
    else:
        batches = Batches(val_set, config.val_dataset.batch_size)
        scores, weights = np.zeros(len(batches)), np.array([len(indices) for indices in batches.indices])
        own = range(ranks.rank, len(batches), ranks.world_size)
        batches.indices = [batches.indices[k] for k in own]
        for k, batch in zip(own, bar(checked(make_loader(batches)), total=len(own)), strict=True):
            prediction = engine.predict_queries(normalisation.inp(batch["inp"]), batch["coord"], batch["cell"])
            scores[k] = psnr_ssim.psnr(normalisation.rgb(prediction), rgb8.to_float(batch["gt"]))
    return float(np.sum(engine.total(scores) * weights) / np.sum(weights))


def comparisons(engine, val_set, count: int, normalisation: Normalisation) -> Iterator[tuple[str, np.ndarray]]:
    """The name and a comparison, uint8 (h, w, 3), of each of the first `count` items: bicubic, prediction and
    original."""
    network = Network(engine, normalisation)
    for index in range(min(count, len(val_set))):
        low, high = val_set.pair(index)
        height, width = high.shape[:2]
        images = rgb8.resize(low, height, width), rgb8.to_uint8(network(low, height, width)), high
        captions = ("bicubic", "prediction", "original")
        columns = [(caption, _centre(image)) for caption, image in zip(captions, images, strict=True)]
        yield f"{index}-{val_set.name(index)}", comparison.comparison(columns)


def _centre(image: np.ndarray) -> np.ndarray:
    """The middle of an image, at most 384 pixels high and wide."""
    top, left = (max(0, (side - 384) // 2) for side in image.shape[:2])
    return image[top : top + 384, left : left + 384]
