"""Configs and specs: LIIF's files run, and whatever is misspelt is one sentence that names what is known."""

from typing import Literal

import pytest
import yaml

from helpers import ROOT
from liif_core.config import load, protocol
from liif_core.config.registry import Registry, nearest_known
from liif_core.config.schema import Norm
from liif_core.errors import UserError

# All keys that LIIF's train_liif.py and test.py read, in its own spelling.
LIIF_TRAIN = """
train_dataset:
  dataset:
    name: image-folder
    args:
      root_path: ./load/div2k/DIV2K_train_HR
      repeat: 20
      cache: in_memory
  wrapper:
    name: sr-implicit-downsampled
    args: {inp_size: 48, scale_max: 4, augment: true, sample_q: 2304}
  batch_size: 16
val_dataset:
  dataset:
    name: image-folder
    args: {root_path: ./load/div2k/DIV2K_valid_HR, first_k: 10, repeat: 160, cache: in_memory}
  wrapper:
    name: sr-implicit-downsampled
    args: {inp_size: 48, scale_max: 4, sample_q: 2304}
  batch_size: 16
data_norm:
  inp: {sub: [0.5], div: [0.5]}
  gt: {sub: [0.5], div: [0.5]}
eval_type: div2k-4
eval_bsize: 30000
model:
  name: liif
  args:
    encoder_spec:
      name: edsr-baseline
      args: {no_upsampling: true}
    imnet_spec:
      name: mlp
      args: {out_dim: 3, hidden_list: [256, 256, 256, 256]}
optimizer:
  name: adam
  args: {lr: 1.e-4}
epoch_max: 1000
multi_step_lr:
  milestones: [200, 400, 600, 800]
  gamma: 0.5
epoch_val: 1
epoch_save: 100
resume: ./save/_train/epoch-last.pth
"""
LIIF_TEST = """
test_dataset:
  dataset:
    name: paired-image-folders
    args:
      root_path_1: ./load/benchmark/Set5/LR_bicubic/X2
      root_path_2: ./load/benchmark/Set5/HR
  wrapper: {name: sr-implicit-paired, args: {}}
  batch_size: 1
eval_type: benchmark-2
eval_bsize: 30000
data_norm:
  inp: {sub: [0.5], div: [0.5]}
  gt: {sub: [0.5], div: [0.5]}
"""


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        path = tmp_path / "config.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write_text


def changed(place: str, value) -> dict:
    """The training config with the key at "a.b.c" set."""
    content = yaml.safe_load(LIIF_TRAIN)
    *path, last = place.split(".")
    block = content
    for part in path:
        block = block[part]
    block[last] = value
    return content


@pytest.mark.parametrize("text", ["epoch_max=true", "seed=yes", "ema=true", "val_images=false"])
def test_yes_is_no_number(text):
    with pytest.raises(UserError, match=f"'{text.split('=')[0]}' is (True|False): expected a number"):
        load.load("train-bsds400/train_edsr-baseline-liif.yaml", "train", [text])


def test_liifs_files_are_accepted(write):
    train = load.load(write(LIIF_TRAIN), "train")
    assert train.epoch_max == 1000 and train.model.args["imnet_spec"]["args"]["out_dim"] == 3
    assert train.multi_step_lr.gamma == 0.5 and train.resume == "./save/_train/epoch-last.pth"
    assert load.load(write(LIIF_TEST), "test").eval_type == "benchmark-2"


@pytest.mark.parametrize("key", ["val_dataset", "multi_step_lr", "epoch_save", "epoch_val", "eval_type", "resume"])
def test_liif_writes_null_for_no(write, key):
    assert getattr(load.load(write(changed(key, None)), "train"), key) is None


def test_a_learning_rate_that_yaml_reads_as_text_is_accepted(write):
    text = LIIF_TRAIN.replace("lr: 1.e-4", "lr: 1e-4")
    assert yaml.safe_load(text)["optimizer"]["args"]["lr"] == "1e-4"  # YAML 1.1 wants a dot in a float
    assert float(load.load(write(text), "train").optimizer.args["lr"]) == 1e-4


