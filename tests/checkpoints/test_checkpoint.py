"""Checkpoints: what goes in comes out, a full disk harms nothing, foreign files are refused and never run."""

import io
import json
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from helpers import ROOT
from liif_core.checkpoints import formats, native, shipped
from liif_core.checkpoints.native import Checkpoint
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.system.places import PRETRAINED

MODEL = {"name": "liif", "args": {"encoder_spec": {"name": "edsr-baseline", "args": {"no_upsampling": True}}}}


def make_checkpoint(seed=0) -> Checkpoint:
    rng = np.random.default_rng(seed)
    parameters = {
        "encoder.head.0.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "encoder.head.0.bias": rng.normal(size=4).astype(np.float32),
    }
    moments = {f"exp_avg.{name}": array * 0.5 for name, array in parameters.items()}
    return Checkpoint(
        model=MODEL,
        state={"model": NetworkState(parameters, moments | {"step": np.array(17, dtype=np.float32)})},
        data_norm={"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.4, 0.5, 0.6], "div": [1.0]}},
        optimizer={"name": "adam", "args": {"lr": 1e-4}},
        progress={"epoch": 3, "batch": 2, "step": 17, "loss_sum": 0.1 + 0.2, "best_psnr": None, "seed": 5},
    )


def assert_equal(found: Checkpoint, expected: Checkpoint) -> None:
    for field in ("model", "data_norm", "optimizer", "progress"):
        assert getattr(found, field) == getattr(expected, field)
    for kind in ("parameters", "optimizer"):
        ours, theirs = (getattr(file.state["model"], kind) for file in (found, expected))
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            assert ours[name].dtype == array.dtype and ours[name].shape == array.shape
            np.testing.assert_array_equal(ours[name], array)


def test_what_goes_in_comes_out_to_the_last_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint())
    assert_equal(formats.load(path), make_checkpoint())
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]  # no temporary file is left


def test_non_contiguous_arrays_are_written_as_they_read(tmp_path):
    content = make_checkpoint()
    content.state["model"].parameters["t"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    native.save(tmp_path / "a.safetensors", content)
    np.testing.assert_array_equal(
        formats.load(tmp_path / "a.safetensors").state["model"].parameters["t"], np.arange(12).reshape(3, 4).T
    )


def test_any_safetensors_reader_sees_the_same_names_and_the_spec(tmp_path):
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint())
    with safetensors.safe_open(path, framework="numpy") as file:
        assert "encoder.head.0.weight" in file.keys()  # noqa: SIM118  (not a dict)
        assert "optimizer.exp_avg.encoder.head.0.weight" in file.keys()  # noqa: SIM118
        content = json.loads(file.metadata()[native.FORMAT])
        assert content["model"] == MODEL
        assert content["progress"]["step"] == 17


def test_equal_checkpoints_are_equal_files(tmp_path):
    for name in "abcdefgh":  # an order that is drawn for each file would be the same in all eight by chance only
        native.save(tmp_path / f"{name}.safetensors", make_checkpoint())
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_float16_weights_come_back_as_float32(tmp_path):
    content = make_checkpoint()
    content.state = {
        "model": NetworkState(
            {name: array.astype(np.float16) for name, array in content.state["model"].parameters.items()}
        )
    }
    native.save(tmp_path / "a.safetensors", content)
    found = formats.load(tmp_path / "a.safetensors").state["model"].parameters
    for name, array in content.state["model"].parameters.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    """In a tensor safetensors would not notice it; in a number of the progress JSON would not."""
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint())
    whole = path.read_bytes()
    inside = [len(whole) - 1, len(whole) - 300, whole.index(b'7, \\"loss_sum'), whole.index(b"0.5]") + 2]
    for place in inside:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match="a.safetensors is damaged, or another program has changed it: its SHA-256"):
            formats.load(path)


def test_an_average_is_what_readers_find_under_the_parameters_names(tmp_path):
    content = make_checkpoint()
    content.state["model"].average = {name: array + 1 for name, array in content.state["model"].parameters.items()}
    path = tmp_path / "a.safetensors"
    native.save(path, content)
    with safetensors.safe_open(path, framework="numpy") as file:
        for name, array in content.state["model"].average.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    found = formats.load(path)
    assert_equal(found, content)
    for name, array in content.state["model"].average.items():
        np.testing.assert_array_equal(found.state["model"].average[name], array)
        np.testing.assert_array_equal(found.state["model"].weights[name], array)


def test_saving_replaces_the_file_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint(0))
    native.save(path, make_checkpoint(1))
    assert_equal(formats.load(path), make_checkpoint(1))


