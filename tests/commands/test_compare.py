"""Methods side by side: what is measured, what is kept, the table, the figure, and what is refused."""

import csv
import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT, made_images
from helpers.small_run import FRAMEWORKS, load_tree, model_spec, outcome, run, test_config, write_yaml
from liif_core.checkpoints import native
from liif_core.commands import compare
from liif_core.errors import UserError
from liif_core.evaluation import psnr_ssim
from liif_core.experiments import compared, jobs
from liif_core.images import rgb8
from liif_core.report import details, methods, methods_page, readme
from liif_core.report.tables import markdown

pytestmark = pytest.mark.slow

SIZES = {"one.png": (52, 76), "two.png": (76, 92)}
CHOICE = "both" if len(FRAMEWORKS) == 2 else "torch"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A small network, a test config at x2, and under output/ the comparison of both with bicubic."""
    root = tmp_path_factory.mktemp("compare")
    made_images.folder(root / "HR", SIZES)
    for name, (height, width) in SIZES.items():
        low = rgb8.resize(rgb8.read_image(root / "HR" / name), height // 2, width // 2)
        rgb8.write_image(root / "LR" / name, low)
    write_yaml(root / "test-pairs-2.yaml", test_config(root))
    engine = load_tree("torch")()[0](model_spec(8))
    engine.seed(3)
    native.save(root / "net.safetensors", native.Checkpoint(model_spec(8), engine.state()))
    script = [sys.executable, str(ROOT / "scripts" / "compare_methods.py")]
    result = run([*script, *arguments(root), "--frameworks", CHOICE, "--gpu", "cpu"], root)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{1 + len(FRAMEWORKS)} done" in result.stdout
    return root


def arguments(root: Path) -> list[str]:
    model, config = f"Net={root / 'net.safetensors'}", str(root / "test-pairs-2.yaml")
    return ["--models", model, "--sets", config, "--scale", "2", "--output", str(root / "output")]


@pytest.fixture
def call(monkeypatch, capsys):
    """Call it in this process; (status, stdout, stderr)."""

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["compare_methods.py", *map(str, words)])
        return outcome(lambda: jobs.exit_with(compare.main), capsys)

    return typed


def tasks(root: Path, output: Path, choice: str = "torch") -> list[compared.Task]:
    sets = tuple(compared.find_sets([str(root / "test-pairs-2.yaml")], 2))
    found = compared.methods([f"Net={root / 'net.safetensors'}"], 2)
    return [
        compared.Task(method, framework, sets, compared.METRICS, output, place == 0)
        for method in found
        for place, framework in enumerate(method.frameworks(choice))
    ]


# What was measured


def test_the_tables_hold_the_scores(place):
    with open(place / "output" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measured = {(row["method"], row["framework"], row["channels"]): row for row in rows}
    assert len(measured) == len(rows) == 2 * (1 + len(FRAMEWORKS))
    text = (place / "output" / "table.md").read_text()
    for title in ("bicubic_pillow", *(f"Net_{framework}" for framework in FRAMEWORKS)):
        report = json.loads((place / "output" / "scores" / title / "test-pairs-2.json").read_text())
        assert report["set"] == ["metrics=[psnr-y, ssim, psnr-rgb, ssim-rgb]"] and report["images"] == 2
        for channels, names in {"Y": ("psnr-y", "ssim"), "RGB": ("psnr-rgb", "ssim-rgb")}.items():
            row = measured[(*title.split("_"), channels)]
            assert (float(row["psnr"]), float(row["ssim"])) == tuple(report[name] for name in names)
            assert (row["set"], row["scale"], row["protocol"]) == ("pairs", "2", "benchmark-2")
            assert f"{report[names[0]]:.2f} / {report[names[1]]:.4f}" in text
    assert [line.split(" | ")[1] for line in text.splitlines() if "pairs x2" in line] == (
        ["bicubic", *["Net"] * len(FRAMEWORKS)]
    )


def test_the_scores_are_those_of_the_metrics(place):
    """Of bicubic, which is 8 bits, from its kept images; RGB has the protocol's border as well."""
    report = json.loads((place / "output" / "scores" / "bicubic_pillow" / "test-pairs-2.json").read_text())
    values = []
    for name in SIZES:
        low, high = (rgb8.read_image(place / folder / name) for folder in ("LR", "HR"))
        prediction = rgb8.resize(low, *high.shape[:2])
        kept = place / "output" / "images" / "bicubic_pillow" / "test-pairs-2" / name
        assert (rgb8.read_image(kept) == prediction).all()
        pair = rgb8.to_float(prediction), rgb8.to_float(high)
        inner = [image[2:-2, 2:-2] for image in pair]
        values.append((psnr_ssim.psnr(*pair, "benchmark-2"), psnr_ssim.psnr(*inner), psnr_ssim.ssim_rgb(*inner)))
    found = [report[name] for name in ("psnr-y", "psnr-rgb", "ssim-rgb")]
    assert found == pytest.approx(np.mean(values, axis=0).tolist(), rel=1e-12)