@pytest.mark.parametrize(
    ("place", "near", "also"),
    [
        ("epoch_maxx", "epoch_max", "optimizer"),
        ("train_dataset.batchsize", "batch_size", "wrapper"),
        ("train_dataset.dataset.arg", "args", "name"),
        ("data_norm.inpp", "inp", "gt"),
        ("data_norm.inp.subb", "sub", "div"),
        ("multi_step_lr.gama", "gamma", "milestones"),
        ("model.nam", "name", "args"),
        ("optimizer.argss", "args", "name"),
        ("val_dataset.wraper", "wrapper", "dataset"),
    ],
)
def test_an_unknown_key_at_any_depth_names_the_nearest(write, place, near, also):
    path = write(changed(place, 3))
    with pytest.raises(UserError) as caught:
        load.load(path, "train")
    message = str(caught.value)
    assert message.startswith(f"{path}: unknown key '{place}': did you mean '{near}'? known: ")
    assert also in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("epoch_max", "many"),
        ("epoch_max", 0),
        ("train_dataset.batch_size", -1),
        ("train_dataset.batch_size", 1.5),
        ("data_norm.inp.sub", "half"),
        ("data_norm.inp.sub", [0.1, 0.2]),
        ("data_norm.gt.div", [0]),
        ("eval_type", "set5-4"),
        ("eval_type", "div2k-0"),
        ("eval_type", "benchmark-0.5"),
        ("eval_type", "benchmark-2,5"),
        ("eval_type", "benchmark-2."),
        ("eval_type", "benchmark-inf"),
        ("eval_type", ""),
        ("eval_type", 2.5),
        ("seed", -1),
        ("model.args", [1]),
        ("multi_step_lr.milestones", 200),
        ("model", "liif"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(write, place, value):
    with pytest.raises(UserError, match=f"config.yaml: '{place}") as caught:
        load.load(write(changed(place, value)), "train")
    assert "\n" not in str(caught.value)


def test_a_wrong_protocol_is_told_what_is_accepted(write):
    with pytest.raises(UserError, match="'eval_type' is 'benchmark4': accepted is div2k-S or benchmark-S.*2.5"):
        load.load(write(changed("eval_type", "benchmark4")), "train")


@pytest.mark.parametrize(
    ("given", "read", "scale"),
    [
        ("benchmark-2.5", "benchmark-2.5", 2.5),
        ("div2k-3.50", "div2k-3.5", 3.5),
        ("benchmark-4.0", "benchmark-4", 4),
        ("benchmark-1", "benchmark-1", 1),
    ],
)
def test_a_protocol_has_any_scale_in_one_spelling(write, given, read, scale):
    eval_type = load.load(write(changed("eval_type", given)), "train").eval_type
    assert eval_type == read and repr(protocol.scale_of(eval_type)) == repr(scale)  # a whole one is an int


@pytest.mark.parametrize("key", ["train_dataset", "model", "optimizer", "epoch_max"])
def test_a_missing_key_is_named(write, key):
    content = yaml.safe_load(LIIF_TRAIN)
    del content[key]
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        load.load(write(content), "train")


def test_a_missing_key_inside_is_named_with_its_place(write):
    content = yaml.safe_load(LIIF_TRAIN)
    del content["train_dataset"]["wrapper"]
    with pytest.raises(UserError, match="key 'train_dataset.wrapper' is missing"):
        load.load(write(content), "train")


def test_a_config_for_the_other_command_is_recognised(write):
    with pytest.raises(UserError, match="'test_dataset': it is not a config for train.py"):
        load.load(write(LIIF_TEST), "train")
    with pytest.raises(UserError, match="'train_dataset': it is not a config for test.py"):
        load.load(write(LIIF_TRAIN), "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: 1\n\tb: 2", "line 2: not valid YAML"),
        ("", "this holds nothing"),
        ("# nothing but a comment\n", "this holds nothing"),
        ("- a\n- b\n", "this holds a list"),
        ("hello", "this holds 'hello'"),
    ],
)
def test_configs_that_are_no_mapping_are_refused(write, text, message):
    with pytest.raises(UserError, match=message):
        load.load(write(text), "train")


def test_yaml_cannot_run_code(write, tmp_path):
    sentinel = tmp_path / "sentinel"
    with pytest.raises(UserError, match="line 1: expected text, a number, .*, got !!python/object"):
        load.load(write(f"a: !!python/object/apply:os.mkdir [{sentinel}]"), "train")
    assert not sentinel.exists()


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"a: \x80")
    with pytest.raises(UserError, match="not valid YAML: a byte that is no UTF-8, 0x80 at position 3"):
        load.load(tmp_path / "config.yaml", "train")


def test_a_missing_config_says_where_it_was_looked_for():
    with pytest.raises(UserError) as caught:
        load.load("train-div2k/no-such.yaml", "train")
    assert str(ROOT / "configs" / "train-div2k") in str(caught.value)


