"""The batch scripts: what is finished is skipped, what failed does not end the rest, and a stop stops all.

Most tests put a stub in the place of train.py, test.py and demo.py, so that what is tested is the runner; one
goes through all of them for real.
"""

import csv
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import ROOT, made_images
from helpers.batch_scripts import STUB, THREE, calls, summary
from helpers.small_run import FRAMEWORKS, contents, load_script, run, test_config, write_yaml
from liif_core.errors import UserError
from liif_core.experiments import batch_test, jobs, listed, trained
from liif_core.experiments.scores import COLUMNS
from liif_core.images import rgb8

pytestmark = pytest.mark.slow

# batch_0.sh


def test_a_failure_does_not_end_the_others_and_a_second_call_does_what_is_left(plan, call, tmp_path):
    (plan / "edsr-baseline-liif-c_torch.fails").touch()
    arguments = ["--recipe", "bsds400", "--only", THREE, "--save-dir", tmp_path / "save"]
    status, output = call("batch_train", *arguments)
    assert status == 1
    states = {"edsr-baseline-liif": "done", "edsr-baseline-liif-c": "failed", "edsr-baseline-liif-u": "done"}
    assert summary(output) == states
    assert output.count("error: it broke") == 2  # when it came, and once more below the table
    assert "edsr-baseline-liif-c torch failed; its last lines:\n    reading data\n    error: it broke" in output
    assert re.search(r"edsr-baseline-liif +torch +46.0000 +1.5m +done", output)

    (plan / "edsr-baseline-liif-c_torch.fails").unlink()
    (plan / "calls").unlink()
    status, output = call("batch_train", *arguments)
    assert status == 0 and [title for title, *_ in calls(plan)] == ["edsr-baseline-liif-c_torch"]
    assert list(summary(output).values()) == ["skipped", "done", "skipped"]


def test_an_unfinished_run_goes_on_and_a_longer_schedule_makes_it_unfinished(plan, call, tmp_path):
    (plan / "rdn-liif_jittor.stops").touch()
    arguments = ["--recipe", "bsds400", "--only", "rdn-liif", "--framework", "jittor", "--save-dir", tmp_path / "save"]
    call("batch_train", *arguments)
    (plan / "rdn-liif_jittor.stops").unlink()
    _, output = call("batch_train", *arguments)
    assert "go on with rdn-liif_jittor" in output and len(calls(plan)) == 2
    assert summary(call("batch_train", *arguments)[1]) == {"rdn-liif": "skipped"}
    assert summary(call("batch_train", *arguments, "--set", "epoch_max=30")[1]) == {"rdn-liif": "done"}
    assert len(calls(plan)) == 3


def test_a_finished_run_of_another_config_is_not_taken_for_this_one(plan, call, tmp_path):
    arguments = ["--recipe", "bsds400", "--only", "rdn-liif", "--save-dir", tmp_path / "save"]
    call("batch_train", *arguments)
    status, output = call("batch_train", *arguments, "--set", "seed=5")
    assert status == 1 and summary(output) == {"rdn-liif": "failed"}
    assert "differ in seed: use another --name" in output and len(calls(plan)) == 1


def test_gpus_take_the_next_experiment_when_they_are_free(plan, call, tmp_path):
    (plan / "slow").touch()
    arguments = ["--recipe", "bsds400", "--only", THREE, "--framework", "both", "--save-dir", tmp_path / "save"]
    status, output = call("batch_train", *arguments, "--gpu", "0,3,5")
    assert status == 0, output
    begun, ended = calls(plan), calls(plan, "end")
    assert sorted(title for title, *_ in begun) == sorted(
        f"{e.name}_{f}" for e in listed.select("bsds400", THREE) for f in ("torch", "jittor")
    )
    assert {gpu for _, gpu, *_ in begun} == {"0", "3", "5"}
    end = {title: moment for title, *_, moment in ended}
    at_once = [sum(other <= moment < end[title] for title, *_, other in begun) for *_, moment in begun]
    assert max(at_once) == 3
    for gpu in ("0", "3", "5"):  # one at a time on each
        own = [(moment, end[title]) for title, place, _, moment in begun if place == gpu]
        assert all(before[1] <= after[0] for before, after in zip(own, own[1:], strict=False))


