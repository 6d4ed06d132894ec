"""What people call a checkpoint: files of every program and age, read or refused by what is in them."""

import copy
import gzip
import io
import pickle
import re
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from helpers import made_images
from helpers.models import MODELS
from helpers.small_run import model_spec
from liif_core.checkpoints import bare, content, formats, native, pth, unpickle
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load as configs
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_torch.models import build as models

SPEC = model_spec(8)
NORM = {"inp": {"sub": [0.25], "div": [0.5]}, "gt": {"sub": [0.0], "div": [1.0]}}


def weights(seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"encoder.head.0.weight": (8, 3, 3, 3), "encoder.head.0.bias": (8,), "imnet.layers.0.weight": (16, 76)}
    return OrderedDict((name, torch.randn(shape, generator=generator)) for name, shape in shapes.items())


def liifs(sd, **more) -> dict:
    return {"model": {"name": "liif", "args": SPEC["args"], "sd": sd}, "optimizer": None, "epoch": 5} | more


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump({"model": SPEC, "data_norm": NORM}))
    return path


def parameters(path, config=None) -> dict[str, np.ndarray]:
    return formats.load_for(path, config).state["model"].parameters


def assert_weights(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == np.float32 and array.flags.writeable
        np.testing.assert_array_equal(array, expected[name].float().numpy())


# Names behind those of what wraps a model


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("module.{}", "'module.'"),
        ("_orig_mod.{}", "'_orig_mod.'"),
        ("module._orig_mod.{}", "'module.' and '_orig_mod.'"),
        ("_orig_mod.module.{}", "'module.' and '_orig_mod.'"),
        ("model.{}", "'model.'"),
        ("generator.module.{}", "'module.' and 'generator.'"),
    ],
)
def test_names_are_taken_without_what_wraps_a_model(tmp_path, form, said):
    torch.save(liifs({form.format(name): value for name, value in weights().items()}), tmp_path / "a.pth")
    found = formats.load(tmp_path / "a.pth")
    assert_weights(found.state["model"].parameters, weights())
    assert found.notes == [f"its parameters' names are taken without {said}"]


def test_a_part_of_a_model_may_be_wrapped():
    names = ["encoder.module.head.0.weight", "encoder._orig_mod.body.0.bias", "imnet.layers.0.weight", "n_averaged"]
    found, _ = bare.renamed(names)
    assert list(found.values()) == ["encoder.head.0.weight", "encoder.body.0.bias", "imnet.layers.0.weight"]


@pytest.mark.parametrize(
    "names", [["module.a", "a"], ["model.a", "b"], ["net.a", "model.b"], ["other.a", "other.b"], ["module", "model"]]
)
def test_no_name_is_changed_that_may_be_the_models_own(names):
    assert bare.renamed(names) == ({name: name for name in names}, "")


def test_moments_follow_the_names(tmp_path):
    sd = {f"module.{name}": value for name, value in weights().items()}
    state = {1: {"step": torch.tensor(4.0), "exp_avg": torch.full((8,), 2.0)}}
    torch.save(liifs(sd, optimizer={"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": state}}), tmp_path / "a.pth")
    found = formats.load(tmp_path / "a.pth").state["model"].optimizer
    assert set(found) == {"step", "exp_avg.encoder.head.0.bias"}


# What lies beside the weights, and how numbers are stored


class Everything:
    """Beside the weights: what PyTorch's own restricted reader takes."""

    content = {
        "best": np.float64(30.1),
        "count": np.int64(7),
        "curve": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i2"),
        "device": torch.device("cuda:1"),
        "cpu": torch.device("cpu"),
        "seen": {1, "two"},
        "shape": torch.Size([3, 4]),
        "kind": torch.bfloat16,
        "layout": torch.strided,
        "raw": bytearray(b"\xffab"),
        "complex": 1 + 2j,
        "ints": torch.tensor([[1, -2]], dtype=torch.int8),
        "short": torch.tensor([300], dtype=torch.int16),
    }


