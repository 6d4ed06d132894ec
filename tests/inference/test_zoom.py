"""The video that zooms into an image: which part each frame shows, what is in a frame, the files, what is refused."""

import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from helpers.small_run import load_tree, model_spec
from liif_core.config.schema import DataNorm
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.images.comparison import CAPTION, GAP
from liif_core.images.normalisation import Normalisation
from liif_core.inference import zoom
from liif_core.inference.network import Network
from liif_core.inference.zoom import ZoomVideo
from liif_core.system import devices

IMAGE = made_images.make_image(31, 47)
# 7 frames, and 10 at rest
SMALL = ZoomVideo(size=(21, 32), zoom=6, centre=(0.3, 0.8), seconds=0.7, frames_per_second=10)
REST = 10
ENDINGS = [".gif", ".mp4"]


@pytest.fixture(scope="module")
def network(framework) -> Network:
    devices.prepare(framework, "cpu")
    engine = load_tree(framework)()[0](model_spec(8))
    engine.seed(3)
    half = {"sub": [0.5], "div": [0.5]}
    return Network(engine, Normalisation(DataNorm.model_validate({"inp": half, "gt": half})))


def halves(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a frame of SMALL shows, left and right, without the captions."""
    height, width = SMALL.size
    return frame[CAPTION : CAPTION + height, :width], frame[CAPTION : CAPTION + height, width + GAP : 2 * width + GAP]


def pillow(box, size: tuple[int, int] = SMALL.size) -> np.ndarray:
    top, left, bottom, right = box
    opened = Image.fromarray(IMAGE)
    return np.asarray(opened.resize(size[::-1], Image.Resampling.BICUBIC, box=(left, top, right, bottom)))


# Which part is shown


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0, 1), (1, 0.02), (0.37, 0.61)])
@pytest.mark.parametrize("size", [(21, 32), (50, 33), (7, 90)])
@pytest.mark.parametrize("image", [(31, 47), (301, 103)])
def test_the_parts_lie_inside_each_other_and_keep_the_aspect(image, size, centre):
    boxes = np.array(list(ZoomVideo(size, 6.5, centre, 1.5, 20).boxes(image)))
    assert len(boxes) == 30
    assert boxes.min() >= 0 and boxes[:, 2].max() <= image[0] and boxes[:, 3].max() <= image[1]
    # Starts only grow, stops only fall, but for rounding where they lie on the image's edge.
    assert np.diff(boxes[:, :2], axis=0).min() >= -1e-9 and np.diff(boxes[:, 2:], axis=0).max() <= 1e-9
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    np.testing.assert_allclose(height / width, size[0] / size[1], rtol=1e-9)
    assert np.diff(height).max() < 0


@pytest.mark.parametrize("size", [(21, 32), (50, 33)])
def test_the_first_part_is_the_largest_that_fits_and_the_last_one_is_smaller_by_the_zoom(size):
    first, *_, last = np.array(list(ZoomVideo(size, 6.5, (0.4, 0.7), 1, 20).boxes((31, 47))))
    sides, smallest = first[2:] - first[:2], last[2:] - last[:2]
    assert (sides == pytest.approx([31, 31 * size[1] / size[0]])) or (
        sides == pytest.approx([47 * size[0] / size[1], 47])
    )
    assert smallest == pytest.approx(sides / 6.5)
    assert (last[:2] + last[2:]) / 2 == pytest.approx([0.4 * 31, 0.7 * 47])


def test_an_image_of_the_same_aspect_is_shown_whole():
    assert next(ZoomVideo((60, 30), 3).boxes((120, 60))) == (0, 0, 120, 60)


def test_a_centre_near_the_edge_moves_the_last_part_to_the_edge():
    *_, last = ZoomVideo((10, 20), 4, (0, 1)).boxes((100, 200))
    assert last == pytest.approx((0, 150, 25, 200))


def test_the_zoom_is_slow_at_both_ends_and_even_in_the_middle():
    heights = np.array([bottom - top for top, _, bottom, _ in ZoomVideo((10, 20), 8, seconds=5).boxes((100, 200))])
    growth = heights[:-1] / heights[1:]
    assert growth.argmax() in (48, 49, 50) and growth[0] < 1.002 and growth[-1] < 1.002
    np.testing.assert_allclose(growth, growth[::-1])


def test_one_point_stands_still():
    """So that the eye is not led around: where it lies in the frame is the same in all frames."""
    boxes = np.array(list(ZoomVideo((21, 32), 5, (0.2, 0.9)).boxes((31, 47))))
    starts, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    point = (starts[-1] * sides[0] - starts[0] * sides[-1]) / (sides[0] - sides[-1])
    where = (point - starts) / sides
    np.testing.assert_allclose(where, np.broadcast_to(where[0], where.shape), atol=1e-9)


# What is in a frame


def test_a_frame_is_bicubic_and_the_network_under_captions(network):
    box = (3.25, 20.5, 10.25, 31.2)
    found = zoom.frame(network, IMAGE, box, SMALL.size)
    assert found.shape == (CAPTION + 21, 2 * 32 + GAP, 3)
    bicubic, upscaled = halves(found)
    np.testing.assert_array_equal(bicubic, pillow(box))
    np.testing.assert_array_equal(upscaled, rgb8.to_uint8(network.part(IMAGE, box, *SMALL.size)))
    assert np.abs(bicubic.astype(int) - upscaled).max() > 20
    assert found[:CAPTION, :32].min() < 128 and found[:CAPTION, 32 + GAP :].min() < 128


def test_downsampling_is_the_same_in_both_halves():
    bicubic, upscaled = halves(zoom.frame(SimpleNamespace(caption="LIIF"), IMAGE, (0, 0, 30.1, 45), SMALL.size))
    np.testing.assert_array_equal(bicubic, upscaled)


# The file


def opened(path: Path) -> tuple[list[np.ndarray], float]:
    """All frames, and how long they last."""
    if path.suffix == ".gif":
        with Image.open(path) as image:
            frames, duration = [], 0.0
            for number in range(image.n_frames):
                image.seek(number)
                frames.append(np.array(image.convert("RGB")))
                duration += image.info["duration"] / 1000
        return frames, duration
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    shape = about["size"][1], about["size"][0], 3
    return [np.frombuffer(frame, np.uint8).reshape(shape) for frame in reader], about["duration"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_zoom_video(network, tmp_path, ending):
    path, counted = tmp_path / f"zoom{ending}", []
    zoom.make(network, IMAGE, path, SMALL, counted.append)
    assert counted == [1] * 7 and len(SMALL) == 7
    frames, duration = opened(path)
    assert len(frames) == (7 if ending == ".gif" else 7 + REST)
    assert duration == pytest.approx(1.7, abs=0.01)
    height, width = CAPTION + 21, 2 * 32 + GAP
    assert {frame.shape for frame in frames} == {(height + (ending == ".mp4"), width, 3)}
    for box, frame in zip(SMALL.boxes(IMAGE.shape[:2]), frames, strict=False):
        exact = zoom.frame(network, IMAGE, box, SMALL.size)
        difference = np.abs(frame[:height].astype(int) - exact)
        assert difference.mean() < (2 if ending == ".gif" else 8)
    assert np.abs(frames[0].astype(int) - frames[6]).mean() > 10
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_gif_goes_on_for_ever_and_keeps_time(network, tmp_path):
    """Also where a frame lasts no whole number of hundredths."""
    path = tmp_path / "zoom.gif"
    zoom.make(network, IMAGE, path, ZoomVideo((9, 13), 3, seconds=1, frames_per_second=30), lambda _: None)
    with Image.open(path) as image:
        assert image.info["loop"] == 0 and image.n_frames == 30
    assert opened(path)[1] == pytest.approx(2)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_frames_are_kept(network, tmp_path, monkeypatch, ending):
    made, alive = [], []
    frame = zoom.frame

    def watched(*arguments):
        made.append(weakref.ref(image := frame(*arguments)))
        return image

    monkeypatch.setattr(zoom, "frame", watched)
    zoom.make(
        network, IMAGE, tmp_path / f"a{ending}", SMALL, lambda _: alive.append(sum(one() is not None for one in made))
    )
    assert len(made) == 7 and max(alive) <= 1


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("there_before", [False, True])
def test_a_zoom_video_that_is_interrupted_leaves_what_was_there(network, tmp_path, ending, there_before):
    path, done = tmp_path / f"zoom{ending}", []
    if there_before:
        path.write_bytes(b"the video before")

    def interrupt(frames: int) -> None:
        done.append(frames)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoom.make(network, IMAGE, path, SMALL, interrupt)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the video before"] * there_before


# What is refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("zoom.webm", {}, "zoom.webm.*accepted are .gif and .mp4"),
        ("zoom", {}, "'zoom': accepted are .gif and .mp4"),
        ("zoom.gif", {"zoom": 0.5}, "zoom: expected a factor above 1 .* got 0.5"),
        ("zoom.gif", {"zoom": 1}, "zoom: expected a factor above 1 .* got 1$"),
        ("zoom.gif", {"zoom": float("nan")}, "zoom: expected a factor above 1 .* got nan"),
        ("zoom.gif", {"zoom": 31}, "zoom: expected .* at most 30, .* got 31"),
        ("zoom.gif", {"centre": (0.5, 1.01)}, "centre: expected fractions .* got 0.5,1.01"),
        ("zoom.gif", {"centre": (-0.1, 0.5)}, "centre: expected fractions .* got -0.1,0.5"),
        ("zoom.gif", {"centre": (float("nan"), 0.5)}, "centre: expected fractions .* got nan,0.5"),
        ("zoom.gif", {"size": (0, 10)}, "video size 0x10"),
        ("zoom.gif", {"size": (10, 5000)}, "video size 10x5000: at most 4096"),
        ("zoom.gif", {"seconds": 0}, "seconds: expected a number above 0 and at most .*, got 0"),
        ("zoom.gif", {"seconds": float("inf")}, "seconds: expected a number above 0 and at most .*, got inf"),
        ("zoom.gif", {"frames_per_second": 51}, "51 frames per second: .gif takes 1 to 50"),
        ("zoom.gif", {"frames_per_second": 0}, "0 frames per second: .gif takes 1 to 50"),
    ],
)
def test_zoom_videos_that_cannot_be_are_refused_in_a_sentence(tmp_path, name, changes, message):
    video = ZoomVideo(**{"size": SMALL.size, "zoom": 6} | changes)
    with pytest.raises(UserError, match=message) as found:
        zoom.make(None, IMAGE, tmp_path / name, video, lambda _: None)
    assert len(str(found.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_missing_ffmpeg_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="videos need ffmpeg: "):
        zoom.check(SMALL, tmp_path / "zoom.mp4", IMAGE.shape[:2])


def test_the_usual_size_has_the_aspect_of_the_image():
    assert zoom.default_size((300, 451)) == (266, 400)
    assert zoom.default_size((64, 32)) == (400, 200)
    assert zoom.default_size((1, 9000)) == (1, 400)
