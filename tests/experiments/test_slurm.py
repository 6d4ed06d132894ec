"""Experiments as jobs: what is submitted, what a job runs, and that it saves and goes on when Slurm takes its place.

Slurm is not here: programs of its names stand in the PATH, and a test runs the batch script that submitit wrote. The
local executor is submitit's own.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.batch_scripts import STUB, THREE, calls, summary
from helpers.small_run import EPOCHS, STEPS, records, train_config, write_yaml
from liif_core.errors import UserError
from liif_core.experiments import slurm_job
from liif_core.experiments.slurm import gpu_groups
from liif_core.experiments.slurm_job import Run, launched
from liif_core.system import devices

pytestmark = pytest.mark.slow

TITLE = "rdn-liif_torch"
ONE = ["--recipe", "bsds400", "--only", "rdn-liif"]
RESOURCES = ["--partition", "gpu", "--gpus", "1", "--cpus", "8", "--memory", "64", "--hours", "24"]
PATIENCE = 240  # seconds until a test gives up; a job begins within one or two

# srun keeps its number in a file, becomes the command, and writes where it is told to.
SRUN = """
import os, pathlib, sys
arguments = sys.argv[1:]
while arguments[0].startswith("--"):
    name = arguments.pop(0)
    if name in ("--output", "--error"):
        path = arguments.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1 if name == "--output" else 2)
