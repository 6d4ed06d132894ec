"""cache: bin: the same pixels as without, made once, shared, and never used when it is damaged or out of date."""

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import ROOT, made_images
from liif_core.data import bin_cache, sets
from liif_core.data.batching import Batches, checked
from liif_core.data.sets import DATASETS
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import locks
from liif_torch.datasets import make_loader

SIZES = {"b.png": (9, 13), "a.png": (11, 8), "10.jpg": (7, 20), "c.bmp": (6, 6), "grey.png": (5, 4)}


def image_folder(root, **arguments):
    return DATASETS.make({"name": "image-folder", "args": {"root_path": str(root), "cache": "bin"} | arguments})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LIIF_CACHE", raising=False)
    root = made_images.folder(tmp_path / "images", SIZES)
    Image.open(root / "grey.png").convert("L").save(root / "grey.png")
    return root


@pytest.fixture
def builds(monkeypatch):
    """The folders that were decoded, in order."""
    done = []
    decode = bin_cache._decode_all
    monkeypatch.setattr(bin_cache, "_decode_all", lambda folder, pixels: done.append(folder) or decode(folder, pixels))
    return done


def beside(folder) -> Path:
    return folder.parent / f"_bin_{folder.name}"


def test_bin_holds_the_same_pixels_as_none_in_one_file_of_three_bytes_a_pixel(folder):
    cached, read = image_folder(folder), image_folder(folder, cache="none")
    assert len(cached) == len(read) == 5
    for index in range(5):
        assert cached.name(index) == read.name(index)
        assert cached[index].dtype == np.uint8 and type(cached[index]) is np.ndarray
        np.testing.assert_array_equal(cached[index], read[index])
    assert sorted(path.name.split("-")[0] for path in beside(folder).iterdir()) == ["index.json", "lock", "pixels"]
    pixels = next(beside(folder).glob("pixels-*.bin"))
    assert pixels.stat().st_size == 3 * sum(height * width for height, width in SIZES.values())


def test_in_memory_holds_three_bytes_a_pixel(folder):
    held = image_folder(folder, cache="in_memory").images.held.values()
    assert sum(image.nbytes for image in held) == 3 * sum(height * width for height, width in SIZES.values())
    assert all(image.base is None or image.base.nbytes == image.nbytes for image in held)


def test_cache_is_made_once_for_all_configs_of_a_folder(folder, tmp_path, builds):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["b.png", "10.jpg"], "val": ["a.png"]}))
    image_folder(folder)
    for key in ("train", "val"):
        image_folder(folder, split_file=str(split), split_key=key)
    assert image_folder(folder, first_k=2, repeat=3)[5].shape == (11, 8, 3)
    assert builds == [folder]


