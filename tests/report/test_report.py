"""The report: an experiments folder is read, its tables, plots and page hold what they should, the README's tables are
current."""

import copy
import csv
import dataclasses
import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from helpers import ROOT
from helpers.small_run import train_config
from liif_core.checkpoints import shipped
from liif_core.commands import report
from liif_core.errors import UserError
from liif_core.experiments import batch_test, listed, scores, trained
from liif_core.report import (
    experiments_folder,
    page,
    plots,
    readme,
    reference,
    run_tables,
    samplers,
    score_tables,
    tables,
)
from liif_core.system.places import PRETRAINED

EXPERIMENTS = listed.read()
NASTY = 'a<b>&"c"'
SHA = {"torch": "a1" * 32, "jittor": "b2" * 32}


def write_run(folder, name, epochs, **changes):
    run = folder / name
    run.mkdir(parents=True)
    config = train_config(folder, **({"seed": 7, "epoch_max": 8} | changes))
    config["train_dataset"]["dataset"]["args"]["root_path"] = "./load/bsds400"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    records = []
    for epoch in range(1, epochs + 1):
        records.append({"step": 6 * epoch, "epoch": epoch, "loss": 0.5})
        records.append(
            {"step": 6 * epoch, "epoch": epoch, "lr": 1e-3, "train_loss": 0.1 / epoch, "commit": "c0ffee123"}
        )
        records[-1] |= {"seconds": 30.0} | ({"val_psnr": 24 + epoch / 4} if epoch % 2 == 0 else {})
    records.append({"step": 6 * epochs + 1, "epoch": epochs + 1, "loss": 0.5})  # an epoch under way
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "metrics.jsonl").write_text(text + '{"step": 99, "ep')  # a line being written
    return run


def row(model, framework, dataset, scale, psnr, ssim=0.5, weights="", experiment=None, checkpoint=None):
    protocol = f"div2k-{scale}" if dataset == "div2k" else f"benchmark-{scale}"
    kind = checkpoint or ("best" if weights else "")
    config = f"test/test-{dataset}-{scale}.yaml"
    values = (model, experiment or model, framework, kind, config, dataset, scale, protocol)
    return dict(zip(scores.COLUMNS, (*values, psnr, ssim, 5, weights, "feedbee9-dirty"), strict=True))


def write_scores(path, rows, columns=scores.COLUMNS):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def made(tmp_path):
    """Two runs of one experiment, one of another with a name for a page to stumble over, bicubic; on Set5."""
    folder = tmp_path / NASTY
    write_run(folder, "edsr-baseline-liif_torch", 8)
    write_run(folder, "edsr-baseline-liif_jittor", 6)
    pairs = {"root_path_1": "./load/celebAHQ/64", "root_path_2": "./load/celebAHQ/128"}
    dataset = {"name": "paired-image-folders", "args": pairs}
    write_run(
        folder,
        "own<i>_torch",
        1,
        train_dataset={"dataset": dataset, "wrapper": {"name": "sr-implicit-paired"}, "batch_size": 2},
    )
    liif = dict(experiment="edsr-baseline-liif")
    write_scores(
        folder / "scores.csv",
        [
            row("bicubic", "pillow", "set5", 2, 33.666, 0.93),
            row("edsr-baseline-liif_torch", "torch", "set5", 2, 36.5, 0.95, SHA["torch"], **liif),
            row("edsr-baseline-liif_torch", "jittor", "set5", 2, 36.502, 0.95, SHA["torch"], **liif),
            row("edsr-baseline-liif_jittor", "jittor", "set5", 2, 36.0, 0.94, SHA["jittor"], **liif),
            row("own<i>_torch", "torch", "set5", 3, "", 1.0, SHA["torch"], experiment="own<i>"),
            row("rdn-x2_torch", "torch", "set5", 2, 38.0, 0.96, SHA["torch"], experiment="rdn-x2"),
            row(
                "rdn-x2_torch", "jittor", "set5", 2, 37.0, 0.96, SHA["jittor"], experiment="rdn-x2"
            ),  # of older weights
            row("rdn-x2_torch", "torch", "set5", 3, 30.0, 0.9, SHA["torch"], experiment="rdn-x2"),
        ],
    )
    return experiments_folder.load(folder)


def cells(table, *labels):
    """The figures of the row whose first words these are; a method's name stands in its first row only."""
    method = None
    for line in table.rows:
        method = line[0] or method
        if (method, line[1]) == labels:
            return line[2:]
    raise AssertionError(f"no row {labels} in {table.rows}")


def topic(made, title):
    chosen = next(topic for topic in score_tables.TOPICS if topic.title == title)
    return score_tables.topic_tables(made, chosen, EXPERIMENTS)


