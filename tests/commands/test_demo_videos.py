"""demo.py with videos, animations and pages: their frames, names and sizes, what is refused. The files are tested in
test_video_files.py and test_frames.py."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helpers import videos
from helpers.made_images import make_image, write
from liif_core.errors import UserError
from liif_core.images import rgb8, video_read, video_write
from liif_core.inference import frames as through
from liif_core.inference import plan
from liif_core.inference.task import task_of

FRAMES = np.stack([np.roll(make_image(13, 19), number, axis=1) for number in (0, 5, 5, 9)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four frames, of which the third repeats the second, and sound."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return videos.make(path, FRAMES, "24", 0.2, "-x264-params", "qp=0", "-movflags", "+faststart")


def test_frames_become_what_images_would(demo, clip, tmp_path, monkeypatch):
    images, plain = [], video_write.write

    def watched(path, frames, *rest):
        return plain(path, (images.append(frame.copy()) or frame for frame in frames), *rest)

    monkeypatch.setattr(video_write, "write", watched)
    status, out, err = demo(clip, "-s", 2, "--compare", "-o", "out")
    assert status == 0, err
    assert f"{clip} 13x19 -> 26x38 out/clip.mp4; 4 frames\n" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "clip_compare.png"]
    for number, frame in enumerate(video_read.frames(video_read.inspect(clip))):
        rgb8.write_image(tmp_path / "frames" / f"{number}.png", frame)
    assert demo("frames", "-s", 2, "-o", "exact")[0] == 0
    exact = [rgb8.read_image(tmp_path / "exact" / f"{number}.png") for number in range(4)]
    np.testing.assert_array_equal(images, exact)
    result = video_read.inspect(tmp_path / "out" / "clip.mp4")
    assert (result.size, result.count, result.rate) == ((26, 38), 4, 24)
    assert videos.sound(result.path) == videos.sound(clip)
    assert np.abs(np.stack(list(video_read.frames(result))).astype(int) - images).mean() < 12


def test_folder_holds_images_and_videos_of_which_one_is_cut_short(demo, clip, tmp_path):
    write(tmp_path / "in" / "a.png", 13, 19)
    (tmp_path / "in" / "whole.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "in" / "cut.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    status, out, err = demo("in", "-s", 2, "-o", "out", "--ext", "mkv")
    assert status == 2 and "2 upscaled, 0 skipped, 1 failed" in out
    assert err.startswith("error: cannot read in/cut.mp4 as a video (cut short") and len(err.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "whole.mkv"]
    status, out, _ = demo("in", "-s", 2, "-o", "out", "--ext", "mkv", "--skip-existing")
    assert status == 2 and "0 upscaled, 2 skipped, 1 failed" in out


def test_repeated_frame_is_computed_once(clip, tmp_path, monkeypatch):
    computed = []

    def upscale(network, image, result, advance):
        computed.append(image.pixels)
        result[:] = len(computed)
        advance(result.shape[0] * result.shape[1])

    monkeypatch.setattr(through, "upscale", upscale)
    done: list[int] = []
    images = [(image, (26, 38)) for image in video_read.inspect(clip).images()]
    results = [
        result[0, 0, 0] for _, result in through.upscaled(SimpleNamespace(passes=1), images, tmp_path, done.append)
    ]
    assert results == [1, 2, 2, 3] and done == [26 * 38] * 4


def test_animation_and_pages_become_what_images_would(demo, tmp_path):
    """In one run, each with its own: durations, alpha, sizes."""
    frames = [np.dstack([frame, np.uint8(255 * (frame[..., 0] > 40))]) for frame in FRAMES]
    first, *others = map(Image.fromarray, frames)
    (tmp_path / "in").mkdir()
    first.save(tmp_path / "in" / "a.png", save_all=True, append_images=others, duration=[33, 50, 20, 1000], loop=2)
    pages = [make_image(13, 19), make_image(7, 9)[..., 1]]
    first, second = map(Image.fromarray, pages)
    first.save(tmp_path / "in" / "b.tif", save_all=True, append_images=[second])
    status, out, err = demo("in", "-s", 2, "--frames", "all", "--compare", "-o", "out")
    assert status == 0, err
    lines = [
        "in/a.png 13x19 -> 26x38 out/a.png; 3 frames\n",
        "in/b.tif 13x19 -> 26x38 out/b.tif; 2 pages, not all of this size\n",
    ]
    assert all(line in out for line in lines) and "2 upscaled, 0 skipped, 0 failed" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("a.png", "a_compare.png", "b.tif", "b_compare.png")
    ]
    shown = []
    for name in ("a.png", "b.tif"):
        with Image.open(tmp_path / "out" / name) as file:
            for number in range(file.n_frames):
                file.seek(number)
                shown.append((np.asarray(file), file.info.get("duration")))
    assert [duration for _, duration in shown] == [33, 70, 1000, None, None]  # Pillow joined the two that are the same
    for number, pixels in enumerate([frames[0], frames[1], frames[3], *pages]):
        single = tmp_path / "one" / f"{number}.png"
        single.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(single)
    assert demo("one", "-s", 2, "-o", "exact")[0] == 0
    for number, (result, _) in enumerate(shown):
        np.testing.assert_array_equal(result, np.asarray(Image.open(tmp_path / "exact" / f"{number}.png")))


# What is decided before


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Read a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    plan.add_file_arguments(parser)
    plan.add_size_arguments(parser)
    parser.add_argument("--compare", action="store_true")
    for name in ("zoom", "metadata"):
        parser.add_argument(f"--{name}", default="keep")
    return lambda *words: parser.parse_args([str(word) for word in words])


def test_sides_become_even_and_the_line_says_so(arguments, clip, tmp_path):
    task = task_of(clip, tmp_path / "a.webm", arguments("--resolution=27,39"))
    assert task.size == (28, 40) and task.notes == ("videos have even sides, so not 27x39",)
    assert task.pixels == 28 * 40 * 4
    assert task_of(clip, tmp_path / "a.webm", arguments("-s", 2)).notes == ()


def test_names_of_results(arguments, clip):
    def outputs(*words):
        return [str(output) for _, output in plan.files(arguments(*words, "-s", 2))]

    assert outputs("a.mov", "b.AVI", "c.png") == ["a_liif.mov", "b_liif.mp4", "c_liif.png"]
    assert outputs("a.mov", "c.png", "--ext=webm") == ["a_liif.webm", "c_liif.png"]
    assert outputs("a.mov", "c.png", "--ext=jpg", "--suffix=_x") == ["a_x.mov", "c_x.jpg"]
    assert outputs("a.mov", "c.png", "--ext=gif") == ["a_liif.gif", "c_liif.gif"]


def test_which_of_several_images_are_upscaled(arguments, tmp_path):
    first, *others = [Image.fromarray(frame) for frame in (FRAMES[0], FRAMES[1], FRAMES[3])]
    for name in ("a.gif", "b.webp", "c.tif"):
        first.save(tmp_path / name, save_all=True, append_images=others, **({} if "tif" in name else {"duration": 40}))
    first.save(tmp_path / "still.gif")

    def count(name, output, *words):
        task = task_of(tmp_path / name, tmp_path / output, arguments("-s", 2, *words))
        assert task.pixels == 26 * 38 * (task.frames.count if task.frames else 1)
        return task.frames.count if task.frames else 1

    assert [count(name, f"out{name[1:]}") for name in ("a.gif", "b.webp", "c.tif", "still.gif")] == [3, 3, 1, 1]
    assert [count(name, f"out{name[1:]}", "--frames=first") for name in ("a.gif", "b.webp", "c.tif")] == [1, 1, 1]
    assert [count(name, f"out{name[1:]}", "--frames=all") for name in ("a.gif", "c.tif", "still.gif")] == [3, 3, 1]
    # What the format holds: the first alone, or pages, or the frames of a video.
    assert [count("a.gif", name) for name in ("a.jpg", "a.bmp", "a.tif", "a.avif", "a.webm")] == [1, 1, 3, 3, 3]
    assert [count("c.tif", name, "--frames=all") for name in ("c.png", "c.gif")] == [1, 1]
    assert task_of(tmp_path / "a.gif", tmp_path / "a.mp4", arguments("--resolution=27,39")).sizes == ((28, 40),) * 3


def test_animations_go_where_videos_go(arguments, tmp_path):
    first, second = map(Image.fromarray, FRAMES[:2])
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=40)
    first.save(tmp_path / "still.gif")
    found = plan.files(arguments("a.gif", "still.gif", "b.mov", "--ext=mp4", "-s", 2))
    assert [str(output) for _, output in found] == ["a_liif.mp4", "still_liif.gif", "b_liif.mp4"]
    with pytest.raises(UserError, match="--ext mp4: expected a video or an animation among the inputs, got none"):
        plan.files(arguments("a.gif", "--ext=mp4", "--frames=first", "-s", 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--ext=mp4"], "--ext mp4: expected a video or an animation among the inputs, got none"),
        (["clip.mp4", "--ext=png"], "--ext png: expected an image among the inputs, got none"),
        (["clip.mp4", "--output=a.png"], "clip.mp4: cannot tell a video format from 'a.png': accepted are .mp4, "),
        (["clip.mp4", "--frames=first"], "clip.mp4: --frames first is for images of several frames, and this is a"),
        (["clip.mp4", "--output=a.mp4", "--resolution=20,20000"], "20x20000: a video holds at most 16,384 pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments, clip, tmp_path, words, message):
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    chosen = arguments(*words, *([] if "--resolution" in words[-1] else ["-s", 2]))
    with pytest.raises(UserError, match=message):
        for source, output in plan.files(chosen):
            task_of(source, output, chosen)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_zoom_is_into_images(arguments):
    with pytest.raises(UserError, match="--zoom makes a video of one image"):
        plan.zoom_files(arguments("clip.mp4"))
