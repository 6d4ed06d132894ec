"""Animations and pages: what goes in comes out, frame by frame, with its durations and the number of plays.

Results are read with Pillow, and videos with ffmpeg, so that a mistake in writing is not undone in reading.
"""

import contextlib
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from helpers import videos
from helpers.image_kinds import LIES_LEFT, ORIENTATION, SRGB, noise
from helpers.made_images import make_image
from liif_core.errors import UserError
from liif_core.images import apng, frames_read, frames_write, video_read, vips
from liif_core.images.image import ImageData, fit, pyvips, to_vips
from liif_core.images.video_read import Video

HEIGHT, WIDTH = 13, 19
DURATIONS = [40, 70, 100, 650, 30]  # ms
# Few colours, so that a palette holds them: a square that moves over a ground.
COLOURS = np.array([(250, 240, 230), (200, 30, 20), (20, 60, 180)], np.uint8)
MAPS = [np.zeros((HEIGHT, WIDTH), int) for _ in DURATIONS]
for _number, _place in enumerate((0, 4, 6, 9, 12)):
    MAPS[_number][3:9, _place : _place + 5] = 1
    MAPS[_number][11, 5] = 2
FRAMES = [COLOURS[places] for places in MAPS]
EXACT = {"gif": {}, "webp": {"lossless": True}, "png": {}, "avif": {"quality": 95, "subsampling": "4:4:4"}}


def clear(frames):
    """The ground is transparent."""
    return [np.dstack([frame, np.uint8(255 * (places > 0))]) for frame, places in zip(frames, MAPS, strict=True)]


def make(path: Path, frames=FRAMES, durations=DURATIONS, **more) -> Path:
    """An animation, by Pillow."""
    first, *others = map(PIL.Image.fromarray, frames)
    options = {"loop": 3, **EXACT[path.suffix[1:]]} | more
    first.save(path, save_all=True, append_images=others, duration=durations, **options)
    return path


def written(source: Path, output: Path, factor: int = 1) -> list[str]:
    """What demo.py does with all images of a file, but that a pixel is repeated `factor` times; what it says."""
    frames = frames_read.inspect(source)
    notes: list[str] = frames_write.lost(output.suffix, frames)

    def results():
        for image in frames.images():
            image = fit(image, output.suffix)
            notes.extend(note for note in image.notes if note not in notes)
            yield image, image.pixels.repeat(factor, 0).repeat(factor, 1)

    return notes + frames_write.write(output, results(), frames)


def seen(path: Path):
    """RGBA of every frame, and its ms."""
    with PIL.Image.open(path) as file:
        for number in range(file.n_frames):
            file.seek(number)
            yield np.asarray(file.convert("RGBA")), file.info.get("duration")


@pytest.mark.parametrize("ending", EXACT)
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
def test_animations_come_out_as_they_went_in(tmp_path, ending, alpha):
    source, output = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    frames = clear(FRAMES) if alpha else FRAMES
    make(source, frames, **({"disposal": 2} if ending == "gif" else {}))
    assert frames_read.kind(source) == "frames"
    found = frames_read.inspect(source)
    assert found.durations == tuple(Fraction(ms, 1000) for ms in DURATIONS) and found.opaque is not alpha
    assert written(source, output, 2) == []
    results = list(seen(output))
    assert [ms for _, ms in results] == DURATIONS
    with PIL.Image.open(source) as before, PIL.Image.open(output) as after:
        assert after.format == before.format and after.info.get("loop") == before.info.get("loop")
        assert ("loop" in after.info) == (ending != "avif")
    tolerance = {"webp": 7, "avif": 3}.get(ending, 0)
    for (result, _), frame in zip(results, frames, strict=True):
        expected = np.dstack([frame, np.full((HEIGHT, WIDTH), 255, np.uint8)])[..., :4].repeat(2, 0).repeat(2, 1)
        shown = expected[..., 3] > 0
        assert np.abs(result[..., 3].astype(int) - expected[..., 3]).mean() <= (1 if ending == "avif" else 0)
        assert np.abs(result.astype(int) - expected)[shown].mean() <= tolerance