def test_a_run_is_read_up_to_the_line_that_is_being_written(made):
    run = next(run for run in made.runs if run.framework == "jittor")
    assert (run.experiment, run.data, run.steps, len(run.epochs)) == ("edsr-baseline-liif", "bsds400", 36, 6)
    assert [record["epoch"] for record in run.validated()] == [2, 4, 6]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"root_path": "./load/bsds400"}, "bsds400"),
        ({"root_path": "../load/div2k/DIV2K_train_HR"}, "div2k/DIV2K_train_HR"),
        ({"root_path_1": "./load/celebAHQ/32", "root_path_2": "./load/celebAHQ/256"}, "celebAHQ/256"),
        ({"root_path": "/home/somebody/images/"}, "images"),
        ({"root_path": "./load"}, "load"),
    ],
)
def test_training_data_are_called_by_their_folder_below_load(given, shown):
    config = {"train_dataset": {"dataset": {"args": given}}}
    assert experiments_folder.Run("own", "torch", config, []).data == shown


def test_our_figures_stand_beside_the_published_and_the_predecessors(made):
    (table,) = topic(made, "Methods on the benchmark sets")
    assert table.header == ["method", "where", "x2", "x3", "weights"]
    assert cells(table, "EDSR-baseline-LIIF", "PyTorch") == [tables.Cell("36.50", ("0.9500",)), "—", "`a1a1a1a1`"]
    assert cells(table, "EDSR-baseline-LIIF", "Jittor")[0].main == "36.00"  # the one that Jittor trained
    assert cells(table, "EDSR-baseline-LIIF", "predecessor, PyTorch")[:2] == ["37.49", "34.02"]
    assert cells(table, "bicubic", "published")[:2] == ["33.66", "30.39"]
    assert cells(table, "bicubic", "Pillow")[0] == tables.Cell("33.67", ("+0.01", "0.9300"))
    assert cells(table, "RDN", "published")[:2] == ["38.24", "34.71"]
    # A network for x2 is measured at x3 too, but not laid beside the published network for x3.
    assert cells(table, "RDN", "PyTorch, x2")[:2] == [
        tables.Cell("38.00", ("−0.24", "0.9600")),
        tables.Cell("30.00", ("0.9000",)),
    ]
    notes = " ".join(table.notes)
    assert "`benchmark-S`" in notes and "`feedbee-dirty`" in notes and "RDN-LIIF" in notes.split("Not measured")[1]
    assert "bsds400, 8 epochs, 48 steps of 2" in notes
    assert "Checkpoint: best." in table.notes


def test_scores_of_another_protocol_have_nothing_published_beside_them(made):
    """Set5's published figures are of luma."""
    rgb = dataclasses.replace(made, scores=[dataclasses.replace(s, protocol=f"div2k-{s.scale}") for s in made.scores])
    (table,) = topic(rgb, "Methods on the benchmark sets")
    assert cells(table, "bicubic", "Pillow")[0] == tables.Cell("33.67", ("0.9300",))
    assert not [line for line in table.rows if line[1] == "published" or "predecessor" in line[1]]
    assert "difference" not in " ".join(table.notes)
    b100 = [dataclasses.replace(rgb.scores[0], dataset="b100")]
    line = tables.markdown(tables.bicubic_table(b100, "en")).splitlines()[-3]
    assert line == "| B100 | 33.67 | — | — | 29.56 / 27.21 / 25.96 | — / — / — |"


def test_two_scores_of_one_model_on_one_set_are_refused(tmp_path):
    once = row("bicubic", "pillow", "set5", 2, 33.666)
    write_scores(tmp_path / "scores.csv", [once, once])
    assert len(experiments_folder.read_scores(tmp_path / "scores.csv")) == 2  # the same twice is no contradiction
    other = once | {"config": "test/set5-2.yaml", "protocol": "div2k-2"}
    write_scores(tmp_path / "scores.csv", [once, other])
    expected = "two scores of bicubic in pillow on set5 x2, by test/test-set5-2.yaml and test/set5-2.yaml: keep one"
    with pytest.raises(UserError, match=expected):
        experiments_folder.read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("rdn-liif_torch", "save/div2k/rdn-liif_torch/epoch-best.safetensors", "best"),
        ("rdn-liif_torch", "save/div2k/rdn-liif_torch/epoch-last.safetensors", "last"),
        ("rdn-liif_div2k", "rdn-liif_div2k.safetensors", "rdn-liif_div2k"),
        ("rdn-liif_div2k", None, "rdn-liif_div2k"),  # measured before, and now known by its folder alone
        ("rdn-liif_torch_epoch-1000", None, "1000"),
        ("bicubic", None, ""),
    ],
)
def test_a_model_says_which_checkpoint_it_is(tmp_path, name, file, kind):
    model = trained.Model(name, "rdn-liif", file and Path(file), None, tmp_path)
    assert model.checkpoint == kind


