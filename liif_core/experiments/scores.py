"""What test.py leaves of a test, and scores.csv, which the batch runner of tests makes of it and the report reads."""

import json
from pathlib import Path

from liif_core.config import load as configs
from liif_core.errors import UserError

# Of scores.csv, which batch_test_simple.py writes; files from before it had the column `checkpoint` are read too.
COLUMNS = "model experiment framework checkpoint config dataset scale protocol psnr ssim images weights commit".split()


def is_usual(report: dict) -> bool:
    """Whether this was measured as the config says, in float32 and as LIIF does it; else it is another test under the
    same name."""
    other = report.get("set") or {"border", "self_ensemble", "sampler", "seed"} & report.keys()
    return not other and report.get("precision", "fp32") == "fp32"


def is_of(report: dict, test: str) -> bool:
    """Whether a report is of the images that a test config names now; older ones do not say."""
    return report.get("data") in (None, configs.load(test, "test").test_dataset.model_dump(mode="json"))


def read_report(path: Path) -> dict:
    """What test.py left. Raises UserError for a damaged file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it, or test again what it belongs to") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no report of test.py: remove it")
    if "pictures" in found:  # the key's name before
        found["images"] = found.pop("pictures")
    return found
