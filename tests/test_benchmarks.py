"""Every benchmark runs, at a tiny size, in one framework, and prints its table; LIIF's code is not needed.

What Jittor adds is left out, since it compiles for longer than all the rest takes.
"""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.small_run import run

sys.path.append(str(ROOT / "benchmarks"))

import candidates
import common
import gemm
import quiet

from liif_core.errors import UserError
from liif_core.system import devices

pytestmark = pytest.mark.slow

SMALL_IMAGE = ["--size", "12", "16", "--scale", "2"]
SMALL_BATCHES = [
    f"train_dataset.{key}" for key in ("batch_size=2", "wrapper.args.inp_size=12", "wrapper.args.sample_q=32")
]
SMALL_MODEL = "model.args.encoder_spec.args.n_resblocks=1"


def tables(name: str, *arguments: str) -> list[list[dict[str, str]]]:
    """The Markdown tables that a benchmark prints, each a list of rows by header."""
    result = run([sys.executable, f"benchmarks/{name}.py", "--runs", "1", "--precision", "fp32", *arguments])
    assert result.returncode == 0, result.stderr
    found: list[list[list[str]]] = [[]]
    for line in result.stdout.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[dict(zip(header, row, strict=True)) for row in rows] for header, _, *rows in filter(None, found)]


def test_decode():
    (rows,) = tables("decode", *SMALL_IMAGE, "--only", "plain", "PyTorch")
    assert [row["variant"] for row in rows] == [candidates.PLAIN, "PyTorch"]
    assert float(rows[1][f"differs from {candidates.PLAIN} by"]) < 1e-6
    assert rows[0][f"against {candidates.PLAIN}"] == rows[1]["against PyTorch"] == "1.00"
    assert all(float(row["peak MiB above base"]) > 0 and row["of the ceiling"].endswith("%") for row in rows)


@pytest.mark.nightly
def test_page():
    models = ["edsr-baseline-thera-air", "edsr-baseline-liif"]
    (rows,) = tables("page", "--size", "12", "16", "--only", "PyTorch", "--model", *models)
    assert [row["variant"] for row in rows] == [f"PyTorch {model}" for model in models]
    assert all(float(row["median until all is"]) > 0 for row in rows)


@pytest.mark.nightly
def test_train_step():
    (rows,) = tables("train_step", "--set", *SMALL_BATCHES, SMALL_MODEL, "--only", "PyTorch")
    assert [row["variant"] for row in rows] == ["PyTorch"]
    assert float(rows[0]["median s"]) > 0 and float(rows[0]["GFLOP/s"]) > 0


@pytest.mark.nightly
def test_diffusion():
    widths = ["inner_channel=8", "norm_groups=4", "channel_mults=[1,2]", "attn_res=[16]"]
    changes = ["train_dataset.batch_size=2", *(f"model.args.{width}" for width in widths)]
    small = ["--large", "train-emoji/train_sr3-16-128.yaml", "--large-side", "32", "--side", "32", "--steps", "2"]
    trained, sampled, large = tables("diffusion", "--only", "PyTorch", *small, "--set", *changes)
    assert [row["variant"] for row in (*trained, *sampled, *large)] == ["PyTorch"] * 3
    assert 0 < float(trained[0]["GFLOP/s"]) and trained[0]["of the ceiling"].endswith("%")
    assert float(large[0]["peak resident MiB"]) > float(large[0]["peak MiB above base"]) > 0


@pytest.mark.nightly
def test_gemm():
    products, hidden = tables("gemm", *SMALL_IMAGE, "--rows", "64", "--square", "128", "--only", "Torch")
    sizes = ["64x256 by 256x256", "128x128 by 128x128"]
    expected = [(size, library) for size in sizes for library in gemm.Torch.libraries]
    assert [(row["product"], row["library"]) for row in products] == expected
    assert max(float(row["fp32"]) for row in products) == float(hidden[0]["best product"])


@pytest.mark.nightly
def test_threads():
    (rows,) = tables("threads", "--size", "12", "16", "--set", *SMALL_BATCHES, SMALL_MODEL, "--only", "torch")
    assert [row["threads"].split(",")[1] for row in rows] == [" torch"] * 8
    assert all(float(row["alone"]) > 0 and float(row["beside 1"]) > 0 for row in rows)


@pytest.mark.nightly
def test_memory():
    (rows,) = tables("memory", *SMALL_IMAGE, "--only", "PyTorch", "--tile", "0")
    assert [row["variant"] for row in rows] == ["PyTorch, encoded at once"]
    assert float(rows[0]["base MiB"]) > float(rows[0]["peak above base"]) > 0


@pytest.mark.nightly
@pytest.mark.skipif(not (ROOT / "load/benchmark/B100").exists(), reason="no images in load/benchmark/B100")
def test_evaluate():
    seconds, scores = tables("evaluate", "--sets", "b100", "--scales", "8", "--first-k", "1", "--only", "PyTorch")
    assert [row["variant"] for row in seconds] == ["PyTorch"]
    assert scores[0]["set"] == "b100 x8" and 15 < float(scores[0]["PyTorch"]) < 40