def test_a_table_says_which_checkpoint_it_shows(tmp_path):
    """From the files that test.py leaves to the note under the table."""
    batch = batch_test
    models = []
    for framework, kind in (("torch", "best"), ("jittor", "last")):
        run = tmp_path / f"rdn-liif_{framework}"
        run.mkdir()
        checkpoint = run / f"epoch-{kind}.safetensors"
        checkpoint.write_bytes(kind.encode())
        model = trained.Model(run.name, "rdn-liif", checkpoint, framework, run / "results")
        written = row("", framework, "set5", 2, 38.0, weights=model.weights)
        (run / "results" / framework).mkdir(parents=True)
        (run / "results" / framework / "test-set5-2.json").write_text(json.dumps(written))
        models.append(model)
    batch.write_scores(tmp_path, models)
    (table,) = topic(experiments_folder.load(tmp_path), "Methods on the benchmark sets")
    assert "Checkpoint: last; RDN-LIIF (PyTorch): best." in table.notes


def test_scores_with_the_former_column_are_read(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, [row("rdn-liif_torch", "torch", "set5", 2, 38.0, weights="a1")])
    path.write_text(path.read_text().replace(",images,", ",pictures,"))
    assert [score.images for score in experiments_folder.load(tmp_path).scores] == [5]


def test_scores_from_before_they_named_the_checkpoint_are_read(tmp_path):
    columns = [column for column in scores.COLUMNS if column != "checkpoint"]
    write_scores(tmp_path / "scores.csv", [row("rdn-liif_torch", "torch", "set5", 2, 38.0, weights="a1")], columns)
    found = experiments_folder.load(tmp_path)
    assert [score.checkpoint for score in found.scores] == [""]
    (table,) = score_tables.other_tables(found, EXPERIMENTS) or topic(found, "Methods on the benchmark sets")
    assert not any(note.startswith("Checkpoint") for note in table.notes)


def test_tables_follow_the_test_sets_that_were_measured(made):
    assert topic(made, "Methods on DIV2K") == []
    assert [table.title for table in topic(made, "Ablation of the design")] == ["Set5"]
    more = dataclasses.replace(made.scores[1], dataset="div2k-valid", protocol="div2k-2")
    with_div2k = dataclasses.replace(made, scores=[*made.scores, more])
    assert [table.title for table in topic(with_div2k, "Ablation of the design")] == ["DIV2K"]
    assert [table.title for table in topic(with_div2k, "Methods on the benchmark sets")] == ["Set5"]
    (other,) = score_tables.other_tables(made, EXPERIMENTS)
    assert cells(other, "own<i>", "PyTorch")[1] == tables.Cell("∞", ("1.0000",))


def test_fractional_scales_have_tables_of_their_own(made):
    """Of each set one below that of the whole scales, without anything published, in the page and in the documents."""
    folder = made.folder
    more = [("edsr-baseline-liif_torch", "torch", SHA["torch"]), ("bicubic", "pillow", "")]
    rows = list(csv.DictReader(open(folder / "scores.csv")))
    for name, framework, weights in more:
        for scale, psnr in ((2.5, 31.25), (3.5, 29.0)):
            rows.append(row(name, framework, "set5", scale, psnr, weights=weights, experiment=name.split("_")[0]))
    write_scores(folder / "scores.csv", rows)
    both = experiments_folder.load(folder)
    assert [score.scale for score in both.scores[-4:]] == [2.5, 3.5, 2.5, 3.5]
    assert all(isinstance(score.scale, int) for score in both.scores[:-4])
    whole, between = topic(both, "Methods on the benchmark sets")
    assert whole.header == topic(made, "Methods on the benchmark sets")[0].header
    assert (between.title, between.header) == (
        "Set5, fractional scales",
        ["method", "where", "x2.5", "x3.5", "weights"],
    )
    assert [line[:2] for line in between.rows] == [["bicubic", "Pillow"], ["EDSR-baseline-LIIF", "PyTorch"]]
    assert cells(between, "EDSR-baseline-LIIF", "PyTorch")[0] == tables.Cell("31.25", ("0.5000",))
    assert "Protocol `benchmark-S`, 5 images" in " ".join(between.notes)
    assert [table.title for table in score_tables.all_tables(both, EXPERIMENTS)] == ["Set5", "Set5, fractional scales"]
    assert "Set5, fractional scales" in Page(page.render([both], EXPERIMENTS)).text
    shown = [dataclasses.replace(score, model=PRETRAINED.stem) for score in both.scores if score.weights]
    assert tables.pretrained_table(shown, "en").header == ["set", "method", "x2", "x3"]
    assert tables.pretrained_table(shown, "en", whole=False).header == ["set", "method", "x2.5", "x3.5"]
    only = dataclasses.replace(both, scores=both.scores[-2:])
    assert [table.title for table in score_tables.all_tables(only, EXPERIMENTS)] == ["Set5, fractional scales"]


