"""What a config may say, read from the code: `liif models`, and the tables of docs/configs.md, which
report/test_report.py compares with the file."""

import os
import sys
from typing import Annotated, Any, Literal

import pydantic
import pytest

from helpers.small_run import FRAMEWORKS, outcome
from liif_core.commands import main
from liif_core.config import describe, schema
from liif_core.config.registry import Registry
from liif_core.evaluation.metrics import METRICS
from liif_core.report import config_reference
from liif_core.system.places import PRETRAINED


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "int or null"),
        (pydantic.PositiveInt, "int > 0"),
        (Annotated[float, pydantic.Field(ge=0, lt=1)] | None, "float >= 0 and < 1 or null"),
        (tuple[float, float], "[float, float]"),
        (list[pydantic.PositiveFloat], "list of float > 0"),
        (Literal["A", "B"], "A or B"),
        (Literal[True], "true"),
        (dict[str, Any], "{name, args}"),
        (schema.MultiStepLR, "{milestones, gamma}"),
    ],
)
def test_types_are_said_in_words_of_yaml(annotation, words):
    assert describe.in_words(annotation) == words


def test_entries_show_what_a_config_gives_and_not_what_the_code_passes():
    registry = Registry("wrapper")

    @registry.register("one")
    def make(dataset: Any, size: pydantic.PositiveInt, flip: bool = False, mode: str | None = None, seed: int = 0):
        """Does this.

        And that.
        """

    (entry,) = describe.entries(registry)
    assert list(map(str, entry.arguments)) == ["size: int > 0", "flip: bool = false", "mode: str = null"]
    assert (entry.name, entry.kind, entry.text) == ("one", "wrapper", "Does this. And that.")


def test_keys_carry_the_docstrings_below_them():
    found = {key.name: key for key in describe.keys(schema.TrainConfig)}
    assert str(found["ema"]) == "ema: float > 0 and < 1 = null" and "0.999" in found["ema"].text
    assert found["epoch_max"].default is None
    assert [name for name, key in found.items() if not key.text] == []


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type `liif ...` in this process, whose environment is left as it was."""
    before = dict(os.environ)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["liif", *arguments])
        return outcome(main.main, capsys)

    yield call
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.jittor
def test_models_lists_everything_that_a_config_may_name_the_same_in_both_frameworks(typed):
    found = {framework: typed("models", "--framework", framework) for framework in FRAMEWORKS}
    for status, out, err in found.values():
        assert (status, out) == (0, found["torch"][1]), err
    for line in (
        "weights:",
        f"  clean                       {PRETRAINED.name}",
        "models:",
        "  edsr-baseline (encoder)     n_resblocks: int = 16, n_feats: int = 64, res_scale: float = 1,",
        "  metasr (decoder)            encoder_spec: {name, args}",
        "wrappers:",
        "optimizers:",
    ):
        assert line in found["torch"][1].splitlines()
    assert max(map(len, found["torch"][1].splitlines())) <= 100


def test_everything_that_a_config_may_name_has_a_description():
    entries = [one for found in config_reference.registries("torch").values() for one in describe.entries(found)]
    assert len(entries) > 14 and [entry.name for entry in entries if not entry.text] == []
    passed = [name for names in describe.PASSED.values() for name in names]
    assert [entry.name for entry in entries if any(f"{name}:" in entry.text for name in passed)] == []


def test_models_counts_the_parameters_of_a_named_encoder(typed, framework):
    status, out, err = typed("models", "edsr-baseline", "adam", "--framework", framework)
    assert status == 0, err
    assert "edsr-baseline (encoder, 1,369,859 parameters with these defaults)\n    EDSR-baseline: 16 blocks" in out
    assert "adam (optimizer)\n    Adam (Kingma" in out and "    lr: float >= 0\n" in out
    assert "metasr" not in out


def test_models_refuses_a_name_that_nothing_has(typed):
    status, out, err = typed("models", "edrs")
    assert (status, out) == (2, "")
    assert err.startswith("error: nothing is registered as 'edrs': did you mean 'edsr'?")


def test_models_describes_weights_by_name(typed):
    status, out, err = typed("models", "clean")
    assert status == 0, err
    assert out.splitlines()[1].strip().startswith("trained on BSDS400") and "  for clean images" in out


def test_metrics_lists_what_can_be_measured(typed):
    status, out, err = typed("metrics")
    assert status == 0, err
    lines = [line.split(maxsplit=3) for line in out.splitlines()]
    assert lines[0][:3] == ["name", "better", "per"] and len(lines) == len(METRICS) + 1
    assert lines[1][:3] == ["psnr", "higher", "image"] and lines[1][3].startswith("0 to inf dB")