@pytest.mark.parametrize("disposal", [1, 2, 3], ids=["kept", "cleared", "put back"])
def test_frames_are_those_that_are_shown_whatever_is_stored(tmp_path, disposal):
    """Parts of frames over what was there before, by libvips as ffmpeg shows them; Pillow clears to a colour."""
    images = [PIL.Image.new("P", (9, 7), colour) for colour in (0, 2, 2, 2)]
    for number, image in enumerate(images):
        image.putpalette(COLOURS.tobytes())
        image.paste(1, (number, 1, number + 4, 5))
    path = tmp_path / "a.gif"
    images[0].save(path, save_all=True, append_images=images[1:], disposal=[1, disposal, disposal, 1], transparency=2)
    expected = np.frombuffer(videos.raw(path, "rgba"), np.uint8).reshape(4, 7, 9, 4)
    assert len({frame.tobytes() for frame in expected}) == 4
    for image, frame in zip(frames_read.inspect(path).images(), expected, strict=True):
        alpha, shown = image.pixels[..., 3:] if image.alpha else np.uint8(255), frame[..., 3:] > 0
        assert (alpha == frame[..., 3:]).all() and (image.pixels[..., :3] * shown == frame[..., :3] * shown).all()


@pytest.mark.parametrize(("plays", "ending"), [(1, "gif"), (0, "gif"), (7, "gif"), (1, "webp"), (0, "png"), (2, "png")])
def test_number_of_plays_stays(tmp_path, plays, ending):
    """GIF counts repetitions, and has no such number where there are none."""
    loop = {} if (plays, ending) == (1, "gif") else {"loop": plays - 1 if ending == "gif" and plays else plays}
    first, second = map(PIL.Image.fromarray, FRAMES[:2])
    first.save(tmp_path / f"in.{ending}", save_all=True, append_images=[second], duration=50, **loop)
    assert frames_read.inspect(tmp_path / f"in.{ending}").plays == plays
    written(tmp_path / f"in.{ending}", tmp_path / f"out.{ending}")
    before, after = (PIL.Image.open(tmp_path / f"{name}.{ending}") for name in ("in", "out"))
    assert before.info.get("loop", "none") == after.info.get("loop", "none") == loop.get("loop", "none")


def test_frames_become_those_of_other_formats(tmp_path):
    make(tmp_path / "in.png", durations=[33.3, 1, 20, 0.5, 1000])  # ms
    assert "GIF counts hundredths of a second, from 2 to 65535: durations change" in written(
        tmp_path / "in.png", tmp_path / "out.gif"
    )
    assert [ms for _, ms in seen(tmp_path / "out.gif")] == [30, 20, 20, 20, 1000]
    assert "durations change" not in str(written(tmp_path / "in.png", tmp_path / "out.avif"))
    assert [ms for _, ms in seen(tmp_path / "out.avif")] == [33, 1, 20, 1, 1000]
    assert "TIF has no durations: pages" in written(tmp_path / "in.png", tmp_path / "out.tif")
    with PIL.Image.open(tmp_path / "out.tif") as file:
        assert file.n_frames == 5
    written(tmp_path / "out.tif", tmp_path / "twice.tif")
    np.testing.assert_array_equal([frame[..., :3] for frame, _ in seen(tmp_path / "twice.tif")], FRAMES)


def test_png_keeps_durations_that_are_no_whole_ms_and_only_what_changes(tmp_path):
    durations = (Fraction(1, 30), Fraction(1001, 30_000), Fraction(1, 1000), Fraction(65_535), Fraction(1, 25))
    images = [(ImageData(frame), frame) for frame in (FRAMES[number] for number in (0, 1, 1, 3, 4))]
    apng.write(str(tmp_path / "a.png"), images, durations, 0)
    assert written(tmp_path / "a.png", tmp_path / "b.png") == []
    found = frames_read.inspect(tmp_path / "b.png")
    assert found.durations == durations
    np.testing.assert_array_equal([image.pixels for image in found.images()], [frame for _, frame in images])
    boxes = re.findall(rb"fcTL.{4}(.{16})", (tmp_path / "b.png").read_bytes(), re.DOTALL)
    boxes = [tuple(np.frombuffer(box, ">u4")) for box in boxes]  # width, height, right, down
    assert boxes == [(19, 13, 0, 0), (9, 6, 0, 3), (1, 1, 0, 0), (10, 6, 4, 3), (8, 6, 9, 3)]