def test_faces_stand_beside_the_published_of_their_own_pair_of_sizes(made):
    values = {"dataset": "celebahq-64-128", "config": "test/test-celebAHQ-64-128.yaml", "protocol": "RGB, no border"}
    names = {"model": "celebAHQ-64-128-liif_torch", "experiment": "celebAHQ-64-128-liif"}
    score = dataclasses.replace(made.scores[1], **values, **names, psnr=35.0)
    other = dataclasses.replace(score, model="celebAHQ-32-256-liif_torch", experiment="celebAHQ-32-256-liif")
    (table,) = topic(dataclasses.replace(made, scores=[score, other]), "Faces: pairs of CelebA-HQ")
    assert cells(table, "EDSR-baseline-LIIF", "published")[0] == "35.96"
    assert cells(table, "EDSR-baseline-LIIF", "PyTorch, 64-128")[0].small == ("−0.96", "0.9500")
    assert cells(table, "EDSR-baseline-LIIF", "PyTorch, 32-256")[0].small == ("0.9500",)


def test_the_frameworks_are_compared_on_the_same_weights_and_on_their_own(made):
    table = run_tables.framework_table(made)
    assert table.rows[0] == ["EDSR-baseline-LIIF", "1", "0.002", "0", "1", "0.50", "−0.50", "—"]  # Jittor is behind
    assert table.rows[-1][0] == "all" and len(table.rows) == 2
    assert run_tables.framework_table(dataclasses.replace(made, scores=made.scores[:2])) is None


def test_the_frameworks_are_compared_on_the_last_validation(tmp_path):
    for framework in ("torch", "jittor"):
        run = write_run(tmp_path, f"edsr-baseline-liif_{framework}", 4)
    path = run / "metrics.jsonl"
    path.write_text(path.read_text().replace('"val_psnr": 25.0', '"val_psnr": 24.9375'))
    table = run_tables.framework_table(experiments_folder.load(tmp_path))
    assert [row[-1] for row in table.rows] == ["0.062", "0.062"] and table.rows[0][1:7] == ["—"] * 6


def test_the_run_table_says_how_each_was_trained(made):
    table = run_tables.run_table(made)
    row = dict(
        zip(table.header, next(r for r in table.rows if r[:2] == ["EDSR-baseline-LIIF", "PyTorch"]), strict=True)
    )
    assert (row["epochs"], row["best PSNR"], row["best epoch"]) == ("8 of 8", "26.00", "8")
    assert row["time"] == "4.0 min"
    assert {line[table.header.index("epochs")] for line in table.rows} == {"8 of 8", "6 of 8", "1 of 8"}
    assert [line[table.header.index("data")] for line in table.rows] == ["bsds400", "bsds400", "celebAHQ/128"]
    assert "seed" not in row and table.notes == ["Of all: batch 2, learning rate 0.001, seed 7, commit `c0ffee1`."]


def test_a_run_says_what_it_began_from_and_how_its_learning_rate_fell(tmp_path):
    changes = {"multi_step_lr": None, "cosine_lr": {"lr_min": 1e-6}, "resume": "pretrained/weights.safetensors"}
    write_run(tmp_path, "edsr-baseline-liif_torch", 8, **changes)
    begun = experiments_folder.load(tmp_path)
    assert "falling as a cosine to 1e-06, from weights.safetensors." in Page(page.render([begun], EXPERIMENTS)).text
    table = run_tables.run_table(begun)
    assert table.rows[0][table.header.index("epochs")] == "8 of 8, from weights.safetensors"


def div2k(run):
    """The same run, had it been trained on DIV2K."""
    config = copy.deepcopy(run.config)
    config["train_dataset"]["dataset"]["args"]["root_path"] = "./load/div2k/DIV2K_train_HR"
    return dataclasses.replace(run, config=config)


def test_a_damaged_line_costs_itself_alone(tmp_path):
    run = write_run(tmp_path, "edsr-baseline-liif_torch", 3)
    with open(run / "metrics.jsonl", "rb+") as file:
        lines = file.read().splitlines(keepends=True)
        file.seek(0)
        file.writelines([*lines[:3], b"\0\xff\xff\n", *lines[4:]])  # the second epoch's
    assert [record["epoch"] for record in experiments_folder.load(tmp_path).runs[0].epochs] == [1, 3]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"multi_step_lr": {"milestones": [2]}}, "learning rate 0.001, times 0.1 after 2."),
        ({"multi_step_lr": None, "cosine_lr": {}}, "learning rate 0.001, falling as a cosine to 0."),
        ({"multi_step_lr": None}, "learning rate 0.001, constant."),
    ],
)
def test_a_schedule_is_told_with_its_defaults(tmp_path, given, said):
    write_run(tmp_path, "edsr-baseline-liif_torch", 1, **given)
    text = Page(page.render([experiments_folder.load(tmp_path)], EXPERIMENTS)).text
    assert said in text and "Not run:" not in text  # one experiment alone is not a folder with nine missing


def test_a_single_file_was_trained_nowhere_whatever_it_is_called(made):
    (score,) = (s for s in made.scores if s.model == "edsr-baseline-liif_jittor")
    assert score.trained_in == "jittor"
    assert dataclasses.replace(score, checkpoint="edsr-baseline-liif_jittor").trained_in is None


