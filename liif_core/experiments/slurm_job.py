"""What scripts/sweep.py hands to submitit: a training as a child process that saves before the job is taken away.

The job's Python does not know this repository: submitit pickles this file with the job. It therefore uses the
standard library and submitit alone.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

SAVE_SECONDS = 300  # so long before the time limit Slurm gives its signal, or up to a minute earlier

# The log shows at once what the training prints, and torchrun waits for longer than 30 seconds until it has saved.
VARIABLES = {"PYTHONUNBUFFERED": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVE_SECONDS)}


def launched(
    command: list[str], framework: str, gpus: int, nodes: int, host: str = "localhost", port: int | str = 0
) -> list[str]:
    """The command of train.py, started by torchrun or mpirun where there are several GPUs: one process for each.

    gpus: of each node. nodes: 1 for Jittor. host, port: where the nodes meet; 0 is any free port, for one node.
    """
    if gpus * nodes <= 1:
        return [*command, *(["--gpu", "cpu"] if gpus == 0 else [])]
    if framework == "torch":
        torchrun = [command[0], "-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc-per-node", str(gpus)]
        return [*torchrun, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}", *command[1:]]
    # A job of ours is one task for Slurm, which mpirun would take for room for one process.
    return ["mpirun", "-np", str(gpus), "--oversubscribe", "--bind-to", "none", *command]


class Run:
    """One training; the arguments are those of `launched`. submitit calls it as a job, and `checkpoint` to save it."""

    def __init__(self, command: list[str], framework: str, gpus: int, nodes: int):
        self.arguments = (command, framework, gpus, nodes)
        self.pid: int | None = None  # the child's, while that number is its own
        self.told = False

    def __call__(self) -> None:
        """Until the training has ended. Raises RuntimeError if not well, so that the job counts as failed."""
        import submitit

        job = submitit.JobEnvironment()
        several = self.arguments[-1] > 1
        meeting = (job.hostnames[0], 20000 + int(job.raw_job_id) % 10000) if several else ()
        command = launched(*self.arguments, *meeting)
        warning = signal.Signals[f"SIG{job.USR_SIG}"]
        print(" ".join(command), flush=True)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | VARIABLES,
            # Some clusters give the warning to all processes of a job, and it ends those that do not expect it.
            preexec_fn=lambda: signal.signal(warning, signal.SIG_IGN),
        )
        self.pid = child.pid
        signal.signal(signal.SIGTERM, self.tell)  # from scancel; submitit would take no notice of it
        if job.global_rank:
            signal.signal(warning, self.tell)  # of the nodes of a job submitit asks the first alone to save
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self._clear()
        status = child.wait()
        if status and self.told and job.cluster == "slurm":
            time.sleep(2 * SAVE_SECONDS)  # Slurm will end or requeue the job; if it ended by itself now, it had failed
        if status:
            raise RuntimeError(f"the training ended with exit status {status}")

    def checkpoint(self):
        """What submitit calls at the warning, in the midst of __call__: the same job again, once this one has saved."""
        from submitit.helpers import DelayedSubmission

        self.tell()
        end = time.monotonic() + SAVE_SECONDS * 0.8  # the rest is for requeueing
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while self.pid and os.waitid(os.P_PID, self.pid, flags) is None and time.monotonic() < end:
            time.sleep(0.1)
        self._clear()
        return DelayedSubmission(Run(*self.arguments))

    def tell(self, *_) -> None:
        """SIGTERM to the training, once: it saves and leaves."""
        if self.told or not self.pid:
            return
        self.told = True
        for pid in self._under_mpirun() or [self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _under_mpirun(self) -> list[int]:
        """The processes that mpirun has started: it would pass SIGTERM on, but kill them within a second."""
        _, framework, gpus, _ = self.arguments
        if framework != "jittor" or gpus <= 1:
            return []
        files = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(number) for file in files for number in file.read_text().split()]

    def _clear(self) -> None:
        """End the child, if it has not ended, and what it left. It is not reaped yet, so that its number is its own."""
        pid, self.pid = self.pid, None
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
