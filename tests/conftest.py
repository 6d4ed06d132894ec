"""What all tests need before they import anything, and the fixtures of the command tests."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

# OpenMP's threads wait asleep: spinning, they take the core from whatever else runs on the machine. Read at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell that starts the tests in the background has them ignore Ctrl-C, and nohup the end of the terminal, and with
# them all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from helpers import made_images
from helpers.models import SHALLOW_RDN
from helpers.small_run import FRAMEWORKS, load_tree, outcome, process, train_config, write_yaml
from liif_core.commands import demo, entry, test, train
from liif_core.images import rgb8

COMMANDS = {"train": train.train, "test": test.test, "demo": demo.demo}


def pytest_collection_modifyitems(items):
    """The markers that fixtures and parameters tell; pyproject.toml says what they mean."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "jt" in item.fixturenames or "jittor" in map(str, parameters):
            item.add_marker("jittor")
        if "trained" in item.fixturenames:
            item.add_marker("slow")
        # Two processes of pytest-xdist, which take as long: Jittor's tests wait for one compiler thread, and the others
        # need not wait. But diffusion's are with the others.
        waits = item.get_closest_marker("jittor") and item.path.name != "test_diffusion.py"
        item.add_marker(pytest.mark.xdist_group("jittor" if waits else "others"))


@pytest.fixture(autouse=True)
def children_may_die():
    """Jittor: where a test before has imported it, its handler would end this process when a child is killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def jittor_only_where_it_is_marked(request):
    """So that `make quick` stays without it."""
    before = "jittor" in sys.modules
    yield
    assert before or "jittor" not in sys.modules or request.node.get_closest_marker("jittor"), "mark it: jittor"


@pytest.fixture
def shallow_rdn(monkeypatch):
    """RDN's configuration A has two blocks instead of twenty, in both trees."""
    for tree in FRAMEWORKS:
        if (module := f"liif_{tree}.models.encoders.rdn") in sys.modules:
            monkeypatch.setitem(sys.modules[module].CONFIGS, "A", SHALLOW_RDN)


@pytest.fixture(scope="session", params=FRAMEWORKS)
def framework(request):
    return request.param


@pytest.fixture(scope="session")
def image_folders(tmp_path_factory) -> Path:
    """Images to train on, pairs to test on, none of them square."""
    root = tmp_path_factory.mktemp("image_folders")
    made_images.folder(root / "train", {"a.png": (30, 44), "b.png": (41, 29), "c.png": (28, 37)})
    made_images.folder(root / "HR", {"a.png": (26, 38), "b.png": (30, 42)})
    for path in (root / "HR").iterdir():
        high = rgb8.read_image(path)
        low = rgb8.resize(high, high.shape[0] // 2, high.shape[1] // 2)
        rgb8.write_image(root / "LR" / f"{path.stem}x2.png", low)
    rgb8.write_image(root / "input.png", made_images.make_image(13, 19))
    return root


@pytest.fixture(scope="session")
def trained(framework, image_folders, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    place = tmp_path_factory.mktemp(f"run_{framework}")
    config = write_yaml(place / "config.yaml", train_config(image_folders))
    result = process(framework, "train", "--config", config, "--name", "run", "--tag", "a", "--save-dir", place)
    assert result.returncode == 0, result.stderr
    assert "1/3, train: loss=" in result.stdout and "val: psnr=" in result.stdout
    return place / "run_a"


@pytest.fixture
def run_command(framework, monkeypatch, capsys):
    """Call a command as typed; returns (exit status, stdout, stderr). The process is left as it was."""
    environ, handlers = (
        dict(os.environ),
        {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)},
    )

    def call(command, *arguments, gpu="cpu"):
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, arguments), "--gpu", gpu])
        return outcome(lambda: entry.run(COMMANDS[command], framework, load_tree(framework)), capsys)

    yield call
    os.environ.clear()
    os.environ.update(environ)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def demo(run_command, trained, tmp_path, monkeypatch):
    """Call demo.py in an empty folder, with a small model; (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return run_command("demo", *arguments, "--model", trained / "epoch-last.safetensors")

    return call


@pytest.fixture
def expect_error(run_command):
    """Call a command that must fail with one sentence that matches `message`; returns it."""

    def call(message, command, *arguments, **options):
        status, out, err = run_command(command, *arguments, **options)
        assert status in (1, 2), out + err
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        assert "Traceback" not in out
        assert re.search(message, err), err
        return err

    return call
