"""Where `start_from` looks for the weights that a run begins with."""

import numpy as np
import pytest

from helpers.small_run import train_config, write_yaml
from liif_core.checkpoints import native
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.training import start


@pytest.fixture
def trained(tmp_path):
    """Call it with the name of a run folder and the epoch that it is in; of three."""

    def make(name: str, epoch: int, best: bool = True):
        run = tmp_path / name
        run.mkdir()
        content = native.Checkpoint(
            {"name": "x"}, {"model": NetworkState({"w": np.zeros(3, np.float32)})}, progress={"epoch": epoch}
        )
        write_yaml(run / "config.yaml", train_config(tmp_path, epoch_max=3))
        for path in [run / start.LAST, *([run / start.BEST] if best else [])]:
            native.save(path, content)
        return run

    return make


@pytest.mark.parametrize(
    ("named", "own", "there"),
    [
        ("srresnet-x4", "srgan-x4_torch", "srresnet-x4_torch"),  # as batch_0.sh calls them
        ("srresnet-x4", "train_srgan-x4_jittor", "train_srresnet-x4_jittor"),  # as train.py does
        ("srresnet-x4", "train_srgan-x4_torch_try", "train_srresnet-x4_torch"),  # and with a tag
        ("srresnet-x4", "mine", "srresnet-x4_jittor"),  # weights are those of either
        ("first", "second", "first"),
    ],
)
def test_a_run_is_found_by_its_experiment(trained, tmp_path, named, own, there):
    run = trained(there, 4)
    assert start.find(tmp_path / own, named) == run / start.BEST


def test_the_last_checkpoint_is_taken_where_there_is_no_best_and_never_the_other_frameworks(trained, tmp_path):
    run = trained("a_torch", 4, best=False)
    assert start.find(tmp_path / "b_torch", "a") == run / start.LAST
    with pytest.raises(UserError, match="start_from 'a': no checkpoint in .*a, a_jittor or train_a_jittor: train it"):
        start.find(tmp_path / "b_jittor", "a")


def test_a_run_that_has_not_ended_is_refused_unless_its_file_is_named(trained, tmp_path):
    run = trained("a_torch", 3)
    with pytest.raises(UserError, match="start_from 'a': .*a_torch is in epoch 3 of 3: let it end first, or name a"):
        start.find(tmp_path / "b_torch", "a")
    assert start.find(tmp_path / "b_torch", str(run / start.BEST)) == run / start.BEST
