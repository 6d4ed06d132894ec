"""The loop itself, with an engine that only counts: what is kept, in which order, and from where a run goes on."""

import itertools
import json
import math
import signal

import numpy as np
import pytest
import safetensors.numpy
import yaml

from helpers import numpy_engine
from helpers.small_run import EPOCHS, STEPS, records, train_config
from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config.schema import TrainConfig
from liif_core.data.batching import Batches
from liif_core.data.workers import Lost
from liif_core.engine import NetworkState
from liif_core.errors import Stopped, UserError
from liif_core.evaluation import evaluate
from liif_core.images.normalisation import Normalisation
from liif_core.system import signals
from liif_core.system.distributed import Ranks
from liif_core.training import loop, run_folder


class CountingEngine(numpy_engine.Engine):
    """One parameter, the number of steps; predictions are as many levels, or what `predicts` says."""

    def __init__(self, predicts=None):
        self.predicts = predicts
        super().__init__({})

    def seed(self, seed):
        self.steps = 0.0

    def train_step(self, batch, weight):
        self.steps += 1
        self.losses.append({"loss": 1 / self.steps})

    def predict_queries(self, inp, coord, cell):
        value = self.steps / 255 if self.predicts is None else self.predicts
        return np.full((*coord.shape[:2], 3), value, dtype=np.float32)

    def state(self):
        return {"model": NetworkState({"steps": np.array([self.steps], dtype=np.float32)})}

    def load_state(self, state):
        self.steps = float(state["model"].parameters["steps"][0])


@pytest.fixture(autouse=True)
def own_signals():
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    }
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(image_folders, tmp_path):
    """Train with an engine and changes to the config; returns the run folder."""

    def call(engine=None, name="run", go_on=False, **changes):
        config = TrainConfig.model_validate(train_config(image_folders, **changes))
        run_folder.check(tmp_path / name, config, go_on)
        data_sets = loop.make_data_sets(config)
        loop.train(engine or CountingEngine(), list, config, data_sets, tmp_path / name, "counting")
        return tmp_path / name

    return call


def test_nan_is_never_the_best(run):
    folder = run(CountingEngine(predicts=math.nan))
    assert not (folder / "epoch-best.safetensors").exists()
    assert formats.load(folder / "epoch-last.safetensors").progress["best_psnr"] is None
    assert "warning: the validation after epoch 1 is NaN" in (folder / "log.txt").read_text()


