"""Every shipped config is read and its model built in both trees; bases, --set and the list of experiments."""

import importlib
import re

import pytest
import yaml

from helpers import ROOT
from helpers.small_run import FRAMEWORKS
from liif_core.config import load as configs
from liif_core.data import sets
from liif_core.errors import UserError
from liif_core.experiments import listed
from liif_core.training.schedule import learning_rate

FOLDER = ROOT / "configs"
TRAIN = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("train-*/**/*.yaml"))
TEST = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("test*/*.yaml"))
RECIPES = sorted(FOLDER.glob("recipes/*.yaml"))
SIX = ("edsr-baseline-liif", "edsr-baseline-metasr", "edsr-baseline-x2", "rdn-liif", "rdn-metasr", "rdn-x2")


def test_configs_are_where_a_test_looks():
    found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
    assert found == {*TRAIN, *TEST, *(str(path.relative_to(FOLDER)) for path in RECIPES)}


def test_liifs_names_are_all_there_and_the_scales_between():
    sets = [(name, scale) for name in ("set5", "set14", "b100", "urban100") for scale in (2, 3, 4, 6, 8)]
    sets += [("div2k", scale) for scale in (2, 3, 4, 6, 12, 18, 24, 30)] + [
        ("celebAHQ", s) for s in ("32-256", "64-128")
    ]
    sets += [(name, scale) for name in ("set5", "set14", "b100", "urban100", "div2k") for scale in (1.5, 2.5, 3.5)]
    sets += [("emoji", "16-128")]
    degraded = {
        f"test-degraded/test-{name}-{level}-{scale}.yaml"
        for name in ("set5", "set14", "b100")
        for level in ("jpeg90", "jpeg60", "jpeg30", "noise5", "noise15", "blur1", "mixed")
        for scale in (2, 4)
    }
    assert {f"test/test-{name}-{scale}.yaml" for name, scale in sets} | degraded == set(TEST)
    ablation = [f"ablation/train_edsr-baseline-liif-{letter}" for letter in ("c", "d", "e", "u", "x2", "x3", "x4")]
    for recipe in ("div2k", "div2k-100", "bsds400"):
        assert {f"train-{recipe}/{name}.yaml" for name in [*(f"train_{name}" for name in SIX), *ablation]} <= set(TRAIN)
    faces = {
        f"train-celebAHQ/train_celebAHQ-{s}_{kind}.yaml" for s in ("32-256", "64-128") for kind in ("liif", "upsample")
    }
    assert faces <= set(TRAIN)


MODELS = {yaml.safe_dump(spec): spec for name in TRAIN for spec in [configs.load(name, "train").model.model_dump()]}


@pytest.mark.parametrize("tree", FRAMEWORKS)
@pytest.mark.parametrize("text", MODELS, ids=lambda text: re.sub(r"\W+", "-", text)[:60])
def test_every_model_of_a_config_is_built(tree, text):
    """Each different model once: configs that differ in data or schedule alone share theirs."""
    from liif_core.system import devices

    devices.prepare(tree, "cpu")
    model = importlib.import_module(f"liif_{tree}.models.build").make(MODELS[text])
    assert sum(parameter.numel() for parameter in model.parameters()) > 8_000


@pytest.mark.parametrize("name", [*TRAIN, *TEST])
def test_every_data_set_and_wrapper_of_a_config_is_known(name):
    """Their arguments too; the folders need not be there."""
    config = configs.load(name, "test" if name in TEST else "train").model_dump()
    for part in ("train_dataset", "val_dataset", "test_dataset"):
        spec = config.get(part)
        if spec is None:
            continue
        with_wrong_folder = {"name": spec["dataset"]["name"], "args": dict(spec["dataset"]["args"])}
        with_wrong_folder["args"] |= {
            key: "no-such" for key in with_wrong_folder["args"] if key.startswith("root_path")
        }
        with pytest.raises(UserError, match="no folder or file 'no-such'"):  # all else was accepted before
            sets.DATASETS.make(with_wrong_folder)
        wrapper = sets.WRAPPERS.make(spec["wrapper"], dataset=[], seed=0, training=False)
        assert len(wrapper) == 0


def test_test_configs_leave_the_normalisation_to_the_checkpoint():
    """One of our own, or LIIF-PyTorch's, may be normalised otherwise than LIIF's."""
    for file in map(FOLDER.joinpath, TEST):
        assert "data_norm" not in configs.load(file, "test").model_fields_set, file


