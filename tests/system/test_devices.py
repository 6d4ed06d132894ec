"""liif_core.system.devices, jittor_setup and doctor, each in a fresh process with an empty home folder.

No framework is imported: in an empty home Jittor would compile for minutes.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from liif_core.system import devices

pytestmark = pytest.mark.slow

MKL = Path(".cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp")
WATCHED = (
    "CUDA_VISIBLE_DEVICES",
    "JITTOR_HOME",
    "nvcc_path",
    "log_silent",
    "cache_name",
    "use_mkl",
    "use_parallel_op_compiler",
    "cc_path",
    "python_config_path",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
)

PREPARE = """
import json, os
from liif_core.system import devices, jittor_setup
from liif_core.errors import UserError
devices.count_gpus = lambda: {gpus}
devices.torch_lacks_cuda = lambda: False
{change}
try:
    device = devices.prepare({framework!r}, {gpu!r})
    answer = dict(kind=device.kind, note=device.note, variables=dict(os.environ))
except UserError as error:
    answer = dict(error=str(error))
print(json.dumps(answer))
"""

needs_onednn = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="oneDNN is linked on Linux x86-64 only",
)


def clean_variables(home, **variables):
    kept = {name: value for name, value in os.environ.items() if name not in WATCHED}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


def prepare(home, framework="torch", gpu=None, gpus=0, change="", **variables):
    """What devices.prepare answers in a process of its own, on a machine with `gpus` GPUs."""
    code = PREPARE.format(framework=framework, gpu=gpu, gpus=gpus, change=change)
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=clean_variables(home, **variables),
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1, "prepare prints nothing itself"
    return json.loads(result.stdout)


def test_cores_that_a_process_may_not_run_on_do_not_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 6}, raising=False)
    assert devices.available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert devices.available_cores() == os.cpu_count()


def is_one_sentence(text):
    return "\n" not in text and ". " not in text


@pytest.mark.parametrize("gpu", [None, "0", "cpu", "CPU", ""])
def test_without_a_gpu_everything_usual_means_the_cpu(tmp_path, gpu):
    answer = prepare(tmp_path, gpu=gpu)
    assert answer["kind"] == "cpu"
    assert answer["variables"]["CUDA_VISIBLE_DEVICES"] == ""
    assert "CPU" in answer["note"]
    assert ("no GPU found" in answer["note"]) == (gpu in (None, "0"))


@pytest.mark.parametrize("gpu, visible", [(None, "0"), ("0", "0"), ("1", "1"), ("0,1", "0,1"), (" 1, 0", "1,0")])
def test_gpu_numbers_become_the_visible_devices(tmp_path, gpu, visible):
    answer = prepare(tmp_path, gpu=gpu, gpus=2)
    assert (answer["kind"], answer["variables"]["CUDA_VISIBLE_DEVICES"]) == ("cuda", visible)


@pytest.mark.parametrize("gpu", ["cpu", ""])
def test_cpu_is_obeyed_on_a_machine_with_gpus(tmp_path, gpu):
    answer = prepare(tmp_path, gpu=gpu, gpus=2)
    assert (answer["kind"], answer["variables"]["CUDA_VISIBLE_DEVICES"]) == ("cpu", "")


@pytest.mark.parametrize(
    "before, kind, after", [("1", "cuda", "1"), ("GPU-5a", "cuda", "GPU-5a"), ("", "cpu", ""), ("-1", "cpu", "")]
)
def test_visible_devices_of_the_user_are_kept_unless_gpu_is_given(tmp_path, before, kind, after):
    answer = prepare(tmp_path, gpus=2, CUDA_VISIBLE_DEVICES=before)
    assert (answer["kind"], answer["variables"]["CUDA_VISIBLE_DEVICES"]) == (kind, after)
    assert prepare(tmp_path, gpu="0", gpus=2, CUDA_VISIBLE_DEVICES=before)["variables"]["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("gpus, existing", [(0, "no GPU"), (1, "0"), (3, "0, 1, 2")])
def test_a_gpu_that_does_not_exist_is_refused(tmp_path, gpus, existing):
    for gpu in ("7", "0,7", str(gpus or 1)):
        message = prepare(tmp_path, gpu=gpu, gpus=gpus)["error"]
        assert gpu in message and existing in message and "--gpu cpu" in message
        assert is_one_sentence(message)


@pytest.mark.parametrize("gpu", ["abc", "-1", "0,", "0,0", "1.5", "cpu,0", "²"])
def test_a_value_that_is_not_understood_is_refused(tmp_path, gpu):
    message = prepare(tmp_path, gpu=gpu, gpus=2)["error"]
    assert repr(gpu) in message and "--gpu cpu" in message and is_one_sentence(message)


@pytest.mark.parametrize(
    "said, policy",
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, None)],
    ids=["nothing", "policy", "spins"],
)
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(tmp_path, said, policy):
    variables = prepare(tmp_path, **said)["variables"]
    assert variables.get("OMP_WAIT_POLICY") == policy and said.items() <= variables.items()


def test_counting_gpus_does_not_need_one():
    from liif_core.system.devices import count_gpus

    assert count_gpus() >= 0


def test_a_pytorch_without_cuda_runs_on_the_cpu(tmp_path):
    answer = prepare(tmp_path, gpu="0", gpus=1, change="devices.torch_lacks_cuda = lambda: True")
    assert answer["kind"] == "cpu" and "without CUDA" in answer["note"]


def test_freed_pages_are_kept_on_glibc_and_the_users_settings_win(tmp_path):
    code = "from liif_core.system.devices import keep_freed_pages as keep; print(keep())"
    for variables, expected in (({}, platform.libc_ver()[0] == "glibc"), ({"MALLOC_TRIM_THRESHOLD_": "1"}, False)):
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=clean_variables(tmp_path, **variables),
            timeout=60,
        )
        assert result.stdout.strip() == str(expected)


@pytest.mark.parametrize("framework, package", [("torch", "torch"), ("jittor", "jittor==1.3.11.0")])
def test_a_missing_framework_names_the_pip_command(tmp_path, framework, package):
    change = "devices.importlib.util.find_spec = lambda name: None"
    message = prepare(tmp_path, framework=framework, change=change)["error"]
    assert "pip install" in message and package in message and is_one_sentence(message)


# Jittor


def jittor(home, **options):
    return prepare(home, framework="jittor", **options)


@needs_onednn
def test_jittor_on_the_cpu_is_quiet_and_ignores_nvcc(tmp_path):
    answer = jittor(tmp_path)
    variables = answer["variables"]
    assert (answer["kind"], variables["nvcc_path"], variables["log_silent"]) == ("cpu", "", "1")
    assert "compiles its core" in answer["note"]
    assert variables["use_parallel_op_compiler"] == "1"
    theirs = {"log_silent": "0", "use_parallel_op_compiler": "16"}
    assert theirs.items() <= jittor(tmp_path, **theirs)["variables"].items()


@needs_onednn
@pytest.mark.parametrize(
    "libraries, kind", [((), "cpu"), (("libcudart.so",), "cpu"), (("libcudart.so", "libcudnn_ops_infer.so.8"), "cuda")]
)
def test_jittor_uses_only_a_complete_cuda_toolkit(tmp_path, libraries, kind):
    toolkit = tmp_path / "cuda"
    nvcc = toolkit / "bin" / "nvcc"
    for path in (nvcc, *(toolkit / "lib64" / name for name in libraries)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    answer = jittor(tmp_path, gpus=1, nvcc_path=str(nvcc))
    assert (answer["kind"], answer["variables"]["nvcc_path"]) == (kind, str(nvcc) if kind == "cuda" else "")
    if kind == "cpu":
        assert ("cuDNN 8" if libraries else "libcudart.so") in answer["note"]


def complete(folder):
    names = ("lib/libmkldnn.so", "lib/libdnnl.so.2", "include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp")
    return all((folder / name).is_file() for name in names)


@needs_onednn
def test_onednn_is_linked_into_an_empty_home(tmp_path):
    jittor(tmp_path)
    assert complete(tmp_path / MKL)
    names = {path.name for path in (tmp_path / MKL / "include").iterdir()}
    assert all(name.startswith("dnnl") or name == "oneapi" for name in names), "foreign headers stay out"
    assert not list((tmp_path / MKL).rglob("new-*"))


@needs_onednn
@pytest.mark.parametrize("broken", ["lib/libmkldnn.so", "lib/libdnnl.so.2", "include", "lib", "include/dnnl.hpp"])
def test_a_link_into_a_vanished_environment_is_renewed(tmp_path, broken):
    jittor(tmp_path)
    link = tmp_path / MKL / broken
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "vanished")
    jittor(tmp_path)
    assert complete(tmp_path / MKL)


@needs_onednn
def test_renewing_links_keeps_the_users_own_files(tmp_path):
    own = tmp_path / MKL / "lib" / "libmkldnn.so"
    own.parent.mkdir(parents=True)
    own.write_text("the user's own")
    jittor(tmp_path)
    assert complete(tmp_path / MKL) and own.read_text() == "the user's own"


@needs_onednn
def test_a_folder_linked_into_another_environment_is_not_written_into(tmp_path):
    other = tmp_path / "other" / "include"
    other.mkdir(parents=True)
    (tmp_path / MKL).mkdir(parents=True)
    (tmp_path / MKL / "include").symlink_to(other)
    jittor(tmp_path)
    assert complete(tmp_path / MKL) and not list(other.iterdir())


@needs_onednn
def test_a_working_onednn_of_the_user_is_left_alone(tmp_path):
    for name in ("lib/libmkldnn.so", "include/dnnl.hpp", "include/oneapi/dnnl/dnnl.hpp"):
        path = tmp_path / MKL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("the user's own")
    answer = jittor(tmp_path, change="jittor_setup.find_onednn = lambda: None")
    assert answer["kind"] == "cpu"
    assert sorted(path.name for path in (tmp_path / MKL).rglob("*") if path.is_file()) == [
        "dnnl.hpp",
        "dnnl.hpp",
        "libmkldnn.so",
    ]


@needs_onednn
def test_several_processes_may_link_at_once(tmp_path):
    code = PREPARE.format(framework="jittor", gpu=None, gpus=0, change="")
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=clean_variables(tmp_path), stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in processes:
        assert json.loads(process.communicate(timeout=60)[0]).get("kind") == "cpu"
    assert complete(tmp_path / MKL)


@needs_onednn
def test_jittor_home_comes_from_the_variable_or_from_config_json(tmp_path):
    config = tmp_path / "home" / ".cache" / "jittor" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"JITTOR_HOME": str(tmp_path / "pinned")}))
    jittor(tmp_path / "home")
    assert complete(tmp_path / "pinned" / MKL)
    jittor(tmp_path / "home", JITTOR_HOME=str(tmp_path / "given"))
    assert complete(tmp_path / "given" / MKL)
    assert not (tmp_path / "home" / MKL).exists()
    config.write_text("{")
    assert str(config) in jittor(tmp_path / "home")["error"]


@needs_onednn
def test_missing_parts_of_jittor_are_named_with_their_remedy(tmp_path):
    numpy_2 = "devices.jittor_setup.importlib.metadata.version = lambda name: '2.1.3'"
    no_header = "jittor_setup.sysconfig.get_path = lambda name: '/nowhere'"
    cases = [
        ({"change": "jittor_setup.find_onednn = lambda: None"}, ("onednn-cpu-gomp==2022.2.1", "pip install")),
        ({"change": numpy_2}, ("2.1.3", "pip install 'numpy<2'")),
        ({"change": no_header}, ("/nowhere/Python.h", "python3-dev")),
        ({"PATH": str(tmp_path)}, ("g++", "apt-get install g++")),
        ({"cc_path": "no-such-compiler"}, ("no-such-compiler", "apt-get install g++")),
    ]
    for options, expected in cases:
        message = jittor(tmp_path, **options)["error"]
        assert all(text in message for text in expected), message
        assert is_one_sentence(message)


@needs_onednn
def test_a_cache_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    assert "JITTOR_HOME" in jittor(tmp_path, JITTOR_HOME=str(tmp_path / "file"))["error"]


# The doctor


def doctor(home, *options, **variables):
    return subprocess.run(
        [sys.executable, *options, "-m", "liif_core", "doctor", "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_variables(home, **variables),
        timeout=60,
    )


def test_the_doctor_finds_a_missing_compiler(tmp_path):
    result = doctor(tmp_path, PATH=str(tmp_path))
    assert result.returncode == 1
    assert "MISSING C++ compiler" in result.stdout and "apt-get install g++" in result.stdout
    assert not result.stderr


def test_the_doctor_works_without_any_package(tmp_path):
    result = doctor(tmp_path, "-S")
    assert result.returncode == 1
    assert "MISSING torch" in result.stdout and "pip install 'torch" in result.stdout
    assert not result.stderr