def test_a_kill_between_two_checkpoints_loses_neither(run, monkeypatch):
    undisturbed = run(name="undisturbed")
    save, written = native.save, []

    def dies_at_the_second(path, content, previous):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path.name)
        save(path, content, previous)

    monkeypatch.setattr(native, "save", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(step_save=None)
    monkeypatch.setattr(native, "save", save)
    folder = run(go_on=True, step_save=None)
    names, expected = (
        {path.name for path in run.glob("*.safetensors")} - {run_folder.PREVIOUS} for run in (folder, undisturbed)
    )
    assert names == expected and "epoch-best.safetensors" in names
    assert records(folder) == records(undisturbed)
    for name in names:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_resume_does_not_begin_again_over_what_is_there(run):
    folder = run()
    for path in folder.glob("*.safetensors"):
        path.rename(path.with_suffix(".pth"))  # as a run folder of the original LIIF looks
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(UserError, match="no .safetensors to go on from"):
        run(go_on=True)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_in_which_nothing_was_kept_can_begin_again(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("model: {name: misspelt}")
    assert (run(go_on=True) / "epoch-last.safetensors").exists()


def test_leftovers_of_a_killed_save_are_swept(run):
    folder = run()
    (folder / ".writing-abc.safetensors").write_bytes(b"half")
    run(go_on=True, epoch_max=EPOCHS + 1)
    assert not list(folder.glob(".writing-*"))


def test_bare_weights_begin_a_run_whose_config_says_what_they_are(run, tmp_path):
    safetensors.numpy.save_file({"module.steps": np.array([40], dtype=np.float32)}, tmp_path / "bare.safetensors")
    folder = run(resume=str(tmp_path / "bare.safetensors"))
    found = formats.load(folder / "epoch-last.safetensors")
    assert found.state["model"].parameters["steps"] == 40 + EPOCHS * STEPS


def test_another_runs_checkpoint_gives_weights_and_epoch_but_not_its_best(run, tmp_path):
    source = tmp_path / "source.safetensors"
    progress = {"epoch": 3, "batch": 2, "step": 40, "loss_sum": 9.0, "best_psnr": 99.0}
    model = train_config(tmp_path)["model"]
    native.save(
        source,
        Checkpoint(model, {"model": NetworkState({"steps": np.array([40], dtype=np.float32)})}, progress=progress),
    )
    folder = run(resume=str(source))
    found = formats.load(folder / "epoch-last.safetensors")
    assert found.state["model"].parameters["steps"] == 40 + STEPS  # the whole third epoch
    assert (folder / "epoch-best.safetensors").exists() and found.progress["best_psnr"] < 99
    with pytest.raises(UserError, match="2 epochs behind it; epoch_max 2 leaves none"):
        run(name="another", resume=str(source), epoch_max=2)


def test_another_switch_of_the_model_is_not_taken_for_the_same(run, tmp_path):
    source = tmp_path / "source.safetensors"
    model = train_config(tmp_path)["model"]
    model["args"]["local_ensemble"] = False
    native.save(source, Checkpoint(model, {"model": NetworkState({"steps": np.zeros(1, dtype=np.float32)})}))
    with pytest.raises(UserError, match="holds another model than the config.*'local_ensemble': False"):
        run(resume=str(source))


def test_damaged_log_lines_are_dropped(run):
    folder = run()
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines[:3]) + b"\0\0\0\n" + lines[3])
    run(go_on=True, epoch_max=EPOCHS + 1)
    assert [record["step"] for record in records(folder)[:5]] == [1, 2, 3, 4, EPOCHS * STEPS + 1]


def test_the_config_in_the_folder_is_that_of_the_last_training(run):
    def written(folder):
        return yaml.safe_load((folder / "config.yaml").read_text())["epoch_max"]

    assert written(run()) == EPOCHS
    assert written(run(go_on=True, epoch_max=EPOCHS + 1)) == EPOCHS + 1
    assert written(run(go_on=True, epoch_max=1)) == EPOCHS + 1  # nothing was left to train


class TimedEngine(CountingEngine):
    """A step takes a second of a clock of its own; after `lasts` steps comes a broken image."""

    clock = 0.0

    def __init__(self, lasts=math.inf):
        super().__init__()
        self.lasts = lasts

    def train_step(self, batch, weight):
        if self.lasts == 0:
            raise UserError("a broken image")
        self.lasts -= 1
        TimedEngine.clock += 1
        super().train_step(batch, weight)


@pytest.mark.parametrize("known", [True, False])
def test_an_epochs_time_is_all_of_its_own(run, tmp_path, monkeypatch, known):
    """Resumed twice in its midst; a checkpoint from before it kept the time is gone on from too."""
    monkeypatch.setattr(loop.time, "monotonic", lambda: TimedEngine.clock)
    for steps in (STEPS + 2, 3):
        with pytest.raises(UserError, match="a broken image"):
            run(TimedEngine(steps), go_on=True)
        TimedEngine.clock += 1000
    path = tmp_path / "run" / "epoch-last.safetensors"
    if not known:
        found = formats.load(path)
        found.progress.pop("seconds")
        native.save(path, found)
    folder = run(TimedEngine(), go_on=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in lines if "seconds" in record]
    assert seconds == [STEPS, STEPS if known else 1, STEPS]


def test_training_goes_on_when_tensorboard_dies(run, monkeypatch, capsys):
    from tensorboardX.event_file_writer import EventsWriter

    write, written = EventsWriter.write_event, []

    def full(self, event):
        written.append(event)
        if len(written) > 4:
            raise OSError(28, "No space left on device")
        write(self, event)

    monkeypatch.setattr(EventsWriter, "write_event", full)
    folder = run(step_log=1)
    assert len(records(folder)) == EPOCHS * (STEPS + 1) and len(written) == 5
    assert capsys.readouterr().out.count("no more for tensorboard") == 1


