"""What docs/migration.md says of the two frameworks, and of the predecessor, holds.

Where Jittor and PyTorch part, both are asked, so that a release that changes its mind is noticed.
"""

import importlib.util
import os
import shlex
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import ROOT
from helpers.models import ADAM, REGRESSION, SMALL, batch
from helpers.small_run import WITHOUT_JITTOR
from liif_core.config.schema import MultiStepLR
from liif_core.geometry import coords
from liif_core.images import rgb8
from liif_core.inference import network
from liif_core.system import devices
from liif_core.system.places import PRETRAINED
from liif_core.training import schedule


@pytest.fixture(scope="module")
def jt():
    if WITHOUT_JITTOR:
        pytest.skip("LIIF_WITHOUT_JITTOR is set")
    devices.prepare("jittor", "cpu")
    import jittor

    return jittor


@pytest.fixture(scope="module")
def predecessor():
    """docs/figures/predecessor.py as a module."""
    spec = importlib.util.spec_from_file_location("predecessor", ROOT / "docs" / "figures" / "predecessor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def machine_code(path: Path, flags: str, folder: Path) -> bytes:
    """What Jittor's flags make of an operator."""
    kept = [flag for flag in shlex.split(flags) if not flag.startswith(("-l", "-L", "-shared"))]
    subprocess.run(["g++", path, *kept, "-Ofast", "-g", "-c", "-o", folder / "it.o"], check=True, capture_output=True)
    code = subprocess.run(["objdump", "-d", "it.o"], cwd=folder, check=True, capture_output=True).stdout
    assert b"jit_run" in code
    return code


def test_jittors_operators_are_the_same_with_precompiled_headers(jt, tmp_path):
    """Two thirds of the time in which an operator is compiled go by in headers; liif_core/system/jittor_headers.py."""
    from liif_jittor.engine import Engine

    plain = jt.flags.cc_flags.split(" -include")[0]
    Engine(SMALL)
    if not Path(jt.flags.cc_path).name.startswith("g++"):
        pytest.skip("Jittor compiles with another compiler than GCC")
    assert jt.flags.cc_flags.startswith(plain) and "operators.h" in jt.flags.cc_flags
    (jt.array(np.arange(12, dtype=np.float32).reshape(3, 4)).transpose(1, 0) * 3).sum(1).sync()
    operators = sorted(Path(jt.compiler.cache_path, "jit").glob("*_op.cc"))
    for path in (operators[0], operators[-1]):
        assert machine_code(path, jt.flags.cc_flags, tmp_path) == machine_code(path, plain, tmp_path)


def test_one_thread_compiles_jittors_operators(jt):
    """With more it crashed now and then, where two of them made nodes behind one variable."""
    assert jt.flags.use_parallel_op_compiler == int(os.environ["use_parallel_op_compiler"]) == 1


HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype=np.float32)


def test_round_breaks_ties_differently(jt):
    assert jt.array(HALVES).round().numpy().tolist() == [-3, -2, -1, 1, 2, 3]  # away from zero
    assert torch.from_numpy(HALVES).round().tolist() == [-2, -2, 0, 0, 2, 2]  # to the even neighbour
    assert np.rint(HALVES).tolist() == [-2, -2, 0, 0, 2, 2]  # what the core uses


def test_the_nearest_pixel_of_a_tie_is_another_in_each_framework(jt):
    values = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    right = np.array([-0.5, 0, 0.5], dtype=np.float32)  # the borders between four pixels
    grid = np.stack([right, np.zeros(3, np.float32)], axis=-1)[None, None]
    options = {"mode": "nearest", "align_corners": False}
    theirs = F.grid_sample(torch.from_numpy(values), torch.from_numpy(grid), **options).flatten().tolist()
    ours = jt.nn.grid_sample(jt.array(values), jt.array(grid), **options).numpy().ravel().tolist()
    assert theirs == [0, 2, 2] and ours == [1, 2, 3]
    assert coords.nearest_pixel(right, 4, 0)[0].tolist() == theirs  # the core decides once, as PyTorch does


def test_a_generator_leaks_no_grad_in_jittor_and_its_decorator_does_not_in_pytorch(jt):
    def jittors():
        with jt.no_grad():
            yield

    @torch.no_grad()
    def pytorchs():
        yield

    for generator, is_off in (
        (jittors(), lambda: bool(jt.flags.no_grad)),
        (pytorchs(), lambda: not torch.is_grad_enabled()),
    ):
        next(generator)
        assert is_off() == (generator.gi_code is jittors.__code__)
        generator.close()
        assert not is_off()


def test_gradients_flow_between_two_bands_of_an_image(jt):
    from liif_jittor.engine import Engine

    bands = Engine(SMALL).predict_image(np.zeros((1, 3, 11, 17), dtype=np.float32), 41, 63)
    next(bands)
    assert not jt.flags.no_grad
    bands.close()


