"""demo.py with videos: their frames, names and sizes, what is refused. The files are tested in test_video_files.py."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--ext=mp4"], "--ext mp4: expected a video or an animation among the inputs, got none"),
        (["clip.mp4", "--ext=png"], "--ext png: expected an image among the inputs, got none"),
        (["clip.mp4", "--output=a.png"], "clip.mp4: cannot tell a video format from 'a.png': accepted are .mp4, "),
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
