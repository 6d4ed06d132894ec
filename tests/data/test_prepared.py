"""What diffusion is trained on: prepared folders and LMDBs, how they are made, and the samples of its wrappers."""

import shutil
import sys
from types import SimpleNamespace

import lmdb
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from helpers import made_images
from liif_core.commands import check_data, prepare
from liif_core.config.schema import TrainConfig
from liif_core.data import check, sampling, sets
from liif_core.data.batching import Batches, checked
from liif_core.data.diffusion import take_noise
from liif_core.data.registries import DATASETS, WRAPPERS
from liif_core.diffusion import targets
from liif_core.diffusion.schedules import Schedule
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.training import loop
from liif_torch.datasets import make_loader

SIDES = {"low": 6, "high": 24}
IMAGES = {"b.c.png": (40, 61), "a.jpg": (51, 33), "7.png": (24, 24), "d/e.png": (13, 24)}


def run_main(command, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        return command()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return made_images.folder(tmp_path_factory.mktemp("source"), IMAGES)


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """The folders and the LMDB of the images."""
    place = tmp_path_factory.mktemp("prepared")
    for words in ([], ["--lmdb"]):
        out = place / ("lmdb" if words else "folders")
        run_main(prepare.main, "--path", source, "--out", out, "--size", "6,24", "--n_worker", 1, *words)
    return {"prepared-folders": place / "folders_6_24", "prepared-lmdb": place / "lmdb_6_24"}


def make(name, path, wrapper="sr-diffusion-paired", training=True, seed=0, **arguments):
    dataset = DATASETS.make({"name": name, "args": {"root_path": str(path), **SIDES}})
    spec = {"name": wrapper, "args": {"scale": 4} | arguments}
    return WRAPPERS.make(spec, dataset=dataset, seed=seed, training=training)


# Preparing


def test_prepared_images_are_torchvisions_resized_and_centre_cropped(source, prepared):
    """As SR3-PyTorch's prepare_data.py makes them."""

    def resized(image, side):
        return functional.center_crop(functional.resize(image, side, functional.InterpolationMode.BICUBIC), side)

    root = prepared["prepared-folders"]
    assert sorted(path.name for path in (root / "hr_24").iterdir()) == [
        "00007.png",
        "0000a.png",
        "0000b.png",
        "0000e.png",
    ]
    for name in IMAGES:
        image = Image.open(source / name).convert("RGB")
        low, high = resized(image, 6), resized(image, 24)
        found = root / "{}" / f"{name.split('/')[-1].split('.')[0].zfill(5)}.png"
        for folder, expected in {"lr_6": low, "hr_24": high, "sr_6_24": resized(low, 24)}.items():
            np.testing.assert_array_equal(rgb8.read_image(str(found).format(folder)), np.asarray(expected))


def test_an_lmdb_holds_the_same_files_by_number(prepared):
    with (
        lmdb.open(str(prepared["prepared-lmdb"]), readonly=True, lock=False) as environment,
        environment.begin() as read,
    ):
        found = dict(read.cursor())
    files = sorted((prepared["prepared-folders"] / "hr_24").iterdir())
    assert found.pop(b"length") == b"4" and len(found) == 12
    assert [found[f"hr_24_{k:05d}".encode()] for k in range(4)] == [file.read_bytes() for file in files]


@pytest.mark.parametrize("words", [[], ["--lmdb"]])
def test_preparing_goes_on_where_it_was_stopped(source, tmp_path, words, monkeypatch):
    """A broken image ends it; once it is whole, the others are not made again."""
    images = shutil.copytree(source, tmp_path / "images")
    (images / "d" / "f.png").write_bytes((images / "a.jpg").read_bytes()[:900])
    said = ["--path", images, "--out", tmp_path / "out", "--size", "6,24", "--n_worker", 1, *words]
    with pytest.raises(UserError, match="f.png as an image"):
        run_main(prepare.main, *said)
    if words:
        with lmdb.open(str(tmp_path / "out_6_24"), readonly=True) as environment, environment.begin() as read:
            assert read.get(b"length") is None  # which refuses it
    shutil.copy(images / "a.jpg", images / "d" / "f.png")
    made = []
    monkeypatch.setattr("liif_core.data.prepare.ProcessPoolExecutor", pool_that_tells(made))
    run_main(prepare.main, *said)
    assert len(made) == (5 if words else 1)  # an LMDB of so few is one transaction
    assert len(make("prepared-lmdb" if words else "prepared-folders", tmp_path / "out_6_24")) == 5
    with pytest.raises(UserError, match="was made with resample bicubic, as its prepared.json says"):
        run_main(prepare.main, *said, "--resample", "bilinear")


def pool_that_tells(made):
    class Pool:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, function, path, *rest):
            made.append(path)

            class Done:
                def result(self):
                    return function(path, *rest)

            return Done()

    return Pool


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--size", "16,100"],
            "--size: expected the low and the high side, the second a multiple, like 16,128, got '16,100'",
        ),
        (["--size", "16"], "got '16'"),
        (["--size", "a,b"], "got 'a,b'"),
        (["--n_worker", "0"], "--n_worker: expected 1 or more processes, got 0"),
        (["--path", "nowhere"], "nowhere is not a folder"),
        (["--out", "used"], "used_64_512 holds x.txt and no prepared.json"),
    ],
)
def test_preparing_refuses_what_it_cannot_take(source, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used_64_512").mkdir()
    (tmp_path / "used_64_512" / "x.txt").touch()
    with pytest.raises(UserError) as caught:
        run_main(prepare.main, "--path", source, "--out", "out", *words)
    assert message in str(caught.value)


def test_two_images_of_one_name_are_refused(tmp_path):
    made_images.folder(tmp_path, {"1.png": (8, 9), "00001.jpg": (8, 9)})
    with pytest.raises(UserError, match="00001.jpg and .*1.png would both become 00001.png"):
        run_main(prepare.main, "--path", tmp_path, "--out", tmp_path / "out")


# Reading


def test_both_data_sets_give_the_same_items(prepared):
    folders, database = (make(name, path) for name, path in prepared.items())
    assert len(folders) == len(database) == 4
    for index in range(4):
        for ours, theirs in zip(folders.pair(index), database.pair(index), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(folders.dataset.condition(index), database.dataset.condition(index))
        assert database.dataset.sizes(index) == ((6, 6), (24, 24))
    assert folders.name(0) == "00007" and database.name(0) == "00000"
    loaded = [[*checked(make_loader(Batches(wrapper, 3), 2))] for wrapper in (folders, database)]
    for ours, theirs in zip(*loaded, strict=True):
        np.testing.assert_array_equal(ours["inp"], theirs["inp"])
        np.testing.assert_array_equal(ours["noise"], theirs["noise"])


def test_parts_that_are_absent_are_made_by_bicubic(prepared, tmp_path):
    shutil.copytree(prepared["prepared-folders"] / "hr_24", tmp_path / "hr_24")
    whole, alone = make("prepared-folders", prepared["prepared-folders"]), make("prepared-folders", tmp_path)
    for index in (0, 2):
        low, high = alone.pair(index)
        np.testing.assert_array_equal(low, rgb8.resize(high, 6, 6))
        np.testing.assert_array_equal(alone.sample(index)["inp"], rgb8.resize(low, 24, 24))
    shutil.copytree(prepared["prepared-folders"] / "lr_6", tmp_path / "lr_6")
    alone = make("prepared-folders", tmp_path)
    for index in range(4):
        np.testing.assert_array_equal(alone.sample(index)["inp"], whole.sample(index)["inp"])


def test_a_condition_is_read_and_not_made_where_it_is_there(prepared, tmp_path):
    root = shutil.copytree(prepared["prepared-folders"], tmp_path / "p")
    grey = np.full((24, 24, 3), 9, np.uint8)
    rgb8.write_image(root / "sr_6_24" / "00007.png", grey)
    np.testing.assert_array_equal(make("prepared-folders", root).sample(0)["inp"], grey)


def broken_folders(root):
    rgb8.write_image(root / "sr_6_24" / "0000a.png", np.zeros((24, 23, 3), np.uint8))
    return "the condition of '0000a' in sr_6_24 is 24x23: expected the size of its high resolution, 24x24"


def lonely_folders(root):
    (root / "lr_6" / "0000a.png").unlink()
    return "no partner for 0000a.png"


def other_size(root):
    (root / "hr_24").rename(root / "hr_48")
    return "has no folder hr_24: there is hr_48, lr_6, sr_6_24"


def other_factor(root):
    rgb8.write_image(root / "lr_6" / "0000a.png", np.zeros((6, 8, 3), np.uint8))
    return "do not differ by one integer factor"


def a_file(root):
    shutil.rmtree(root)
    root.write_text("")
    return "is a file, expected a folder of the folders hr_24 and others"


@pytest.mark.parametrize("change", [broken_folders, lonely_folders, other_size, other_factor, a_file])
def test_folders_that_do_not_fit_are_one_sentence(prepared, tmp_path, change):
    root = shutil.copytree(prepared["prepared-folders"], tmp_path / "p")
    expected = change(root)
    assert refusal("prepared-folders", root).count(expected) == 1


def refusal(name, root):
    """What making the data set says, which checking the data says too."""
    dataset = {"name": name, "args": {"root_path": str(root), **SIDES}}
    spec = {"dataset": dataset, "wrapper": {"name": "sr-diffusion-paired", "args": {"scale": 4}}, "batch_size": 2}
    with pytest.raises(UserError) as caught:
        sets.make(spec, 0, True)
    finding = check.Checker().examine(check.Data.model_validate(spec), True, True)
    assert finding.problems and finding.problems[0] in str(caught.value)
    return str(caught.value)


def without_length(change):
    change.delete(b"length")
    return "has no 'length', as where writing it was cut short: make it again"


def strange_length(change):
    change.put(b"length", b"-3")
    return "its 'length' is b'-3': expected the number of its images"


def with_a_hole(change):
    change.delete(b"hr_24_00002")
    return "has no image hr_24_00002, though its length is 4: make the LMDB again, or leave such files out"


def of_other_sizes(change):
    for key, value in list(change.cursor()):
        if key != b"length":
            change.delete(key)
            change.put(b"x" + key, value)
    return "has no image hr_24_00000, though its length is 4, nor has it any other image of 6 and 24 pixels"


def damaged(change):
    change.put(b"lr_6_00001", b"no image")
    return "lr_6_00001 as an image"


@pytest.mark.parametrize("change", [without_length, strange_length, with_a_hole, of_other_sizes, damaged])
def test_an_lmdb_that_is_broken_is_one_sentence(prepared, tmp_path, change):
    root = shutil.copytree(prepared["prepared-lmdb"], tmp_path / "p")
    with lmdb.open(str(root), map_size=1 << 26) as environment, environment.begin(write=True) as writing:
        expected = change(writing)
    assert expected in refusal("prepared-lmdb", root)


def test_holes_of_an_lmdb_are_left_out_if_told_so(prepared, tmp_path):
    root = shutil.copytree(prepared["prepared-lmdb"], tmp_path / "p")
    with lmdb.open(str(root), map_size=1 << 26) as environment, environment.begin(write=True) as writing:
        with_a_hole(writing)
    arguments = {"root_path": str(root), "skip_broken": True, **SIDES}
    dataset = DATASETS.make({"name": "prepared-lmdb", "args": arguments})
    assert [dataset.name(k) for k in range(3)] == ["00000", "00001", "00003"]
    with pytest.raises(UserError, match="as an LMDB"):
        DATASETS.make({"name": "prepared-lmdb", "args": arguments | {"root_path": str(tmp_path)}})


# Samples


def test_a_sample_has_an_image_its_condition_noise_and_level(prepared):
    sample = make("prepared-folders", prepared["prepared-folders"], training=False).sample(1)
    low, high = make("prepared-folders", prepared["prepared-folders"], training=False).pair(1)
    np.testing.assert_array_equal(sample["gt"], high)
    np.testing.assert_array_equal(sample["inp"], rgb8.resize(low, 24, 24))
    assert sample.keys() == {"gt", "inp", "noise", "level"}
    assert (sample["noise"].dtype, sample["noise"].shape) == (np.float32, (3, 24, 24))
    assert sample["level"].dtype == np.float32 and sample["level"].shape == () and 0 < sample["level"] < 1


def test_noise_is_that_of_the_method_and_model(prepared):
    wrapper = make("prepared-folders", prepared["prepared-folders"], training=False)
    schedule = {"name": "cosine", "steps": 7}
    take_noise(wrapper, {"name": "ddpm-unet"}, {"name": "diffusion", "args": {"schedule": schedule}})
    sample = wrapper.sample(2)
    rng = sampling.generator(0, 0, 2, training=False)
    expected = targets.draw(rng, Schedule(**schedule), (3, 24, 24), "ddpm")
    assert sample.keys() == {"gt", "inp", *expected} and "step" in expected
    for key, array in expected.items():
        np.testing.assert_array_equal(sample[key], array)


class Images:
    """Images in memory."""

    images_per_item = 1

    def __init__(self, *sizes):
        self.images = [made_images.make_image(*size, seed=number) for number, size in enumerate(sizes)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def name(self, index):
        return f"p{index}"


WRAPPED = {
    "sr-diffusion-downsampled": {"scale": 3, "inp_size": 5},
    "diffusion-images": {"size": 15},
}


def wrap(name, seed=0, training=True, sizes=((31, 47), (40, 29), (33, 33)), **arguments):
    spec = {"name": name, "args": WRAPPED[name] | {"augment": True} | arguments}
    return WRAPPERS.make(spec, dataset=Images(*sizes), seed=seed, training=training)


@pytest.mark.parametrize("name", WRAPPED)
def test_samples_are_pure_functions_and_workers_do_not_change_a_bit(name):
    here, there = ([*checked(make_loader(Batches(wrap(name), 2, 0, 5), workers))] for workers in (0, 2))
    assert len(here) == 2
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    first = wrap(name).sample(1, 3)
    for other in (wrap(name, seed=1).sample(1, 3), wrap(name).sample(1, 4), wrap(name).sample(2, 3)):
        assert not np.array_equal(first["noise"], other["noise"]) and first["level"] != other["level"]
    still = [wrap(name, seed, training=False).sample(1, epoch) for seed, epoch in ((0, 1), (5, 9))]
    np.testing.assert_array_equal(still[0]["noise"], still[1]["noise"])


def test_a_crop_is_conditioned_on_itself_alone():
    sample = wrap("sr-diffusion-downsampled", augment=False).sample(0, 2)
    low, high = wrap("sr-diffusion-downsampled", augment=False).pair(0, 2)
    assert high.shape == (15, 15, 3)
    np.testing.assert_array_equal(sample["gt"], high)
    np.testing.assert_array_equal(sample["inp"], rgb8.resize(low, 15, 15))


def test_flips_are_from_left_to_right_alone_and_of_both():
    wrapper, still = wrap("sr-diffusion-downsampled"), wrap("sr-diffusion-downsampled", augment=False)
    flipped = 0
    for epoch in range(40):
        one, other = wrapper.sample(1, epoch), still.sample(1, epoch)
        same = np.array_equal(one["gt"], other["gt"])
        assert same or np.array_equal(one["gt"], other["gt"][:, ::-1])
        for key in ("gt", "inp"):
            np.testing.assert_array_equal(one[key], other[key] if same else other[key][:, ::-1])
        flipped += not same
    assert 8 <= flipped <= 32  # of 40, four standard deviations


def test_without_a_condition_an_image_is_its_middle_at_the_size():
    wrapper = wrap("diffusion-images", augment=False)
    sample = wrapper.sample(0)
    image = Image.fromarray(made_images.make_image(31, 47))
    expected = functional.center_crop(functional.resize(image, 15, functional.InterpolationMode.BICUBIC), 15)
    np.testing.assert_array_equal(sample["gt"], np.asarray(expected))
    assert sample.keys() == {"gt", "noise", "level"}
    with pytest.raises(UserError, match="image 'p1' is 40x29, smaller than size 30"):
        wrap("diffusion-images", size=30).sample(1)
    with pytest.raises(UserError, match="image 'p1' is 40x29, smaller than size 30"):
        wrap("diffusion-images", size=30).check(1, (40, 29))


def test_the_check_of_data_reads_every_image(prepared, tmp_path, capsys):
    root = shutil.copytree(prepared["prepared-folders"], tmp_path / "p")
    whole = (root / "sr_6_24" / "0000e.png").read_bytes()
    (root / "sr_6_24" / "0000e.png").write_bytes(whole[:-40])
    config = tmp_path / "test.yaml"
    config.write_text(
        f"test_dataset: {{dataset: {{name: prepared-folders, args: {{root_path: {root}, low: 6, high: 24}}}}, "
        "wrapper: {name: sr-diffusion-paired, args: {scale: 4}}, batch_size: 1}\n"
    )
    assert run_main(check_data.main, config) == 1
    assert "0000e.png as an image" in capsys.readouterr().out
    assert run_main(check_data.main, config, "--quick") == 0
    assert "(4 images)" in capsys.readouterr().out


def test_wrappers_of_diffusion_go_with_its_method_alone(prepared, tmp_path):
    """The method says what a sample has to hold, and others know nothing of noise."""
    data = {
        "dataset": {"name": "prepared-folders", "args": {"root_path": str(prepared["prepared-folders"]), **SIDES}},
        "wrapper": {"name": "sr-diffusion-paired", "args": {"scale": 4}},
        "batch_size": 1,
    }
    content = {"model": {"name": "srresnet"}, "optimizer": {"name": "adam"}, "epoch_max": 1, "train_dataset": data}
    engine = SimpleNamespace(scale=4, preupsampled=True)
    config = TrainConfig.model_validate(content)
    with pytest.raises(UserError, match="'sr-diffusion-paired' does not go with the method 'regression'.*sr-patches"):
        loop.require_fit(engine, loop.make_data_sets(config), config)
    half = {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")}
    patches = data | {"wrapper": {"name": "sr-patches-paired", "args": {"scale": 4}}}
    content |= {"method": {"name": "diffusion"}, "data_norm": half, "train_dataset": patches}
    config = TrainConfig.model_validate(content)
    with pytest.raises(UserError, match="'sr-patches-paired' does not go with the method 'diffusion'.*sr-diffusion"):
        loop.require_fit(engine, loop.make_data_sets(config), config)
