"""Checkpoints of others in both directions: LIIF's .pth is written as the original LIIF wants it, LIIF-PyTorch's
.pth.tar is read. Neither's code is here: the structures are, as their files show them."""

import io
import sys

import numpy as np
import pytest
import torch
import yaml

from helpers import ROOT, models
from helpers.models import MODELS, ONE_FACTOR, SMALL
from helpers.small_run import load_script, run
from liif_core.checkpoints import formats, liif, liif_pytorch, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.errors import UserError
from liif_torch.engine import Engine

SCRIPT = str(ROOT / "scripts" / "convert_checkpoint.py")
NORM = {"inp": {"sub": [0.4, 0.5, 0.6], "div": [1.0]}, "gt": {"sub": [0.0], "div": [1.0]}}


def convert(monkeypatch, *paths) -> None:
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *map(str, paths)])
    load_script("convert_checkpoint").main()


def save_small(path, spec=SMALL, norm=None, **more) -> Engine:
    engine = Engine(spec)
    engine.seed(1)
    native.save(path, Checkpoint(spec, engine.state(), norm or liif.DATA_NORM, **more))
    return engine


@pytest.mark.usefixtures("shallow_rdn")
@pytest.mark.parametrize("name", [*MODELS, "srresnet-x4"])
def test_conversion_there_and_back_gives_the_same_file(tmp_path, monkeypatch, name):
    """Statistics of BatchNorm too."""
    save_small(tmp_path / "a.safetensors", (MODELS | ONE_FACTOR)[name].spec, NORM)
    convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.pth")
    convert(monkeypatch, tmp_path / "b.pth", tmp_path / "c.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_a_pth_has_all_that_liif_looks_for(tmp_path, monkeypatch):
    engine = save_small(tmp_path / "a.safetensors")
    convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.pth")
    content = torch.load(tmp_path / "b.pth")  # PyTorch's own restricted reader
    assert content["epoch"] == 0  # train_liif.py goes on with the next
    model = content["model"]
    assert {key: model[key] for key in ("name", "args")} == SMALL
    parameters = engine.state()["model"].parameters
    shift = {f"encoder.{name}_mean.{kind}" for name in ("sub", "add") for kind in ("weight", "bias")}
    assert set(model["sd"]) == set(parameters) | shift
    for name, array in parameters.items():
        np.testing.assert_array_equal(model["sd"][name].numpy(), array)
    start = content["optimizer"]
    assert (start["name"], start["args"]) == ("adam", {"lr": 1e-4})
    again = torch.optim.Adam(list(model["sd"].values()), lr=1)
    again.load_state_dict(start["sd"])  # raises for another number of parameters
    assert again.param_groups[0]["lr"] == 1e-4


def test_a_pth_of_swinir_has_what_its_code_keeps_beside_the_parameters(tmp_path, monkeypatch):
    """The offset between two pixels of a window, of 15 x 15; masks of 6 x 6 windows, where those of the last row and
    column have halves that do not see each other."""
    engine = save_small(tmp_path / "a.safetensors", models.MODELS["swinir-lte"].spec)
    convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.pth")
    content = torch.load(tmp_path / "b.pth")
    parameters, state = engine.state()["model"].parameters, content["model"]["sd"]
    block = "encoder.layers.0.residual_group.blocks."
    kept = {f"{block}{name}" for name in ("0.attn.relative_position_index", "1.attn.relative_position_index")}
    assert set(state) == set(parameters) | kept | {f"{block}1.attn_mask"}
    index, mask = (state[f"{block}1.{name}"] for name in ("attn.relative_position_index", "attn_mask"))
    assert (
        index.shape == (64, 64)
        and index[0, 0] == 7 * 15 + 7
        and index[63, 0] == 14 * 15 + 14
        and index[0, 1] == 7 * 15 + 6
    )
    assert mask.shape == (36, 64, 64) and set(mask.unique().tolist()) == {-100, 0} and not mask[28].any()
    assert [int(mask[window, 0].eq(0).sum()) for window in (0, 5, 30, 35)] == [64, 32, 32, 16]
    assert len(content["optimizer"]["sd"]["param_groups"][0]["params"]) == len(parameters)


@pytest.mark.parametrize(("encoder", "rgb_range"), [("edsr-baseline", 1), ("edsr", 255), ("rcan", 1)])
def test_the_mean_shift_has_liifs_values(encoder, rgb_range):
    state = liif.model_content(models.liif(encoder, rgb_range=rgb_range, **models.FREE), {})["sd"]
    mean = torch.tensor([0.4488, 0.4371, 0.4040]) * rgb_range
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        assert state[f"encoder.{name}.weight"].shape == (3, 3, 1, 1)
        np.testing.assert_array_equal(state[f"encoder.{name}.weight"][..., 0, 0], np.eye(3))
        np.testing.assert_array_equal(state[f"encoder.{name}.bias"], sign * mean)
    assert len(state) == 4


def test_rdn_has_no_mean_shift():
    assert liif.model_content(MODELS["rdn-liif"].spec, {})["sd"] == {}


def test_specs_get_the_args_that_liif_does_not_do_without():
    spec = {"name": "liif", "args": {"encoder_spec": {"name": "rdn"}, "imnet_spec": None}}
    assert liif.model_content(spec, {})["args"] == {
        "encoder_spec": {"name": "rdn", "args": {}},
        "imnet_spec": None,
    }


def test_a_run_leaves_its_optimizer_state_behind_and_keeps_its_spec(tmp_path, monkeypatch):
    sgd = {"name": "sgd", "args": {"lr": 0.1, "momentum": 0.9}}
    save_small(tmp_path / "run.safetensors", optimizer=sgd, progress={"epoch": 7, "step": 60})
    convert(monkeypatch, tmp_path / "run.safetensors", tmp_path / "bare.safetensors")
    bare = formats.load(tmp_path / "bare.safetensors")
    assert (bare.optimizer, bare.progress, bare.state["model"].optimizer) == (None, {}, {})
    convert(monkeypatch, tmp_path / "run.safetensors", tmp_path / "bare.pth")
    start = torch.load(tmp_path / "bare.pth")["optimizer"]
    assert (start["name"], start["args"], start["sd"]["state"]) == ("sgd", sgd["args"], {})


def test_half_is_half_the_size_and_nearly_the_same_image(tmp_path, monkeypatch):
    engine = save_small(tmp_path / "a.safetensors")
    convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--half")
    for name, array in formats.load(tmp_path / "b.safetensors").state["model"].parameters.items():
        np.testing.assert_array_equal(array, engine.state()["model"].parameters[name].astype(np.float16))
    with pytest.raises(UserError, match="--half is for .safetensors"):
        convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.pth", "--half")


def test_of_a_run_with_an_average_the_average_is_taken(tmp_path, monkeypatch):
    engine = save_small(tmp_path / "a.safetensors")
    content = formats.load(tmp_path / "a.safetensors")
    content.state["model"].average = {name: array / 2 for name, array in content.state["model"].parameters.items()}
    native.save(tmp_path / "a.safetensors", content)
    convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = formats.load(tmp_path / "b.safetensors").state["model"]
    assert not found.average and not found.optimizer
    for name, array in engine.state()["model"].parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array / 2)