def test_what_is_kept_gives_the_same_table_and_its_scores(place, tmp_path):
    (tmp_path / "compared" / "scores" / "Other_torch").mkdir(parents=True)
    (tmp_path / "compared" / "scores" / "Other_torch" / "test-pairs-2.json").write_text("{}")  # of an earlier table
    methods.keep(tasks(place, place / "output", CHOICE), place / "output", tmp_path / "compared")
    kept = methods.read_csv(tmp_path / "compared" / "table.csv")
    whole = (place / "output" / "table.md").read_text()
    assert markdown(methods.table(kept)) in whole and "SHA-256 of the weights: Net `" in whole
    document = "<!-- table: compared -->\n<!-- end -->\n"
    assert markdown(methods.table(kept)) in readme.rewrite(document, "docs/testing.md", tmp_path)
    scores = sorted((tmp_path / "compared" / "scores").glob("*/*.json"))
    assert {path.parent.name for path in scores} == {"bicubic_pillow", *(f"Net_{name}" for name in FRAMEWORKS)}
    assert_table_is_of_the_scores(tmp_path / "compared")
    assert not [path for path in scores if {"rows", "data"} & json.loads(path.read_text()).keys()]
    with pytest.raises(UserError, match="cannot read .*none.csv"):
        methods.read_csv(tmp_path / "none.csv")
    with pytest.raises(UserError, match="expected the columns set, scale"):
        methods.read_csv(ROOT / "reference" / "published.csv")


def assert_table_is_of_the_scores(folder: Path) -> None:
    found = [record for record in methods.read_csv(folder / "table.csv") if record.framework]
    assert found
    for record in found:
        paths = (folder / "scores" / f"{record.method}_{record.framework}").glob(
            f"*{record.test_set}-{record.scale:g}.json"
        )
        (report,) = (json.loads(path.read_text()) for path in paths)
        for channels, names in {"Y": ("psnr-y", "ssim"), "RGB": ("psnr-rgb", "ssim-rgb")}.items():
            assert record.values[channels] == tuple(report[name] for name in names)
        assert record.origin["weights"] == (report["weights"] or "")


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/table.csv")), ids=lambda path: path.parent.name)
def test_tables_in_results_are_of_their_scores(path):
    assert_table_is_of_the_scores(path.parent)


def test_only_the_first_framework_keeps_images(place):
    kept = {path.name for path in (place / "output" / "images").iterdir()}
    assert kept == {"bicubic_pillow", "Net_torch"}


def test_figure_and_page(place):
    figure = rgb8.read_image(place / "output" / "details.png")
    assert figure.shape[1] == 3 * 192 + 2 * 8  # boxes of 52x64 and 64x64, three times as large
    page = (place / "output" / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * 3 and "pairs/one:" in page and "Net</strong>" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)|<script|@import|url\(', page)


def test_what_is_there_is_not_measured_again_and_other_boxes_can_be_shown(place, call, tmp_path):
    shutil.copytree(place / "output", tmp_path / "output")
    words = [*arguments(place)[:-1], tmp_path / "output", "--boxes", "pairs/two:10,20,30,40"]
    status, out, err = call(*words)
    assert status == 0 and "0 done, 2 skipped" in out and "pairs/two:10,20,30,40" in out, err
    shown = rgb8.read_image(tmp_path / "output" / "details.png")
    original = rgb8.read_image(place / "HR" / "two.png")[10:40, 20:60]
    first = shown[52 : 52 + 30 * 5, : 40 * 5]  # below two lines of text
    assert (first == original.repeat(5, axis=0).repeat(5, axis=1)).all()


@pytest.mark.parametrize("change", ["weights", "image", "metrics", "border", "data", "damaged", "nothing"])
def test_what_makes_scores_worthless(place, tmp_path, change):
    output = tmp_path / "output"
    shutil.copytree(place / "output", output)
    task = tasks(place, output)[1]
    path = task.json(task.sets[0])
    if change == "weights":
        task = dataclasses.replace(task, method=compared.Method("Net", place / "test-pairs-2.yaml"))
    elif change == "image":
        task.png(task.sets[0], "one").unlink()
        assert dataclasses.replace(task, keeps_images=False).missing() == []
    elif change == "metrics":
        assert dataclasses.replace(task, metrics=("ssim",)).missing() == []
        task = dataclasses.replace(task, metrics=(*task.metrics, "niqe"))
    elif change == "border":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"border": "repeat"}))
    elif change == "data":  # its config names another folder by now
        report = json.loads(path.read_text())
        report["data"]["dataset"]["args"]["root_path_1"] = "others"
        path.write_text(json.dumps(report))
    elif change == "damaged":
        path.write_text("{")
    assert (task.missing() == []) == (change == "nothing")