def check_everything(found: dict) -> None:
    assert found["best"] == 30.1 and found["count"] == 7 and found["complex"] == 1 + 2j
    for name in ("curve", "columns", "big", "ints", "short"):
        np.testing.assert_array_equal(found[name], np.asarray(Everything.content[name]))
    assert (found["device"], found["cpu"], found["shape"]) == ("cuda:1", "cpu", (3, 4))
    assert (found["seen"], found["kind"], found["raw"]) == ({1, "two"}, "torch.bfloat16", b"\xffab")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lies_beside_the_weights_is_read_as_data(tmp_path, zipped):
    torch.save(liifs(weights(), **Everything.content), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    check_everything(pth.read(tmp_path / "a.pth"))
    assert_weights(parameters(tmp_path / "a.pth"), weights())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpys_pickles_of_every_age_are_read(tmp_path, protocol):
    """Jittor saves such: a pickle alone, of numpy arrays. numpy 2 calls numpy.core numpy._core."""
    data = pickle.dumps({name: value.numpy() for name, value in weights().items()} | {"s": np.float32(2.5)}, protocol)
    for version in (data, data.replace(b"numpy.core", b"numpy._core")):
        if protocol > 3:  # whose strings and frames have lengths
            version = data
        (tmp_path / "a.pkl").write_bytes(version)
        found = pth.read(tmp_path / "a.pkl")
        assert found.pop("s") == 2.5
        for name, array in found.items():
            np.testing.assert_array_equal(array, weights()[name].numpy())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_every_precision_becomes_float32(tmp_path, kind, zipped):
    sd = {name: value.to(kind) for name, value in weights().items()}
    sd["encoder.view"] = torch.arange(24.0).to(kind).view(4, 6).t()[1:3]
    torch.save(liifs(sd), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert_weights(parameters(tmp_path / "a.pth"), sd)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_safetensors_of_every_precision_are_read(tmp_path, config, kind):
    sd = {name: value.to(kind) for name, value in weights().items()}
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(sd, path)
    found = parameters(path, config)
    assert_weights({name: found[name] for name in sd}, sd)
    with pytest.raises(UserError, match=r"not a checkpoint of this project .*--config \(--model-config for test.py"):
        formats.load(path)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_a_run_that_another_program_has_rewritten_is_read_and_said(tmp_path, kind):
    arrays = {name: value.numpy() for name, value in weights().items()}
    native.save(tmp_path / "a.safetensors", Checkpoint(SPEC, {"model": NetworkState(arrays)}, NORM))
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        sd, metadata = {name: file.get_tensor(name).to(kind) for name in arrays}, file.metadata()
    safetensors.torch.save_file(sd, tmp_path / "b.safetensors", metadata)
    found = formats.load(tmp_path / "b.safetensors")
    assert found.data_norm == NORM and "by another program" in found.notes[0]
    for name, array in found.state["model"].parameters.items():
        np.testing.assert_array_equal(array, sd[name].float().numpy())


def test_other_types_of_numbers_are_refused_by_name(tmp_path):
    safetensors.torch.save_file({"w": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="w is of the type F8_E4M3; accepted are F32, F16, BF16 and F64"):
        formats.load(tmp_path / "a.safetensors")


# Bare weights


@pytest.mark.parametrize(
    ("wrapped", "place"),
    [
        (lambda sd: sd, ""),
        (lambda sd: {"params": weights(1), "params_ema": sd}, "params_ema"),
        (lambda sd: {"params": sd}, "params"),
        (lambda sd: {"state_dict": {f"net.{n}": v for n, v in sd.items()}, "epoch": 3, "callbacks": {}}, "state_dict"),
        (lambda sd: {"model": weights(1), "ema": {"module": sd, "decay": 0.9}}, "ema.module"),
        (lambda sd: {"model_state_dict": sd, "optimizer_state_dict": {"state": {0: {}}, "param_groups": []}}, "model_"),
        (lambda sd: {"generator": sd, "step": 3}, "generator"),
    ],
)
def test_bare_weights_want_a_config_and_are_then_read(tmp_path, config, wrapped, place):
    torch.save(wrapped(weights()), tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"a.pth holds bare weights.*{place}.* does not say of which model.*--config"):
        formats.load(tmp_path / "a.pth")
    found = formats.load_for(tmp_path / "a.pth", config)
    assert_weights(found.state["model"].parameters, weights())
    assert (found.model, found.data_norm) == (SPEC, NORM)
    assert place in "".join(found.notes)


def test_weights_in_two_places_are_not_guessed(tmp_path, config):
    torch.save({"generator": weights(), "discriminator": weights()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="its keys are discriminator, generator"):
        formats.load_for(tmp_path / "a.pth", config)


def test_what_is_never_used_is_left_out_of_bare_weights_too(tmp_path, config):
    sd = weights() | {"encoder.sub_mean.weight": torch.eye(3), "n_averaged": torch.tensor(3)}
    torch.save(sd, tmp_path / "a.pth")
    assert_weights(parameters(tmp_path / "a.pth", config), weights())


def test_a_file_that_says_its_model_and_a_config_of_another_are_refused(tmp_path, config):
    torch.save(liifs(weights()), tmp_path / "a.pth")
    assert formats.load_for(tmp_path / "a.pth", config).data_norm == NORM  # which a .pth of LIIF has in its config
    config.write_text(yaml.safe_dump({"model": model_spec(9)}))
    with pytest.raises(UserError, match="holds another model than .*model.yaml"):
        formats.load_for(tmp_path / "a.pth", config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": SPEC, "data_nrom": NORM}, "unknown key 'data_nrom'"),
        ({"test_dataset": {}}, "has no key 'model'"),
        ({"model": {"args": {}}}, "key 'model.name' is missing"),
    ],
)
def test_a_config_that_says_no_model_is_one_sentence(config, content, message):
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        configs.load_model(config)


def test_a_number_in_quotes_is_one_wherever_it_stands(tmp_path, config):
    quoted = copy.deepcopy(SPEC)
    quoted["args"]["encoder_spec"]["args"]["n_feats"] = "8"
    config.write_text(yaml.safe_dump({"model": quoted}))
    assert configs.load_model(config).model.model_dump() == SPEC
    optimizer = {"name": "adam", "args": {"lr": "1e-4"}}
    torch.save(liifs(weights(), optimizer=optimizer) | {"model": quoted | {"sd": weights()}}, tmp_path / "a.pth")
    found = formats.load_for(tmp_path / "a.pth", config)
    assert (found.model, found.optimizer) == (SPEC, {"name": "adam", "args": {"lr": 1e-4}})


def test_any_training_config_says_a_model():
    found = configs.load_model("train-div2k/train_edsr-baseline-liif.yaml")
    assert found.model.name == "liif" and found.data_norm.inp.sub == [0.5]


# Files that are something else


def test_a_checkpoint_is_read_under_any_ending(tmp_path):
    native.save(tmp_path / "a.safetensors", Checkpoint(SPEC, {"model": NetworkState({"w": np.zeros(3, np.float32)})}))
    torch.save(liifs(weights()), tmp_path / "b.pth")
    for ending in (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ""):
        for name in ("a.safetensors", "b.pth"):
            path = tmp_path / f"renamed{ending}"
            path.write_bytes((tmp_path / name).read_bytes())
            assert formats.load(path).model == SPEC


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"hello")
    return buffer.getvalue()


def tarred(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


OTHERS = {
    b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>": "a web page",
    b"\n\n  <html><body>Sign in</body></html>": "a web page",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "XML",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 19332096\n": "a Git-LFS pointer.*git lfs pull",
    b"": r"empty \(0 bytes\)",
    bytes(5000): "nothing but zeros",
    b'{"error": "not found"}': "JSON",
    "Größe: keine\n".encode(): "a text",
    zipped("readme.txt"): "a zip archive without PyTorch's weights",
    zipped("a/data.pkl")[:60]: "cut short",
    tarred("sys_info", "pickle", "storages", "tensors"): "of PyTorch before 0.1.10",
    tarred("a.safetensors"): "a tar archive: unpack it",
    gzip.compress(b"weights"): "a gzip archive: unpack it",
    b"\x89HDF\r\n\x1a\n1234": "an HDF5 file",
    b"\x07\x01\x02\x03\x90\x91": "neither safetensors nor a .pth",
}


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_what_a_file_is_is_said_whatever_it_is_called(tmp_path, name):
    made_images.write(tmp_path / "image.png", 5, 7)
    others = OTHERS | {(tmp_path / "image.png").read_bytes(): r"an image \(PNG\)"}
    for data, what in others.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is {what}"):
            formats.load(tmp_path / name)


def test_a_torchscript_program_is_said_to_be_one(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "a.pt")
    with pytest.raises(UserError, match="a TorchScript program: expected its weights alone"):
        formats.load(tmp_path / "a.pt")


# Weights that are none


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value):
    sd = weights()
    sd["encoder.head.0.bias"][3] = value
    torch.save(liifs(sd), tmp_path / "a.pth")
    arrays = {name: array.numpy() for name, array in sd.items()}
    native.save(tmp_path / "a.safetensors", Checkpoint(SPEC, {"model": NetworkState(weights(), average=arrays)}))
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(UserError, match="no numbers: encoder.head.0.bias is NaN or infinite in 1 of 8 values;"):
            formats.load(tmp_path / name)


def test_a_number_beyond_float32_is_infinite(tmp_path):
    torch.save(liifs(weights() | {"w": torch.tensor([1e300], dtype=torch.float64)}), tmp_path / "a.pth")
    with pytest.raises(UserError, match="no numbers: w is NaN or infinite"):
        formats.load(tmp_path / "a.pth")


def test_moments_that_are_no_numbers_hinder_training_alone(tmp_path):
    arrays = {name: value.numpy() for name, value in weights().items()}
    state = NetworkState(arrays, {"exp_avg.encoder.head.0.bias": np.full(8, np.nan, np.float32)})
    native.save(tmp_path / "a.safetensors", Checkpoint(SPEC, {"model": state}))
    formats.load(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no numbers: exp_avg.encoder.head.0.bias is NaN"):
        formats.load(tmp_path / "a.safetensors", training=True)


# Small files that ask for much. Sizes as in unpickle: what is read is a small multiple of the file.


def legacy(description: bytes, keys=("0",), numbers=b"") -> bytes:
    parts = [pickle.dumps(part, 2) for part in (pth.MAGIC, 1001, {"little_endian": True})]
    return b"".join([*parts, description, pickle.dumps(list(keys), 2), numbers])


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu%sNtQ"


def tensor(count: int, size: bytes, stride: bytes) -> bytes:
    """A pickle of a single tensor, its storage with so many numbers."""
    numbers = b"\x8a\x08" + struct.pack("<q", count)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE % numbers + b"K\0" + size + stride + b"\x89NtR."


HUGE = b"\x8a\x05" + struct.pack("<q", 1 << 34)[:5]
BOMBS = {
    "far memo": b"\x80\x02Nr\xff\xff\xff\x3f.",
    "bytearray": b"\x80\x02c__builtin__\nbytearray\n" + HUGE + b"\x85R.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<q", 1 << 40) + b"ab.",
    "storage": legacy(tensor(1 << 34, b"K\x01\x85", b"K\x01\x85")),
    "broadcast": legacy(tensor(1, HUGE + b"\x85", b"K\0\x85"), numbers=struct.pack("<qf", 1, 1)),
    "array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + HUGE + b"\x85U\x01b\x87R.",
    "scalar": b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x06\0\0\0S99999\x85RU\x01b\x86R.",
    "frame": b"\x80\x04\x95" + struct.pack("<q", 1 << 40) + b"N.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_asks_for_no_more_memory_than_its_size_allows(tmp_path, kind):
    (tmp_path / "a.pth").write_bytes(BOMBS[kind])
    tracemalloc.start()
    with pytest.raises(UserError, match="a.pth is (refused|damaged|not a checkpoint)"):
        formats.load(tmp_path / "a.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_an_archive_that_claims_to_hold_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", tensor(5_000_000, b"K\x01\x85", b"K\x01\x85"))
        archive.writestr("a/data/0", bytes(20_000_000))
    with pytest.raises(UserError, match="refused: it contains more than its size allows"):
        formats.load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("where", "value"), [("n_feats", -1), ("n_resblocks", 10**6), ("n_feats", "20000"), ("hidden_list", [16, 10**30])]
)
def test_a_small_file_does_not_have_a_large_model_built(tmp_path, where, value):
    content = liifs(weights())
    spec = content["model"]["args"] = copy.deepcopy(SPEC["args"])
    spec["imnet_spec" if where == "hidden_list" else "encoder_spec"]["args"][where] = value
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"its model is to have {where} .*, and its tensors are of other sizes"):
        formats.load(tmp_path / "a.pth")


@pytest.mark.parametrize("norm", [3, {"inp": {"sub": [0.5]}}, {"inp": {"sub": [0.5], "div": [0]}}, {"out": {}}])
def test_a_normalisation_that_is_none_is_one_sentence(tmp_path, norm):
    torch.save(liifs(weights(), data_norm=norm), tmp_path / "a.pth")
    with pytest.raises(UserError, match="a.pth(: its data_norm| is damaged)"):
        formats.load(tmp_path / "a.pth")


def test_a_model_that_names_itself_again_and_again_is_refused_at_once(tmp_path):
    args = [0]
    for _ in range(60):
        args = [args, args]
    torch.save({"model": {"name": "liif", "args": {"a": args}, "sd": {}}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="a model of more than 10000 values"):
        formats.load(tmp_path / "a.pth")  # all 2^60 would never end


@pytest.mark.parametrize(
    "commands",
    [
        b"ccollections\nCounter\nN}X\x06\0\0\0updateNs\x86b.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\0\0\0__defaults__K\x01\x85s\x86b.",
        b"cnumpy\ndtype\nN}X\x08\0\0\0__init__Ns\x86b.",
    ],
)
def test_a_pickle_changes_nothing_that_the_next_file_needs(tmp_path, commands):
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + commands)
    with pytest.raises(UserError):
        formats.load(tmp_path / "a.pth")
    torch.save(liifs(weights(), **Everything.content), tmp_path / "b.pth")
    check_everything(pth.read(tmp_path / "b.pth"))


def test_an_array_is_filled_once_and_with_as_much_as_it_holds(tmp_path):
    kind = unpickle._NumberType("f4")
    array = unpickle._Array((0,), np.uint8)
    for state in ((1, (3,), kind, False, bytes(8)), (1, (-3, -1), kind, False, bytes(12)), (1, (2,), "f4", False, b"")):
        with pytest.raises(unpickle.Refused):
            array.__setstate__(state)
    array.__setstate__((1, (2,), kind, False, bytes(8)))
    with pytest.raises(unpickle.Refused, match="filled twice"):
        array.__setstate__((1, (2,), kind, False, bytes(8)))
    with pytest.raises(unpickle.Refused, match="of the kind 'O8'"):
        unpickle._NumberType("O8")


def test_the_older_form_is_refused_where_it_is_cut(tmp_path):
    torch.save(liifs(weights()), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pth").read_bytes()
    assert content.form(tmp_path / "a.pth") == content.PTH
    for keep in (20, len(whole) // 8, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.pth").write_bytes(whole[:keep])
        with pytest.raises(UserError, match="a.pth is (damaged|refused)"):
            formats.load(tmp_path / "a.pth")


# Thera: pickled trees of Flax parameters


# Flax' names of what is in Thera Pro's tail, by ours.
SWINIR = {
    r"layers\.(\d+)\.residual_group\.blocks\.(\d+)": r"RSTB_\1.BasicLayer_0.SwinTransformerBlock_\2",
    r"norm1$": "LayerNorm_0",
    r"norm2$": "LayerNorm_1",
    r"attn": "WindowAttention_0",
    r"mlp\.fc1": "Mlp_0.Dense_0",
    r"mlp\.fc2": "Mlp_0.Dense_1",
    r"layers\.(\d+)\.conv$": r"RSTB_\1.Conv_0",
    r"patch_embed": "PatchEmbed_0",
    r"\.norm$": ".LayerNorm_0",
    r"conv_first": "Conv_0",
    r"conv_after_body": "Conv_1",
    r"conv_before_upsample\.0": "Conv_2",
}


def flax_tree(spec: dict) -> dict:
    """A tree of random numbers as Thera's code pickles it, of the model that `spec` describes, by Flax' names."""
    rng, tree = np.random.default_rng(1), {}
    names = dict(models.make(spec).named_parameters())
    for name, parameter in names.items():
        *path, last = re.sub(r"^encoder\.encoder", "encoder", name).replace("hypernet", "out_conv").split(".")
        if path[:1] == ["encoder"] and "encoder.conv_first.weight" in names:  # Thera Pro's
            path = re.sub(r"^encoder\.(?=conv_|layers|norm|patch)", "refine.", ".".join(path))
            for pattern, theirs in SWINIR.items():
                path = re.sub(pattern, theirs, path)
            path = path.split(".")
        path = [f"layers_{part}" if part.isdigit() else part for part in path]
        if path[:2] == ["encoder", "layers"]:
            path[:2] = ["refine"]
            path = [{"norm": "LayerNorm_0", "conv": "Conv_0"}.get(part, part) for part in path]
        shape = tuple(parameter.shape)
        if last == "weight":
            kinds = {4: ("kernel", (*shape[2:], *shape[1::-1])), 2: ("kernel", shape[::-1]), 1: ("scale", shape)}
            last, shape = kinds[len(shape)]
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = rng.standard_normal(() if last == "k" else shape).astype(np.float32)
    return {"params": tree}


def test_a_tree_of_theras_parameters_gets_this_projects_names(tmp_path):
    spec = MODELS["edsr-baseline-thera-air"].full
    tree = flax_tree(spec)
    (tmp_path / "thera.pkl").write_bytes(pickle.dumps({"model": tree, "backbone": "edsr-baseline", "size": "air"}))
    found = formats.load(tmp_path / "thera.pkl")
    assert found.model == spec
    assert found.data_norm["inp"] == {"sub": [0.4488, 0.4371, 0.4040], "div": [0.5]} == found.data_norm["gt"]
    parameters, params = found.state["model"].parameters, tree["params"]
    assert {name: array.shape for name, array in parameters.items()} == {
        name: tuple(parameter.shape) for name, parameter in models.make(spec).named_parameters()
    }
    kernel = params["encoder"]["body"]["layers_3"]["body"]["layers_2"]["kernel"]
    np.testing.assert_array_equal(parameters["encoder.body.3.body.2.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(parameters["hypernet.bias"], params["out_conv"]["bias"])
    assert parameters["k"] == params["k"]
    first = params["encoder"]["head"]["layers_0"]["kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_allclose(parameters["encoder.head.0.weight"], first * (0.25 / 0.25001) ** 0.5, rtol=1e-6)


def test_thera_pros_tail_gets_this_projects_names(tmp_path):
    """The names, spelled out, as Flax gives them; the kernel of a linear layer is (in, out)."""
    spec = MODELS["edsr-baseline-thera-pro"].spec
    tree = flax_tree(spec)
    (tmp_path / "thera.pkl").write_bytes(pickle.dumps({"model": tree, "backbone": "edsr-baseline", "size": "pro"}))
    found = formats.load(tmp_path / "thera.pkl")
    parameters, tail = found.state["model"].parameters, found.model["args"]["encoder_spec"]
    assert tail["name"] == "swinir" and tail["args"]["depths"] == [2] and tail["args"]["gelu"] == "tanh"
    assert {name: array.shape for name, array in parameters.items()} == {
        name: tuple(parameter.shape) for name, parameter in models.make(spec).named_parameters()
    }
    block = tree["params"]["refine"]["RSTB_0"]["BasicLayer_0"]["SwinTransformerBlock_1"]
    ours = "encoder.layers.0.residual_group.blocks.1."
    for theirs, name in ((block["Mlp_0"]["Dense_1"], "mlp.fc2"), (block["WindowAttention_0"]["qkv"], "attn.qkv")):
        np.testing.assert_array_equal(parameters[f"{ours}{name}.weight"], theirs["kernel"].T)
    np.testing.assert_array_equal(parameters[f"{ours}norm2.weight"], block["LayerNorm_1"]["scale"])
    kernel = tree["params"]["refine"]["Conv_1"]["kernel"]
    np.testing.assert_array_equal(parameters["encoder.conv_after_body.weight"], kernel.transpose(3, 2, 0, 1))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda tree: tree["params"]["out_conv"].update(bias=["a", "list"]),
            "a list in place of the array out_conv.bias",
        ),
        (lambda tree: tree["params"].update(refine={"patch_embed": np.zeros(3)}), "a tail that is not known"),
        (lambda tree: tree["params"].update(k=pytest.raises), "the name"),
    ],
)
def test_a_tree_of_more_than_arrays_or_of_another_tail_is_refused(tmp_path, change, sentence):
    tree = flax_tree(MODELS["edsr-baseline-thera-air"].spec)
    change(tree)
    (tmp_path / "thera.pkl").write_bytes(pickle.dumps({"model": tree}))
    with pytest.raises(UserError, match=sentence):
        formats.load(tmp_path / "thera.pkl")