class NanEngine(CountingEngine):
    """From step 9 on the loss is NaN, or after step 8 the weights are."""

    def __init__(self, weights=False):
        super().__init__()
        self.weights = weights

    def train_step(self, batch, weight):
        super().train_step(batch, weight)
        if self.steps >= 9:
            self.losses[-1] = {"loss": math.nan}

    def state(self):
        state = super().state()
        if self.weights and self.steps >= 8:
            state["model"].parameters["steps"][:] = math.inf
        return state


def assert_batches_kept(folder, config, *steps):
    """Those of the second epoch."""
    assert {path.name for path in folder.glob("*.npz")} == {f"bad-step-{step}.npz" for step in steps}
    batches = Batches(loop.make_data_sets(config)[0], 2, config.seed, epoch=2)
    for step in steps:
        expected = batches[step - STEPS - 1]
        with np.load(folder / f"bad-step-{step}.npz") as found:
            assert set(found) == set(expected)
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array)


def test_a_loss_that_is_nan_stops_with_its_batch_before_anything_is_saved(run, image_folders, tmp_path):
    with pytest.raises(UserError, match="the loss of step 9 is nan: the batches .*bad-step-8.npz and bad-step-9.npz"):
        run(NanEngine(), step_log=5)
    folder = tmp_path / "run"
    assert formats.load(folder / "epoch-last.safetensors").progress["step"] == 8
    assert [record["step"] for record in records(folder) if "loss" in record] == list(range(1, 9))
    assert_batches_kept(folder, TrainConfig.model_validate(train_config(image_folders)), 8, 9)
    # Gone on with, it comes to the same end.
    with pytest.raises(UserError, match="the loss of step 9 is nan"):
        run(NanEngine(), go_on=True, step_log=5)


def test_weights_that_are_nan_are_not_saved(run, image_folders, tmp_path):
    with pytest.raises(UserError, match="after step 8 the weights are NaN or infinite.*bad-step-8.npz"):
        run(NanEngine(weights=True))
    folder = tmp_path / "run"
    assert formats.load(folder / "epoch-last.safetensors").progress["step"] == STEPS
    assert_batches_kept(folder, TrainConfig.model_validate(train_config(image_folders)), 8)


def test_errors_in_validation_do_not_cost_the_epoch(run, monkeypatch, tmp_path):
    undisturbed = run(name="undisturbed", step_save=None)

    def broken(*arguments):
        raise UserError("a broken image")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "validate", broken)
        with pytest.raises(UserError, match="a broken image"):
            run(step_save=None)
    assert formats.load(tmp_path / "run" / "epoch-last.safetensors").progress["batch"] == STEPS
    folder = run(go_on=True, step_save=None)
    assert records(folder) == records(undisturbed)
    last = [(place / "epoch-last.safetensors").read_bytes() for place in (folder, undisturbed)]
    assert last[0] == last[1]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_lost_worker_costs_no_step(run, monkeypatch, tmp_path, stopped):
    undisturbed = run(name="undisturbed", step_save=None)

    def lose(batches):
        yield from itertools.islice(batches, 3)
        if stopped:
            signal.raise_signal(signal.SIGTERM)
        raise Lost("a process that loads data was ended by SIGKILL")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "checked", lose)
        saved = f"stopped at step 3, saved in {tmp_path / 'run'}; go on with --resume"
        with pytest.raises(Stopped if stopped else UserError, match=saved) as caught:
            run(step_save=None)
    assert stopped or "was ended by SIGKILL; stopped at" in str(caught.value)
    folder = run(go_on=True, step_save=None)
    last = [(place / "epoch-last.safetensors").read_bytes() for place in (folder, undisturbed)]
    assert last[0] == last[1]


def test_a_second_sigterm_does_not_wait_unless_it_is_the_first_once_more(monkeypatch):
    clock = iter([100.0, 101.5, 103.5])
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(clock))
    stop = signals.StopRequest()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_stop_in_validation_is_noticed_before_another_step(run, monkeypatch, tmp_path):
    validate = evaluate.validate

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return validate(*arguments)

    monkeypatch.setattr(evaluate, "validate", interrupted)
    with pytest.raises(Stopped, match=f"stopped at step {STEPS}, saved"):
        run()
    assert formats.load(tmp_path / "run" / "epoch-last.safetensors").progress["epoch"] == 2


