"""Commands one after the other, or one per GPU at a time; what the batch scripts share.

A failure does not end the others, and Ctrl-C, SIGTERM or the end of the terminal (SIGHUP) stops them all: each child
gets SIGTERM, on which train.py saves and leaves. A second Ctrl-C or SIGTERM does not wait.
"""

import argparse
import codecs
import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from liif_core.errors import UserError, sentence
from liif_core.system.places import CODE
from liif_core.system.streams import lasting_streams
from liif_core.system.text import duration, print_table

TAIL = 8  # lines of a failed command that are shown again at the end


@dataclass
class Result:
    """What became of one piece of work: done, skipped (it was finished already), failed or stopped."""

    cells: list[str]
    state: str
    last_lines: list[str] = field(default_factory=list)


def script(framework: str, name: str) -> list[str]:
    """The command that runs liif_<framework>/<name>.py with this Python."""
    return [sys.executable, str(CODE / f"liif_{framework}" / f"{name}.py")]


def gpu_list(text: str | None) -> list[str | None]:
    """The devices of --gpu "0,1,2" or "cpu", each once; [None] lets each command choose."""
    if text is None:
        return [None]
    devices: list[str | None] = [device.strip() for device in text.split(",")]
    if "" in devices or len(set(devices)) < len(devices):
        raise UserError(f"--gpu: expected GPU numbers with commas between, each once, or cpu, got '{text}'")
    return devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that all batch scripts have."""
    parser.add_argument("--gpu", help="GPU number, several like 0,1 (each takes the next when it is free), or cpu")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")


class Pool:
    """Runs work, one piece per device at a time. `devices` are values of --gpu, None for the command's own
    choice, or the GPUs of each job of a sweep."""

    def __init__(self, devices: Sequence[Any]):
        self.devices = devices
        self.stopping = False
        self.children: set[subprocess.Popen] = set()
        self.lock = threading.RLock()  # _stop takes it too, and may break into itself

    def map(self, work: Callable, items: Sequence, after: Callable[[Any], Sequence] = lambda item: ()) -> list:
        """[work(item, device) for each item]; what Ctrl-C leaves undone gives None.

        Items are begun in their order, but each only when those that after(item) gives have ended.
        """
        waiting, results = list(range(len(items))), [None] * len(items)
        unfinished = list(items)
        changed = threading.Condition()

        def ready() -> int | None:
            """The next item that may begin."""
            return next((k for k in waiting if not any(item in unfinished for item in after(items[k]))), None)

        def serve(device) -> None:
            while True:
                with changed:
                    changed.wait_for(lambda: self.stopping or not waiting or ready() is not None)
                    if self.stopping or not waiting:
                        return
                    chosen = ready()
                    assert chosen is not None
                    waiting.remove(chosen)
                try:
                    results[chosen] = work(items[chosen], device)
                finally:
                    with changed:
                        unfinished.remove(items[chosen])
                        changed.notify_all()

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's request to go on
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._stop) for number in numbers}
        try:
            with ThreadPoolExecutor(len(self.devices)) as threads:
                for future in [threads.submit(serve, device) for device in self.devices]:
                    future.result()
                return results
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number, frame):
        # A terminal that goes may send SIGHUP twice, from the kernel and from the shell: that is no second request.
        again, self.stopping = self.stopping, True
        if again and number == signal.SIGHUP:
            return
        with self.lock:
            for child in self.children:  # not reaped yet, so that its number is still its own
                if again:
                    os.killpg(child.pid, signal.SIGKILL)
                else:
                    os.kill(child.pid, signal.SIGTERM)

    def run(
        self,
        command: Sequence,
        device: str | None,
        title: str,
        show: Callable[[str], str | None] | None = None,
        listen: Callable[[str], None] | None = None,
    ) -> tuple[int, list[str]]:
        """Run a command; its exit status and its last lines, while its output goes to the screen.

        Alone on a terminal the command gets a terminal too, so that its progress bars stay. Of several at once
        each line bears its title. show(line) gives what to print of a line instead, None for nothing. listen(line)
        gets every line. What the command leaves running ends with it.
        """
        command = [*map(str, command), *(["--gpu", device] if device is not None else [])]
        alone = len(self.devices) == 1 and show is None
        reading, writing = _terminal() if alone and sys.stdout.isatty() else os.pipe()
        with self.lock:
            if self.stopping:
                os.close(reading)
                os.close(writing)
                return 130, []
            # A session of its own: the terminal's Ctrl-C reaches this process alone, which tells its children once.
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, start_new_session=True
            )
            self.children.add(child)
        os.close(writing)
        clearing = threading.Thread(target=_clear, args=(child.pid,), daemon=True)
        clearing.start()
        tail: deque[str] = deque(maxlen=TAIL)
        unfinished = ""
        for text in _chunks(reading):
            if alone:
                sys.stdout.write(text)
                sys.stdout.flush()
            *lines, unfinished = (unfinished + text).split("\n")
            for line in lines:
                line = line.rstrip("\r").rpartition("\r")[2]  # of a progress bar its last state
                tail.extend([line] if line.strip() else [])
                if listen is not None:
                    listen(line)
                shown = line if show is None else show(line)
                if not alone and shown is not None:
                    print(shown if len(self.devices) == 1 else f"[{title}] {shown}", flush=True)
        tail.extend([unfinished] if unfinished.strip() else [])
        clearing.join()
        with self.lock:
            self.children.discard(child)
        return child.wait(), list(tail)


def _clear(leader: int) -> None:
    """When the leader of a session has ended, killed perhaps, end what it left: it would hold the pipe for ever."""
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)  # not reaped, so that no other process gets its number
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _terminal() -> tuple[int, int]:
    """Both ends of a new terminal, as large as the one we write to."""
    reading, writing = pty.openpty()
    size = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
    attributes = termios.tcgetattr(writing)
    attributes[1] &= ~termios.OPOST  # our own terminal turns \n into \r\n
    termios.tcsetattr(writing, termios.TCSANOW, attributes)
    return reading, writing


def _chunks(descriptor: int):
    """Text as it comes, until all who could write have left."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a block may end within a character
    with open(descriptor, "rb", buffering=0) as stream:
        while True:
            try:
                block = stream.read(65536)
            except OSError:  # Linux's word for the end of a terminal
                return
            if not block:
                return
            yield decoder.decode(block)


