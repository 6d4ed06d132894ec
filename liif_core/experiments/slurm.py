"""Train the runs of a recipe as jobs: on a Slurm cluster, or on this machine to try it.

    python scripts/sweep.py --recipe div2k-100 --framework both --only paper --cluster slurm --partition gpu --dry-run
    python scripts/sweep.py --recipe bsds400 --cluster local --parallel 2

Each experiment is one job, with the run folder that batch_0.sh gives it. --cluster slurm submits what is neither
finished nor queued and returns; --cluster local waits for the end. docs/cluster.md says the rest.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from liif_core.errors import UserError
from liif_core.experiments import batch_train, jobs, slurm_job
from liif_core.experiments.slurm_job import Run, launched
from liif_core.system import devices, packages
from liif_core.system.arguments import Parser

TIMEOUTS = 100  # a job that reaches its time limit is requeued so often
YEAR = 365 * 24 * 60  # minutes: submitit's local jobs must have a limit
SLURM_ONLY = ("partition", "nodes", "cpus", "memory", "hours")


def gpu_groups(parallel: int, gpus: int) -> list[tuple[int, ...]]:
    """The GPUs of each of so many local jobs. Raises UserError if there are some, but not enough."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        numbers = [int(number) for number in given.split(",") if number] if given is not None else None
    except ValueError:
        raise UserError(f"CUDA_VISIBLE_DEVICES: expected GPU numbers with commas between, got {given}") from None
    there = devices.count_gpus()
    if numbers is None or there == 0:  # without any, all jobs run on the CPU
        numbers = list(range(there or parallel * gpus))
    if len(numbers) < parallel * gpus:
        raise UserError(f"--parallel {parallel} with --gpus {gpus}: there are {len(numbers)} GPUs here")
    return [tuple(numbers[k * gpus : (k + 1) * gpus]) for k in range(parallel)]


def logs(task: batch_train.Task) -> Path:
    """The folder of a task's jobs: what they print, and submitit's own files."""
    return task.folder.parent / "jobs" / task.folder.name


def run_here(pool: jobs.Pool, task: batch_train.Task, run: Run, gpus: tuple[int, ...]) -> jobs.Result:
    """One job as a process of this machine, until it ends."""
    import submitit

    # Ctrl-C and the end of the terminal reach this process alone, which tells the jobs; they inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    executor = submitit.LocalExecutor(logs(task))
    executor.update_parameters(timeout_min=YEAR, gpus_per_node=len(gpus), visible_gpus=gpus)
    job = executor.submit(run)
    log, told = job.paths.stdout, 0.0
    print(f"[{task.folder.name}] {log}", flush=True)
    while not job.done():
        if pool.stopping and time.monotonic() > told + 1:  # again and again: it may not have been listening yet
            told = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(0.1)
    failed = not job.paths.result_pickle.exists() or job.exception() is not None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    lines = [line for line in lines if line.strip() and not line.startswith("submitit ")]
    return task.result(jobs.state_of(int(failed), pool.stopping), lines[-jobs.TAIL :])


def requested(arguments: argparse.Namespace, name: str, first: list[str]) -> dict:
    """A job's name and resources, in submitit's words; None is left to Slurm. It begins after the jobs `first`, and is
    taken back when one of them fails."""
    waits = {"dependency": f"afterok:{':'.join(first)}", "kill_on_invalid_dep": "yes"} if first else {}
    return {
        "name": name,
        "timeout_min": round((arguments.hours or 24) * 60),
        "nodes": arguments.nodes or 1,
        "tasks_per_node": 1,
        "gpus_per_node": arguments.gpus or None,
        "cpus_per_task": arguments.cpus,
        "mem_gb": arguments.memory,
        "slurm_partition": arguments.partition,
        "slurm_signal_delay_s": slurm_job.SAVE_SECONDS,
        # Since 22.05, srun does not take over what was asked of sbatch.
        "slurm_srun_args": [f"--cpus-per-task={arguments.cpus}"] if arguments.cpus else None,
        "slurm_additional_parameters": {"requeue": True} | waits,
    }