def test_a_run_that_starts_from_another_waits_for_its_end(plan, call, tmp_path):
    (plan / "slow").touch()
    arguments = ["--recipe", "bsds400", "--only", "srgan-x4,srresnet-x4,srcnn-x3,srcnn-x4", "--framework", "both"]
    status, output = call("batch_train", *arguments, "--save-dir", tmp_path / "save", "--gpu", "0,1,2,3")
    assert status == 0, output
    begun, ended = ({title: moment for title, *_, moment in calls(plan, what)} for what in ("begin", "end"))
    assert len(begun) == 8
    for framework in FRAMEWORKS:
        assert ended[f"srresnet-x4_{framework}"] <= begun[f"srgan-x4_{framework}"]
    # The others do not wait for it: both SRGANs begin last.
    assert {title.rpartition("_")[0] for title in sorted(begun, key=begun.__getitem__)[-2:]} == {"srgan-x4"}


def test_a_dry_run_touches_nothing(plan, call, tmp_path):
    status, output = call(
        "batch_train", "--recipe", "div2k", "--save-dir", tmp_path / "save", "--dry-run", "--gpu", "cpu"
    )
    assert status == 0 and output.count("--gpu cpu\n") == len(summary(output)) > 17
    assert set(summary(output).values()) == {"train"}  # would train
    assert not calls(plan) and not (tmp_path / "save").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "div2"], "--recipe 'div2': did you mean 'div2k'"),
        (["--recipe", "div2k", "--only", "x"], "--only 'x': recipe div2k: known: "),
        (
            ["--recipe", "div2k", "--gpu", "0,0"],
            "--gpu: expected GPU numbers with commas between, each once, or cpu, got '0,0'",
        ),
        (
            ["--recipe", "div2k", "--gpu", "0,"],
            "--gpu: expected GPU numbers with commas between, each once, or cpu, got '0,'",
        ),
        (["--recipe", "div2k", "--set", "epoch_maxx=3"], "unknown key 'epoch_maxx'"),
    ],
)
def test_a_wrong_argument_is_one_sentence_before_anything_begins(plan, call, tmp_path, arguments, message):
    status, output = call("batch_train", *arguments, "--save-dir", tmp_path / "save")
    assert status == 2 and output.startswith("error: ") and message in output and len(output.splitlines()) == 1
    assert not calls(plan) and not (tmp_path / "save").exists()