@pytest.mark.parametrize("change", ["new", "gone", "renamed", "repainted", "touched"])
def test_a_changed_folder_is_cached_anew(folder, change, builds):
    image_folder(folder)
    if change == "new":
        made_images.write(folder / "d.png", 4, 3)
    elif change == "gone":
        (folder / "b.png").unlink()
    elif change == "renamed":
        (folder / "b.png").rename(folder / "z.png")
    elif change == "repainted":
        Image.fromarray(made_images.make_image(9, 13, seed=77)).save(folder / "b.png")
    else:
        stat = (folder / "b.png").stat()
        os.utime(folder / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    cached, read = image_folder(folder), image_folder(folder, cache="none")
    assert len(builds) == 2
    assert [cached.name(i) for i in range(len(cached))] == [read.name(i) for i in range(len(read))]
    for index in range(len(read)):
        np.testing.assert_array_equal(cached[index], read[index])
    assert len(list(beside(folder).glob("pixels-*.bin"))) == 1  # the old one is gone


@pytest.mark.parametrize(
    "damage", ["short", "flipped", "no pixels", "half an index", "another index", "empty index", "list"]
)
def test_a_damaged_cache_is_made_anew(folder, damage, builds):
    image_folder(folder)
    index, pixels = beside(folder) / "index.json", next(beside(folder).glob("pixels-*.bin"))
    content = index.read_text()
    if damage == "short":
        os.truncate(pixels, pixels.stat().st_size - 1)
    elif damage == "flipped":
        time.sleep(0.02)  # the clock of file times ticks every few milliseconds
        with open(pixels, "r+b") as file:
            file.write(b"\xff\x00\xff")
    elif damage == "no pixels":
        pixels.unlink()
    else:
        other = content.replace('"a.png": [11, 8', '"a.png": [8, 11')
        assert other != content
        index.write_text(
            {"half an index": content[: len(content) // 2], "another index": other, "list": "[]"}.get(damage, "")
        )
    cached, read = image_folder(folder), image_folder(folder, cache="none")
    assert len(builds) == 2
    for position in range(5):
        np.testing.assert_array_equal(cached[position], read[position])


def test_leftovers_of_a_killed_process_are_not_used_and_go(folder, builds):
    beside(folder).mkdir()
    left = [beside(folder) / f"{name}.bin" for name in ("pixels-killed", "making-killed", "making-under-way")]
    for path in left:
        path.write_bytes(b"half of it")
    os.utime(left[1], (time.time() - 4000,) * 2)
    image_folder(folder)
    assert builds == [folder]
    assert [path.exists() for path in left] == [False, False, True]  # the last may be another process's


def test_an_interruption_leaves_nothing_half_and_keeps_the_old_cache(folder, monkeypatch):
    image_folder(folder)
    before = {path.name: path.read_bytes() for path in beside(folder).iterdir()}
    made_images.write(folder / "d.png", 4, 3)
    monkeypatch.setattr(bin_cache.rgb8, "read_image", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        image_folder(folder)
    assert {path.name: path.read_bytes() for path in beside(folder).iterdir()} == before


READ = """
import sys
sys.path.insert(0, sys.argv[1])
from liif_core.data import bin_cache
from liif_core.data.sets import DATASETS
decode = bin_cache._decode_all
def counted(folder, pixels):
    print("decodes", flush=True)
    return decode(folder, pixels)
bin_cache._decode_all = counted
dataset = DATASETS.make({"name": "image-folder", "args": {"root_path": sys.argv[2], "cache": "bin"}})
print(*(int(dataset[i].sum()) for i in range(len(dataset))), sep=",")
"""


@pytest.mark.slow
def test_two_processes_at_once_make_it_once_and_read_the_same(tmp_path, monkeypatch):
    monkeypatch.delenv("LIIF_CACHE", raising=False)
    root = made_images.folder(tmp_path / "many", {f"{number}.png": (240, 320) for number in range(40)})
    command = [sys.executable, "-c", READ, str(ROOT), str(root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    read = image_folder(root, cache="none")
    expected = ",".join(str(int(read[i].sum())) for i in range(40))
    assert [lines[-1] for lines in outputs] == [expected, expected]
    assert sum(lines.count("decodes") for lines in outputs) == 1
    assert len(list(beside(root).glob("pixels-*.bin"))) == 1


def test_without_locks_two_builders_do_not_harm_each_other(folder, monkeypatch):
    """The second begins while the first is in the middle, and both end up with the right pixels."""
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError("no locks here")))
    decode, inner = bin_cache._decode_all, []

    def interrupted(root, pixels):
        found = decode(root, pixels)
        if not inner:
            inner.append(None)
            inner[0] = image_folder(root)
        return found

    monkeypatch.setattr(bin_cache, "_decode_all", interrupted)
    outer, read = image_folder(folder), image_folder(folder, cache="none")
    for index in range(5):
        np.testing.assert_array_equal(outer[index], read[index])
        np.testing.assert_array_equal(inner[0][index], read[index])


def test_a_reader_keeps_its_pixels_while_the_cache_is_made_anew(folder):
    old = image_folder(folder)
    before = [old[index].copy() for index in range(5)]
    Image.fromarray(made_images.make_image(9, 13, seed=77)).save(folder / "b.png")
    image_folder(folder)
    for index in range(5):
        np.testing.assert_array_equal(old[index], before[index])


def test_a_pickled_data_set_carries_no_pixels_and_maps_the_file_again(folder):
    cached = image_folder(folder)
    content = pickle.dumps(cached)
    assert cached[0].tobytes() not in content
    copy = pickle.loads(content)
    np.testing.assert_array_equal(copy[0], cached[0])
    shutil.rmtree(beside(folder))
    with pytest.raises(UserError, match="was made anew while it was in use"):
        pickle.loads(content)


def _sums(dataset, queue):
    queue.put([int(dataset[index].sum()) for index in range(len(dataset))])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same(folder, method):
    cached = image_folder(folder)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_sums, args=(cached, queue))
    worker.start()
    assert queue.get(timeout=60) == [int(cached[index].sum()) for index in range(5)]
    worker.join()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_samples_are_the_same_bits(tmp_path, workers):
    root = made_images.folder(tmp_path / "train", {"a.png": (41, 67), "b.png": (52, 38), "c.png": (60, 44)})
    wrapper = {"name": "sr-implicit-downsampled", "args": {"inp_size": 8, "scale_max": 4, "sample_q": 30}}
    wrapper["args"]["augment"] = True
    found = {}
    for cache in ("none", "bin"):
        dataset = {"name": "image-folder", "args": {"root_path": str(root), "repeat": 3, "cache": cache}}
        made = sets.make({"dataset": dataset, "wrapper": wrapper}, seed=1, training=True)
        found[cache] = list(checked(make_loader(Batches(made, 4, 1, 2), workers)))
    assert len(found["bin"]) == 3
    for ours, theirs in zip(found["bin"], found["none"], strict=True):
        for key in theirs:
            np.testing.assert_array_equal(ours[key], theirs[key])


@pytest.mark.parametrize("cache", ["none", "in_memory", "bin"])
def test_a_loader_can_be_sent_to_processes_that_are_spawned(tmp_path, cache):
    """As on Windows and macOS."""
    root = made_images.folder(tmp_path / "train", {"a.png": (41, 67), "b.png": (52, 38)})
    dataset = {"name": "image-folder", "args": {"root_path": str(root), "cache": cache}}
    wrapper = {"name": "sr-implicit-downsampled", "args": {"inp_size": 8, "scale_max": 4, "sample_q": 30}}
    batches = Batches(sets.make({"dataset": dataset, "wrapper": wrapper}, seed=1, training=True), 2)
    loader = make_loader(batches)
    sent = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn)))
    for key, array in batches[0].items():
        np.testing.assert_array_equal(sent[1](sent[0][0])[key], array)