def test_image_of_a_png_that_is_not_of_its_animation_is_left_out(tmp_path):
    make(tmp_path / "a.png", default_image=True, durations=DURATIONS[1:])
    np.testing.assert_array_equal(
        [image.pixels for image in frames_read.inspect(tmp_path / "a.png").images()], FRAMES[1:]
    )


def test_profile_and_exif_of_an_animation_stay(tmp_path):
    exif = PIL.Image.Exif()
    exif[ORIENTATION], exif[0x010F] = LIES_LEFT, "ACME"
    for ending in ("png", "webp", "avif"):
        if ending == "avif":  # Pillow crashes when it writes an animation that is to be rotated
            del exif[ORIENTATION]
        make(tmp_path / f"in.{ending}", FRAMES[:2], 50, exif=exif, icc_profile=SRGB)
        size = (HEIGHT, WIDTH) if ending == "avif" else (WIDTH, HEIGHT)
        assert frames_read.inspect(tmp_path / f"in.{ending}").size == size, ending
        written(tmp_path / f"in.{ending}", tmp_path / f"out.{ending}")
        with PIL.Image.open(tmp_path / f"out.{ending}") as file:
            assert file.info["icc_profile"] == SRGB and file.getexif()[0x010F].startswith("ACME"), ending
            assert file.getexif().get(ORIENTATION, 1) == 1
            expected = FRAMES[0] if ending == "avif" else np.rot90(FRAMES[0], -1)
            assert np.abs(np.asarray(file.convert("RGB")).astype(int) - expected).mean() <= 8


# Videos


def shown(path: Path) -> tuple[Video, list[int]]:
    """A video, and for how many of its frames each of FRAMES is seen."""
    video = video_read.inspect(path)
    places = [
        int(np.abs(frame[:HEIGHT, :WIDTH].astype(int) - FRAMES[0])[6].sum(-1).argmax())
        for frame in video_read.frames(video)
    ]
    return video, places


def test_animation_becomes_a_video_of_the_rate_at_which_every_frame_has_its_time(tmp_path):
    frames = [np.pad(frame, ((0, 1), (0, 1), (0, 0))) for frame in FRAMES]
    make(tmp_path / "a.gif", [frames[0], frames[1], frames[3]], [40, 70, 650])
    assert written(tmp_path / "a.gif", tmp_path / "a.mkv") == ["MKV has no palette here: RGB"]
    video = video_read.inspect(tmp_path / "a.mkv")
    assert (video.rate, video.count, video.sound) == (100, 76, False)
    squares = [frame[5, :, 1] < 120 for frame in video_read.frames(video)]
    assert [int(square.argmax()) for square in squares] == [0] * 4 + [4] * 7 + [9] * 65


@pytest.mark.parametrize(
    ("ms", "rate", "times", "note"),
    [
        ([80, 80, 80], Fraction(25, 2), [1, 1, 1], None),
        ([40, 80, 200], Fraction(25), [1, 2, 5], None),
        ([5000, 10_000], Fraction(1), [5, 10], None),
        ([0, 10, 50], Fraction(20), [2, 2, 1], "frames of less than 20 ms stay for 100, as players show them"),
        ([33, 34, 33], Fraction(100), [3, 4, 3], "durations change to whole numbers of 1/100 s"),
    ],
)
def test_rate_of_a_video_of_an_animation(ms, rate, times, note):
    frames = frames_read.Frames(Path("a.webp"), ((4, 6),) * len(ms), tuple(Fraction(n, 1000) for n in ms))
    video, found = frames_write.as_video(frames)
    assert (video.rate, found, video.count) == (rate, times, sum(times))
    assert frames_write.lost(".mp4", frames) == ([note] if note else [])


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_video_becomes_an_animation(tmp_path, ending):
    frames = [np.pad(frame, ((0, 1), (0, 1), (0, 0)), "edge") for frame in FRAMES[:3]]
    clip = videos.make(tmp_path / "a.mp4", np.stack(frames), "30", 0.1, "-x264-params", "qp=0")
    video = video_read.inspect(clip)
    notes = frames_write.lost(f".{ending}", video)
    changed = ["GIF counts hundredths of a second, from 2 to 65535: durations change"]
    assert notes == [f"{ending.upper()} has no sound", *(changed if ending == "gif" else [])]
    images = [(fit(image, f".{ending}"), image.pixels) for image in video.images()]
    assert frames_write.write(tmp_path / f"b.{ending}", iter(images), video) == []
    results = list(seen(tmp_path / f"b.{ending}"))
    assert [ms for _, ms in results] == ([30, 40, 30] if ending == "gif" else [33, 34, 33])
    for (result, _), (_, pixels) in zip(results, images, strict=True):
        assert np.abs(result[..., :3].astype(int) - pixels).mean() < 8
    with PIL.Image.open(tmp_path / f"b.{ending}") as file:
        assert file.info["loop"] == 0


