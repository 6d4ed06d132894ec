"""What a run says of itself: log.txt for people, metrics.jsonl for programs, tensorboard for curves.

metrics.jsonl is the truth: one JSON object a line, {"step", "epoch", "loss"} for every training step and
{"step", "epoch", "lr", "train_loss", "val_psnr", ...} for every epoch.
"""

import json
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from liif_core.files import write_atomically


class RunLog:
    """Appends to the logs in `folder`; what lies beyond (`step`, `epoch`) is dropped, for it will come again."""

    def __init__(self, folder: Path, step: int, epoch: int):
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        if self.metrics.exists():
            self._keep_until(step, epoch)
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def _keep_until(self, step: int, epoch: int) -> None:
        """Drop the steps after the checkpoint that training goes on from, and a line that a kill cut short."""
        kept = []
        for line in self.metrics.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            record = json.loads(line)
            finished = record["step"] <= step if "loss" in record else record["epoch"] < epoch
            kept += [line] if finished else []
        write_atomically(self.metrics, "".join(kept).encode())

    def text(self, line: str) -> None:
        """A line on the screen and in log.txt."""
        tqdm.write(line)
        with open(self.folder / "log.txt", "a") as file:
            print(line, file=file)

    def record(self, records: list[dict]) -> None:
        """Lines in metrics.jsonl, written at once, and their numbers in tensorboard."""
        with open(self.metrics, "a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))
        for record in records:
            for key, value in record.items():
                if key not in ("step", "epoch"):
                    self.writer.add_scalar(key, value, record["step"])

    def close(self) -> None:
        """Flush tensorboard."""
        self.writer.close()