def test_bsds400s_recipe_is_the_one_of_the_weights_in_pretrained():
    paper = configs.read_merged(configs.find("train-div2k/train_edsr-baseline-liif.yaml"))
    recipe = configs.read_yaml(FOLDER / "recipes/bsds400.yaml")
    assert configs.merge(paper, recipe) == configs.read_yaml(FOLDER / "train-bsds400/train_edsr-baseline-liif.yaml")


@pytest.mark.parametrize("name", [name for name in TRAIN if name.startswith("train-div2k-100/")])
def test_the_100_epoch_schedule_is_the_papers_with_every_drop_inside(name):
    short, paper = (configs.load(n, "train") for n in (name, name.replace("div2k-100", "div2k")))
    free = {"epoch_max", "multi_step_lr", "epoch_save"}
    assert short.model_dump(exclude=free) == paper.model_dump(exclude=free)
    for tenth in (1, 20, 21, 40, 41, 60, 61, 80, 81, 100):
        rates = [learning_rate(1e-4, epoch, c.multi_step_lr) for c, epoch in ((short, tenth), (paper, tenth * 10))]
        assert rates[0] == rates[1]
    assert learning_rate(1e-4, 100, short.multi_step_lr) == pytest.approx(1e-4 / 16)


# Bases


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("below", "change", "merged"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1, "b": 2}, {"a": None, "z": None}, {"b": 2}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 2}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1}}),
        ({"a": None}, {}, {"a": None}),
        # arguments belong to what they were given to
        (
            {"m": {"name": "x", "args": {"q": 1}}},
            {"m": {"name": "y", "args": {"r": 2}}},
            {"m": {"name": "y", "args": {"r": 2}}},
        ),
        (
            {"m": {"name": "x", "args": {"q": 1}}},
            {"m": {"name": "x", "args": {"r": 2}}},
            {"m": {"name": "x", "args": {"q": 1, "r": 2}}},
        ),
    ],
)
def test_a_change_is_laid_over_key_by_key(below, change, merged):
    before = yaml.safe_dump([below, change])
    assert configs.merge(below, change) == merged
    assert yaml.safe_dump([below, change]) == before  # neither is touched


def test_bases_are_laid_over_each_other_in_their_order(folder):
    folder(one={"a": 1, "b": {"c": 1}}, two={"base": "one.yaml", "b": {"d": 2}}, three={"a": 3, "b": {"d": 3}})
    place = folder(all={"base": ["two.yaml", "three.yaml"], "e": 4})
    assert configs.read_merged(place / "all.yaml") == {"a": 3, "b": {"c": 1, "d": 3}, "e": 4}


def test_a_wrong_base_is_one_sentence(folder):
    place = folder(
        a={"base": "b.yaml"}, b={"base": "a.yaml"}, c={"base": "nowhere.yaml"}, d={"base": 3}, e={"base": []}
    )
    for name, message in {
        "a": "leads back to itself",
        "c": "no config 'nowhere.yaml'",
        "d": "'base' is",
        "e": "'base' is",
    }.items():
        with pytest.raises(UserError, match=message):
            configs.read_merged(place / f"{name}.yaml")


# --set


