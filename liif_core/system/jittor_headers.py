"""The headers of Jittor's operators, precompiled once. Jittor is never imported.

Jittor writes a C++ file for every operator and shape, and each of them includes the same headers: reading these takes
the compiler longer than all that follows. GCC can read them once and keep what it has read.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

STANDARD = ("cmath", "algorithm", "limits", "assert.h")
JITTOR = ("common.h", "var.h", "executor.h", "fused_op.h", "ops/op_register.h")
# What Jittor writes above the headers of an operator for the CPU: some of them declare other things for it.
ABOVE = "#define JIT 1\n#define JIT_cpu 1\n"


def precompile(cc_path: str, cc_flags: str, cache: str, source: str) -> str:
    """The flags to compile operators with: `cc_flags`, and the precompiled headers where they can be had.

    cc_path, cc_flags: jittor.flags'. cache: the folder of Jittor's cache, where a folder of some 100 MB is made at the
    first call, in three seconds. source: the folder of Jittor's own C++ code.

    What is compiled is the same with and without. Flags are returned as they came where the compiler is not GCC, the
    headers cannot be compiled or kept, or the flags name them already. GCC leaves out by itself what was precompiled
    for other flags.
    """
    compiler = shutil.which(cc_path)
    if " -include" in cc_flags or compiler is None or not Path(compiler).name.startswith("g++"):
        return cc_flags
    own = sorted(Path(source).rglob("*.h"))
    names = [*STANDARD, *JITTOR, *(f"ops/{path.name}" for path in own if path.match("ops/*_op.h"))]
    # Jittor takes quoted names for files whose changes it must look for, again for each operator: hence the brackets.
    text = ABOVE + "".join(f"#include <{name}>\n" for name in names)
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in [*own, Path(compiler)]]
    key = hashlib.sha256(repr((text, cc_flags, states)).encode()).hexdigest()[:12]
    header = Path(cache) / f"headers-{key}" / "operators.h"
    # GCC takes this file for the header beside it, if it was made with the same flags.
    precompiled = header.with_name("operators.h.gch")
    if not precompiled.exists():
        flags = [flag for flag in shlex.split(cc_flags) if not flag.startswith(("-l", "-L", "-shared"))]
        try:
            header.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=header.parent) as folder:
                own_header, made = Path(folder) / header.name, Path(folder) / precompiled.name
                own_header.write_text(text)
                # -g: Jittor adds it to the flags.
                command = [compiler, "-x", "c++-header", str(own_header), *flags, "-g", "-o", str(made)]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                os.replace(own_header, header)
                os.replace(made, precompiled)
        except (OSError, subprocess.SubprocessError):
            return cc_flags
    # In one word: Jittor would look through a second one as a file to compile.
    return f'{cc_flags} -include"{header}"'