class Watched:
    """In place of a wrapper: each sample reads a whole image and tells what the process holds, in bytes."""

    training = False

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def sample(self, index, epoch):
        total = np.array(self.dataset[index].sum())
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
        own = np.array(1024 * kilobytes["Private_Dirty"])
        return {"inp": total, "gt": total, "own": own, "mapped": np.array(1024 * kilobytes["Rss"])}


@pytest.mark.parametrize("cache", ["bin", "in_memory"])
def test_workers_read_all_images_and_copy_none(tmp_path, cache):
    """Two workers read 9 MB each; what either has for itself hardly grows."""
    root = tmp_path / "train"
    root.mkdir()
    for number in range(8):
        Image.fromarray(made_images.make_image(800, 950, seed=number)).save(root / f"{number}.bmp")
    dataset = image_folder(root, cache=cache)
    expected = [int(dataset[index].sum()) for index in range(8)]
    found = list(make_loader(Batches(Watched(dataset), 1), 2))
    assert [int(batch["gt"][0]) for batch in found] == expected
    for worker in (found[::2], found[1::2]):  # they take turns
        growth = {key: int(worker[-1][key][0]) - int(worker[0][key][0]) for key in ("own", "mapped")}
        assert growth["own"] < 1e6
        assert growth["mapped"] > 4e6 or cache == "in_memory"  # pages of the file, which are there once for all


def resident(path: Path) -> int:
    """Bytes of a mapped file that this process has touched."""
    size, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            size += int(line.split()[1]) * 1024
    return size


def test_a_crop_reads_its_own_pages_only(tmp_path):
    root = tmp_path / "large"
    root.mkdir()
    Image.fromarray(np.zeros((3000, 4000, 3), np.uint8)).save(root / "a.png", compress_level=1)
    spec = {"name": "image-folder", "args": {"root_path": str(root), "cache": "bin"}}
    wrapper = {"name": "sr-implicit-downsampled", "args": {"inp_size": 8, "scale_min": 4, "sample_q": 9}}
    made = sets.make({"dataset": spec, "wrapper": wrapper}, seed=0, training=True)
    pixels = next(beside(root).glob("pixels-*.bin"))
    assert resident(pixels) < 1e6
    made.sample(0)  # 32 rows of 12 kB; the kernel maps some pages around each access
    assert 0 < resident(pixels) < 5e6
    made.dataset[0].sum()
    assert resident(pixels) > 30e6


def test_a_view_cannot_be_written(folder):
    with pytest.raises(ValueError, match="read-only"):
        image_folder(folder)[0][0, 0, 0] = 1


# Broken images


@pytest.fixture
def broken(folder):
    content = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(content[: len(content) * 2 // 3])
    (folder / "notes.png").write_text("not an image")
    return folder


def test_broken_images_are_named_or_left_out(broken, capsys, builds):
    with pytest.raises(UserError, match=r"b.png as an image .*\(and 1 more\).*skip_broken: true"):
        image_folder(broken)
    dataset = image_folder(broken, skip_broken=True)
    assert [dataset.name(i) for i in range(len(dataset))] == ["10", "a", "c", "grey"]
    output = "".join(capsys.readouterr())
    assert "left out" in output and "b.png" in output and "notes.png" in output
    assert len(builds) == 1  # what is broken is remembered, too


def test_broken_images_outside_the_split_do_no_harm(broken, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["a.png", "c.bmp"]}))
    assert len(image_folder(broken, split_file=str(split), split_key="train")) == 2