def test_a_full_disk_leaves_the_previous_file(tmp_path):
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint())
    before = path.read_bytes()
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import numpy as np
from liif_core.checkpoints import native
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.system.places import PRETRAINED
big = native.Checkpoint({{}}, {{"model": NetworkState({{"w": np.zeros(10**6, dtype=np.float32)}})}})
try:
    native.save(Path({str(path)!r}), big)
except UserError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"cannot write {path} (File too large)")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        native.save(tmp_path / "file" / "a.safetensors", make_checkpoint())


@pytest.mark.parametrize("keep", [9, 100, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    native.save(path, make_checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="cut short or damaged"):
        formats.load(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    safetensors.numpy.save_file({"w": np.zeros(3, dtype=np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of this project"):
        formats.load(tmp_path / "a.safetensors")


def test_damaged_metadata_is_one_sentence(tmp_path):
    path = tmp_path / "a.safetensors"
    whole = '{"model": 3, "data_norm": null, "optimizer": null, "progress": {}}'
    for metadata in ("", "{", "3", "[]", '{"model": {}}', whole):
        safetensors.numpy.save_file({"w": np.zeros(3, dtype=np.float32)}, path, {native.FORMAT: metadata})
        with pytest.raises(UserError, match="metadata is damaged"):
            formats.load(path)


def test_a_missing_file_says_what_is_expected():
    with pytest.raises(UserError, match="no checkpoint 'nowhere.safetensors'.*of pretrained/ by name: clean, "):
        formats.load("nowhere.safetensors")


def test_shipped_weights_have_names_and_a_file_of_that_name_wins(tmp_path, monkeypatch):
    assert formats.locate("clean") == formats.locate(PRETRAINED.stem) == PRETRAINED
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clean").write_bytes(b"")
    assert formats.locate("clean") == Path("clean")


def test_weights_are_listed_by_name_those_that_are_there_alone(tmp_path):
    assert shipped.listed(tmp_path) == {} and shipped.find("clean", tmp_path) is None
    (tmp_path / "weights.yaml").write_bytes((PRETRAINED.parent / "weights.yaml").read_bytes())
    for name in (f"{PRETRAINED.stem}.safetensors", "edsr-baseline-liif_bsds400-photo.safetensors", "a.safetensors"):
        (tmp_path / name).write_bytes(b"")
    found = shipped.listed(tmp_path)
    assert list(found) == ["clean", "photo", "a"] and found["a"].use == ""
    assert "JPEG" in found["photo"].trained_on and found["clean"].path.name == PRETRAINED.name
    assert shipped.find("edsr-baseline-liif_bsds400-photo", tmp_path) == shipped.find("photo", tmp_path)


def test_every_file_in_pretrained_is_described():
    assert all(one.use and one.trained_on for one in shipped.listed().values())


class Holder:
    """An engine that has parameters and nothing else."""

    def __init__(self, **shapes):
        self.parameters = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
        self.taken = None

    def state(self):
        return {"model": NetworkState(self.parameters)}

    def load_state(self, state):
        self.taken = state


def test_another_architecture_names_the_parameters_that_differ():
    engine = Holder(a=(2, 3), b=(4,))
    state = {"model": NetworkState({"a": np.zeros((2, 5)), "c": np.zeros(7)})}
    with pytest.raises(UserError) as caught:
        native.restore(engine, state, "other.safetensors")
    message = str(caught.value)
    assert "other.safetensors holds another model" in message
    assert "a (2x5 in the file, 2x3 in the model)" in message
    assert "b (missing in the file, 4 in the model)" in message
    assert "c (7 in the file, missing in the model)" in message
    assert engine.taken is None


def test_a_long_list_of_differences_is_cut():
    engine = Holder(**{f"layer{i}": (i + 1,) for i in range(10)})
    with pytest.raises(UserError, match="and 7 more"):
        native.restore(engine, {"model": NetworkState({})}, "other")


# LIIF's files. PyTorch writes them here and reads nothing back.


def original(sd, **more) -> dict:
    model = {"name": "liif", "args": dict(MODEL["args"]), "sd": sd}
    return {"model": model, "optimizer": {"name": "adam", "args": {"lr": 1e-4}}, "epoch": 7, **more}


def state_dict_with_everything() -> dict:
    """Tensors that are views, shared, half or double precision, parameters, empty and without axes."""
    base = torch.arange(24.0).view(4, 6)
    sd = torch.nn.Conv2d(3, 4, 3).state_dict()  # an OrderedDict with an attribute of its own
    sd["transposed"] = base.t()
    sd["window"] = base[1:3, 2:5]
    sd["shared"] = base
    sd["strided"] = base.flatten()[::5]
    sd["expanded"] = torch.tensor([[1.0], [2.0]]).expand(2, 3)
    sd["half"] = torch.tensor([1.5, -0.25], dtype=torch.float16)
    sd["double"] = torch.tensor([1 / 3], dtype=torch.float64)
    sd["parameter"] = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    sd["scalar"] = torch.tensor(2.5)
    sd["empty"] = torch.zeros(0, 3)
    sd["encoder.sub_mean.weight"] = torch.eye(3)
    return sd


def test_liif_checkpoints_load_without_pytorch(tmp_path):
    path, result = tmp_path / "epoch-best.pth", tmp_path / "result.npz"
    sd = state_dict_with_everything()
    torch.save(original(sd), path)
    program = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from liif_core.checkpoints import formats
found = formats.load({str(path)!r})
assert not {{"torch", "jittor"}} & set(sys.modules)
np.savez({str(result)!r}, **found.state["model"].parameters)
print(json.dumps([found.model, found.data_norm, found.optimizer, found.progress["epoch"]]))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    model, data_norm, optimizer, epoch = json.loads(output.stdout)
    assert model == {"name": "liif", "args": MODEL["args"]}
    assert data_norm == {"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.5], "div": [0.5]}}
    assert optimizer == {"name": "adam", "args": {"lr": 1e-4}}
    assert epoch == 8  # of which 7 are done
    found = np.load(result)
    assert set(found) == set(sd) - {"encoder.sub_mean.weight"}
    for name in found:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], sd[name].detach().float().numpy(), err_msg=name)


def test_liifs_optimizer_finds_the_names_of_its_parameters(tmp_path):
    """PyTorch numbers them. LIIF's EDSR counts its unused mean shift too, which never gets a moment."""
    model = torch.nn.ModuleDict({"sub_mean": torch.nn.Conv2d(3, 3, 1), "head": torch.nn.Conv2d(3, 4, 3)})
    model["sub_mean"].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(3):
        model["head"](torch.randn(1, 3, 5, 7)).square().sum().backward()
        optimizer.step()
    given = {"name": "adam", "args": {"lr": 1e-4}, "sd": optimizer.state_dict()}
    torch.save(original(model.state_dict(), optimizer=given), tmp_path / "a.pth")
    found = formats.load(tmp_path / "a.pth")
    assert found.progress["step"] == 3
    assert set(found.state["model"].parameters) == {"head.weight", "head.bias"}
    expected = {"step": np.float32(3)}
    for name, parameter in model["head"].named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            expected[f"{moment}.head.{name}"] = optimizer.state[parameter][moment].numpy()
    assert found.state["model"].optimizer.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.state["model"].optimizer[name], array)


def test_bare_liif_weights_start_at_the_first_epoch(tmp_path):
    torch.save({"model": original({"w": torch.zeros(2)})["model"]}, tmp_path / "a.pth")
    found = formats.load(tmp_path / "a.pth")
    assert (found.optimizer, found.state["model"].optimizer, found.progress["epoch"]) == (None, {}, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "liif", "args": {}, "sd": 3}},
        {"model": {"name": "liif", "args": {}, "sd": {"w": "text"}}},
        {"model": {"name": "liif", "args": 3, "sd": {}}},
        {"optimizer": {"name": "adam"}},
        {"optimizer": [1]},
        {"optimizer": {"name": "adam", "args": {}, "sd": {"state": {9: {"exp_avg": torch.zeros(1)}}}}},
        {"epoch": "last"},
    ],
)
def test_content_of_the_wrong_kind_is_one_sentence(tmp_path, changes):
    torch.save(original({"w": torch.zeros(1)}) | changes, tmp_path / "a.pth")
    with pytest.raises(UserError, match="is damaged"):
        formats.load(tmp_path / "a.pth")


class Evil:
    """Pickles to a call that makes a file."""

    def __init__(self, sentinel):
        self.sentinel = str(sentinel)

    def __reduce__(self):
        return open, (self.sentinel, "w")


@pytest.mark.parametrize("where", ["beside the model", "in the weights"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, where):
    path, sentinel = tmp_path / "a.pth", tmp_path / "sentinel"
    evil = Evil(sentinel)
    torch.save(original({}, note=evil) if where == "beside the model" else original({"w": evil}), path)
    with pytest.raises(UserError, match=r"refused: it contains the name (_io|io)\.open"):
        formats.load(path)
    assert not sentinel.exists()
    torch.load(path, weights_only=False)  # the file is live: this is what was prevented
    assert sentinel.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("torch._utils", "_rebuild_tensor_v3"), ("collections", "namedtuple")],
)
def test_no_name_beyond_the_known_ones(tmp_path, module, name):
    path = tmp_path / "a.pth"
    write_archive(path, f"c{module}\n{name}\n.".encode())
    with pytest.raises(UserError, match=f"refused: it contains the name {module}.{name}"):
        formats.load(path)