def state_of(status: int, stopping: bool) -> str:
    """done, failed or stopped, from an exit status."""
    if status == 0:
        return "done"
    return "stopped" if stopping else "failed"


def finish(pool: Pool, header: Sequence[str], results: Sequence[Result | None], started: float) -> int:
    """Print the summary, failures with their last lines; the exit status: 0, 1 after a failure, 130 when stopped."""
    present = [result for result in results if result is not None]
    print("\nsummary")
    print_table([*header, "state"], [[*result.cells, result.state] for result in present])
    for result in present:
        if result.state == "failed":
            print(f"\n{' '.join(result.cells[:2])} failed; its last lines:")
            print("\n".join(f"    {line}" for line in result.last_lines) or "    (it wrote nothing)")
    counts = [f"{sum(r.state == state for r in present)} {state}" for state in ("done", "skipped", "failed")]
    total = duration(time.time() - started)
    undone = len(results) - len(present) + sum(result.state == "stopped" for result in present)
    counts += [f"{undone} stopped or not begun"] if undone else []
    print(f"\n{', '.join(counts)}; {total}")
    if pool.stopping:
        return 130
    return 1 if any(result.state == "failed" for result in present) else 0


def exit_with(main: Callable[[], int]) -> None:
    """Leave with main's exit status; a user's error becomes one sentence and exit status 2."""
    with lasting_streams():
        try:
            status = main()
        except KeyboardInterrupt:
            status = 130
        except Exception as error:
            if not (said := sentence(error)):
                raise
            print(f"error: {said}", file=sys.stderr)
            status = 2
    sys.exit(status)