pathlib.Path({plan!r}, "task").write_text(str(os.getpid()))
os.execvp(arguments[0], arguments)
"""
PROGRAMS = {
    "sbatch": 'echo "$1" >> {plan}/scripts; echo "Submitted batch job $((76 + $(wc -l < {plan}/scripts)))"',
    "squeue": "cat {plan}/queue",
    "scontrol": 'echo "$@" >> {plan}/scontrol',
}


@pytest.fixture
def slurm(plan, monkeypatch) -> Path:
    """Slurm's commands, as far as they are used; returns the folder of the stubs."""
    folder = plan / "bin"
    folder.mkdir()
    programs = {name: "#!/bin/sh\n" + text.format(plan=plan) for name, text in PROGRAMS.items()}
    for name, text in (programs | {"srun": f"#!{sys.executable}" + SRUN.format(plan=str(plan))}).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (plan / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return plan


def wait_for(condition):
    """What the condition returns, once that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(number) for file in files for number in file.read_text().split()]


# What is run

TRAIN = ["/bin/python", "/liif/train.py", "--config", "a.yaml", "--resume"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("torch", 1, 1), "/bin/python /liif/train.py --config a.yaml --resume"),
        (("jittor", 0, 1), "/bin/python /liif/train.py --config a.yaml --resume --gpu cpu"),
        (
            ("torch", 4, 1),
            "/bin/python -m torch.distributed.run --nnodes 1 --nproc-per-node 4 --rdzv-backend c10d "
            "--rdzv-endpoint localhost:0 /liif/train.py --config a.yaml --resume",
        ),
        (
            ("torch", 1, 2, "node7", 20077),
            "/bin/python -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d "
            "--rdzv-endpoint node7:20077 /liif/train.py --config a.yaml --resume",
        ),
        (
            ("jittor", 4, 1),
            "mpirun -np 4 --oversubscribe --bind-to none /bin/python /liif/train.py --config a.yaml --resume",
        ),
    ],
)
def test_several_gpus_are_several_processes(given, expected):
    assert shlex.join(launched(TRAIN, *given)) == expected


def test_torchrun_takes_the_arguments():
    from torch.distributed.run import get_args_parser

    found = get_args_parser().parse_args(launched(TRAIN, "torch", 4, 2, "node7", 20077)[3:])
    assert (found.nnodes, found.nproc_per_node, found.rdzv_endpoint) == ("2", "4", "node7:20077")
    assert [found.training_script, *found.training_script_args] == TRAIN[1:]


def test_mpirun_is_passed_over_because_it_would_not_let_save(tmp_path):
    """The one here kills at once what it has started, as Open MPI does after some tenths of a second."""
    leaf = "import os, signal, time; signal.signal(15, lambda *_: (os.write(1, b'saved\\n'), os._exit(130))); "
    leaf += "os.write(1, b'up\\n'); time.sleep(50)"
    (tmp_path / "mpirun.py").write_text(
        "import signal, subprocess, sys\n"
        "ranks = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: [rank.kill() for rank in ranks])\n"
        f"ranks += [subprocess.Popen([sys.executable, '-c', {leaf!r}]) for _ in range(2)]\n"
        "[rank.wait() for rank in ranks]\n"
    )
    for framework, expected in (("jittor", ["saved", "saved"]), ("torch", [])):
        process = subprocess.Popen([sys.executable, tmp_path / "mpirun.py"], stdout=subprocess.PIPE, text=True)
        assert [process.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
        run = Run([], framework, 2, 1)
        run.pid = process.pid
        run.tell()
        assert process.communicate(timeout=PATIENCE)[0].split() == expected


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "local", "--hours", "2"], "--hours is not for --cluster local"),
        (["--cluster", "local", "--nodes", "2"], "--nodes is not for --cluster local"),
        (["--cluster", "slurm", "--parallel", "2"], "--parallel is not for --cluster slurm"),
        (["--cluster", "slurm", "--gpus", "-1"], "--gpus: expected a number from 0 on, got -1"),
        (["--cluster", "slurm", "--hours", "nan"], "--hours: expected a number like 4 or 1.5, got 'nan'"),
        (["--cluster", "slurm", "--gpus", "0", "--nodes", "2"], "--nodes 2 --gpus 0: several nodes need GPUs"),
        (["--cluster", "slurm", "--framework", "both", "--nodes", "2"], "--nodes 2 is for --framework torch: a job of"),
        (["--cluster", "slurm", "--only", "x"], "--only 'x': recipe bsds400: known: "),
        (["--cluster", "slurm", "--set", "epoch_maxx=3"], "unknown key 'epoch_maxx'"),
        (["--cluster", "slurm"], "there is no srun here: run this where Slurm's commands are"),
        (["--cluster", "local", "--gpus", "2", "--framework", "both"], "Open MPI's mpirun, which is not here"),
    ],
)
def test_a_wrong_argument_is_one_sentence_before_anything_begins(plan, call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("PATH", "/nowhere")
    status, output = call("sweep", *ONE, *arguments, "--save-dir", tmp_path / "save")
    assert status == 2 and output.startswith("error: ") and message in output and len(output.splitlines()) == 1
    assert not calls(plan) and not (tmp_path / "save").exists()


def test_without_submitit_there_is_a_command_that_fixes_it(plan, call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    status, output = call("sweep", *ONE, "--cluster", "local", "--save-dir", tmp_path / "save")
    assert status == 2 and len(output.splitlines()) == 1
    assert "'submitit' is not installed: run `" in output and "pip install 'submitit>=1.5' 'numpy<2'`" in output
    status, output = call("sweep", *ONE, "--cluster", "local", "--save-dir", tmp_path / "save", "--dry-run")
    assert status == 0 and summary(output) == {"rdn-liif": "train"}  # would train


def test_local_jobs_share_out_the_gpus(monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_groups(2, 2) == [(0, 1), (2, 3)] and gpu_groups(2, 0) == [(), ()]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,2")
    assert gpu_groups(2, 1) == [(5,), (2,)]
    with pytest.raises(UserError, match="--parallel 3 with --gpus 1: there are 2 GPUs here"):
        gpu_groups(3, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-fe81")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES: expected GPU numbers with commas between, got GPU-fe81"):
        gpu_groups(1, 1)
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)  # then --gpus says nothing: all run on the CPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_groups(2, 1) == [(0,), (1,)]


# Slurm


def test_a_job_is_asked_for_as_the_arguments_say(slurm, call, tmp_path):
    arguments = [*ONE, "--cluster", "slurm", *RESOURCES, "--nodes", "2", "--save-dir", tmp_path / "save"]
    status, output = call("sweep", *arguments, "--dry-run")
    assert status == 0 and not (tmp_path / "save").exists() and not (slurm / "scripts").exists()
    assert "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint HOST:PORT" in output
    assert "timeout_min 1440, nodes 2, tasks_per_node 1, gpus_per_node 1, cpus_per_task 8, mem_gb 64.0" in output

    status, output = call("sweep", *arguments)
    folder = tmp_path / "save" / "jobs" / TITLE
    assert status == 0 and f"job 77, which writes {folder}/77_0_log.out" in output
    assert re.search(r"rdn-liif +torch .* submitted as 77\n", output) and not calls(slurm)
    script = (folder / "77_submission.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, flags=re.M))
    expected = {"job-name": TITLE, "partition": "gpu", "time": "1440", "nodes": "2", "ntasks-per-node": "1"}
    expected |= {"gpus-per-node": "1", "cpus-per-task": "8", "mem": "64GB", "requeue": "", "open-mode": "append"}
    expected |= {"signal": "USR2@300", "output": f"{folder}/%j_0_log.out", "error": f"{folder}/%j_0_log.err"}
    assert expected.items() <= asked.items()
    assert re.search(r"^srun .* --cpus-per-task=8 .*-m submitit.core._submit", script, flags=re.M)


def test_arguments_left_open_are_left_to_slurm(slurm, call, tmp_path):
    call("sweep", *ONE, "--cluster", "slurm", "--gpus", "0", "--save-dir", tmp_path / "save")
    script = (tmp_path / "save" / "jobs" / TITLE / "77_submission.sh").read_text()
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, flags=re.M))
    assert not {"partition", "gpus-per-node", "cpus-per-task", "mem"} & set(asked) and asked["time"] == "1440"


def test_a_second_call_submits_what_is_neither_finished_nor_queued(slurm, call, tmp_path):
    arguments = ["--recipe", "bsds400", "--cluster", "slurm", "--save-dir", tmp_path / "save", "--only"]
    assert call("sweep", *arguments, THREE)[0] == 0
    names = [f"{name}_torch" for name in THREE.split(",")]
    script = (tmp_path / "save" / "jobs" / names[0] / "77_submission.sh").read_text()
    result = subprocess.run(["bash", "-c", script], env=os.environ | {"SLURM_JOB_ID": "77"}, timeout=PATIENCE)
    assert result.returncode == 0 and [title for title, *_ in calls(slurm)] == names[:1]
    # The second waits; a job of the third's number is somebody's other work.
    (slurm / "queue").write_text(f"78 {names[1]}\n79 something-else\n")
    status, output = call("sweep", *arguments, THREE)
    states = [line.rpartition("  ")[2] for line in output.rpartition("summary\n")[2].splitlines()[1:4]]
    assert status == 0 and states == ["skipped", "queued as 78", "submitted as 80"]


def test_a_job_that_starts_from_another_run_waits_for_its_job(slurm, call, tmp_path):
    arguments = ["--recipe", "bsds400", "--only", "srresnet-x4,srgan-x4", "--cluster", "slurm"]
    assert call("sweep", *arguments, "--save-dir", tmp_path / "save")[0] == 0
    scripts = [
        (tmp_path / "save" / "jobs" / f"{name}_torch" / f"{number}_submission.sh").read_text()
        for name, number in (("srresnet-x4", 77), ("srgan-x4", 78))
    ]
    assert "dependency" not in scripts[0]
    assert "#SBATCH --dependency=afterok:77\n" in scripts[1] and "#SBATCH --kill-on-invalid-dep=yes\n" in scripts[1]
    # A second call finds the first job in the queue.
    shutil.rmtree(tmp_path / "save" / "jobs" / "srgan-x4_torch")
    (slurm / "queue").write_text("77 srresnet-x4_torch\n")
    _, output = call("sweep", *arguments, "--save-dir", tmp_path / "save", "--dry-run")
    assert "'dependency': 'afterok:77'" in output


def test_jobs_that_sbatch_refuses_are_failures_with_its_words(slurm, call, tmp_path):
    (slurm / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: gpu' >&2; exit 1\n")
    arguments = ["--recipe", "bsds400", "--only", THREE, "--cluster", "slurm", "--save-dir", tmp_path / "save"]
    status, output = call("sweep", *arguments)
    assert status == 1 and list(summary(output).values()) == ["failed"] * 3 and "Traceback" not in output
    assert "rdn-liif torch failed" not in output
    assert "edsr-baseline-liif torch failed; its last lines:\n    sbatch: error: invalid partition: gpu\n" in output
    (slurm / "bin" / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: no connection' >&2; exit 1\n")
    status, output = call("sweep", *arguments)
    assert status == 2 and output.startswith("error: squeue does not say which jobs are queued: slurm_load_jobs error")


@pytest.fixture
def job(slurm, call, tmp_path):
    """Start the job as Slurm would, again after it has been requeued; when its training is up: (process, task)."""
    call("sweep", *ONE, "--cluster", "slurm", "--save-dir", tmp_path / "save")
    started = []

    def start(variables=()):
        # 20 CPU cores on node7 and node8, as Slurm says it.
        environ = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[7-8]"} | dict(variables)
        script = tmp_path / "save" / "jobs" / TITLE / "77_submission.sh"
        begun = len(calls(slurm))
        process = subprocess.Popen(["bash", str(script)], env=os.environ | environ, start_new_session=True)
        started.append(process)
        log = tmp_path / "save" / "jobs" / TITLE / "77_0_log.out"
        wait_for(lambda: log.exists() and log.read_text().count("waiting\n") == begun + 1)
        return process, int((slurm / "task").read_text())

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_before_its_time_is_up_a_job_saves_and_is_requeued_and_goes_on(slurm, job, call, tmp_path):
    (slurm / f"{TITLE}.waits").touch()
    process, task = job()
    for number in [*children(task), task]:  # with some of Slurm's settings all of a job's processes get the signal
        os.kill(number, signal.SIGUSR2)
    assert process.wait(timeout=PATIENCE) != 0
    assert [title for title, *_ in calls(slurm, "saved")] == [TITLE]
    assert (slurm / "scontrol").read_text() == "requeue 77\n"
    folder = tmp_path / "save" / "jobs" / TITLE
    assert not list(folder.glob("*_result.pkl")) and len(list(folder.glob("*_submitted.pkl"))) == 1

    process, task = job()  # it was pickled anew, by the job itself
    os.kill(task, signal.SIGUSR2)
    process.wait(timeout=PATIENCE)
    assert (slurm / "scontrol").read_text() == "requeue 77\n" * 2 and len(calls(slurm, "saved")) == 2
    (slurm / f"{TITLE}.waits").unlink()
    script = folder / "77_submission.sh"
    assert subprocess.run(["bash", script], env=os.environ | {"SLURM_JOB_ID": "77"}, timeout=PATIENCE).returncode == 0
    assert summary(call("sweep", *ONE, "--cluster", "slurm", "--save-dir", tmp_path / "save")[1]) == {
        "rdn-liif": "skipped"
    }


def test_sigterm_lets_it_save_too_and_leaves_it_to_slurm_to_end_or_requeue(slurm, job):
    (slurm / f"{TITLE}.waits").touch()
    process, task = job()
    os.kill(task, signal.SIGTERM)
    wait_for(lambda: calls(slurm, "saved"))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    os.kill(task, signal.SIGUSR2)
    assert process.wait(timeout=PATIENCE) != 0 and (slurm / "scontrol").read_text() == "requeue 77\n"
    assert len(calls(slurm, "saved")) == 1


def test_on_its_other_nodes_a_job_saves_and_leaves_requeueing_to_the_first(slurm, job):
    (slurm / f"{TITLE}.waits").touch()
    process, task = job({"SLURM_PROCID": "1"})
    os.kill(task, signal.SIGUSR2)
    wait_for(lambda: calls(slurm, "saved"))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    assert not (slurm / "scontrol").exists()


def test_a_training_that_fails_is_a_job_that_fails(slurm, call, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # without it, what is printed comes after the error
    call("sweep", *ONE, "--cluster", "slurm", "--save-dir", tmp_path / "save")
    (slurm / f"{TITLE}.fails").touch()
    folder = tmp_path / "save" / "jobs" / TITLE
    command = ["bash", str(folder / "77_submission.sh")]
    result = subprocess.run(command, env=os.environ | {"SLURM_JOB_ID": "77"}, timeout=PATIENCE)
    assert result.returncode == 1 and not (slurm / "scontrol").exists()
    assert "\nreading data\nerror: it broke\n" in (folder / "77_0_log.out").read_text()
    assert "the training ended with exit status 3" in (folder / "77_0_log.err").read_text()


# This machine


def test_local_jobs_run_so_many_at_once_and_a_second_call_does_what_is_left(plan, call, tmp_path):
    (plan / "slow").touch()
    (plan / "edsr-baseline-liif-c_torch.fails").touch()
    arguments = ["--recipe", "bsds400", "--only", THREE, "--cluster", "local", "--gpus", "0", "--save-dir", tmp_path]
    status, output = call("sweep", *arguments, "--parallel", "2")
    assert status == 1, output
    states = {"edsr-baseline-liif": "done", "edsr-baseline-liif-c": "failed", "edsr-baseline-liif-u": "done"}
    assert summary(output) == states
    assert "edsr-baseline-liif-c torch failed; its last lines:\n" in output
    assert "\n    error: it broke\n" in output
    begun = {title: moment for title, *_, moment in calls(plan)}
    end = {title: moment for title, *_, moment in calls(plan, "end")}
    assert {place for _, place, *_ in calls(plan)} == {"cpu"}
    assert sum(moment <= begun["edsr-baseline-liif-u_torch"] for moment in end.values()) <= 1

    (plan / "edsr-baseline-liif-c_torch.fails").unlink()
    (plan / "calls").unlink()
    status, output = call("sweep", *arguments)
    assert status == 0 and [title for title, *_ in calls(plan)] == ["edsr-baseline-liif-c_torch"]
    assert list(summary(output).values()) == ["skipped", "done", "skipped"]


# A process of its own, because it gets a signal; away from the repository, which the jobs must not need.
DRIVER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from liif_core.experiments import jobs, listed, slurm
{change}
jobs.exit_with(slurm.main)
"""


def start(change: str, *arguments, place: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", DRIVER.format(root=str(ROOT), change=change), "--cluster", "local", "--gpus", "0"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_lets_the_local_jobs_save(plan, tmp_path):
    """It comes from the terminal, to all of the session that do not keep it out."""
    names = ["edsr-baseline-liif_torch", "edsr-baseline-liif-c_torch"]
    for name in names:
        (plan / f"{name}.waits").touch()
    change = f"jobs.script = lambda framework, name: [sys.executable, {str(STUB)!r}]"
    arguments = ["--recipe", "bsds400", "--only", THREE, "--parallel", "2", "--save-dir", tmp_path / "save"]
    process = start(change, *arguments, place=tmp_path)
    logs = [tmp_path / "save" / "jobs" / name for name in names]
    wait_for(lambda: all("waiting\n" in "".join(f.read_text() for f in log.glob("*_log.out")) for log in logs))
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, output
    assert sorted(title for title, *_ in calls(plan, "saved")) == sorted(names)
    assert summary(output) == {"edsr-baseline-liif": "stopped", "edsr-baseline-liif-c": "stopped"}
    assert "3 stopped or not begun" in output and len(calls(plan)) == 2


# train.py, but after its 8th step it has the job warned, once, and waits until it has been told itself.
WARNED = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from liif_core.commands import entry, train

def load_tree():
    from liif_torch.datasets import make_loader
    from liif_torch.engine import Engine

    class Warned(Engine):
        steps = 0

        def train_step(self, *arguments):
            super().train_step(*arguments)
            self.steps += 1
            if self.steps == 8 and not os.path.exists({flag!r}):
                open({flag!r}, "w").close()
                handler, told = signal.getsignal(signal.SIGTERM), []
                signal.signal(signal.SIGTERM, lambda *call: (handler(*call), told.append(True)))
                os.kill(os.getppid(), signal.SIGUSR2)
                while not told:
                    time.sleep(0.01)

    return Warned, make_loader

entry.run(train.train, "torch", load_tree)
"""


def test_a_real_training_saves_at_the_signal_and_its_job_goes_on(image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    script = tmp_path / "train.py"
    script.write_text(WARNED.format(root=str(ROOT), flag=str(tmp_path / "warned")))
    change = f"listed.Experiment.config_in = lambda self, recipe: Path({str(config)!r})\n"
    change += f"jobs.script = lambda framework, name: [sys.executable, {str(script)!r}]"
    process = start(change, *ONE, "--save-dir", tmp_path / "save", place=tmp_path)
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0 and summary(output) == {"rdn-liif": "done"}, output
    folder = tmp_path / "save" / TITLE
    assert (folder / "log.txt").read_text().count("resumed at epoch 2, step 8\n") == 1
    steps = [record["step"] for record in records(folder) if "loss" in record]
    assert steps == list(range(1, EPOCHS * STEPS + 1))
    [log] = (tmp_path / "save" / "jobs" / TITLE).glob("*_0_log.out")
    assert "stopped at step 8, saved in" in log.read_text()


def test_processes_that_a_training_leaves_end_with_it():
    """As the workers of its loader, when it has been killed for its memory."""
    leaving = "import os, subprocess; print('left', subprocess.Popen(['sleep', '50']).pid, flush=True); "
    leaving += "os.kill(os.getpid(), 9)"
    job = f"Run([{sys.executable!r}, '-c', {leaving!r}], 'torch', 1, 1)()"
    code = f"from liif_core.experiments.slurm_job import Run; {job}"
    environ = os.environ | {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert "RuntimeError: the training ended with exit status -9" in result.stderr
    state = Path(f"/proc/{re.search(r'^left ([0-9]+)$', result.stdout, flags=re.M)[1]}/stat")
    assert not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z")  # not reaped yet


def test_the_job_needs_nothing_of_this_repository(tmp_path):
    """Neither when it is pickled here nor when it pickles itself to be requeued."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(slurm_job)
    (tmp_path / "job.pkl").write_bytes(cloudpickle.dumps(Run(["python", "train.py"], "torch", 2, 1)))
    code = "import cloudpickle, pickle, sys; run = pickle.load(open('job.pkl', 'rb')); "
    code += "again = cloudpickle.loads(cloudpickle.dumps(run.checkpoint().function)); print(*again.arguments); "
    code += "print([name for name in sys.modules if name.split('.')[0] in ('scripts', 'liif_core', 'numpy')])"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.stdout == "['python', 'train.py'] torch 2 1\n[]\n", result.stderr
