"""The log as tensorboard shows it."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from liif_core.system import packages

# tensorboardX imports PyTorch where it is installed, which has no place in the core and costs two seconds.
_hidden = {} if "torch" in sys.modules else {"torch": None}
sys.modules.update(_hidden)  # type: ignore[arg-type]
lacking = ""  # why there are no curves
try:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import image as image_summary
    from tensorboardX.summary import scalar
except Exception as error:  # it is not there, or not with the protobuf that is
    lacking = packages.failed("tensorboardX", error, "tensorboardX>=2.6")
finally:
    for _name in _hidden:
        del sys.modules[_name]


class Tensorboard:
    """An event file for tensorboard. Without its package, and when the disk is full, there is none: training matters
    more.

    tensorboardX's own SummaryWriter writes from a thread, whose errors cannot be caught and whose end is waited for.
    """

    def __init__(self, folder: Path, step: int):
        self.folder = folder
        self.writer: Any = None
        if lacking:
            tqdm.write(f"warning: no curves for tensorboard: {lacking}; metrics.jsonl goes on")
            return
        with self._or_do_without():
            folder.mkdir(exist_ok=True)
            self.writer = EventsWriter(str(folder / "events"))
            if step:  # hides what a kill left of later steps
                self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    @contextlib.contextmanager
    def _or_do_without(self):
        try:
            yield
        except OSError as error:
            tqdm.write(f"warning: no more for tensorboard in {self.folder} ({error.strerror}); metrics.jsonl goes on")
            self.writer = None

    def _write(self, step: int, **content) -> None:
        if self.writer is not None:
            self.writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def number(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        with self._or_do_without():
            if self.writer is not None:
                self._write(step, summary=scalar(name, value))

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """uint8 (h, w, 3)."""
        with self._or_do_without():
            if self.writer is not None:
                self._write(step, summary=image_summary(name, image, dataformats="HWC"))

    def flush(self) -> None:
        """All that was written so far outlives a kill."""
        with self._or_do_without():
            if self.writer is not None:
                self.writer.flush()
