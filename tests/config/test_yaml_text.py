"""YAML as configs use it: what is read, and what is one sentence with the line where it is."""

import pytest

from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load, yaml_text
from liif_core.engine import NetworkState
from liif_core.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1e-4, 1.e-4, 1E5, +.5e3, -2.0e2, 1e-08]", [1e-4, 1e-4, 1e5, 500.0, -200.0, 1e-8]),
        ("['1e-4', 1e, e5, 1e5x, 2024-01-01, =, 08]", ["1e-4", "1e", "e5", "1e5x", "2024-01-01", "=", "08"]),
        ("[1, -3, 0, 0.5, 0x10, true, no, null, ~]", [1, -3, 0, 0.5, 16, True, False, None, None]),
        ("{a: &a {x: 1, y: 2}, b: {<<: *a, y: 3}, c: {<<: [*a, {z: 4}]}}", {"x": 1, "y": 3}),
        ("b: 1\r\nc: &a [1]\r\nd: *a\r\n", 1),
    ],
)
def test_what_a_value_is(text, value):
    found = yaml_text.parse(text.encode(), "file")
    assert (found if isinstance(found, list) else found["b"]) == value
    for encoding in ("utf-16", "utf-8-sig"):  # as Windows' editors may save it
        assert yaml_text.parse(text.encode(encoding), "file") == found


def test_what_is_written_is_read_back():
    content = {"a": ["1e-4", "2024-01-01", "yes", "=", "5", 1e-8, 1e22, None, True], "ß": {"n": "~"}}
    assert yaml_text.parse(yaml_text.dump(content).encode(), "file") == content


DEEP, WIDE = "[" * 60 + "]" * 60, "[1,1,1,1,1,1,1,1,1,1]"
BOMB = "\n".join([f"a0: &a0 {WIDE}", *(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 10)}]" for n in range(9))])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is given twice, in lines 1 and 3"),
        ("a:\n  - b: {c: 1,\n       c: 2}", "line 3: the key 'c' is given twice, in lines 2 and 3"),
        ("x: 1\na: &a {b: [*a]}", r"line 2: the alias \*a is inside of what it stands for"),
        ("a: &a {<<: *a}", r"line 1: the alias \*a is inside of what it stands for"),
        (DEEP, "line 1: more than 50 blocks are within each other"),
        (DEEP * 500, "line 1: more than 50 blocks are within each other"),
        (BOMB, "line 5: more than 100,000 values, aliases followed"),
        ("scale_max: .inf", "line 1: expected a finite number, got .inf"),
        ("a: [-.INF]", "line 1: expected a finite number, got -.INF"),
        ("a: .NaN", "line 1: expected a finite number, got .NaN"),
        ("a: 1e999", "line 1: expected a finite number, got 1e999"),
        (f"a: {'9' * 5000}", "line 1: expected text, a number, .* got 9{40}$"),
        ("a: 9223372036854775808", r"line 1: expected a number below 2\^63, got 9223372036854775808"),
        ("a: -1e39", r"line 1: expected a number below 3.4e\+38, got -1e39"),
        ("a: 010", "line 1: expected a number without a 0 or a colon in front, got 010"),
        ("a: 1:30", "line 1: expected a number without a 0 or a colon in front, got 1:30"),
        ("1: 2", "line 1: expected text as a key, got 1"),
        ("? [a]\n: 2", "line 1: expected text as a key, got a list or a mapping"),
        ("a: 0x_", "line 1: expected text, a number, .* got 0x_"),
        ("a: !!int ten", "line 1: expected text, a number, .* got ten"),
        ("a: !!bool ten", "line 1: expected text, a number, .* got ten"),
        ("a: !!binary aGk=", "line 1: expected text, a number, .* got !!binary"),
        ("a: !!set {b}", "line 1: expected text, a number, .* got !!set"),
        ("a:\n\tb: 1", "line 2: not valid YAML: .*'.t' that cannot start any token"),
        ("a: 1\n---\nb: 2", "line 2: not valid YAML: expected a single document in the stream"),
        ("a: {<<: 3}", "line 1: not valid YAML: .* expected a mapping or list of mappings for merging"),
        ("a: \x00", r"not valid YAML: the character U\+00 at position 3"),
        (b"a: \xe9", "not valid YAML: a byte that is no UTF-8, 0xE9 at position 3"),
    ],
)
def test_what_no_config_can_mean_is_one_sentence(text, sentence):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(UserError, match=f"^file(, |: ){sentence}") as caught:
        yaml_text.parse(data, "file")
    assert "\n" not in str(caught.value)


def test_a_key_given_twice_in_a_base_names_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text("epoch_max: 1\nmodel: {name: liif, args: {a: 1, a: 2}}\n")
    (tmp_path / "config.yaml").write_text(f"base: {tmp_path / 'base.yaml'}\nepoch_max: 2\n")
    with pytest.raises(UserError, match="base.yaml, line 2: the key 'a' is given twice, in lines 2 and 2"):
        load.load(tmp_path / "config.yaml", "train")


CONFIG = "train-div2k/train_edsr-baseline-liif.yaml"


@pytest.mark.parametrize("text", ["1e-4", "1.e-4", "0.0001", "'1e-4'"])
def test_a_learning_rate_is_a_number_as_soon_as_the_config_is_read(text):
    config = load.load(CONFIG, "train", [f"optimizer.args.lr={text}"])
    assert repr(config.optimizer.args) == "{'lr': 0.0001}"
    assert yaml_text.parse(load.dump(config).encode(), "file")["optimizer"]["args"] == {"lr": 1e-4}


def test_infinity_on_the_command_line_is_one_sentence():
    with pytest.raises(UserError, match="^--set 'epoch_max=.inf': expected a finite number, got .inf$"):
        load.load(CONFIG, "train", ["epoch_max=.inf"])


def test_a_former_run_s_text_is_a_number_when_its_checkpoint_is_read(tmp_path):
    """As train.py wrote `lr: 1e-4` before."""
    model = {"name": "liif", "args": {"encoder_spec": {"name": "edsr-baseline", "args": {"res_scale": "1e-1"}}}}
    optimizer = {"name": "adam", "args": {"lr": "1e-4", "betas": ["0.9", "0.999"]}}
    native.save(tmp_path / "old.safetensors", Checkpoint(model, {"model": NetworkState({})}, None, optimizer))
    found = formats.load(tmp_path / "old.safetensors")
    assert found.optimizer == {"name": "adam", "args": {"lr": 1e-4, "betas": [0.9, 0.999]}}
    assert found.model["args"]["encoder_spec"] == {"name": "edsr-baseline", "args": {"res_scale": 0.1}}