def test_values_are_read_as_yaml():
    overrides = ["a.b=1", "a.c=[2, 3]", "d=null", "e=1.5", "f=text", "g=a=b", "h=true"]
    expected = {"a": {"b": 1, "c": [2, 3]}, "d": None, "e": 1.5, "f": "text", "g": "a=b", "h": True}
    assert configs.parse_overrides(overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epoch_max"], "--set: expected KEY=VALUE like epoch_max=2 or train_dataset.batch_size=4, got 'epoch_max'"),
        (["=3"], "expected KEY=VALUE"),
        (["a..b=3"], "expected KEY=VALUE"),
        (["a=[1"], "--set 'a=.1': not valid YAML"),
        (["a={b:1}"], "a block's keys are set one by one, like a.NAME=VALUE"),
        (["a=1", "a.b=2"], "another --set gives 'a' a value"),
        (["a.b=2", "a=1"], "another --set has set it"),
        (["epoch_maxx=3"], "with --set epoch_maxx=3: unknown key 'epoch_maxx': did you mean 'epoch_max'"),
        (["train_dataset.batchsize=3"], "unknown key 'train_dataset.batchsize': did you mean 'batch_size'"),
        (["epoch_max=many"], "'epoch_max' is 'many'"),
        (["optimizer=null"], "key 'optimizer' is missing"),
    ],
)
def test_a_wrong_set_is_one_sentence(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        configs.load("train-div2k/train_rdn-liif.yaml", "train", overrides)
    assert "\n" not in str(caught.value)


def test_set_is_laid_over_the_config():
    overrides = ["optimizer.args.lr=1e-3", "optimizer.name=sgd", "epoch_max=2", "val_dataset=null"]
    config = configs.load("train-div2k-100/train_rdn-liif.yaml", "train", overrides)
    assert config.optimizer.model_dump() == {"name": "sgd", "args": {"lr": 1e-3}}
    assert (config.epoch_max, config.val_dataset) == (2, None)
    assert "base" not in configs.dump(config) and "DIV2K_train_HR" in configs.dump(config)


# Experiments


def test_the_papers_runs_are_named_once():
    found = listed.read()
    paper = [experiment.name for experiment in found if experiment.group == "paper"]
    assert len(paper) == 10 and len(found) == 55
    assert sorted(e.config for e in found) == sorted({e.config for e in found})
    for recipe in ("div2k", "div2k-100", "bsds400"):
        assert [e.name for e in listed.select(recipe, "paper")] == paper
        groups = [experiment.group for experiment in listed.select(recipe)]
        of_group = [groups.count(group) for group in ("rivals", "photo", "decoders", "diffusion")]
        expected = {"div2k": [5, 4, 20, 0], "div2k-100": [0, 0, 2, 0], "bsds400": [5, 4, 10, 1]}
        assert of_group == expected[recipe]
        assert len(groups) == 13 + sum(of_group)
    assert [e.group for e in listed.select("celebAHQ")] == ["faces"] * 4
    diffusion = [e.name for recipe in ("emoji", "bsds400", "faces") for e in listed.select(recipe, "diffusion")]
    assert [e.name for e in found if e.group == "diffusion"] == sorted(diffusion, key=[e.name for e in found].index)
    of_edsr = [f"edsr-baseline-{name}" for name in ("lte", "srno", "lmliif", "lmlte", "thera-air", "thera-plus")]
    assert [e.name for e in listed.select("bsds400-short")] == [*paper, *of_edsr]
    assert listed.select("bsds400", "study") == listed.select("bsds400", "paper")  # its former name
    assert [e.name for e in listed.select("bsds400-further")] == ["edsr-baseline-liif"]
    named = {str(e.config_in(recipe).relative_to(FOLDER)) for recipe in listed.recipes() for e in listed.select(recipe)}
    assert named == set(TRAIN)  # no config is forgotten


def test_every_curve_is_one_of_the_predecessors():
    curves = (ROOT / "reference" / "curves.csv").read_text()
    named = [experiment.curve for experiment in listed.read() if experiment.curve]
    assert len(set(named)) == 10 and all(f",{curve}," in curves for curve in named)


def test_experiments_are_chosen_by_name_and_group():
    chosen = listed.select("bsds400", "rdn-x2, edsr-baseline-liif")
    assert [experiment.name for experiment in chosen] == ["edsr-baseline-liif", "rdn-x2"]
    assert len(listed.select("bsds400", "more,rdn-liif")) == 4
    with pytest.raises(UserError, match="--only 'rdn-lif'.*did you mean 'rdn-liif'"):
        listed.select("bsds400", "rdn-lif")
    with pytest.raises(UserError, match="--only '' names nothing: recipe div2k: known: "):
        listed.select("div2k", "")
    with pytest.raises(UserError, match="--only 'faces'"):
        listed.select("bsds400", "faces")
    with pytest.raises(
        UserError, match="--recipe 'bsds': did you mean 'bsds400'. known: bsds400, bsds400-further, bsds400-short"
    ):
        listed.select("bsds")


@pytest.mark.parametrize(
    ("text", "message"), [("a b c\n", "line 1: expected name, config"), ("a b c d\na b c d\n", "named twice")]
)
def test_a_wrong_line_of_experiments_is_one_sentence(tmp_path, text, message):
    (tmp_path / "experiments.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        listed.read(tmp_path / "experiments.txt")