def test_another_normalisation_is_said(tmp_path, monkeypatch, capsys):
    save_small(tmp_path / "half.safetensors")
    save_small(tmp_path / "other.safetensors", norm=NORM)
    convert(monkeypatch, tmp_path / "half.safetensors", tmp_path / "half.pth")
    assert "assumes" not in capsys.readouterr().out
    convert(monkeypatch, tmp_path / "other.safetensors", tmp_path / "other.pth")
    assert "LIIF's demo.py assumes 0.5 / 0.5" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["b.pt", "b.pth.tar", "b"])
def test_another_ending_is_refused(tmp_path, monkeypatch, name):
    save_small(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"a \.safetensors file, or a \.pth for the original LIIF"):
        convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / name)


def test_no_file_is_lost_without_overwrite_and_never_the_one_that_is_read(tmp_path, monkeypatch):
    run_of, other = tmp_path / "run.safetensors", tmp_path / "other.safetensors"
    save_small(run_of)
    before = run_of.read_bytes()
    other.write_text("mine")
    (tmp_path / "dangling.pth").symlink_to("nowhere.pth")
    for name in ("other.safetensors", "dangling.pth"):
        with pytest.raises(UserError, match=f"{name} exists already: --overwrite replaces it"):
            convert(monkeypatch, run_of, tmp_path / name)
    (tmp_path / "link.safetensors").symlink_to("run.safetensors")
    (tmp_path / "hard.safetensors").hardlink_to(run_of)
    (tmp_path / "sub").mkdir()
    for name in ("run.safetensors", "link.safetensors", "hard.safetensors", "sub/../run.safetensors"):
        with pytest.raises(UserError, match=r"is the file that is read, .*run.safetensors: name another"):
            convert(monkeypatch, run_of, tmp_path / name, "--overwrite")
    assert run_of.read_bytes() == before and other.read_text() == "mine"
    with pytest.raises(UserError, match="it is a folder"):
        (tmp_path / "folder.pth").mkdir()
        convert(monkeypatch, run_of, tmp_path / "folder.pth")
    convert(monkeypatch, run_of, other, "--overwrite")
    assert formats.load(other).model == SMALL