def test_code_in_a_bare_pickle_is_not_run(tmp_path):
    path, sentinel = tmp_path / "a.pth", tmp_path / "sentinel"
    path.write_bytes(pickle.dumps(Evil(sentinel)))
    with pytest.raises(UserError, match=r"refused: it contains the name (_io|io)\.open"):
        formats.load(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.9, 0.999])
def test_a_truncated_liif_checkpoint_is_refused(tmp_path, fraction):
    path = tmp_path / "a.pth"
    torch.save(original({"w": torch.zeros(100, 100)}), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(UserError, match="cut short"):
        formats.load(path)


def test_a_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(original({"w": torch.full((100, 100), 7.0)}), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF  # among the numbers, which are most of the file
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        formats.load(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"model": {"name": "liif"}}, torch.zeros(3)])
def test_other_content_is_not_a_liif_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="not a checkpoint of the original LIIF"):
        formats.load(tmp_path / "a.pth")


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="no data.pkl"):
        formats.load(tmp_path / "a.pth")


# Archives by hand: what no honest writer makes. The lines of the pickle are protocol 0, which is readable.


def write_archive(path, description: bytes, numbers: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        archive.writestr("archive/data/0", numbers)


def describe(offset, size, stride, count) -> bytes:
    """{"model": {"name", "args", "sd": {"w": a float32 tensor with these numbers}}} as torch.save describes it."""
    buffer = io.BytesIO()
    pickler = StoragePickler(buffer, count)
    pickler.dump(original({"w": FakeTensor(offset, size, stride)}))
    return buffer.getvalue()


class Storage:
    """Stands for the numbers in a file of the archive."""


class FakeTensor:
    def __init__(self, offset, size, stride):
        self.place = offset, size, stride

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Storage(), *self.place, False, None)