def submit(task: batch_train.Task, run: Run, resources: dict, numbers: dict[Path, str]) -> jobs.Result:
    """Hand one job to Slurm; its number joins `numbers`, under its run folder."""
    import submitit

    executor = submitit.AutoExecutor(logs(task), cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
    executor.update_parameters(**resources)
    try:
        job = executor.submit(run)
    except (RuntimeError, OSError) as error:  # what sbatch says
        return task.result("failed", str(error).splitlines())
    numbers[task.folder] = job.job_id
    print(f"job {job.job_id}, which writes {logs(task) / f'{job.job_id}_0_log.out'}", flush=True)
    return task.result(f"submitted as {job.job_id}")


def queued() -> set[str]:
    """The numbers and names of the user's jobs that wait or run, such as "77 rdn-liif_torch"; none without Slurm."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--noheader", "--format", "%A %j", "--user", str(os.getuid())]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"squeue does not say which jobs are queued: {result.stderr.strip() or result.returncode}")
    return {line.strip() for line in result.stdout.splitlines()}


def job_of(task: batch_train.Task, known: set[str]) -> str | None:
    """The number of a task's job among those that are queued."""
    numbers = [path.name.removesuffix("_submitted.pkl") for path in logs(task).glob("*_submitted.pkl")]
    return next((number for number in numbers if f"{number} {task.folder.name}" in known), None)


def read_arguments() -> argparse.Namespace:
    """Raises UserError for what does not go together."""
    parser = Parser(description="Train the runs of a recipe as jobs.")
    batch_train.add_arguments(parser)
    parser.add_argument("--cluster", choices=["slurm", "local"], required=True, help="local: processes of this machine")
    parser.add_argument("--gpus", type=int, default=1, help="of each node; 0 for the CPU (default: 1)")
    parser.add_argument("--parallel", type=int, help="local: so many jobs at once (default: 1)")
    parser.add_argument("--partition", help="Slurm's")
    parser.add_argument("--nodes", type=int, help="Slurm: nodes of each job (default: 1)")
    parser.add_argument("--cpus", type=int, help="Slurm: CPUs on each node (default: the cluster's)")
    parser.add_argument("--memory", type=float, help="Slurm: GB on each node (default: the cluster's)")
    parser.add_argument("--hours", type=float, help="Slurm: time limit, after which a job is requeued (default: 24)")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    arguments = parser.parse_args()
    for name in SLURM_ONLY if arguments.cluster == "local" else ("parallel",):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is not for --cluster {arguments.cluster}")
    for name, least in {"gpus": 0, "parallel": 1, "nodes": 1, "cpus": 1, "memory": 0.1, "hours": 0.25}.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value < 1e6:
            raise UserError(f"--{name}: expected a number from {least} on, got {value}")
    if arguments.gpus == 0 and (arguments.nodes or 1) > 1:
        raise UserError(f"--nodes {arguments.nodes} --gpus 0: several nodes need GPUs")
    if arguments.framework != "torch" and (arguments.nodes or 1) > 1:
        # mpirun's helpers on the other nodes would get Slurm's signal, end, and take the training with them.
        raise UserError(f"--nodes {arguments.nodes} is for --framework torch: a job of Jittor takes GPUs of one node")
    return arguments


def check_tools(arguments: argparse.Namespace, todo: list[batch_train.Task]) -> None:
    """Raise UserError if the jobs cannot be started; have submitit pickle what they are made of."""
    packages.load("submitit", "submitit>=1.5", "numpy<2")
    packages.load("cloudpickle", "submitit>=1.5", "numpy<2").register_pickle_by_value(slurm_job)
    if arguments.cluster == "slurm" and shutil.which("srun") is None:
        raise UserError("there is no srun here: run this where Slurm's commands are, or take --cluster local")
    if arguments.gpus > 1 and shutil.which("mpirun") is None and any(task.framework == "jittor" for task in todo):
        raise UserError("Jittor on several GPUs is started by Open MPI's mpirun, which is not here (docs/cluster.md)")


def main() -> int:
    """Returns the exit status."""
    arguments = read_arguments()
    todo = batch_train.tasks(arguments)
    if not arguments.dry_run:
        check_tools(arguments, todo)
    local, nodes = arguments.cluster == "local", arguments.nodes or 1
    pool = jobs.Pool(gpu_groups(arguments.parallel or 1, arguments.gpus) if local else [None])
    known = set() if local else queued()
    numbers: dict[Path, str] = {}  # of jobs that are queued

    def work(task: batch_train.Task, device) -> jobs.Result:
        number = job_of(task, known)
        if number is not None:
            numbers[task.folder] = number
            print(f"\n{task.folder.name} is queued as {number}")
            return task.result(f"queued as {number}")
        shown = launched(
            task.command(), task.framework, arguments.gpus, nodes, *(("HOST", "PORT") if nodes > 1 else ())
        )
        result = batch_train.begin(task, shown, "", arguments.dry_run)
        first = [numbers[folder] for folder in task.first if folder in numbers]
        resources = requested(arguments, task.folder.name, first)
        if result is not None:
            if result.state.startswith("would") and not local:
                print(", ".join(f"{key} {value}" for key, value in resources.items() if value is not None))
            return result
        run = Run(task.command(), task.framework, arguments.gpus, nodes)
        return run_here(pool, task, run, device) if local else submit(task, run, resources, numbers)

    started = time.time()
    return jobs.finish(
        pool, batch_train.HEADER, pool.map(work, todo, lambda task: batch_train.parents(task, todo)), started
    )