def test_configs_are_found_here_in_the_repository_and_in_configs(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    name = "train-div2k/train_edsr-baseline-liif.yaml"
    assert load.find(name) == load.find(f"configs/{name}") == ROOT / "configs" / name
    (tmp_path / "train-div2k").mkdir()
    (tmp_path / name).write_text(LIIF_TRAIN)
    assert load.find(name).resolve() == (tmp_path / name).resolve()  # the one here comes first


def test_data_is_found_here_and_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load.locate_data("configs/test") == ROOT / "configs" / "test"
    (tmp_path / "configs" / "test").mkdir(parents=True)
    assert load.locate_data("configs/test").resolve() == (tmp_path / "configs" / "test").resolve()


def test_a_dumped_config_loads_as_the_same(write):
    first = load.load(write(LIIF_TRAIN), "train")
    assert load.load(write(load.dump(first)), "train") == first


# Registry

THINGS = Registry("thing")


@THINGS.register("wheel")
class Wheel:
    def __init__(
        self, spokes: int, radius: float = 1, kind: Literal["front", "back"] = "front", owner: str | None = None
    ):
        self.spokes, self.radius, self.kind, self.owner = spokes, radius, kind, owner


@THINGS.register("wing")
def make_wing(span: float) -> str:
    return f"wing of {span}"


def test_a_spec_is_built():
    wheel = THINGS.make({"name": "wheel", "args": {"spokes": "32", "radius": "1e-1"}}, owner="me")
    assert (wheel.spokes, wheel.radius, wheel.kind, wheel.owner) == (32, 0.1, "front", "me")
    assert THINGS.make({"name": "wing", "args": {"span": 3}}) == "wing of 3.0"


def test_a_name_can_be_taken_once():
    with pytest.raises(ValueError, match="thing 'wing' is registered twice"):
        THINGS.register("wing")(make_wing)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "whel"}, "unknown thing 'whel': did you mean 'wheel'. known: wheel, wing"),
        ({"name": "wheel", "args": {"spokse": 3}}, "thing 'wheel': .*'spokse'.* did you mean 'spokes'"),
        ({"name": "wheel", "args": {}}, "thing 'wheel': key 'spokes' is missing"),
        ({"name": "wheel"}, "thing 'wheel': key 'spokes' is missing"),
        ({"name": "wheel", "args": {"spokes": "many"}}, "thing 'wheel': 'spokes' is 'many'"),
        ({"name": "wheel", "args": {"spokes": 1.5}}, "thing 'wheel': 'spokes' is 1.5"),
        ({"name": "wheel", "args": {"spokes": 3, "kind": "left"}}, "'kind' is 'left'.*'front' or 'back'"),
        ({"name": "wheel", "args": {1: 2}}, "thing 'wheel': key 'spokes' is missing"),
        ({"nam": "wheel"}, "a thing is given as .name: a name, args"),
        ({"name": "wheel", "arguments": {}}, "a thing is given as .name: a name, args"),
        ({"name": "wheel", "args": [3]}, "a thing is given as .name: a name, args"),
        ({"name": ["wheel"]}, "a thing is given as .name: a name, args"),
        ({}, "a thing is given as .name: a name, args"),
    ],
)
def test_a_wrong_spec_is_one_sentence(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        THINGS.make(spec)
    assert "\n" not in str(caught.value)


def test_arguments_that_the_program_gives_are_not_the_users_to_set():
    # "owner" comes from the code; in a config it is as unknown as any other key, and not silently overruled.
    with pytest.raises(UserError, match="unknown key 'owner'"):
        THINGS.make({"name": "wheel", "args": {"spokes": 3, "owner": "you"}}, owner="me")


def test_names_without_a_likeness_get_the_list():
    assert nearest_known("xyz", ["b", "a"]) == "known: a, b"


def test_a_former_key_is_read_as_the_one_of_today(write):
    old = load.load(write(LIIF_TRAIN + "\nval_pictures: 5\n"), "train")
    assert old.val_images == 5 and "val_images: 5" in load.dump(old)
    assert load.load(write(load.dump(old)), "train", ["val_pictures=3"]).val_images == 3
    with pytest.raises(UserError, match="'val_pictures' is the former name of 'val_images'"):
        load.load(write(LIIF_TRAIN + "\nval_pictures: 5\nval_images: 5\n"), "train")


def test_a_misspelt_key_within_a_block_is_compared_with_those_of_the_block():
    registry = Registry("method")

    @registry.register("m")
    def make(norm: Norm | None = None):
        return norm

    with pytest.raises(UserError, match=r"unknown key 'norm.dif': did you mean 'div'\? known: div, sub"):
        registry.make({"name": "m", "args": {"norm": {"sub": [0], "dif": [1]}}})