class StoragePickler(pickle.Pickler):
    def __init__(self, file, count):
        super().__init__(file, protocol=2)
        self.count = count

    def persistent_id(self, thing):
        return ("storage", torch.FloatStorage, "0", "cpu", self.count) if isinstance(thing, Storage) else None


def test_an_archive_by_hand_is_read_when_it_is_honest(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    write_archive(tmp_path / "a.pth", describe(1, (2, 2), (2, 1), 6), numbers.tobytes())
    found = formats.load(tmp_path / "a.pth").state["model"].parameters["w"]
    np.testing.assert_array_equal(found, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (5, (2,), (1,)),
        (6, (), ()),
        (0, (2, 2), (4, 2)),
        (-1, (2,), (1,)),
        (3, (3,), (-1,)),
        (0, (-2,), (1,)),
        (2**40, (1,), (1,)),
        (0, (2,), (2**40,)),
        (9, (0,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, size, stride):
    write_archive(tmp_path / "a.pth", describe(offset, size, stride, 6), np.zeros(6, dtype=np.float32).tobytes())
    with pytest.raises(UserError, match="a tensor outside its storage"):
        formats.load(tmp_path / "a.pth")


@pytest.mark.parametrize(("size", "stride"), [((), ()), ((1,), (1,)), ((1, 1), (5, 5))])
def test_an_empty_storage_holds_no_number(tmp_path, size, stride):
    write_archive(tmp_path / "a.pth", describe(0, size, stride, 0))
    with pytest.raises(UserError, match="a tensor outside its storage"):
        formats.load(tmp_path / "a.pth")


def test_a_storage_that_is_cut_short_is_refused(tmp_path):
    write_archive(tmp_path / "a.pth", describe(0, (6,), (1,), 6), np.zeros(5, dtype=np.float32).tobytes())
    with pytest.raises(UserError, match="is damaged: storage 0 is cut short$"):
        formats.load(tmp_path / "a.pth")


def test_a_small_file_cannot_ask_for_all_memory(tmp_path):
    write_archive(tmp_path / "a.pth", describe(0, (2**20, 2**20), (0, 0), 1), np.zeros(1, dtype=np.float32).tobytes())
    with pytest.raises(UserError):
        formats.load(tmp_path / "a.pth")
