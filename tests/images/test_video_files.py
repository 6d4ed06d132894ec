"""Videos read and written: every frame, the rate, colours, rotation and sound; and files that are not whole."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from helpers import made_images, videos
from liif_core.errors import UserError
from liif_core.images import video_read, video_write

FRAMES = np.stack([np.roll(made_images.make_image(13, 19), 2 * number, axis=1) for number in range(9)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Nine frames of 13x19 pixels with sound, and its index at the beginning, so that it can be cut."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return videos.make(path, FRAMES, "30000/1001", 0.3, "-movflags", "+faststart")


def test_video_is_read_frame_by_frame(clip):
    video = video_read.inspect(clip)
    assert (video.size, video.rate, video.count, video.sound) == ((13, 19), Fraction(30000, 1001), 9, True)
    assert video.pixel == 1 and video.notes == ()
    read = np.stack(list(video_read.frames(video)))
    assert read.dtype == np.uint8 and np.abs(read.astype(int) - FRAMES).mean() < 2


def test_video_that_lies_is_read_upright_with_its_pixels_shape(clip, tmp_path):
    lying = tmp_path / "lying.mkv"
    videos.ffmpeg("-i", clip, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=4/3", tmp_path / "wide.mp4")
    videos.ffmpeg("-display_rotation", "90", "-i", tmp_path / "wide.mp4", "-c", "copy", lying)
    video = video_read.inspect(lying)
    assert video.size == (19, 13) and video.pixel == Fraction(3, 4)
    read = next(video_read.frames(video))
    assert np.abs(read.astype(int) - np.rot90(FRAMES[0])).mean() < 3


@pytest.mark.parametrize("suffix", video_write.WRITTEN)
def test_video_is_written_with_rate_colours_and_sound(clip, tmp_path, suffix):
    source, path = video_read.inspect(clip), tmp_path / f"result{suffix}"
    flat = [np.full((14, 20, 3), colour, np.uint8) for colour in [(200, 30, 60), (20, 180, 90), (50, 60, 220)] * 3]
    again = suffix == ".webm"
    assert (
        video_write.write(path, flat, replace(source, colours=video_read.Colours("bt709")))
        == ["sound encoded again, as OPUS"] * again
    )
    written = video_read.inspect(path)
    assert (written.size, written.rate, written.count, written.sound) == ((14, 20), source.rate, 9, True)
    assert written.colours.matrix == "bt709"
    assert again or videos.sound(path) == videos.sound(clip)
    assert np.abs(np.stack(list(video_read.frames(written))).astype(int) - flat).max() <= 4
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
def test_video_cut_short_is_refused_before_the_work(clip, tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    codecs = {".webm": ("libvpx", "libopus"), ".avi": ("mpeg4", "mp3")}.get(suffix, ("copy", "copy"))
    start = ["-movflags", "+faststart"] if suffix == ".mp4" else []
    videos.ffmpeg("-stream_loop", "3", "-i", clip, "-c:v", codecs[0], "-c:a", codecs[1], *start, whole)
    assert video_read.inspect(whole).count >= 36
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UserError, match="cannot read .*cut") as found:
        video_read.inspect(cut)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\n{clip}\n", b"ffconcat version 1.0\nfile '{clip}'\n"]
)
def test_what_is_no_video_is_refused_whatever_its_ending(clip, tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content.replace(b"{clip}", bytes(clip)))
    with pytest.raises(UserError, match="cannot read .*clip.mp4 as a video"):
        video_read.inspect(path)


def test_odd_names_are_read_and_written(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "http:clip.mp4", "%d é\udcff.mp4"):
        path = clip.parent.joinpath(name)
        video = replace(video_read.inspect(clip), path=clip)
        video_write.write(path.relative_to(clip.parent), list(FRAMES[:, :12, :18]), video)
        assert video_read.inspect(path.relative_to(clip.parent)).count == 9


def test_frames_at_uneven_times_come_at_an_even_rate(clip, tmp_path):
    """As telephones record them: what was shown longer comes several times, so that the sound fits."""
    path = tmp_path / "uneven.mp4"
    videos.ffmpeg("-i", clip, "-vf", "select='not(eq(n,3)+eq(n,5))'", "-fps_mode", "vfr", "-c:a", "copy", path)
    video = video_read.inspect(path)
    read = np.stack(list(video_read.frames(video))).astype(int)
    assert video.count == len(read) and 9 <= len(read) <= 10
    assert (read[3] == read[2]).all() and np.abs(read[3] - read[1]).mean() > 5


def test_images_begin_when_the_sound_does(clip, tmp_path):
    """In MPEG-TS as well, of which ffmpeg would drop the time before the first image."""
    path = tmp_path / "late.ts"
    videos.ffmpeg("-itsoffset", "0.2", "-i", clip, "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    video = video_read.inspect(path)
    assert 14 <= video.count <= 16 and video.count == sum(1 for _ in video_read.frames(video))


def test_full_disk_leaves_nothing(clip, tmp_path, monkeypatch):
    limited = tmp_path / "ffmpeg"
    limited.write_text(f'#!/bin/sh\nulimit -f 1\ntrap "" XFSZ\nexec {videos.PROGRAM} "$@"\n')
    limited.chmod(0o755)
    video, folder = video_read.inspect(clip), tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(limited))
    noise = np.random.default_rng(0).integers(0, 255, (30, 60, 80, 3)).astype(np.uint8)
    with pytest.raises(UserError, match="cannot write .*ffmpeg did not finish"):
        video_write.write(folder / "a.mp4", noise, video)
    assert not list(folder.iterdir())


def test_writer_that_is_interrupted_leaves_what_was_there(clip, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the video before")

    def interrupted():
        yield np.zeros((14, 20, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_write.write(path, interrupted(), video_read.inspect(clip))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the video before"]