def test_a_plot_has_our_lines_and_the_predecessors_each_with_its_label(made):
    those = [div2k(run) for run in made.runs if run.experiment == "edsr-baseline-liif"]
    loss, psnr = plots.experiment_figure(those, "edsr_liif_baseline").axes
    expected = {"PyTorch", "Jittor", "PyTorch,\npredecessor", "Jittor,\npredecessor"}
    for axes in (loss, psnr):
        assert {text.get_text() for text in axes.texts} == expected
        assert [len(line.get_xdata()) for line in axes.lines[:2]] == [200, 100]
        assert axes.get_xlabel() == "epoch"
    assert (loss.get_ylabel(), psnr.get_ylabel()) == ("training loss (L1)", "validation PSNR (dB)")
    ours = psnr.lines[2]
    assert list(ours.get_xdata()) == [2, 4, 6, 8] and list(ours.get_ydata()) == [24.5, 25, 25.5, 26]
    assert ours.get_color() == plots.COLOURS["torch"] != psnr.lines[3].get_color()
    assert not ours.is_dashed() and psnr.lines[0].is_dashed()


def test_a_run_says_where_it_began_and_a_plot_which_loss_it_shows(tmp_path):
    adversarial = {"method": {"name": "adversarial", "args": {"content": "pixel"}}, "start_from": "srresnet-x4"}
    write_run(tmp_path, "srgan-x4_torch", 1, **adversarial)
    write_run(tmp_path, "srcnn-x4_torch", 1, method={"name": "regression", "args": {"loss": "mse"}})
    runs = {run.experiment: run for run in experiments_folder.load(tmp_path).runs}
    assert runs["srgan-x4"].origin == ", from srresnet-x4" and runs["srcnn-x4"].origin == ""
    for chosen, label in (
        (["srcnn-x4"], "training loss (MSE)"),
        (["srgan-x4"], "training loss"),
        (["srcnn-x4", "srgan-x4"], "training loss"),
    ):
        assert plots.experiment_figure([runs[name] for name in chosen], None).axes[0].get_ylabel() == label


def test_the_predecessors_curves_are_left_out_where_the_images_are_others(made):
    those = [run for run in made.runs if run.experiment == "edsr-baseline-liif"]
    assert {run.data for run in those} == {"bsds400"}
    for axes in plots.experiment_figure(those, "edsr_liif_baseline").axes:
        assert {text.get_text() for text in axes.texts} == {"PyTorch", "Jittor"} and len(axes.lines) == 2
    assert "predecessor's, LIIF-Jittor" not in page.render([made], EXPERIMENTS)
    other = dataclasses.replace(made, runs=[div2k(run) for run in those])
    assert "predecessor's, LIIF-Jittor" in page.render([other], EXPERIMENTS)


def test_a_plot_without_a_validation_or_a_predecessor_is_drawn(made):
    (run,) = (run for run in made.runs if run.experiment == "own<i>")
    loss, psnr = plots.experiment_figure([run], None).axes
    assert [len(axes.texts) for axes in (loss, psnr)] == [1, 0]


def test_other_losses_have_panels_of_their_own(tmp_path):
    run = experiments_folder.Run("x", "torch", {}, [{"epoch": 1, "train_loss": 1.0, "train_loss_d": 0.5}])
    _, psnr, other = plots.experiment_figure([run], None).axes
    assert other.get_ylabel() == "loss d" and other.lines[0].get_ydata().tolist() == [0.5]
    assert not len(psnr.lines[0].get_ydata())


def test_the_summary_has_a_panel_for_each_experiment_and_its_best(made):
    groups = page.by_experiment(made, EXPERIMENTS)
    assert list(groups) == ["edsr-baseline-liif", "own<i>"]
    panels = plots.summary_figure(groups).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["EDSR-baseline-LIIF", "own<i>"]
    assert sorted(text.get_text() for text in panels[0].texts) == ["Jittor 25.50", "PyTorch 26.00"]
    assert len(panels[0].lines) == 2


def test_labels_are_moved_apart_and_stay_inside():
    placed = plots._apart([0.5, 0.5, 0.52, 0.99], [0.1] * 4)
    assert all(b - a > 0.0999 for a, b in zip(placed, placed[1:], strict=False))
    for height in (0.01, 0.99):
        placed = plots._apart([height, height], [0.1, 0.1])
        assert 0.05 <= placed[0] <= placed[1] - 0.0999 and placed[1] <= 0.95
    assert plots._apart([0.2, 0.8], [0.1, 0.1]) == [0.2, 0.8]


