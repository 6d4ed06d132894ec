"""A framework in a process of its own, which upscales for the web page.

Jittor holds Python's lock while it compiles and replaces the handlers of signals: a server in the same process would
stand still for a minute, and end without removing its files.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.errors import Stopped, UserError
from liif_core.geometry import tiling
from liif_core.images import vips
from liif_core.images.image import fit
from liif_core.inference import web_view
from liif_core.inference.kept import KeptFeatures, worthwhile
from liif_core.inference.network import Network, choose_device, load
from liif_core.inference.upscale import is_out_of_memory, passes, upscale
from liif_core.inference.web_view import View
from liif_core.system import memory
from liif_core.system.files import scratch
from liif_core.system.places import CODE

PATIENCE = 5  # seconds that the process has for its end
IMAGES = 2  # whose features are kept: of one image by two models, or of two visitors'


class Job(Future):
    """What was asked for. progress: how much of it is finished, in [0, 1]."""

    progress = 0.0


class Renderer:
    """Asks the process, which starts with the first question. gpu: as in devices.prepare."""

    def __init__(self, framework: str, gpu: str | None):
        self.framework, self.gpu = framework, gpu
        self.process: subprocess.Popen | None = None
        self.jobs: dict[int, Job] = {}
        self.numbers = itertools.count()
        self.lock = threading.Lock()

    def pair(self, model: Path, rgb: Path, view: View, step: int, beside: Path | None = None) -> Job:
        """The view of an image, a .npy of uint8 (h, w, 3), by bicubic, or by the model `beside`, and by the model.

        step: as in web_view.liif; models that need no draft give all pixels at once.
        """
        return self._ask("pair", model, rgb, view, step, beside)

    def at_once(self, model: Path, rgb: Path, view: View, beside: Path | None = None) -> Job:
        """`pair` where it takes hardly any time, else None."""
        return self._ask("at_once", model, rgb, view, beside)

    def whole(self, model: Path, source: Path, size: tuple[int, int], output: Path) -> Job:
        """Upscale a file to size (h, w) as demo.py does. Returns what of the file is not kept, a few words each."""
        return self._ask("whole", model, source, size, output)

    def stop(self) -> None:
        """End the upscaling of a whole image: it raises Stopped."""
        self._ask("stop")

    def close(self) -> None:
        """End the process, and with it what it was asked for."""
        with self.lock:
            process, self.process = self.process, None
            if process is None:
                return
            with contextlib.suppress(OSError):
                self.connection.send(None)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it compiles, in processes of its own
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _ask(self, name: str, *arguments: Any) -> Job:
        job = Job()
        job.set_running_or_notify_cancel()  # whoever gives up waiting cannot call it back
        with self.lock:
            if self.process is None:
                self._start()
            number = next(self.numbers)
            self.jobs[number] = job
            with contextlib.suppress(OSError):  # it has just ended: _listen says so
                self.connection.send((number, name, arguments))
        return job

    def _start(self) -> None:
        self.connection, theirs = Pipe()
        command = [sys.executable, "-m", "liif_core.inference.web_worker", str(theirs.fileno()), self.framework]
        command += [] if self.gpu is None else [self.gpu]
        # A session of its own: the terminal's Ctrl-C is for the server, which then ends this process.
        self.process = subprocess.Popen(command, cwd=CODE, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        threading.Thread(target=self._listen, args=[self.connection], daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        try:
            while True:
                number, answer = connection.recv()
                if isinstance(answer, float):
                    self.jobs[number].progress = answer
                elif isinstance(answer, BaseException):
                    self.jobs.pop(number).set_exception(answer)
                else:
                    self.jobs.pop(number).set_result(answer)
        except (EOFError, OSError):
            self._lost()

    def _lost(self) -> None:
        """The process has ended, on demand or not."""
        with self.lock:
            stopped, self.process = self.process is None, None
            jobs, self.jobs = self.jobs, {}
        error: BaseException = Stopped() if stopped else UserError(f"{self.framework} has ended; the terminal says why")
        for job in jobs.values():
            job.set_exception(error)


class Service:
    """The process's side: answers until the other side closes. Answers are a float while it works, then a result or
    an error of the user's; with any other error the process ends, and its traceback is in the terminal."""

    def __init__(self, connection: Connection, framework: str, gpu: str | None):
        self.connection, self.framework, self.gpu = connection, framework, gpu
        self.networks: dict[Path, Network] = {}
        self.kept: dict[tuple[Path, Path], KeptFeatures] = {}  # by model and image, that used last is the last
        self.around: list[tuple[KeptFeatures, tiling.Box]] = []  # of the last view, whose surroundings are not kept yet
        self.stopped = False

    def answer_next(self) -> None:
        """Wait for a question and answer it."""
        while not self.connection.poll() and self.look_around():
            pass
        if (question := self.connection.recv()) is None:
            sys.exit()
        number, name, arguments = question
        try:
            answer = getattr(self, name)(number, *arguments)  # pair, at_once, whole or stop
        except (UserError, Stopped) as error:
            answer = error
        except (MemoryError, RuntimeError) as error:  # beside a whole image, which would take it for its own
            if not is_out_of_memory(error):
                raise
            answer = UserError(f"not enough memory for this view: {' '.join(str(error).split())[:100]}")
        self.connection.send((number, answer))

    def look_around(self) -> bool:
        """Encode some more around the last view, so that those to come take no time; False where there is no more."""
        while self.around:
            features, box = self.around[-1]
            try:
                if features.surround(box):
                    return True
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):  # the view is there, and the next one is told if it cannot be
                    raise
            self.around.pop()
        return False

    def stop(self, number: int) -> None:
        """See Renderer."""
        self.stopped = True

    def network(self, model: Path) -> Network:
        """A model, loaded when it is first asked for."""
        if model not in self.networks:
            device = choose_device(self.framework, self.gpu).kind
            self.networks[model] = load(model, self.framework, device, border="mirror")
        return self.networks[model]

    def pair(self, number: int, model: Path, rgb: Path, view: View, step: int, beside: Path | None) -> web_view.Pair:
        """See Renderer."""
        image = self.image(rgb)
        sources = [self.source(name, rgb, image) for name in (beside, model) if name]
        self.around = [(source, view.box) for source in sources if isinstance(source, KeptFeatures)]
        step = 1 if len(self.around) == len(sources) else step
        *others, right = (web_view.liif(source, image, view, step) for source in sources)
        return others[0] if others else web_view.bicubic(image, view), right

    def at_once(self, number: int, model: Path, rgb: Path, view: View, beside: Path | None) -> web_view.Pair | None:
        """See Renderer."""
        kept = [self.kept.get((name, rgb)) for name in (beside, model) if name]
        ready = all(features and features.covers(view.box, view.height, view.width) for features in kept)
        return self.pair(number, model, rgb, view, 1, beside) if ready else None

    def image(self, rgb: Path) -> np.ndarray:
        """The image of a .npy. Raises Stopped if the visitor looks at another by now."""
        try:
            return np.load(rgb, mmap_mode="r").view(np.ndarray)  # Jittor: takes no other kind of array
        except FileNotFoundError:
            raise Stopped from None

    def source(self, model: Path, rgb: Path, image: np.ndarray) -> Network | KeptFeatures:
        """What makes the views of an image: the network or, where that saves anything, its features that are kept."""
        network = self.network(model)
        if (model, rgb) not in self.kept and not worthwhile(network):
            return network
        self.kept[model, rgb] = kept = self.kept.pop((model, rgb), None) or KeptFeatures(network, image)
        while len(self.kept) > IMAGES:
            del self.kept[next(iter(self.kept))]
        return kept

    def whole(self, number: int, model: Path, source: Path, size: tuple[int, int], output: Path) -> tuple[str, ...]:
        """See Renderer."""
        network = self.network(model)
        image = fit(vips.read(source), output.suffix)
        total, done = size[0] * size[1] * passes(network, image), 0
        self.stopped = False

        def advance(pixels: int) -> None:
            nonlocal done
            done += pixels
            self.connection.send((number, done / total))
            while self.connection.poll():  # a view need not wait for the end of a large image
                self.answer_next()
            if self.stopped:
                raise Stopped

        if network.engine.device_kind == "cpu":
            memory.limit_memory()
        with scratch(output.parent, (*size, image.pixels.shape[2]), image.pixels.dtype) as pixels:
            upscale(network, image, pixels, advance)
            vips.write(output, pixels, image)
        return *network.notes(image.size, *size), *image.notes


def main() -> None:
    """The process: the number of its connection, the framework and --gpu are in sys.argv."""
    number, framework, *gpu = sys.argv[1:]
    service = Service(Connection(int(number)), framework, gpu[0] if gpu else None)
    with contextlib.suppress(EOFError):  # the server was killed
        while True:
            service.answer_next()


if __name__ == "__main__":
    main()