def test_a_model_that_fails_is_a_sentence_and_the_others_are_shown(place, call, tmp_path, monkeypatch):
    shutil.copytree(place / "output", tmp_path / "output")
    (tmp_path / "output" / "scores" / "Net_torch" / "test-pairs-2.json").unlink()
    failing = "import sys; sys.exit(print('error: it upscales x4 alone', file=sys.stderr) or 2)"
    monkeypatch.setattr(jobs, "script", lambda framework, name: [sys.executable, "-c", failing])
    status, out, err = call(*arguments(place)[:-1], tmp_path / "output")
    assert (status, err) == (2, "error: Net_torch: it upscales x4 alone\n")
    assert "| bicubic |" in (tmp_path / "output" / "table.md").read_text()
    assert "| Net |" not in (tmp_path / "output" / "table.md").read_text()


# Details


def test_a_box_is_where_methods_differ_most(place, tmp_path):
    one, two = tasks(place, tmp_path)
    test_set = one.sets[0]
    for name, (height, width) in SIZES.items():
        grey = np.full((height, width, 3), 100, np.uint8)
        other = grey.copy()
        other[5:9, 70:75] = 110 if name == "two.png" else 100
        for task, image in ((one, grey), (two, other)):
            path = task.png(test_set, Path(name).stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            rgb8.write_image(path, image)
    (box,) = details.choose([one, two], [test_set], 1)
    assert (box.image, box.height, box.width) == ("two", 64, 64)
    assert box.top <= 5 and box.top + 64 >= 9 and box.left <= 70 and box.left + 64 >= 75
    assert len(details.choose([one], [test_set], 5)) == 2  # one alone is held against the original
    original, first, second = details.details(box, [one, two])
    assert original.psnr is None and first.psnr < second.psnr + 1 and second.scores.endswith(f"{second.ssim:.4f}")


def test_a_picked_box_equals_a_search_by_hand():
    values = np.random.default_rng(0).random((13, 17))
    found = details._most(values, 4, 5)
    means = {(top, left): values[top : top + 4, left : left + 5].mean() for top in range(10) for left in range(13)}
    assert found[1:] == max(means, key=means.get) and found[0] == pytest.approx(max(means.values()))


# What was published


def test_published_figures_stand_below_in_their_columns():
    test_set = compared.TestSet("set5", "test/test-set5-4.yaml", "benchmark-4", None)
    found = methods.records([], [test_set])
    table = methods.table(found)
    assert table.header[3:] == ["Y", "RGB", "not stated"]
    rows = {(row[1], row[2].split(",")[0].split()[0]): row[3:] for row in table.rows}
    assert rows["SRResNet", "Ledig"] == ["32.05 / 0.9019", "—", "—"]
    assert rows["SRCNN", "Dong"] == ["30.09 / —", "—", "—"]
    assert rows["MSRResNet", "mmagic"] == ["—", "30.23 / 0.8491", "—"]
    assert rows["LIIF", "a"] == ["—", "—", "32.15 / 0.8955"]
    assert "neither channels nor border" in table.notes[0]
    assert "set5,4,SRGAN,,not stated,26.5206,0.7982" in methods.as_csv(found)
    assert "course report" in methods_page.render([table], {}, "PyTorch")


def test_an_infinite_metric_is_shown_as_one(place, tmp_path):
    shutil.copytree(place / "output", tmp_path / "output")
    task = dataclasses.replace(tasks(place, tmp_path / "output")[0], metrics=(*compared.METRICS, "psnr-8bit"))
    path = task.json(task.sets[0])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"psnr-8bit": None}))
    found = methods.records([task], task.sets)
    assert "| inf |" in markdown(methods.table(found)) and ",inf," in methods.as_csv(found)