def test_eval_stops_gradients_in_jittor(jt):
    layer = jt.nn.Linear(2, 2)
    layer.eval()
    assert all(parameter.is_stop_grad() for parameter in layer.parameters())
    theirs = torch.nn.Linear(2, 2).eval()
    assert all(parameter.requires_grad for parameter in theirs.parameters())


def test_layers_of_jittor_begin_in_different_modes_until_they_are_told(jt):
    from liif_jittor.networks import set_training

    layers = jt.nn.Sequential(jt.nn.Conv2d(3, 3, 3), jt.nn.BatchNorm(3), jt.nn.Dropout(0.5))
    assert (layers[1].is_train, layers[2].is_train) == (True, False)
    for training in (True, False):
        set_training(layers, training)
        assert [layer.is_train for layer in layers.layers.values()] == [training] * 3
    assert not layers[0].weight.is_stop_grad()


def test_the_jittor_engine_can_train_after_it_has_predicted(jt):
    from liif_jittor.engine import Engine

    engine = Engine(SMALL, "cpu", REGRESSION, ADAM)
    queries = batch(1)
    engine.predict_queries(queries["inp"], queries["coord"], queries["cell"])
    before = engine.state()["model"].parameters
    engine.train_step(queries)
    after = engine.state()["model"].parameters
    assert all(not np.array_equal(before[name], after[name]) for name in before)


def test_jittor_computes_nothing_until_it_must(jt):
    with jt.no_grad():
        jt.sync_all()
        before = jt.number_of_lived_ops()
        value = jt.array(np.ones(4, np.float32))
        for _ in range(10):
            value = value + 1
        waiting = jt.number_of_lived_ops()
        value.sync()
        assert waiting >= before + 10  # every addition is remembered, none is done
        assert jt.number_of_lived_ops() < waiting - 8
    assert value.numpy().tolist() == [11.0] * 4


def test_jittor_narrows_numpys_types(jt):
    assert jt.array(np.zeros(2)).dtype == "float32" and jt.array(np.arange(2)).dtype == "int32"
    assert torch.from_numpy(np.zeros(2)).dtype == torch.float64
    index, position, weight = coords.locate(np.zeros((1, 2, 2), np.float32), np.ones((1, 2), np.float32), (3, 4), 4)
    assert (index.dtype, position.dtype, weight.dtype) == (np.int32, np.float32, np.float32)


def test_jittor_has_no_addmm_and_no_transpose_property(jt):
    assert not hasattr(jt, "addmm") and not hasattr(jt.Var, "T")
    assert hasattr(torch, "addmm") and hasattr(torch.Tensor, "T")


def test_the_same_seed_gives_other_numbers(jt):
    jt.set_global_seed(3)
    torch.manual_seed(3)
    assert not np.allclose(jt.rand(8).numpy(), torch.rand(8).numpy())


# The predecessor.


def test_the_predecessors_jittor_falls_behind_where_images_are_downsampled(predecessor):
    """Up to x4 the low-resolution images are files; beyond, they are downsampled from the original."""
    for (dataset, scale), values in predecessor.gaps().items():
        gap = statistics.mean(values)
        if scale <= 4:
            assert abs(gap) < 0.08, (dataset, scale)
        elif dataset != "set5":  # four of whose five images are square
            assert gap < -0.12, (dataset, scale)
    assert all(
        max(values) < -0.08
        for (name, scale), values in predecessor.gaps().items()
        if name == "div2k-valid" and scale > 4
    )


def test_a_swapped_resize_costs_what_an_image_is_off_square(predecessor):
    image = rgb8.read_image(ROOT / "examples" / "chelsea.png")
    cost = predecessor.cost_of_swapping(network.bicubic, image, 6, "benchmark-6")
    assert cost > 0.15
    square = image[:, : image.shape[0]]
    assert predecessor.cost_of_swapping(network.bicubic, square, 6, "benchmark-6") == 0


@pytest.mark.slow
def test_a_swapped_resize_costs_the_network_more_than_bicubic(predecessor):
    image = rgb8.read_image(ROOT / "examples" / "chelsea.png")
    costs = [
        predecessor.cost_of_swapping(predict, image, 6, "benchmark-6")
        for predict in (network.bicubic, network.load(PRETRAINED, "torch", "cpu"))
    ]
    assert costs[1] > costs[0]


def test_the_predecessors_learning_rate_never_fell():
    paper = MultiStepLR(milestones=[200, 400, 600, 800], gamma=0.5)
    assert schedule.learning_rate(1e-4, 100, paper) == schedule.learning_rate(1e-4, 1, paper)


def test_best_and_last_epoch_are_not_one_number(predecessor):
    differences = [predecessor.best_against_last(values) for values in predecessor.curves().values()]
    assert len(differences) == 20 and min(differences) > 0
    assert statistics.mean(differences) > 0.3
    assert statistics.mean(map(predecessor.unrest, predecessor.curves().values())) > 0.15