def test_a_run_that_another_process_made_meanwhile_is_not_gone_on_with(run, image_folders, tmp_path):
    folder = run()
    before = (folder / "epoch-last.safetensors").read_bytes()
    config = TrainConfig.model_validate(train_config(image_folders, seed=99))
    data_sets = loop.make_data_sets(config)
    with pytest.raises(UserError, match="exists: continue it with --resume"):
        loop.train(CountingEngine(), list, config, data_sets, folder, "counting", resume=False)
    assert (folder / "epoch-last.safetensors").read_bytes() == before


def test_processes_that_begin_with_other_weights_are_refused(image_folders, tmp_path):
    class Other(CountingEngine):
        """A second process is at step 7."""

        def total(self, values):
            return values + 7 if len(values) == 4 else values

    config = TrainConfig.model_validate(train_config(image_folders))
    with pytest.raises(UserError, match="the 2 processes do not begin with the same weights"):
        loop.train(Other(), list, config, loop.make_data_sets(config), tmp_path / "run", "n", Ranks(0, 2))


def test_the_rate_of_every_step_follows_the_cosine_also_when_resumed(run, tmp_path):
    decays = []

    def rates(name, *lives):
        found = []

        class Watched(TimedEngine):
            def begin_step(self, random_seed, learning_rate, decay=None):
                found.append(learning_rate(1e-3))
                decays.append(decay)

        for steps in lives:
            engine = Watched(steps)
            try:
                run(engine, name=name, go_on=True, multi_step_lr=None, cosine_lr={"lr_min": 1e-4}, ema=0.5)
            except UserError:
                found.pop(), decays.pop()  # of the step that broke
        return found

    whole = rates("whole", math.inf)
    total = EPOCHS * STEPS
    assert whole == pytest.approx(
        [1e-4 + (1e-3 - 1e-4) * (1 + math.cos(math.pi * step / total)) / 2 for step in range(total)], rel=1e-12
    )
    assert decays == [min(0.5, (1 + step) / (10 + step)) for step in range(total)] and decays[-1] == 0.5
    decays.clear()
    assert rates("resumed", 4, 5, math.inf) == whole
    assert decays == [min(0.5, (1 + step) / (10 + step)) for step in range(total)]


def test_with_a_cosine_the_end_cannot_be_moved(run):
    run(multi_step_lr=None, cosine_lr={})
    with pytest.raises(UserError, match="differ in epoch_max"):
        run(go_on=True, multi_step_lr=None, cosine_lr={}, epoch_max=EPOCHS + 1)


def test_tensorboard_gets_images(run):
    class Upscaling(CountingEngine):
        def predict_image(self, inp, height, width, tile, window, noise):
            yield np.zeros((height, width, 3), np.float32)

    folder = run(Upscaling(), val_images=2)
    events = b"".join(path.read_bytes() for path in (folder / "tensorboard").iterdir())
    assert b"val/0-a" in events and b"val/1-b" in events and b"val/2-c" not in events


class PartEngine(CountingEngine):
    """One of two: the other one's scores come from the test."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def total(self, values):
        return values + self.other


def test_two_processes_validate_as_one(image_folders):
    config = TrainConfig.model_validate(train_config(image_folders, eval_type=None))
    config.val_dataset.batch_size = 2
    _, val_set = loop.make_data_sets(config)
    normalisation = Normalisation(config.data_norm)
    alone = evaluate.validate(CountingEngine(), list, val_set, config, normalisation)
    scores = []

    class Listening(CountingEngine):
        def total(self, values):
            scores.append(values)
            return values

    for rank in (0, 1):
        evaluate.validate(Listening(), list, val_set, config, normalisation, Ranks(rank, 2))
    assert all((values == 0).any() for values in scores)  # each did a part
    for rank in (0, 1):
        engine = PartEngine(scores[1 - rank])
        assert evaluate.validate(engine, list, val_set, config, normalisation, Ranks(rank, 2)) == alone