def test_which_protocol_comes_closest():
    test_set = compared.TestSet("set5", "test/test-set5-4.yaml", "benchmark-4", None)
    unstated = [record for record in methods.records([], [test_set]) if "not stated" in record.values]
    measured = {
        "my-LIIF": {"Y, border 4": (32.0, 0.89), "RGB, border 4": (30.0, 0.85)},
        "SRCNN": {"Y, border 4": (30.0, 0.86), "RGB, border 4": (28.0, 0.81)},
    }
    table = methods.closest(unstated, measured)
    assert "nearest to 32.00 / 0.8900: my-LIIF, Y, border 4." in table.notes[0]
    assert "27.75 / 0.7979 of SRCNN is nearest to 28.00 / 0.8100: SRCNN, RGB, border 4." in table.notes[0]
    assert "No method called SRGAN was compared." in table.notes[0]


def test_other_protocols_are_measured_on_the_kept_images(place):
    found = methods.variants(tasks(place, place / "output"), tasks(place, place / "output")[0].sets[0])
    assert list(found["bicubic"]) == ["Y, border 2", "Y, no border", "RGB, border 2", "RGB, no border"]
    report = json.loads((place / "output" / "scores" / "bicubic_pillow" / "test-pairs-2.json").read_text())
    assert found["bicubic"]["RGB, border 2"] == pytest.approx((report["psnr-rgb"], report["ssim-rgb"]))
    assert found["bicubic"]["RGB, no border"] != found["bicubic"]["RGB, border 2"]


# What is refused


REFUSED = [
    (["--models", "A=NET", "A=NET"], "two are called 'A': give one another name"),
    (["--models", "A=NET", "a=NET"], "two are called 'A'"),
    (["--models", "bicubic=NET"], "two are called 'bicubic'"),
    (["--models", "original=NET"], "'original=.*expected a name of letters"),
    (["--models", "../up=NET"], "expected a name of letters"),
    (["--models", "=NET"], "expected NAME=CHECKPOINT, CHECKPOINT or bicubic, got '="),
    (["--models", "A=none.pth"], "no checkpoint 'none.pth'"),
    (["--models", "A=README.md"], "README.md is"),
    (["--model-config", "B=x.yaml"], "--model-config 'B'.*known: Net"),
    (["--sets", "Set6"], "--sets 'Set6': did you mean 'set5'"),
    (["--sets", "Set5", "--scale", "7"], "--sets Set5: there is no test at x7, there are 1.5, 2, "),
    (["--scale", "3"], "test-pairs-2.yaml: expected a protocol at x3, like benchmark-3, got eval_type benchmark-2"),
    (["--sets", "CONFIG", "CONFIG"], "--sets: 'pairs' is named twice"),
    (["--boxes", "pairs/one"], r"--boxes: expected SET/IMAGE:top,left,height,width"),
    (["--boxes", "set5/one:0,0,20,20"], "no such set is compared: known: pairs"),
    (["--boxes", "pairs/ome:0,0,20,20"], "no such image: did you mean 'one'"),
    (["--boxes", "pairs/one:40,0,20,20"], "expected a box inside the image, which has 52x76 pixels"),
    (["--boxes", "pairs/one:0,0,20,10"], "expected at least 11x11 pixels"),
    (["--details", "0"], "--details: expected 1 or more, got 0"),
    (["--metrics", "foo"], "unknown metric 'foo'"),
]


def test_a_wrong_argument_is_one_sentence_before_anything_is_measured(place, call, tmp_path):
    names = {"NET": str(place / "net.safetensors"), "CONFIG": str(place / "test-pairs-2.yaml")}
    for words, message in REFUSED:
        words = [re.sub("NET|CONFIG", lambda found: names[found[0]], word) for word in words]
        status, out, err = call(*arguments(place)[:-1], tmp_path / "output", *words)
        assert status == 2 and re.search(message, err) and len(err.splitlines()) == 1, (words, err)
        assert "done" not in out and not (tmp_path / "output").exists()


def test_a_model_of_one_factor_is_asked_for_no_other():
    method, srcnn = compared.Method("SRCNN", Path("x")), {"name": "srcnn", "args": {"scale": 4}}
    with pytest.raises(UserError, match="SRCNN upscales x4 alone, --scale is 3: leave out one of them"):
        compared._check_factor(method, srcnn, 3)
    compared._check_factor(method, srcnn, 4.0)
    within = {"name": "liif", "args": {"encoder_spec": {"name": "edsr-baseline", "args": {"scale": 2}}}}
    with pytest.raises(UserError, match="upscales x2 alone"):
        compared._check_factor(method, within, 3)
    features = {"name": "edsr-baseline", "args": {"scale": 2, "no_upsampling": True}}
    compared._check_factor(method, {"name": "metasr", "args": {"encoder_spec": features}}, 3)