def test_half_that_is_too_small_for_a_weight_is_refused(tmp_path, monkeypatch):
    engine = save_small(tmp_path / "a.safetensors")
    state = engine.state()
    state["model"].parameters["encoder.head.0.bias"][0] = -7e4
    native.save(tmp_path / "a.safetensors", Checkpoint(SMALL, state))
    with pytest.raises(UserError, match="--half: encoder.head.0.bias reaches 70000, and float16 ends at 65504"):
        convert(monkeypatch, tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--half")
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("argument", ["--config", "--model-config"])
def test_bare_weights_are_converted_with_the_config_that_says_their_model(tmp_path, monkeypatch, capsys, argument):
    state = save_small(tmp_path / "a.safetensors", norm=NORM).state()["model"].parameters
    torch.save({"params_ema": {f"net.{name}": torch.tensor(array) for name, array in state.items()}}, tmp_path / "b.pt")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": SMALL, "data_norm": NORM}, sort_keys=False))
    convert(monkeypatch, tmp_path / "b.pt", tmp_path / "c.safetensors", argument, tmp_path / "c.yaml")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()
    output = capsys.readouterr().out
    assert "its weights are those under 'params_ema'" in output and "are taken without 'net.'" in output


def test_the_command_ends_with_one_sentence(tmp_path):
    result = run([sys.executable, SCRIPT, str(tmp_path / "nowhere.pth"), str(tmp_path / "b.pth")])
    assert result.returncode == 2 and result.stderr.startswith("error: no checkpoint")
    assert len(result.stderr.splitlines()) == 1


# LIIF-PyTorch's files: what its train.py saves, of its model's parameters, made by hand.


def their_parameters(blocks=2, channels=8, hidden=(16, 12)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"encoder.conv1": (channels, 3, 3, 3)}
    for block in range(blocks):
        shapes |= {f"encoder.trunk.{block}.rcb.{layer}": (channels, channels, 3, 3) for layer in (0, 2)}
    shapes["encoder.conv2"] = (channels, channels, 3, 3)
    widths = [9 * channels + 4, *hidden, 3]
    for layer, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        shapes[f"mlp.layers.{2 * layer}"] = (after, before)
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.1
        found[f"{name}.bias"] = torch.randn(shape[:1], generator=generator) * 0.1
    return found


def their_file(path, state_dict, steps=2) -> torch.optim.Adam:
    parameters = [torch.nn.Parameter(value.clone()) for value in state_dict.values()]
    optimizer = torch.optim.Adam(parameters, 1e-4, (0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 400], 0.5)
    for _ in range(steps):
        sum(parameter.square().sum() for parameter in parameters).backward()
        optimizer.step()
        scheduler.step()
    content = {
        "epoch": 2,
        "best_psnr": 30.5,
        "best_ssim": 0.9,
        "state_dict": dict(state_dict),
        "ema_state_dict": {"n_averaged": torch.tensor(2)} | {f"module.{n}": value for n, value in state_dict.items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),  # with a collections.Counter
    }
    torch.save(content, path)
    return optimizer


def their_encoder(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """EDSR as LIIF-PyTorch names its parameters: residuals times 0.1."""

    def conv(name: str, value: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(value, parameters[f"{name}.weight"], parameters[f"{name}.bias"], padding=1)

    first = value = conv("encoder.conv1", x)
    for block in range(2):
        inner = conv(f"encoder.trunk.{block}.rcb.0", value).relu()
        value = value + 0.1 * conv(f"encoder.trunk.{block}.rcb.2", inner)
    return conv("encoder.conv2", value) + first


def test_liif_pytorchs_checkpoints_are_read_as_they_are(tmp_path):
    theirs = their_parameters()
    optimizer = their_file(tmp_path / "epoch_2.pth.tar", theirs)
    found = formats.load(tmp_path / "epoch_2.pth.tar")
    assert found.data_norm == {"inp": {"sub": [0.0], "div": [1.0]}, "gt": {"sub": [0.0], "div": [1.0]}}
    assert found.optimizer == {
        "name": "adam",
        "args": {"lr": 1e-4, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0},
    }
    assert (found.progress["epoch"], found.progress["step"]) == (3, 2)
    engine = Engine(found.model)
    native.restore(engine, found.state, "theirs")
    x = torch.rand(1, 3, 7, 11)
    with torch.no_grad():
        torch.testing.assert_close(engine.networks["model"].module.encoder(x), their_encoder(theirs, x))
    for layer in (0, 2, 4):
        np.testing.assert_array_equal(
            found.state["model"].parameters[f"imnet.layers.{layer}.weight"], theirs[f"mlp.layers.{layer}.weight"]
        )
    moments = optimizer.state[optimizer.param_groups[0]["params"][0]]
    np.testing.assert_array_equal(found.state["model"].optimizer["exp_avg.encoder.head.0.weight"], moments["exp_avg"])


def test_liif_pytorchs_checkpoints_are_converted(tmp_path, monkeypatch):
    their_file(tmp_path / "best.pth.tar", their_parameters())
    for name in ("a.safetensors", "b.pth"):
        convert(monkeypatch, tmp_path / "best.pth.tar", tmp_path / name)
    first, second = (formats.load(tmp_path / name) for name in ("a.safetensors", "b.pth"))
    assert first.model == second.model and first.data_norm == second.data_norm == liif_pytorch.DATA_NORM
    for name, array in first.state["model"].parameters.items():
        np.testing.assert_array_equal(array, second.state["model"].parameters[name])


def test_bare_weights_of_liif_pytorch_start_at_the_first_epoch(tmp_path):
    torch.save({"state_dict": their_parameters()}, tmp_path / "a.pth.tar")
    found = formats.load(tmp_path / "a.pth.tar")
    assert (found.optimizer, found.state["model"].optimizer, found.progress["epoch"]) == (None, {}, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_block1.0.weight": torch.zeros(1)}, "it has conv_block1.0.weight"),
        ({"module.encoder.conv1.weight": torch.zeros(1)}, "it has module.encoder.conv1.weight"),
        ({"encoder.conv2.weight": None}, "it has no encoder.conv2.weight"),
        ({"mlp.layers.0.weight": None}, "it has no mlp.layers.0.weight"),
        ({"encoder.conv1.weight": torch.zeros(8, 1, 3, 3)}, "it makes 3 channels of 1"),
        ({"mlp.layers.4.weight": torch.zeros(1, 12)}, "it makes 1 channels of 3"),
    ],
)
def test_another_state_dict_is_refused_in_one_sentence(tmp_path, change, message):
    state = their_parameters() | change
    torch.save(
        {"state_dict": {name: value for name, value in state.items() if value is not None}}, tmp_path / "a.pth.tar"
    )
    with pytest.raises(UserError, match=f"not of LIIF-PyTorch's model: {message}"):
        formats.load(tmp_path / "a.pth.tar")


def test_code_in_a_pth_tar_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "sentinel"), "w")

    torch.save({"state_dict": their_parameters(), "note": Evil()}, tmp_path / "a.pth.tar")
    with pytest.raises(UserError, match="is refused: it contains the name"):
        formats.load(tmp_path / "a.pth.tar")
    assert not (tmp_path / "sentinel").exists()


def test_a_damaged_optimizer_is_one_sentence(tmp_path):
    buffer = io.BytesIO()
    torch.save({"state_dict": their_parameters(), "optimizer": {"param_groups": []}}, buffer)
    (tmp_path / "a.pth.tar").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="is damaged"):
        formats.load(tmp_path / "a.pth.tar")