# The runner is a process of its own here, because it is the one that gets the signal.
INTERRUPTED = """
import sys
sys.path.insert(0, {root!r})
from liif_core.experiments import batch_train, jobs
jobs.script = lambda framework, name: [sys.executable, {stub!r}]
jobs.exit_with(batch_train.main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_lets_every_child_save_and_begins_nothing_new(plan, tmp_path, number):
    for name in ("edsr-baseline-liif_torch", "edsr-baseline-liif-c_torch"):
        (plan / f"{name}.waits").touch()
    code = INTERRUPTED.format(root=str(ROOT), stub=str(STUB))
    arguments = ["--recipe", "bsds400", "--only", THREE, "--save-dir", str(tmp_path), "--gpu", "0,1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seen = ""
    while seen.count("waiting") < 2:
        seen += process.stdout.readline()
    process.send_signal(number)
    output = seen + process.communicate(timeout=30)[0]
    assert process.returncode == 130, output
    assert sorted(title for title, *_ in calls(plan, "saved")) == [
        "edsr-baseline-liif-c_torch",
        "edsr-baseline-liif_torch",
    ]
    assert summary(output) == {"edsr-baseline-liif": "stopped", "edsr-baseline-liif-c": "stopped"}
    assert "3 stopped or not begun" in output


@pytest.mark.parametrize("terminal", [False, True])
def test_readers_of_the_output_may_go_and_the_children_still_save(plan, tmp_path, terminal):
    """As when ssh drops: nobody reads, and SIGHUP comes from the kernel and from the shell."""
    title = "edsr-baseline-liif_torch"
    (plan / f"{title}.waits").touch()
    reading, writing = pty.openpty() if terminal else os.pipe()
    code = INTERRUPTED.format(root=str(ROOT), stub=str(STUB))
    command = [sys.executable, "-c", code, "--recipe", "bsds400", "--only", THREE, "--save-dir", str(tmp_path / "save")]
    process = subprocess.Popen(command, stdout=writing, stderr=writing)
    os.close(writing)
    seen = b""
    while b"waiting" not in seen:
        seen += os.read(reading, 1000)
    os.close(reading)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 130
    assert [title for title, *_ in calls(plan, "saved")] == [title]


def test_work_goes_on_when_nobody_reads(plan, tmp_path):
    """Its results are files."""
    code = INTERRUPTED.format(root=str(ROOT), stub=str(STUB))
    command = [sys.executable, "-c", code, "--recipe", "bsds400", "--only", THREE, "--save-dir", str(tmp_path / "save")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (0, "") and len(calls(plan, "end")) == 3


def test_nohup_is_obeyed(plan, tmp_path):
    title = "edsr-baseline-liif_torch"
    (plan / f"{title}.waits").touch()
    code = INTERRUPTED.format(root=str(ROOT), stub=str(STUB))
    command = ["nohup", sys.executable, "-c", code, "--recipe", "bsds400", "--only", THREE, "--save-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = ""
    while "waiting" not in seen:
        seen += process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130 and len(calls(plan, "saved")) == 1


def test_leftovers_of_a_killed_command_do_not_hold_the_batch():
    """As when the kernel kills a training for its memory and the workers of its loader live on."""
    asked = "import os, subprocess; child = subprocess.Popen(['sleep', '50']); print(child.pid, flush=True); "
    code = "from liif_core.experiments import jobs; "
    code += f"print(jobs.Pool([None]).run(['{sys.executable}', '-c', {{!r}}], None, 'x'))"
    for end, status in (("os.kill(os.getpid(), 9)", -9), ("os._exit(3)", 3)):
        result = subprocess.run(
            [sys.executable, "-c", code.format(asked + end)], cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        worker, line = result.stdout.splitlines()
        assert line == f"({status}, ['{worker}'])"
        state = Path(f"/proc/{worker}/stat")  # ended: gone, or waiting to be reaped by whoever adopted it
        assert not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z")


def test_a_second_stop_ends_what_a_command_has_started_too():
    """The command takes no notice of SIGTERM, and so does what it has started."""
    asked = "trap '' TERM; sleep 50 & echo up; wait; sleep 50"
    code = "from liif_core.experiments import jobs; pool = jobs.Pool([None]); "
    code += f"print(pool.map(lambda item, place: pool.run({['sh', '-c', asked]}, place, 'x'), [0]))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "[(-9, ['up'])]\n"


def test_a_stop_may_break_into_itself():
    pool = jobs.Pool([None])

    def stop():
        with pool.lock:
            pool._stop(signal.SIGTERM, None)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive() and pool.stopping


def test_on_a_terminal_a_command_gets_a_terminal_of_the_same_size():
    """So that its progress bars stay."""
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    asked = "import os, sys; print(sys.stdout.isatty(), sys.stderr.isatty(), *os.get_terminal_size(2)); sys.exit(4)"
    code = "from liif_core.experiments import jobs; "
    code += f"print(jobs.Pool([None]).run(['{sys.executable}', '-c', {asked!r}], None, ''))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writing, timeout=60, check=True)
    os.close(writing)
    text = os.read(reading, 10_000).decode()
    os.close(reading)
    assert text.splitlines() == ["True True 77 33", "(4, ['True True 77 33'])"]


@pytest.mark.parametrize(
    ("place", "script", "framework"),
    [
        (ROOT, "batch_0.sh", "torch"),
        (ROOT / "liif_torch", "batch_0.sh", "torch"),
        (Path("/"), str(ROOT / "liif_jittor" / "batch_0.sh"), "jittor"),
    ],
)
def test_batch_0_takes_the_framework_of_its_tree(place, script, framework, monkeypatch):
    monkeypatch.setenv("PYTHON", sys.executable)
    result = run(["bash", script, "--recipe", "bsds400", "--only", "paper", "--dry-run", "--gpu", "cpu"], place)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f"liif_{framework}/train.py --config") == 10
    result = run(["bash", script, "--recipe", "celebAHQ", "--framework", "both", "--dry-run"], place)
    assert result.stdout.count("/train.py --config") == 8


# batch_test_simple.py


@pytest.fixture
def experiments_folder(tmp_path) -> Path:
    """Two run folders as they look after training, one that never came to a checkpoint, and a folder that is none."""
    for name, checkpoints in {
        "edsr-baseline-liif_torch": ["best", "last"],
        "edsr-baseline-liif_jittor": ["last"],
        "rdn-liif_torch": [],
    }.items():
        folder = tmp_path / "save" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("epoch_max: 1\n")
        for kind in checkpoints:
            (folder / f"epoch-{kind}.safetensors").write_text(f"{kind} weights of {name}")
    (tmp_path / "save" / "other").mkdir()
    return tmp_path / "save"


@pytest.fixture
def tests(image_folders, tmp_path) -> list[Path]:
    """Three test configs with data."""
    return [write_yaml(tmp_path / f"test-small-{scale}.yaml", test_config(image_folders)) for scale in (2, 3, 4)]


def read_scores(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_all_models_are_tested_once_until_their_weights_change(plan, call, experiments_folder, tests):
    arguments = ["--save-dir", experiments_folder, "--configs", *tests]
    status, output = call("batch_test_simple", *arguments)
    assert status == 0, output
    assert "edsr-baseline-liif_torch: epoch-best" in output and "edsr-baseline-liif_jittor: epoch-last" in output
    assert "rdn-liif_torch has no checkpoint yet" in output
    assert len(calls(plan)) == 3  # two models and bicubic, each with all sets in one process
    assert all(configs == ["test-small-2", "test-small-3", "test-small-4"] for _, _, configs, _ in calls(plan))
    scores = read_scores(experiments_folder / "scores.csv")
    assert list(scores[0]) == COLUMNS
    assert [(row["model"], row["experiment"], row["framework"], row["scale"]) for row in scores][::3] == [
        ("bicubic", "bicubic", "pillow", "2"),
        ("edsr-baseline-liif_jittor", "edsr-baseline-liif", "jittor", "2"),
        ("edsr-baseline-liif_torch", "edsr-baseline-liif", "torch", "2"),
    ]
    assert {(row["psnr"], row["ssim"], row["images"], row["commit"]) for row in scores} == {("30.0", "0.9", "5", "c")}
    assert scores[0]["weights"] == "" and len(scores[-1]["weights"]) == 64

    assert set(summary(call("batch_test_simple", *arguments)[1]).values()) == {"skipped"}
    (experiments_folder / "edsr-baseline-liif_torch" / "epoch-best.safetensors").write_text("trained further")
    (experiments_folder / "edsr-baseline-liif_jittor" / "results" / "jittor" / "test-small-3.json").unlink()
    (plan / "calls").unlink()
    changed = experiments_folder / "bicubic" / "pillow" / "test-small-4.json"
    changed.write_text(json.dumps(json.loads(changed.read_text()) | {"set": ["first_k=1"]}))
    other = experiments_folder / "edsr-baseline-liif_jittor" / "results" / "jittor" / "test-small-2.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"precision": "bf16"}))
    moved = experiments_folder / "bicubic" / "pillow" / "test-small-3.json"  # its config names other images by now
    moved.write_text(json.dumps(json.loads(moved.read_text()) | {"data": {"dataset": {"name": "image-folder"}}}))
    status, output = call("batch_test_simple", *arguments)
    assert sorted((title, configs) for title, _, configs, _ in calls(plan) if title.startswith("edsr")) == [
        ("edsr-baseline-liif_jittor", ["test-small-2", "test-small-3"]),
        ("edsr-baseline-liif_torch", ["test-small-2", "test-small-3", "test-small-4"]),
    ]
    others = [configs for title, _, configs, _ in calls(plan) if not title.startswith("edsr")]
    assert others == [["test-small-3", "test-small-4"]]


def test_a_set_that_breaks_does_not_keep_the_others_from_being_measured(plan, call, experiments_folder, tests):
    (plan / "test-small-3.breaks").touch()
    status, output = call(
        "batch_test_simple", "--save-dir", experiments_folder, "--configs", *tests, "/nowhere/test-x-2.yaml"
    )
    assert status == 2 and "no config '/nowhere/test-x-2.yaml'" in output
    status, output = call("batch_test_simple", "--save-dir", experiments_folder, "--configs", *tests)
    assert status == 1 and set(summary(output).values()) == {"failed"}
    assert "test-small-3.yaml is broken" in output
    assert sorted({row["scale"] for row in read_scores(experiments_folder / "scores.csv")}) == ["2", "4"]
    results = experiments_folder / "edsr-baseline-liif_torch" / "results" / "torch"
    assert sorted(path.stem for path in results.iterdir()) == ["test-small-2", "test-small-4"]


def test_sets_that_break_one_after_the_other_are_all_passed_and_a_model_that_does_not_load_is_tried_once(
    plan, call, experiments_folder, tests, image_folders, tmp_path
):
    tests = [
        *tests,
        *(write_yaml(tmp_path / f"test-small-{scale}.yaml", test_config(image_folders)) for scale in (6, 8)),
    ]
    for scale in (3, 4, 6):
        (plan / f"test-small-{scale}.breaks").touch()
    (plan / "edsr-baseline-liif_jittor.fails").touch()
    status, output = call("batch_test_simple", "--save-dir", experiments_folder, "--configs", *tests)
    assert status == 1 and set(summary(output).values()) == {"failed"}
    assert {(row["model"], row["scale"]) for row in read_scores(experiments_folder / "scores.csv")} == {
        (model, scale) for model in ("edsr-baseline-liif_torch", "bicubic") for scale in ("2", "8")
    }
    assert [title for title, *_ in calls(plan)].count("edsr-baseline-liif_jittor") == 1


def test_weights_that_change_while_they_are_tested_are_tested_once_and_named(plan, call, experiments_folder, tests):
    (plan / "edsr-baseline-liif_torch.trains").touch()
    status, output = call("batch_test_simple", "--save-dir", experiments_folder, "--configs", *tests)
    assert status == 1 and "epoch-best.safetensors became another file meanwhile" in output
    assert summary(output)["edsr-baseline-liif_torch"] == "failed"
    assert [title for title, *_ in calls(plan)].count("edsr-baseline-liif_torch") == 1
    assert "edsr-baseline-liif_torch" not in {row["model"] for row in read_scores(experiments_folder / "scores.csv")}


def test_brief_shows_an_infinite_psnr(plan, call, experiments_folder, tests):
    arguments = ["--save-dir", experiments_folder, "--configs", tests[0], "--brief"]
    call("batch_test_simple", *arguments)
    report = experiments_folder / "bicubic" / "pillow" / "test-small-2.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"psnr": None}))
    status, output = call("batch_test_simple", *arguments)
    assert status == 0 and "small x2\nresult: inf\n" in output and output.count("result: 30.0000") == 2


@pytest.mark.parametrize("content", ['{"psnr": 30.0, "wei', "[1]"])
def test_a_damaged_report_is_named_and_the_others_are_gathered(plan, call, experiments_folder, tests, content):
    damaged = experiments_folder / "bicubic" / "pillow" / "test-old-2.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(content)
    arguments = ["--save-dir", experiments_folder, "--configs", tests[0]]
    status, output = call("batch_test_simple", *arguments)
    assert status == 1 and output.count(f"error: {damaged}") == 1 and "Traceback" not in output
    assert len(read_scores(experiments_folder / "scores.csv")) == 3
    damaged.rename(damaged.with_name("test-small-2.json"))  # of a set that is asked for: it is measured again
    assert call("batch_test_simple", *arguments)[0] == 0


def test_a_dry_run_makes_no_cache(plan, call, experiments_folder, tmp_path, image_folders):
    content = test_config(image_folders)
    for number, scale in enumerate(("LR", "HR"), start=1):
        folder = tmp_path / "sets" / scale
        folder.parent.mkdir(exist_ok=True)
        shutil.copytree(image_folders / scale, folder)
        content["test_dataset"]["dataset"]["args"] |= {f"root_path_{number}": str(folder), "cache": "bin"}
    config = write_yaml(tmp_path / "test-cached-2.yaml", content)
    status, output = call("batch_test_simple", "--save-dir", experiments_folder, "--configs", config, "--dry-run")
    assert status == 0, output
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["HR", "LR"]


def test_data_that_is_not_there_is_left_out_or_a_failure_if_it_was_asked_for(
    plan, call, experiments_folder, tests, tmp_path, image_folders
):
    content = test_config(image_folders)
    content["test_dataset"]["dataset"]["args"]["root_path_1"] = "/nowhere"
    absent = write_yaml(tmp_path / "test-absent-2.yaml", content)
    status, output = call("batch_test_simple", "--save-dir", experiments_folder, "--configs", tests[0], absent)
    assert status == 1 and summary(output)[str(absent)] == "failed" and "no folder or file '/nowhere'" in output
    assert summary(output)["bicubic"] == "done"

    module = batch_test
    good, complaints = module.find_tests(None)
    assert not complaints and all(path.startswith("test/test-") for path in good)
    everything = {f"test/{path.name}" for path in (ROOT / "configs" / "test").iterdir()}
    assert set(good) < everything or (ROOT / "load" / "celebAHQ").exists()
    assert not [path for path in good if ".5.yaml" in path]  # to be asked for


def test_tests_are_chosen_by_their_scale(image_folders, tmp_path):
    paths = []
    for scale in ("2", "2.5", "4"):
        content = test_config(image_folders, eval_type=f"benchmark-{scale}")
        folder = {"name": "image-folder", "args": {"root_path": str(image_folders / "HR"), "split_file": None}}
        wrapper = {"name": "sr-implicit-downsampled", "args": {"scale_min": float(scale)}}
        content["test_dataset"] |= {"dataset": folder, "wrapper": wrapper}
        paths.append(str(write_yaml(tmp_path / f"test-small-{scale}.yaml", content)))
    assert batch_test.find_tests(paths, [2.5, 4.0]) == (paths[1:], {})
    assert batch_test.find_tests(paths) == (paths, {})
    with pytest.raises(UserError, match="--scales 1.5 3: there are tests at 2, 2.5, 4"):
        batch_test.find_tests(paths, [3, 2, 1.5])
    content["eval_type"] = "benchmark-3"
    write_yaml(Path(paths[2]), content)
    good, complaints = batch_test.find_tests(paths)
    assert good == paths[:2] and "is 4, the protocol benchmark-3 says 3" in complaints[paths[2]]


def test_frameworks_are_the_own_one_or_both(experiments_folder):
    [jittor, torch] = trained.runs(experiments_folder)
    assert torch.frameworks("own") == ["torch"] and jittor.frameworks("own") == ["jittor"]
    assert torch.frameworks("both") == jittor.frameworks("both") == ["torch", "jittor"]
    assert torch.frameworks("jittor") == ["jittor"]
    file = trained.single(
        str(experiments_folder / "edsr-baseline-liif_torch" / "epoch-last.safetensors"), experiments_folder
    )
    assert file.frameworks("own") == ["torch", "jittor"] and file.name == "edsr-baseline-liif_torch_epoch-last"
    assert file.experiment == "edsr-baseline-liif"
    assert trained.bicubic(experiments_folder).frameworks("both") == ["pillow"]
    with pytest.raises(UserError, match="two models are called 'bicubic'"):
        trained.collect(experiments_folder, ["bicubic"], experiments_folder)
    with pytest.raises(UserError, match="which models. give --save-dir FOLDER"):
        trained.collect(None, [], experiments_folder)


def test_single_files_gather_in_one_table(plan, call, experiments_folder, tests, tmp_path):
    output_folder = tmp_path / "scores"
    (tmp_path / "rdn-liif_mine.safetensors").write_text("weights")
    common = ["--configs", tests[0], "--output", output_folder]
    assert call("batch_test_simple", "--models", tmp_path / "rdn-liif_mine.safetensors", *common)[0] == 0
    assert call("batch_test_simple", "--models", "bicubic", *common)[0] == 0
    rows = [(row["model"], row["experiment"], row["framework"]) for row in read_scores(output_folder / "scores.csv")]
    assert rows == [
        ("bicubic", "bicubic", "pillow"),
        ("rdn-liif_mine", "rdn-liif", "jittor"),
        ("rdn-liif_mine", "rdn-liif", "torch"),
    ]


def test_liifs_test_scripts_show_sets_and_results(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON", sys.executable)
    for script, count in (("test-div2k.sh", 8), ("test-benchmark.sh", 20)):
        result = run(["bash", f"scripts/{script}"])
        assert result.returncode == 2 and f"usage: bash scripts/{script} MODEL GPU" in result.stderr
        words = run(["bash", f"scripts/{script}", "m", "cpu"], PYTHON="echo", FRAMEWORK="both").stdout.split()
        assert words[words.index("--frameworks") + 1] == "both"
        asked = words[words.index("--configs") + 1 :]
        assert len({path for path in asked if (ROOT / "configs" / path).is_file()}) == len(asked) == count
    words = run(["bash", "scripts/test-div2k.sh", "m", "cpu", "jittor", "2.5", "4"], PYTHON="echo").stdout.split()
    assert words[-4:] == ["jittor", "--configs", "test/test-div2k-2.5.yaml", "test/test-div2k-4.yaml"]
    brief = batch_test.brief
    lines = ["m on configs/test/test-set5-4.yaml, protocol benchmark-4, torch on cpu", "baby 1x1 3 1", "result: 30.1"]
    assert [brief(line) for line in lines] == ["set5 x4", None, "result: 30.1"]
    assert brief(lines[0].replace("4", "2.5")) == "set5 x2.5"


# batch_demo.py


def test_one_image_through_all_models(plan, call, experiments_folder, image_folders, tmp_path):
    arguments = [
        "-i",
        image_folders / "input.png",
        "-s",
        "2",
        "--save-dir",
        experiments_folder,
        "--output",
        tmp_path / "demo",
    ]
    (plan / "edsr-baseline-liif_jittor.fails").touch()
    status, output = call("batch_demo", *arguments)
    assert status == 1, output
    assert summary(output) == {
        "bicubic": "done",
        "edsr-baseline-liif_jittor": "failed",
        "edsr-baseline-liif_torch": "done",
    }
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"bicubic.png", "edsr-baseline-liif_torch.png", "sheet.jpg", "log.txt", "finished.json"}
    assert rgb8.read_image(tmp_path / "demo" / "bicubic.png").shape == (26, 38, 3)
    two_columns = rgb8.read_image(tmp_path / "demo" / "sheet.jpg")
    own = np.asarray(Image.open(image_folders / "input.png").convert("RGB"))
    first = np.kron(own, np.ones((18, 18, 1), np.uint8))  # 13x19 twice as large, each pixel of that 360 // 38 times
    shown = two_columns[-first.shape[0] :, : first.shape[1]].astype(int)
    assert np.abs(shown - first).mean() < 4  # JPEG
    two_columns = two_columns.shape
    assert "edsr-baseline-liif_jittor edsr-baseline-liif_jittor" not in (tmp_path / "demo" / "log.txt").read_text()

    (plan / "edsr-baseline-liif_jittor.fails").unlink()
    status, output = call("batch_demo", *arguments)
    assert status == 0 and list(summary(output).values()) == ["skipped", "done", "skipped"]
    three_columns = rgb8.read_image(tmp_path / "demo" / "sheet.jpg").shape
    assert three_columns[1] > two_columns[1] and three_columns[0] == two_columns[0]
    assert (tmp_path / "demo" / "log.txt").read_text().count("13x19 -> 26x38") == 2
    # what failed while it was being replaced is made again, be there an image or not
    (plan / "edsr-baseline-liif_jittor.fails").touch()
    call("batch_demo", *arguments[:2], "-s", "3", *arguments[4:])
    (plan / "edsr-baseline-liif_jittor.fails").unlink()
    assert list(summary(call("batch_demo", *arguments)[1]).values()) == ["done", "done", "done"]
    # another size is another image
    assert set(summary(call("batch_demo", *arguments[:2], "-s", "3", *arguments[4:])[1]).values()) == {"done"}


def test_neither_the_input_nor_somebodys_image_is_replaced(plan, call, tmp_path):
    for name in ("bicubic.png", "input.png"):
        made_images.write(tmp_path / name, 9, 7)
    before = contents(tmp_path)
    words = ["-s", "2", "--models", "bicubic", "--output", tmp_path]
    for given, said in (("bicubic.png", "bicubic.png is the input"), ("input.png", "bicubic.png exists already")):
        status, output = call("batch_demo", "-i", tmp_path / given, *words)
        assert status == 2 and said in output and contents(tmp_path) == before


def test_two_models_whose_images_would_have_one_name_are_refused(plan, call, image_folders, tmp_path):
    run_folder = tmp_path / "save" / "a_torch"
    run_folder.mkdir(parents=True)
    (run_folder / "config.yaml").write_text("epoch_max: 1\n")
    (run_folder / "epoch-last.safetensors").write_text("weights")
    (tmp_path / "a.safetensors").write_text("other weights")
    models = ["--save-dir", tmp_path / "save", "--models", tmp_path / "a.safetensors"]
    status, output = call(
        "batch_demo", "-i", image_folders / "input.png", "-s", "2", *models, "--output", tmp_path / "demo"
    )
    assert status == 2 and not calls(plan)
    assert "error: the models 'a_torch' and 'a' would both write" in output and "a_torch.png: name one" in output


# For real


def test_from_training_to_table_and_comparison(image_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON", sys.executable)
    made_images.folder(tmp_path / "large", {"a.png": (52, 61), "b.png": (55, 50)})
    changes = ["epoch_max=1", "step_save=null", "model.args.encoder_spec.args.n_resblocks=1"]
    for part, repeat in (("train_dataset", 2), ("val_dataset", 1)):
        data, wrapper = f"{part}.dataset.args", f"{part}.wrapper.args"
        changes += [f"{part}.batch_size=2", f"{data}.root_path={tmp_path / 'large'}", f"{data}.repeat={repeat}"]
        changes += [
            f"{data}.split_file=null",
            f"{data}.split_key=null",
            f"{wrapper}.inp_size=12",
            f"{wrapper}.sample_q=32",
        ]
    experiments_folder = tmp_path / "experiments_folder"
    command = [
        "bash",
        "batch_0.sh",
        "--recipe",
        "bsds400",
        "--only",
        "edsr-baseline-liif-u",
        "--gpu",
        "cpu",
        "--save-dir",
        str(experiments_folder),
    ]
    result = run([*command, "--set", *changes])
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(summary(result.stdout).values()) == ["done"] and "epoch 1/1, train: loss=" in result.stdout
    before = contents(experiments_folder)
    result = run([*command, "--set", *changes])
    assert list(summary(result.stdout).values()) == ["skipped"] and contents(experiments_folder) == before

    config = write_yaml(tmp_path / "test-small-2.yaml", test_config(image_folders))
    result = run(
        [
            sys.executable,
            "scripts/batch_test_simple.py",
            "--save-dir",
            str(experiments_folder),
            "--configs",
            str(config),
            "--gpu",
            "cpu",
        ]
    )
    assert result.returncode == 0, result.stdout + result.stderr
    scores = read_scores(experiments_folder / "scores.csv")
    assert [row["experiment"] for row in scores] == ["bicubic", "edsr-baseline-liif-u"]
    assert all(row["dataset"] == "small" and 5 < float(row["psnr"]) < 60 and row["images"] == "2" for row in scores)

    demo = [
        "scripts/batch_demo.py",
        "-i",
        str(image_folders / "input.png"),
        "-s",
        "2",
        "--save-dir",
        str(experiments_folder),
        "--gpu",
        "cpu",
    ]
    result = run([sys.executable, *demo, "--output", str(tmp_path / "demo")])
    assert result.returncode == 0, result.stdout + result.stderr
    assert rgb8.read_image(tmp_path / "demo" / "edsr-baseline-liif-u_torch.png").shape == (26, 38, 3)


# Of every kind of model and data one, and some more.
SOME = ["train-div2k-100/train_edsr-baseline-metasr.yaml", "train-celebAHQ/*64-128_liif.yaml"]
MORE = [
    "train-div2k/train_rdn-liif.yaml",
    "train-bsds400/train_edsr-baseline-x2.yaml",
    "train-div2k/train_edsr-baseline-liif.yaml",
    "train-div2k/train_edsr-baseline-x2.yaml",
    "train-div2k/train_rdn-x2.yaml",
    "train-celebAHQ/*64-128_upsample.yaml",
    "train-div2k/train_srcnn-x3.yaml",
    "train-bsds400/train_srgan-x4.yaml",
]


@pytest.mark.jittor
@pytest.mark.parametrize("only", [SOME, pytest.param(MORE, marks=pytest.mark.nightly)], ids=["some", "more"])
def test_some_configs_run_in_both_frameworks(only):
    """scripts/try_configs.py without --tiny and --only takes them all, in full."""
    command = [sys.executable, "scripts/try_configs.py", "--tiny", "--gpu", "cpu", "--only", *only]
    result = run([*command, "--frameworks", *FRAMEWORKS])
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("result: ") == len(only) * len(FRAMEWORKS)


def test_a_config_that_does_not_run_is_named(call, tmp_path, monkeypatch):
    module = load_script("try_configs")
    monkeypatch.setattr(module, "try_one", lambda path, *_: (_ for _ in ()).throw(ValueError("no such tensor")))
    results = module.try_framework("torch", [ROOT / "configs/train-div2k/train_rdn-liif.yaml"], tmp_path, None)
    assert [(result.state, result.last_lines) for result in results] == [("failed", ["ValueError: no such tensor"])]
    status, output = call("try_configs", "--only", "no*such")
    assert status == 2
    assert output.endswith(f"error: --only no*such: no training config below {ROOT / 'configs'} is called so\n")