# Pages


def test_pages_keep_their_own_size_depth_and_kind(tmp_path):
    kinds = [
        (noise(3, np.uint16), 16, {}),
        (noise(1, np.uint8, 9, 14), 8, {}),
        (noise(1, np.uint8, 30, 11) // 128 * 255, 1, {"bitdepth": 1}),
        (noise(4, np.uint8, 5, 6) | 1, 8, {}),
    ]
    writer = PIL.TiffImagePlugin.AppendingTiffWriter(tmp_path / "in.tif", True)
    with writer as file:
        for pixels, depth, options in kinds:
            image = to_vips(ImageData(pixels, depth), pixels)
            file.write(image.tiffsave_buffer(**options))
            file.newFrame()
    assert frames_read.kind(tmp_path / "in.tif") == "pages"
    assert written(tmp_path / "in.tif", tmp_path / "out.tif", 3) == []
    for number, (pixels, depth, _) in enumerate(kinds):
        page = vips.read(tmp_path / "out.tif", number)
        assert (page.depth, page.notes) == (depth, ())
        np.testing.assert_array_equal(page.pixels, pixels.repeat(3, 0).repeat(3, 1))
    assert pyvips.Image.new_from_file(str(tmp_path / "out.tif")).get("n-pages") == 4


def test_page_that_cannot_be_read_is_named(tmp_path):
    first, second = PIL.Image.fromarray(FRAMES[0]), PIL.Image.new("F", (5, 4))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"^page 2: .*a.tif.* float"):
        frames_read.inspect(tmp_path / "a.tif")


# What is damaged


@pytest.mark.parametrize("ending", [*EXACT, "tif"])
def test_file_that_is_cut_short_is_refused_before_the_work(tmp_path, ending):
    whole = tmp_path / f"a.{ending}"
    frames = [make_image(HEIGHT, WIDTH, seed) for seed in range(3)]
    if ending == "tif":
        PIL.Image.fromarray(frames[0]).save(whole, save_all=True, append_images=map(PIL.Image.fromarray, frames[1:]))
    else:
        make(whole, frames, 50)
    content, refused = whole.read_bytes(), 0
    assert frames_read.inspect(whole).count == 3
    for part in (0.4, 0.6, 0.8, 0.97):
        whole.write_bytes(content[: int(len(content) * part)])
        with contextlib.suppress(UserError):
            if frames_read.kind(whole):
                frames_read.inspect(whole)
                continue
        refused += 1
    assert refused == 4
    if ending == "gif":  # as some programs leave it
        whole.write_bytes(content[:-1])
        assert frames_read.inspect(whole).notes == ("it does not say where it ends: frames may be missing",)


def test_file_that_changes_meanwhile_is_refused(tmp_path):
    frames = frames_read.inspect(make(tmp_path / "a.gif"))
    make(tmp_path / "a.gif", FRAMES[:2], 50)
    with pytest.raises(UserError, match="a.gif changed while it was read"):
        list(frames.images())


def test_too_many_rows_for_a_gif_and_what_is_no_format_are_refused(tmp_path):
    frames = frames_read.Frames(Path("a.gif"), ((13, 19),) * 2000, (Fraction(1, 10),) * 2000)
    with pytest.raises(UserError, match="2000 frames of 5200 rows: a GIF takes at most 10,000,000 in all; try WebP"):
        frames_write.check_output(tmp_path / "b.gif", frames, [(5200, 7600)] * 2000)
    with pytest.raises(UserError, match="holds at most 16,383 pixels"):
        frames_write.check_output(tmp_path / "b.webp", frames, [(20_000, 7600)] * 2000)
    video = Video(Path("a.mp4"), (13, 19), Fraction(24), 10)
    with pytest.raises(UserError, match="from 'b.png': accepted are .mp4, .*.gif, .webp"):
        frames_write.check_output(tmp_path / "b.png", video, [(26, 38)])
