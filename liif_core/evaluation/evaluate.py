"""From a data set to one row per image and their mean."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from liif_core.config import protocol
from liif_core.config.schema import TestConfig, TrainConfig
from liif_core.data import sampling
from liif_core.data.batching import Batches, checked
from liif_core.errors import NotFinite
from liif_core.evaluation import metrics
from liif_core.images import comparison, rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference.network import Network
from liif_core.system.distributed import ALONE, Ranks


@dataclass
class Row:
    """The score of one image; size is that of the target. values: of the metrics per image, by name."""

    name: str
    height: int
    width: int
    values: dict[str, float]


def test(
    predict,
    test_set,
    config: TestConfig,
    of_set: dict[str, Any] | None = None,
    keep: Callable[[int, np.ndarray], object] = lambda index, prediction: None,
    seed: int = 0,
) -> Iterator[Row]:
    """Yield one Row per image. of_set: what `collectors` gave, which is shown every image. keep: called with every
    image's index and prediction. seed: of what `predict` draws.

    predict(uint8 low, h, w, noise) -> float32 (h, w, 3) in [0, 1]; noise is the generator of what it draws.
    """
    per_image = [metric for metric in metrics.find(config.metrics) if metric.per == "image"]
    for index in range(len(test_set)):
        low, high = test_set.pair(index)
        height, width = high.shape[:2]
        try:
            prediction, target = predict(low, height, width, sampling.noise(seed, index)), rgb8.to_float(high)
        except NotFinite as error:
            raise NotFinite(f"{test_set.name(index)}: {error}") from None
        keep(index, prediction)
        small = rgb8.to_float(low)
        values = {
            metric.name: metric.function(prediction, small if metric.of_low else target, config.eval_type)
            for metric in per_image
        }
        for collector in (of_set or {}).values():
            collector.add(prediction, target, config.eval_type)
        yield Row(test_set.name(index), height, width, values)


def collectors(names: list[str]) -> dict[str, Any]:
    """One collector for each metric of a set, by name, for `test` to fill and `mean` to read."""
    return {metric.name: metric.function() for metric in metrics.find(names) if metric.per == "set"}


def mean(rows: list[Row], of_set: dict[str, Any] | None = None) -> dict[str, float]:
    """Each metric's mean over images, or its value of the set, by name. Raises NotFinite for one that is NaN; infinite
    is the PSNR of equal images."""
    values = {name: float(np.mean([row.values[name] for row in rows])) for name in rows[0].values}
    values |= {name: float(collector.value()) for name, collector in (of_set or {}).items()}
    for name, value in values.items():
        if math.isnan(value):
            raise NotFinite(f"the {name} of {len(rows)} images is NaN: expected a number")
    return values


def summary(name: str, test_set, config: TestConfig, rows: list[Row], means: dict[str, float]) -> dict:
    """What `test.py --json` keeps of a test: the set, its scale, the protocol, the means and all rows.

    The data set is called as its config is, "set5" in test-set5-4.yaml. The scale is the eval_type's; without
    one it is how much larger the first image's high resolution is.
    """
    stem = Path(name).stem.lower().removeprefix("test-")
    scale = protocol.scale_of(config.eval_type)
    if scale is None:
        low, high = test_set.pair(0)
        factor = test_set.factor(0, low.shape[:2], high.shape[:2])
        scale = round(high.shape[0] / low.shape[0]) if factor is None else protocol.number(round(factor, 2))
    return {
        "dataset": stem.removesuffix(f"-{scale}"),
        "scale": scale,
        "protocol": config.eval_type,
        **_finite(means),
        "images": len(rows),
        "rows": [{"name": row.name, "height": row.height, "width": row.width} | _finite(row.values) for row in rows],
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def sees_images(val_set, config: TrainConfig) -> bool:
    """Whether a training is validated on whole images, not on queries; None for a set means without one."""
    return config.eval_type is not None or (val_set is not None and val_set.scale is not None)


def validate(
    engine, make_loader, val_set, config: TrainConfig, normalisation: Normalisation, ranks: Ranks = ALONE
) -> dict[str, float]:
    """The metrics of the validation set by name. PSNR in dB as the original LIIF counts it: of a batch's queries,
    averaged over batches by their size.

    With an eval_type in the config, of whole images under that protocol; of images too where the wrapper gives no
    queries. Several processes take every n-th batch or image each, and get the same result as one.
    """
    assert config.val_dataset is not None
    bar = functools.partial(tqdm, desc="val", leave=False, disable=ranks.rank > 0 or None)
    images = sees_images(val_set, config)
    measured = metrics.of_validation(config.metrics, config.best, images)
    if images:
        network = Network(engine, normalisation)
        scores, weights = np.zeros((len(measured), len(val_set))), np.ones(len(val_set))
        for index in bar(range(ranks.rank, len(val_set), ranks.world_size)):
            low, high = val_set.pair(index)
            height, width = high.shape[:2]
            predict = functools.partial(network, low, height, width, sampling.noise(0, index))
            scores[:, index] = _scores(measured, predict, high, config.eval_type)
    else:
        batches = Batches(val_set, config.val_dataset.batch_size)
        scores = np.zeros((len(measured), len(batches)))
        weights = np.array([len(indices) for indices in batches.indices])
        own = range(ranks.rank, len(batches), ranks.world_size)
        batches.indices = [batches.indices[k] for k in own]
        for k, batch in zip(own, bar(checked(make_loader(batches)), total=len(own)), strict=True):
            found = engine.predict_queries(normalisation.inp(batch["inp"]), batch["coord"], batch["cell"])
            scores[:, k] = _scores(measured, functools.partial(normalisation.rgb, found), batch["gt"], None)
    totals = engine.total(scores)
    return {
        metric.name: float(np.sum(row * weights) / np.sum(weights))
        for metric, row in zip(measured, totals, strict=True)
    }


def _scores(
    measured: list[metrics.Metric], predict: Callable[[], np.ndarray], target: np.ndarray, eval_type: str | None
) -> list[float]:
    """The metrics of one prediction; NaN where there is none, for which a training need not end."""
    try:
        prediction = predict()
    except NotFinite:
        return [math.nan] * len(measured)
    return [metric.function(prediction, rgb8.to_float(target), eval_type) for metric in measured]


def comparisons(engine, val_set, count: int, normalisation: Normalisation) -> Iterator[tuple[str, np.ndarray]]:
    """The name and a comparison, uint8 (h, w, 3), of each of the first `count` items: bicubic, prediction and
    original; then, where a prediction is made of noise, how it came about. What is NaN is left out."""
    network = Network(engine, normalisation)
    for index in range(min(count, len(val_set))):
        low, high = val_set.pair(index)
        height, width = high.shape[:2]
        noise, name = sampling.noise(0, index), f"{index}-{val_set.name(index)}"
        bicubic, process = rgb8.resize(low, height, width), []
        try:
            if engine.preupsampled:
                process = [rgb8.to_uint8(image) for image in network.process(low, noise)]
                prediction = process[-1]
            else:
                prediction = rgb8.to_uint8(network(low, height, width, noise))
        except NotFinite:
            continue
        columns = [("bicubic", bicubic), ("prediction", prediction), ("original", high)]
        yield name, comparison.comparison([(caption, _centre(image)) for caption, image in columns])
        if process:
            numbered = [(str(number), _centre(image)) for number, image in enumerate(process, start=1)]
            yield f"{name}-process", comparison.comparison([("bicubic", _centre(bicubic)), *numbered])


def drawn(engine, size: tuple[int, int], count: int, normalisation: Normalisation) -> np.ndarray:
    """`count` images of `size` (h, w) that a network makes of noise alone, always of the same: a page, uint8."""
    found = engine.sample(count, *size, sampling.noise(0, 0))
    images = [rgb8.to_uint8(normalisation.rgb(image)) for image in found]
    return comparison.comparison([(str(number), image) for number, image in enumerate(images, start=1)])


def _centre(image: np.ndarray) -> np.ndarray:
    """The middle of an image, at most 384 pixels high and wide."""
    top, left = (max(0, (side - 384) // 2) for side in image.shape[:2])
    return image[top : top + 384, left : left + 384]
