"""Precompiled headers, with headers of our own in place of Jittor's; tests/trees/test_migration.py has Jittor's."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from liif_core.system.jittor_headers import JITTOR, precompile

FLAGS = "-std=c++14 -fPIC -shared -lstdc++"
OPERATOR = '#define JIT 1\n#include "ops/sum_op.h"\nint operate() { return SUM; }\n'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++"),
]


@pytest.fixture
def source(tmp_path) -> Path:
    """Like jittor/src."""
    folder = tmp_path / "a source"
    for name in (*JITTOR, "ops/sum_op.h"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#pragma once\n")
    (folder / "ops" / "sum_op.h").write_text("#pragma once\n#ifdef JIT\nenum { SUM = 7 };\n#endif\n")
    return folder


def call(source: Path, compiler: str = "g++", cache: str = "a cache") -> str:
    if cache == "a cache":
        (source.parent / cache).mkdir(exist_ok=True)
    return precompile(compiler, f'{FLAGS} -I"{source}"', str(source.parent / cache), str(source))


def compiled(flags: str, folder: Path) -> tuple[bytes, str]:
    """The machine code of an operator, compiled as Jittor does it, and the headers that GCC read for it."""
    (folder / "sum_op.cc").write_text(OPERATOR)
    kept = [flag for flag in shlex.split(flags) if not flag.startswith(("-l", "-L", "-shared"))]
    done = subprocess.run(
        ["g++", "sum_op.cc", *kept, "-g", "-H", "-c", "-o", "it.o"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    code = subprocess.run(["objdump", "-d", "it.o"], cwd=folder, check=True, capture_output=True).stdout
    assert b"operate" in code
    return code, done.stderr


def test_an_operator_is_the_same_and_its_headers_are_not_read_again(source, tmp_path):
    flags = call(source)
    assert flags.startswith(FLAGS) and " -include" in flags
    plain, read = compiled(f'{FLAGS} -I"{source}"', tmp_path)
    assert ".gch" not in read and "sum_op.h" in read
    quick, read = compiled(flags, tmp_path)
    assert quick == plain
    assert "! " in read and "operators.h.gch" in read and "\n. ops/sum_op.h" not in read


def test_headers_are_compiled_once_and_again_when_one_has_changed(source, tmp_path):
    first = call(source)
    [precompiled] = (tmp_path / "a cache").rglob("*.gch")
    before = precompiled.stat().st_mtime_ns
    assert call(source) == first and precompiled.stat().st_mtime_ns == before
    assert precompile("g++", first, str(tmp_path / "a cache"), str(source)) == first
    (source / "var.h").write_text("#pragma once\nenum { NEW = 1 };\n")
    assert call(source) != first
    assert len(list((tmp_path / "a cache").rglob("*.gch"))) == 2


@pytest.mark.parametrize("problem", ["clang", "no compiler", "no cache", "a header that cannot be compiled"])
def test_without_them_the_flags_stay_as_they_are(source, tmp_path, problem):
    compiler, cache = "g++", "a cache"
    if problem == "clang":
        (tmp_path / "clang++").symlink_to(shutil.which("g++"))
        compiler = str(tmp_path / "clang++")
    elif problem == "no compiler":
        compiler = "g++-of-nobody"
    elif problem == "no cache":
        cache = "of nobody/at all"
    else:
        (source / "var.h").write_text("#error not today\n")
    assert call(source, compiler, cache) == f'{FLAGS} -I"{source}"'
    assert not [name for _, _, names in os.walk(tmp_path / "a cache") for name in names]