class Page(HTMLParser):
    """Collects what a browser would fetch, the tags left open, and the text."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.open, self.text, self.ids, self.links = [], [], "", set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        if tag == "a":
            self.links.append(given["href"])
        elif tag != "use":
            self.fetched += [v for k, v in attributes if k in ("src", "href", "srcset", "data", "poster") and v]
        if tag not in ("meta", "img", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(made):
    text = page.render([made], EXPERIMENTS)
    seen = Page(text)
    assert seen.open == [] and "<script" not in text and "@import" not in text and "url(http" not in text
    assert all(address.startswith("data:") for address in seen.fetched)
    assert len(re.findall("<svg", text)) == 3
    assert "<i>" not in text and "own<i>" in seen.text and f"Experiments {NASTY}" in seen.text
    assert all(link[1:] in seen.ids for link in seen.links)
    assert "RDN-LIIF, EDSR-baseline-MetaSR." in seen.text.split("Not run:")[1]
    assert "celebAHQ/128, 1 of 8 epochs" in seen.text


def test_the_pages_commands_name_the_folder_where_it_is_and_every_recipe(made):
    here = dataclasses.replace(made, folder=ROOT / "save" / "div2k")
    text = Page(page.render([here, made], EXPERIMENTS)).text
    assert "--save-dir save/div2k\n" in text
    kept = dataclasses.replace(made, folder=ROOT / "results" / "div2k")
    assert "--save-dir save/div2k\n" in Page(page.render([kept], EXPERIMENTS)).text
    assert f"python scripts/report.py save/div2k {shlex.quote(str(made.folder))}\n" in text
    assert "RECIPE is bsds400, bsds400-further, bsds400-short, celebAHQ, div2k, div2k-100, emoji or faces." in text


def test_colours_of_the_plots_follow_the_page(made):
    both = dataclasses.replace(made, runs=[div2k(run) for run in made.runs[:2]])  # with the predecessor's pale lines
    drawing = plots.svg(plots.summary_figure(page.by_experiment(both, EXPERIMENTS)))
    named = set(re.findall(r"var\((--[\w-]+)\)", drawing))
    assert {"--ink", "--paper", "--torch", "--jittor-pale"} <= named
    assert all(f"{name}:" in page.STYLE for name in named)
    assert not re.search(r"#[0-9a-f]{6}\b", drawing) and not re.search(r"<svg[^>]* (width|height)=", drawing)


def test_published_figures_are_found_by_the_experiments_names():
    assert reference.published("Set5", "rdn-liif", 4) == 32.5
    assert reference.published("div2k", "edsr-baseline-x2", 2) == 34.55
    assert reference.published("div2k", "rdn-lte", 12) == 23.95
    assert reference.published("div2k", "edsr-baseline-x2", 3) is None
    for experiment in EXPERIMENTS:
        if experiment.group == "paper":
            assert reference.published("div2k", experiment.name, 4), experiment.name
            assert len(reference.curves()["torch", experiment.curve].epochs) == 200
            assert len(reference.curves()["jittor", experiment.curve].epochs) == 100
            assert reference.predecessor("torch", experiment.curve, "div2k", 4), experiment.name


def test_differences_are_written_so_that_their_sign_is_seen():
    assert [tables.signed(value) for value in (0.004, -0.004, 0.126, -1.5, None)] == [
        "0.00",
        "0.00",
        "+0.13",
        "−1.50",
        "—",
    ]
    assert [tables.tiny(value) for value in (0.0, 2.5e-6, 0.0123, None)] == ["0", "2.5e-06", "0.012", "—"]


@pytest.mark.parametrize("name", readme.DOCUMENTS)
def test_the_tables_of_the_documents_are_what_the_command_writes(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert readme.rewrite(text, name) == text, "run scripts/report.py --readme"


def test_bicubic_as_measured_is_the_published_on_b100():
    scores = experiments_folder.load(readme.RESULTS / readme.DEFAULT).scores
    found = [score for score in scores if (score.model, score.dataset) == ("bicubic", "b100")]
    assert {2, 3, 4} <= {score.scale for score in found}
    for score in found:
        published = reference.published("b100", "bicubic", score.scale)
        assert published is None or abs(score.psnr - published) < 0.01


@pytest.fixture
def kept(tmp_path):
    """results/ with the scores of the weights in pretrained/, and of another file that no table of the README shows."""
    (tmp_path / "pretrained").mkdir()
    name = PRETRAINED.stem
    rows = [row("bicubic", "pillow", "b100", scale, 20 + scale, 0.9) for scale in (2, 3)]
    liif = dict(experiment="edsr-baseline-liif")
    rows += [row(name, "torch", "b100", 2, 31.2, 0.91, SHA["torch"], checkpoint=name, **liif)]
    rows += [row(name, "jittor", "b100", 2, 31.25, 0.91, SHA["torch"], checkpoint=name, **liif)]
    other = "edsr-baseline-liif_other"
    rows += [row(other, "torch", "b100", 2, 30, 0.9, SHA["jittor"], checkpoint=other, **liif)]
    write_scores(tmp_path / "pretrained" / "scores.csv", rows)
    return tmp_path


def test_marked_tables_are_rewritten_and_nothing_else(kept):
    text = "before\n<!-- table: pretrained -->\nold | table\n<!-- end -->\nbetween\n"
    text += "<!-- table: bicubic -->\n<!-- end -->\n"
    once = readme.rewrite(text, "README.md", kept)
    assert "| B100 | bicubic | 22.00 / 0.9000 | 23.00 / 0.9000 |" in once
    assert "|  | LIIF, PyTorch | 31.20 / 0.9100 | — |\n|  | LIIF, Jittor | 31.25 / 0.9100 | — |" in once
    assert "differ by at most 0.050 dB and 0 in SSIM" in once and "`a1a1a1a1a1a1`" in once
    assert "| B100 | 22.00 | 23.00 | — | 29.56 / 27.21 / 25.96 | −7.56 / −4.21 / — |" in once
    assert once.startswith("before\n") and "\nbetween\n" in once and "old" not in once
    assert readme.rewrite(once, "README.md", kept) == once
    assert "双三次插值" in readme.rewrite(text, "README.zh-CN.md", kept)


def test_degraded_sets_are_below_the_clean_one_and_clean_beside_photo(tmp_path):
    rows = [row("bicubic", "pillow", "b100", 4, 25.0), row("bicubic", "pillow", "b100-jpeg60", 4, 24.0)]
    for number, name in enumerate((PRETRAINED.stem, shipped.PHOTO)):
        for framework, more in (("torch", 0), ("jittor", 0.002)):
            figures = {"b100": 27.0 - number / 2, "b100-jpeg60": 24.5 + number, "b100-mixed": 22.0 + number}
            for dataset, psnr in figures.items():
                rows.append(row(name, framework, dataset, 4, psnr + more, weights=SHA["torch"], checkpoint=name))
    write_scores(tmp_path / "scores.csv", rows)
    table = tables.degraded_table(experiments_folder.read_scores(tmp_path / "scores.csv"), "en")
    assert table.header == ["set", "degradation", "bicubic x4", "clean x4", "photo x4"]
    assert table.rows == [
        ["B100", "none", "25.00", "27.00", "26.50"],
        ["", "JPEG 60", "24.00", "24.50", "25.50"],
        ["", "mixed", "—", "22.00", "23.00"],
    ]
    assert table.notes[-1] == "PyTorch's; Jittor's differ by at most 0.002 dB."
    assert "protocol `benchmark-S`" in table.notes[0]


def test_every_degraded_set_of_the_configs_is_a_row_of_the_table():
    names = {path.stem for path in (ROOT / "configs" / "test-degraded").glob("*.yaml")}
    kinds = {name.removeprefix("test-").partition("-")[2].rpartition("-")[0] for name in names}
    assert {f"-{kind}" for kind in kinds} | {""} == set(tables.DEGRADED)


def test_a_table_of_single_files_names_them(kept):
    text = "<!-- table: scores pretrained -->\n<!-- end -->\n"
    found = readme.rewrite(text, "results/README.md", kept)
    assert "| PyTorch, other | 30.00 (0.9000) |" in found
    assert f"Jittor, {PRETRAINED.stem.removeprefix('edsr-baseline-liif_')} | 31.25 (0.9100) |" in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none", "README.md: no marked table; known are .*bicubic"),
        ("<!-- table: bicubik -->\n<!-- end -->", "README.md: no table 'bicubik'; known are"),
        ("<!-- table: bicubic -->\n", "README.md: a table's marker needs .*end"),
        (
            "<!-- table: bicubic -->\n<!-- table: pretrained -->\n<!-- end -->",
            "README.md: a table's marker needs .*end",
        ),
        ("<!-- table: runs absent -->\n<!-- end -->", "no folder .*absent"),
    ],
)
def test_a_document_with_a_wrong_marker_is_refused(kept, text, message):
    with pytest.raises(UserError, match=message):
        readme.rewrite(text, "README.md", kept)


def test_kept_folders_make_the_same_tables(made, tmp_path):
    readme.keep(made, tmp_path / "results")
    again = experiments_folder.load(tmp_path / "results" / made.name)
    for table in (
        run_tables.run_table,
        run_tables.framework_table,
        lambda one: score_tables.all_tables(one, EXPERIMENTS),
    ):
        assert table(again) == table(made)
    assert (again.folder / "curves.png").exists() and not list(again.folder.glob("*/*.safetensors"))
    assert sum(path.stat().st_size for path in again.folder.glob("*/*")) < 15_000


def test_folders_without_experiments_are_refused_with_what_is_expected(tmp_path):
    with pytest.raises(UserError, match="no folder .*absent: expected one that batch_0.sh filled"):
        experiments_folder.load(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no experiments: .*scores.csv"):
        experiments_folder.load(tmp_path)
    (tmp_path / "scores.csv").write_text("model,psnr\n")
    with pytest.raises(UserError, match="scores.csv: no column experiment, framework"):
        experiments_folder.load(tmp_path)
    write_scores(tmp_path / "scores.csv", [row("m", "torch", "set5", 2, "fine")])
    with pytest.raises(UserError, match="scores.csv, line 2: .*'fine'"):
        experiments_folder.load(tmp_path)
    (write_run(tmp_path, "liif_torch", 1) / "config.yaml").write_text("epoch_max: 2\nepochs: 3\n")
    with pytest.raises(UserError, match="config.yaml: .*epochs"):
        experiments_folder.load(tmp_path)


@pytest.mark.slow
def test_the_command_writes_the_page_and_the_plots(made, tmp_path):
    command = [sys.executable, "scripts/report.py", made.folder, "--html", tmp_path / "new/page.html"]
    done = subprocess.run([*command, "--plots", tmp_path / "plots"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Experiments" in (tmp_path / "new/page.html").read_text()
    assert {path.name for path in (tmp_path / "plots").rglob("*.png")} == {
        "edsr-baseline-liif.png",
        "own<i>.png",
        "summary.png",
    }
    refused = subprocess.run([*command[:2], tmp_path / "absent"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("error: no folder"), refused.stderr


def test_keeping_and_writing_the_documents_in_one_go(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "WORK", tmp_path)
    made.folder.rename(tmp_path / "save")
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(readme, "write", lambda: print("written"))
    monkeypatch.setattr(sys, "argv", ["report.py", "--keep", "--readme"])
    assert report.main() == 0
    assert (tmp_path / "results/save/scores.csv").exists() and capsys.readouterr().out.endswith("scores\nwritten\n")


def test_without_names_every_folder_with_runs_is_reported(tmp_path, monkeypatch, capsys):
    save = tmp_path / "save"
    write_run(save / "trained", "rdn-liif_torch", 1)
    write_run(save / "own", "tried", 1)
    (save / "scores").mkdir()
    write_scores(save / "scores" / "scores.csv", [row("bicubic", "pillow", "set5", 2, 33.666)])
    (save / "report.html").write_text("of last time")
    monkeypatch.setattr(report, "WORK", tmp_path)
    assert [one.name for one in report.find_folders([])] == ["scores", "trained"]
    assert capsys.readouterr().out.startswith(f"left out: {save}/own/tried is not called EXPERIMENT_torch")


def test_ctrl_c_is_not_an_error(tmp_path):
    code = (
        "import runpy\nfrom liif_core.report import experiments_folder\n"
        "def stop(folder): raise KeyboardInterrupt\n"
        "experiments_folder.load = stop\nrunpy.run_path('scripts/report.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, tmp_path, "--html", tmp_path / "page.html"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_samplers_stand_beside_each_other_on_the_images_that_all_have(tmp_path):
    def image(psnr: float, seconds: float, white: bool = False) -> dict:
        drawn = {f"not white: {name}": None if white else 0.5 for name in samplers.METRICS}
        return drawn | {"psnr-8bit": psnr, "ssim-8bit": 0.25, "consistency": 3, "shift": 1.5, "seconds": seconds}

    few = {"a": image(30, 9)}
    all_of_them = {"a": image(20, 1), "b": image(22, 5, white=True), "c": image(27, 2)}
    where = {"commit": "0123456789", "machine": "two cores"}
    quick = {"name": "ddim 20", "asked": 20, "weights": "f" * 64, "images": all_of_them} | where
    slow = {"name": "bicubic", "asked": None, "weights": None, "images": few} | where
    path = tmp_path / "emoji" / samplers.FILE
    path.parent.mkdir()
    path.write_text(json.dumps({"config": "test/a.yaml", "methods": [slow, quick]}))
    text = readme.rewrite("<!-- table: samplers emoji -->\n<!-- end -->\n", "README.md", tmp_path)
    header, _, first, second = [line for line in text.splitlines() if line.startswith("|")]
    assert "| PSNR of 1 images | shift | s per image |" in header
    assert first == "| bicubic | — | 1 | 30.00 (0.50) | 0.2500 (0.5000) | 3.00 (0.50) | 30.00 (0.50) | 1.50 | 9 |"
    assert second == "| ddim 20 | 20 | 3 | 23.00 (0.50) | 0.2500 (0.5000) | 3.00 (0.50) | 20.00 (0.50) | 1.50 | 2 |"
    assert "`test/a.yaml`, measured at commit `0123456`. SHA-256 of the weights: `ffffffff`." in text
    quick["images"] = {"a": {"psnr-8bit": 3}}
    path.write_text(json.dumps({"config": "test/a.yaml", "methods": [quick]}))
    with pytest.raises(UserError, match=rf"{samplers.FILE}: expected methods and images with psnr-8bit, "):
        samplers.read(path.parent)
    with pytest.raises(UserError, match="cannot read .*: expected what benchmarks/samplers.py wrote"):
        samplers.read(tmp_path)
