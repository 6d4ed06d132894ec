"""The core never imports a framework or a tree: each of its modules is imported alone in a fresh process."""

import subprocess
import sys

import pytest

from helpers import ROOT

pytestmark = pytest.mark.slow

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "liif_core").rglob("*.py")
)
FOREIGN = ("torch", "torchvision", "jittor", "liif_torch", "liif_jittor")

# A fork per module, after nothing but what modules of others need has been imported, is as fresh as a process of its
# own and as fast as one import; each child says which foreign modules it got, the others' included.
PROGRAM = f"""
import importlib, os, sys
import imageio, numpy, PIL.Image, pydantic, pyvips, safetensors.numpy, scipy, tqdm, yaml
for name in {MODULES!r}:
    child = os.fork()
    if child == 0:
        importlib.import_module(name)
        print(name, *[m for m in {FOREIGN!r} if m in sys.modules], flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, name
"""


@pytest.fixture(scope="module")
def imported():
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}


def test_core_has_modules_to_look_at():
    assert {"liif_core", "liif_core.training.loop", "liif_core.data.wrappers", "liif_core.commands.entry"} <= set(
        MODULES
    )


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_brings_in_no_framework(imported, module):
    assert imported[module] == []