def test_a_fixed_image_is_seen(broken):
    assert len(image_folder(broken, skip_broken=True)) == 4
    made_images.write(broken / "b.png", 9, 13)
    assert len(image_folder(broken, skip_broken=True)) == 5


def test_a_folder_without_any_image(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in"):
        image_folder(tmp_path / "empty")


def test_pairs_with_a_broken_image(tmp_path):
    low = made_images.folder(tmp_path / "low", {"ax2.png": (5, 7), "bx2.png": (6, 5), "cx2.png": (4, 9)})
    high = made_images.folder(tmp_path / "high", {"a.png": (10, 14), "b.png": (12, 10), "c.png": (8, 18)})
    (low / "ax2.png").write_bytes((low / "ax2.png").read_bytes()[:60])
    arguments = {"root_path_1": str(low), "root_path_2": str(high), "cache": "bin", "skip_broken": True}
    dataset = DATASETS.make({"name": "paired-image-folders", "args": arguments})
    assert [dataset.name(i) for i in range(len(dataset))] == ["b", "c"]
    assert dataset[1][0].shape == (4, 9, 3) and dataset[1][1].shape == (8, 18, 3)


def test_a_split_that_reaches_into_another_folder_is_refused(folder, tmp_path):
    made_images.write(folder / "deeper" / "d.png", 4, 4)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["a.png", "deeper/d.png"]}))
    with pytest.raises(UserError, match="deeper/d.png needs cache: none"):
        image_folder(folder, split_file=str(split), split_key="train")
    assert len(image_folder(folder, split_file=str(split), split_key="train", cache="none")) == 2


# Where it is kept


def test_the_environment_says_where(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LIIF_CACHE", str(tmp_path / "elsewhere"))
    other = made_images.folder(tmp_path / "another" / "images", {"a.png": (3, 4)})
    assert image_folder(folder)[1].shape == (11, 8, 3)
    assert image_folder(other)[0].shape == (3, 4, 3)  # of the same name, and yet not mistaken
    assert not beside(folder).exists() and not beside(other).exists()
    assert len(list((tmp_path / "elsewhere").glob("images-*/index.json"))) == 2


def test_beside_a_folder_that_cannot_be_written_the_home_folder_takes_it(folder, tmp_path, monkeypatch, builds):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    # Root may write anywhere, so that permissions alone would not stop the tests' user.
    allowed = os.access
    monkeypatch.setattr(
        bin_cache.os,
        "access",
        lambda path, mode: not (mode == os.W_OK and Path(path) == folder.parent) and allowed(path, mode),
    )
    image_folder(folder)
    image_folder(folder)
    assert not beside(folder).exists()
    assert len(list((home / ".cache" / "liif").glob("images-*/index.json"))) == 1
    assert builds == [folder]


def test_a_cache_that_is_there_is_used_where_nothing_can_be_written(folder, monkeypatch, builds):
    image_folder(folder)
    monkeypatch.setattr(bin_cache, "_can_be_written", lambda path: False)
    (beside(folder) / "lock").unlink()
    image_folder(folder)
    assert len(builds) == 1 and not (beside(folder) / "lock").exists()


def _write_little(root, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # stands for a full disk: a write fails in the middle
    try:
        image_folder(root)
    except UserError as error:
        queue.put(str(error))


def test_a_disk_that_is_full_is_one_sentence_and_nothing_half(folder):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_write_little, args=(folder, queue))
    worker.start()
    message = queue.get(timeout=60)
    worker.join()
    assert "cannot write the cache" in message and "set LIIF_CACHE" in message
    assert [path.name for path in beside(folder).iterdir()] == ["lock"]


def test_building_holds_one_image_at_a_time(tmp_path):
    """Thirty images of 6 MB go through a process that may grow by much less than their sum."""
    root = tmp_path / "many"
    root.mkdir()
    large = np.zeros((1200, 1700, 3), np.uint8)
    for number in range(30):
        Image.fromarray(large).save(root / f"{number}.png", compress_level=1)
    program = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from liif_core.data import bin_cache
from liif_core.images import rgb8
from pathlib import Path
rgb8.read_image({str(root / "0.png")!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bin_cache.open_folder(Path({str(root)!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert grown < 60_000  # kB; the images together have 184 MB
    assert rgb8.read_size(root / "0.png") == (1200, 1700)