@pytest.mark.nightly
def test_startup():
    helps, images = tables("startup", "--only", "PyTorch")
    assert 0 < float(helps[0]["median s"]) < float(images[0]["median s"])


def test_liifs_scripts_stay_on_the_cpu(tmp_path):
    (tmp_path / "utils.py").write_text("import torch\nwhere = torch.ones(1).cuda().device")
    (tmp_path / "demo.py").write_text("import sys, utils\nprint(__name__, utils.where, *sys.argv[1:])")
    result = run([sys.executable, "benchmarks/upstream.py", str(tmp_path), "cpu", "demo.py", "--input", "a.png"])
    assert result.stdout.split() == ["__main__", "cpu", "--input", "a.png", "--gpu", "cpu"], result.stderr


def test_ratios_are_medians_of_pairs(capsys):
    common.print_times("title", {"a": [1.0, 10.0, 4.0], "b": [2.0, 2.0, 2.0]}, ["a", "c"], {"x": {"b": "7"}})
    header, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert header == "| variant | median s | against a | x |"
    assert rows == ["| a | 4.000 | 1.00 | - |", "| b | 2.000 | 2.00 | 7 |"]


def test_others_are_noticed(monkeypatch):
    """30 ticks of 100 in a second: 0.3 of a core; idle and waiting ones do not count."""
    ticks = iter((100, 130))
    monkeypatch.setattr(Path, "read_text", lambda self: f"cpu  {next(ticks)} 0 0 999 50 0 0 0 0 0\ncpu0 1")
    monkeypatch.setattr(quiet.os, "sysconf", lambda name: 100)
    busy = quiet.busy_cores(0.001) * 0.001
    assert abs(busy - 0.3) < 1e-9 and "0.3 of" in quiet.sentence(busy) and "quiet." in quiet.sentence(0.0)


def test_candidates_take_turns():
    order = []
    common.in_turn({name: lambda name=name: order.append(name) or 1.0 for name in "ab"}, 2, quiet=True)
    assert order == ["a", "b", "a", "b"]


def test_the_peak_counts_from_the_base():
    """In a process whose malloc gives pages back, unlike this one once a framework has been prepared in it."""
    code = """
import common, numpy as np
work = common.Work()
before = np.ones(50 << 17)  # 50 MiB
work.mark_base()
del before
during = np.ones(80 << 17)  # 80 MiB, of which 50 were counted already, and given back
print(work.peak())
"""
    result = run([sys.executable, "-c", code], ROOT / "benchmarks")
    assert result.returncode == 0, result.stderr
    assert 25 < float(result.stdout) < 40


def test_multiply_adds_by_hand():
    liif = {
        "encoder.head.0.weight": (8, 3, 3, 3),
        "encoder.head.0.bias": (8,),
        "imnet.layers.0.weight": (16, 76),
        "imnet.layers.2.weight": (3, 16),
    }
    spec = {"name": "liif", "args": {}}
    assert candidates.multiply_adds(spec, liif, 5, 7) == 5 * (8 * 27 + 16 * 76) + 7 * 4 * 48
    single = {"name": "liif", "args": {"local_ensemble": False}}
    assert candidates.multiply_adds(single, liif, 5, 7) == 5 * (8 * 27 + 16 * 76) + 7 * 48
    assert candidates.multiply_adds(spec, liif, 5, 7, encoded=True) == 5 * 16 * 76 + 7 * 4 * 48
    assert candidates.multiply_adds({"name": "metasr", "args": {}}, liif, 5, 7) is None
    assert candidates.multiply_adds(spec, {"encoder.head.0.weight": (8, 3, 3, 3)}, 5, 7) is None


def test_what_is_measured_on_a_gpu(monkeypatch):
    """As far as it shows without one: LIIF's kernel and bf16 are among the candidates, Jittor on the CPU is not."""
    import decode

    monkeypatch.setattr(devices, "choose_device", lambda gpu: devices.Device("cuda", ""))
    monkeypatch.setattr(sys, "argv", ["decode.py", "--gpu", "0"])
    more = {"size": (3, 5), "scale": 2, "beside": None}
    for model, kernels in (("edsr-baseline-liif", ["PyTorch kernel fp32", "PyTorch kernel bf16"]), ("rdn-lte", [])):
        arguments = Namespace(**vars(common.parse(common.options("-"))), model=model, **more)
        assert [*decode.found(arguments)] == ["PyTorch", "PyTorch bf16", "Jittor", *kernels]
    monkeypatch.setattr(devices, "prepare", lambda framework, gpu: devices.Device("cpu", "no CUDA toolkit"))
    with pytest.raises(UserError, match="no CUDA toolkit"):
        candidates.prepared("jittor", "0")


def test_a_gpu_is_named_without_its_driver_s_program(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("PATH", "")
    assert common.machine("cuda") == "GPU 2"


def test_a_candidate_that_ends_is_noticed():
    child = common.Child(common.Work)
    with pytest.raises(common.Gone):
        child("once")
    assert child.process.exitcode == 1


def test_every_script_says_how_it_is_called():
    for path in sorted(Path(ROOT / "benchmarks").glob("*.py")):
        source = path.read_text()
        if "__main__" in source:
            assert f"python benchmarks/{path.name}" in source.split('"""')[1].splitlines()[0], path.name
