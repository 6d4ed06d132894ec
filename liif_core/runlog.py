"""What a run says of itself: log.txt for people, metrics.jsonl for programs, tensorboard for curves.

metrics.jsonl is the truth: one JSON object a line, {"step", "epoch", "loss"} for every training step and
{"step", "epoch", "lr", "train_loss", "val_psnr", "commit", "seconds"} for every epoch: the project's commit
and the time on the clock that the whole epoch took, without what a kill threw away and the time until --resume.
"""

import json
import sys
from pathlib import Path

from tqdm import tqdm

from liif_core.errors import UserError
from liif_core.files import write_atomically

# tensorboardX imports PyTorch where it is installed, which has no place in the core and costs two seconds.
_hidden = {} if "torch" in sys.modules else {"torch": None}
sys.modules.update(_hidden)  # type: ignore[arg-type]
try:
    from tensorboardX import SummaryWriter
finally:
    for _name in _hidden:
        del sys.modules[_name]


class RunLog:
    """Appends to the logs in `folder`; what lies beyond (`step`, `epoch`) is dropped, for it will come again."""

    def __init__(self, folder: Path, step: int, epoch: int):
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        if self.metrics.exists():
            self._keep_until(step, epoch)
        self.writer: SummaryWriter | None = None
        try:
            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        except OSError as error:
            tqdm.write(f"warning: no tensorboard files in {folder}: {error.strerror}")

    def _keep_until(self, step: int, epoch: int) -> None:
        """Drop the steps after the checkpoint that training goes on from, and what a kill or power cut damaged."""
        kept = []
        for line in self.metrics.read_text(errors="replace").splitlines(keepends=True):
            try:
                record = json.loads(line) if line.endswith("\n") else None
            except ValueError:
                record = None
            if record is None:
                break
            finished = record["step"] <= step if "loss" in record else record["epoch"] < epoch
            kept += [line] if finished else []
        write_atomically(self.metrics, "".join(kept).encode())

    def text(self, line: str) -> None:
        """A line on the screen and in log.txt."""
        tqdm.write(line)
        self._append(self.folder / "log.txt", line + "\n")

    def record(self, records: list[dict]) -> None:
        """Lines in metrics.jsonl, written at once, and their numbers in tensorboard."""
        self._append(self.metrics, "".join(json.dumps(record) + "\n" for record in records))
        for record in records:
            for key, value in record.items():
                curve = key not in ("step", "epoch") and isinstance(value, (int, float))
                if curve and self._tensorboard_lives():
                    self.writer.add_scalar(key, value, record["step"])  # type: ignore[union-attr]

    def _tensorboard_lives(self) -> bool:
        # Its thread dies of a full disk, and then its queue blocks whoever writes; training matters more.
        if self.writer is not None and not self.writer.file_writer.event_writer._worker.is_alive():
            tqdm.write(f"warning: tensorboard could not write in {self.folder}; metrics.jsonl goes on")
            self.writer = None
        return self.writer is not None

    def _append(self, path: Path, text: str) -> None:
        try:
            with open(path, "a") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}); checkpoints are untouched") from None

    def close(self) -> None:
        """Flush tensorboard."""
        if self._tensorboard_lives():
            self.writer.close()  # type: ignore[union-attr]
