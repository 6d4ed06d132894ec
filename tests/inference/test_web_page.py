"""The web page: what it shows, and the page itself in a browser."""

import copy
import importlib
import importlib.util
import multiprocessing
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from helpers.models import MODELS
from helpers.small_run import FRAMEWORKS, model_spec, process, run
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.shipped import listed
from liif_core.config.schema import DataNorm
from liif_core.engine import NetworkState
from liif_core.errors import Stopped, UserError
from liif_core.images import rgb8, vips
from liif_core.images.normalisation import Normalisation
from liif_core.inference import kept, web_view
from liif_core.inference.network import Network
from liif_core.inference.web_worker import Renderer, Service
from liif_core.system import devices

SIZE = 61, 93
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if BROWSER else ["chromium"]
in_a_browser = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def make_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [SIZE, (5, 2000), (1, 1), (701, 503)])
@pytest.mark.parametrize("factor", [1, 1.05, 7.35, 30])
@pytest.mark.parametrize("centre", [(0.5, 0.5), (0, 0), (1, 0.3)])
def test_a_view_is_whole_pixels_of_the_upscaled_image_and_lies_inside(size, factor, centre):
    view = web_view.view(size, factor, centre)
    upscaled = rgb8.upscaled_size(size, factor)
    for axis, shown in enumerate((view.height, view.width)):
        start, stop = view.box[axis], view.box[axis + 2]
        assert 0 <= start < stop <= size[axis]
        assert shown == min(web_view.VIEW[axis], upscaled[axis])
        pixels = np.array([start, stop]) * upscaled[axis] / size[axis]
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-6)
        assert pixels[1] - pixels[0] == pytest.approx(shown)


def test_a_click_moves_the_middle_of_the_view_there():
    visit = web_view.Visit()
    visit.small = web_view.downsample(make_image(*SIZE))
    assert max(visit.small.shape) == web_view.OVERVIEW
    visit.look_at(200, 320)
    top, left, bottom, right = web_view.view(SIZE, 25, visit.centre).box
    middle = 200.5 * 93 / 640, 320.5 * 93 / 640
    assert (top + bottom) / 2 == pytest.approx(middle[0], abs=0.3)
    assert (left + right) / 2 == pytest.approx(middle[1], abs=0.1)


@pytest.mark.parametrize("factor, centre", [(1.3, (0.5, 0.5)), (8.2, (0, 1)), (17, (0.7, 0.4))])
def test_both_halves_of_a_view_are_those_of_the_whole_image(factor, centre):
    from liif_torch.engine import Engine

    image, network = make_image(*SIZE), Network(Engine(model_spec(8)), Normalisation(DataNorm()))
    network.engine.seed(3)
    view = web_view.view(SIZE, factor, centre)
    height, width = rgb8.upscaled_size(SIZE, factor)
    first = round(view.box[0] * height / SIZE[0]), round(view.box[1] * width / SIZE[1])
    part = slice(first[0], first[0] + view.height), slice(first[1], first[1] + view.width)
    for whole, found in (
        (rgb8.resize(image, height, width), web_view.bicubic(image, view)),
        (rgb8.to_uint8(network(image, height, width)), web_view.liif(network, image, view)),
    ):
        difference = np.abs(whole[part].astype(int) - found)
        assert difference.max() <= 1 and np.mean(difference > 0) < 0.01  # rounding
    assert web_view.liif(network, image, view, 3).shape == (-(-view.height // 3), -(-view.width // 3), 3)


@pytest.fixture
def small_tiles(monkeypatch):
    """The image of `SIZE` in two rows of three tiles."""
    monkeypatch.setattr(kept, "SIDE", 40)


def service_of(framework: str, model: str, border: str = "mirror") -> tuple[Service, list]:
    """A worker's side without a connection, with a network of random weights called `model`, and a list that grows with
    every image that is encoded."""
    spec = copy.deepcopy(MODELS[model].full)
    spec["args"]["encoder_spec"]["args"] |= {"n_resblocks": 1, "n_feats": 8}
    engine = importlib.import_module(f"liif_{framework}.engine").Engine(spec)
    engine.seed(3)
    encoded, encode = [], engine.encode

    def watched(inp, *given, **named):
        if inp.shape[2:] != (kept.PROBE, kept.PROBE):
            encoded.append(inp.shape)
        return encode(inp, *given, **named)

    engine.encode = watched
    service = Service(None, framework, "cpu")
    service.networks[Path(model)] = Network(engine, Normalisation(DataNorm()), border=border)
    return service, encoded


def assert_views_are_parts(service: Service, model: str, rgb: Path, factors: tuple[float, ...]) -> None:
    for factor in factors:
        for centre in ((0.5, 0.43), (0, 1)):
            view = web_view.view(SIZE, factor, centre)
            size = view.height, view.width
            bicubic, found = service.pair(0, Path(model), rgb, view, web_view.DRAFT, None)
            expected = rgb8.to_uint8(service.networks[Path(model)].part(np.load(rgb), view.box, *size))
            assert bicubic.shape == found.shape == (*size, 3) and expected.std() > 2
            difference = np.abs(expected.astype(int) - found)
            assert difference.max() <= 1 and np.mean(difference > 0) < 0.01  # rounding


FAST = ["edsr-baseline-thera-air", "edsr-baseline-lmliif"]


@pytest.mark.parametrize("model, border", [*((model, "mirror") for model in FAST), ("edsr-baseline-lmlte", "zeros")])
def test_a_cheap_decoder_draws_views_without_drafts_from_features_encoded_once(tmp_path, small_tiles, model, border):
    np.save(tmp_path / "rgb.npy", make_image(*SIZE))
    service, encoded = service_of("torch", model, border)
    assert_views_are_parts(service, model, tmp_path / "rgb.npy", (1.3, 8.2, 17))
    assert len(encoded) == 6
    assert not service.look_around() and len(encoded) == 6


@pytest.mark.jittor
@pytest.mark.skipif("jittor" not in FRAMEWORKS, reason="LIIF_WITHOUT_JITTOR is set")
@pytest.mark.parametrize("model", FAST)
def test_jittor_draws_them_too(tmp_path, small_tiles, model):
    devices.prepare("jittor", "cpu")
    np.save(tmp_path / "rgb.npy", make_image(*SIZE))
    service, encoded = service_of("jittor", model)
    assert_views_are_parts(service, model, tmp_path / "rgb.npy", (8.2,))
    assert 3 < len(encoded) <= 6


def test_the_tiles_around_a_view_come_first_and_only_so_many_are_kept(tmp_path, small_tiles, monkeypatch):
    model, rgb = Path(FAST[0]), tmp_path / "rgb.npy"
    np.save(rgb, make_image(*SIZE))
    service, encoded = service_of("torch", FAST[0])
    view = web_view.view(SIZE, 30, (0, 0))
    service.pair(0, model, rgb, view, 1, None)
    tiles = service.kept[model, rgb].tiles
    assert list(tiles) == [(0, 0)]
    assert service.look_around() and list(tiles) == [(0, 0), (0, 1)]  # 31 pixels to the right, 30 or 31 down
    while service.look_around():
        pass
    assert len(tiles) == len(encoded) == 6
    monkeypatch.setattr(kept, "VALUES", 2 * 40 * 40 * 163)  # 5 for each of 32 waves, and the image
    service.pair(0, model, rgb, view, 1, None)
    assert {*tiles} == {(0, 0), (0, 1)} and len(encoded) == 6
    assert not service.look_around()
    service.pair(0, model, rgb, web_view.view(SIZE, 30, (1, 1)), 1, None)  # far from all that is kept
    assert (1, 2) in tiles and len(tiles) == 2 and len(encoded) == 7
    assert service.look_around() and {*tiles} == {(1, 2), (1, 1)} and not service.look_around()


def test_of_a_view_that_there_is_no_room_for_all_tiles_stay_until_the_next(tmp_path, small_tiles, monkeypatch):
    model, rgb = Path(FAST[0]), tmp_path / "rgb.npy"
    np.save(rgb, make_image(*SIZE))
    service, encoded = service_of("torch", FAST[0])
    monkeypatch.setattr(kept, "VALUES", 40 * 40 * 163)
    whole, near = (web_view.view(SIZE, factor, (0, 0)) for factor in (1, 30))
    service.pair(0, model, rgb, whole, 1, None)
    tiles = service.kept[model, rgb].tiles
    assert len(tiles) == len(encoded) == 6 and not service.look_around()
    service.pair(0, model, rgb, near, 1, None)
    assert {*tiles} == {(0, 0)} and not service.look_around() and len(encoded) == 6


def test_what_would_take_gigabytes_is_not_kept(tmp_path, small_tiles, monkeypatch):
    np.save(tmp_path / "rgb.npy", make_image(*SIZE))
    service, encoded = service_of("torch", FAST[0])
    monkeypatch.setattr(kept, "WIDEST", 162)  # 5 for each of 32 waves, and the image, are 163
    view = web_view.view(SIZE, 1.3, (0.5, 0.5))
    _, draft = service.pair(0, Path(FAST[0]), tmp_path / "rgb.npy", view, web_view.DRAFT, None)
    assert draft.shape[0] < view.height and not service.kept and not service.look_around()


def test_memory_that_is_refused_while_nobody_asks_ends_nothing(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    service = Service(theirs, "torch", "cpu")

    class Large:
        def surround(self, box):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    service.around = [(Large(), (0, 0, 1, 1))]
    ours.send((3, "stop", ()))
    assert not service.look_around() and not service.around
    service.answer_next()
    assert ours.recv() == (3, None)


def test_tiles_are_larger_where_the_encoder_reads_further(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SIDE", 8)
    service, _ = service_of("torch", FAST[0])
    network = service.networks[Path(FAST[0])]
    radius = network.engine.receptive_radius
    assert kept.KeptFeatures(network, make_image(*SIZE)).side == kept.HALOS * radius > 0


def test_only_what_needs_no_encoding_is_drawn_at_once(tmp_path, small_tiles):
    model, liif, rgb = Path(FAST[0]), Path("edsr-baseline-liif"), tmp_path / "rgb.npy"
    np.save(rgb, make_image(*SIZE))
    service, encoded = service_of("torch", FAST[0])
    service.networks |= service_of("torch", str(liif))[0].networks
    near, far = (web_view.view(SIZE, factor, (0, 0)) for factor in (30, 8))
    assert service.at_once(0, model, rgb, near, None) is None and not encoded
    drawn = service.pair(0, model, rgb, near, 3, None)
    np.testing.assert_array_equal(service.at_once(0, model, rgb, near, None), drawn)
    np.testing.assert_array_equal(service.at_once(0, model, rgb, near, model)[0], drawn[1])
    assert service.at_once(0, model, rgb, near, liif) is None and service.at_once(0, model, rgb, far, None) is None
    assert len(encoded) == 1
    rgb.unlink()  # the visitor looks at another image by now
    with pytest.raises(Stopped):
        service.at_once(0, model, rgb, near, None)


def test_a_view_that_memory_is_refused_for_is_answered_and_does_not_become_the_whole_images_trouble(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    service = Service(theirs, "torch", "cpu")

    def refuse(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(service, "pair", refuse)
    ours.send((7, "pair", ()))
    service.answer_next()
    number, answer = ours.recv()
    assert number == 7 and isinstance(answer, UserError) and "not enough memory for this view" in str(answer)


def test_any_two_shipped_models_are_seen_beside_each_other(tmp_path):
    size, rgb = (19, 26), tmp_path / "rgb.npy"
    np.save(rgb, make_image(*size))
    offered = web_view.find_models([])
    assert [*offered] == [*listed()] and "clean" in offered
    clean, other = [*offered.values()][:2]
    service, view = Service(None, "torch", "cpu"), web_view.view(size, 1.5, (0.5, 0.5))
    halves = service.pair(0, clean, rgb, view, 1, other)
    for model, half in zip((other, clean), halves, strict=True):
        np.testing.assert_array_equal(half, web_view.liif(service.networks[model], np.load(rgb), view))
    assert (halves[0] != halves[1]).any()


def test_liif_keeps_its_draft_and_no_features(tmp_path):
    np.save(tmp_path / "rgb.npy", make_image(*SIZE))
    service, encoded = service_of("torch", "edsr-baseline-liif")
    question = 0, Path("edsr-baseline-liif"), tmp_path / "rgb.npy", web_view.view(SIZE, 2, (0.5, 0.5))
    assert service.pair(*question, 3, None)[1].shape == (41, 62, 3)
    assert not service.look_around() and not encoded and not service.kept


def test_the_frame_encloses_the_view_and_nothing_else_changes():
    small = web_view.downsample(np.full((*SIZE, 3), 128, np.uint8))
    framed = web_view.framed(small, SIZE, (10, 20, 30, 50))
    rows, columns = (np.flatnonzero((framed != 128).any(axis=(other, 2))) for other in (1, 0))
    scale = web_view.OVERVIEW / 93
    np.testing.assert_allclose([rows[0], rows[-1] + 1], np.array([10, 30]) * scale, atol=1)
    np.testing.assert_allclose([columns[0], columns[-1] + 1], np.array([20, 50]) * scale, atol=1)
    assert (framed[round(20 * scale), round(35 * scale)] == 128).all()
    assert (small == 128).all()
    for box in ((0, 0, 0.01, 0.01), (60.99, 92.99, 61, 93), (30, 50, 30.2, 70)):  # smaller than a pixel of the overview
        framed = web_view.framed(small, SIZE, box)
        changed = np.argwhere((framed != 128).any(axis=2))
        assert (framed == 255).any() and np.ptp(changed[:, 0]) == 7  # its lines, and no more
        assert (changed.min(axis=0) <= np.array(box[:2]) * scale + 1).all()
        assert (changed.max(axis=0) + 1 >= np.array(box[2:]) * scale - 1).all()


def test_too_many_pixels_are_refused_in_a_sentence():
    rgb8.check_pixels((26_000, 26_000))
    with pytest.raises(UserError, match="27000x26000: at most 700,000,000 pixels"):
        rgb8.check_pixels((27_000, 26_000))


@pytest.fixture(scope="module")
def web_files(tmp_path_factory):
    """A small model, an image of 16 bits with alpha, and a text that calls itself an image."""
    from liif_torch.engine import Engine

    folder = tmp_path_factory.mktemp("web")
    engine = Engine(model_spec(8))
    engine.seed(1)
    native.save(
        folder / "small.safetensors",
        Checkpoint(model_spec(8), {"model": NetworkState(engine.state()["model"].parameters)}),
    )
    deep = np.random.default_rng(1).integers(0, 65536, (31, 45, 4), dtype=np.uint16)
    vips.write(folder / "deep.png", deep, vips.ImageData(deep, depth=16))
    (folder / "wrong.png").write_text("no image\n")
    return folder


@pytest.fixture
def renderer():
    asked = Renderer("torch", "cpu")
    yield asked
    asked.close()


@pytest.mark.slow
def test_views_do_not_wait_for_the_end_of_a_whole_image_which_can_be_stopped(renderer, web_files, tmp_path):
    visit = web_view.Visit()
    visit.open(web_files / "deep.png", tmp_path)
    model = web_files / "small.safetensors"
    whole = renderer.whole(model, visit.source, (31 * 300, 45 * 300), tmp_path / "large.png")
    deadline = time.monotonic() + 60
    while not whole.progress:
        assert not whole.done() and time.monotonic() < deadline
        time.sleep(0.05)
    view = web_view.view(visit.size, 4, (0.5, 0.5))
    bicubic, liif = renderer.pair(model, visit.rgb, view, 1).result(60)
    assert bicubic.shape == liif.shape == (124, 180, 3) and (bicubic != liif).any()
    assert [(one == liif).all() for one in renderer.pair(model, visit.rgb, view, 1, beside=model).result(60)] == [1, 1]
    assert whole.progress < 1 and not whole.done()
    renderer.stop()
    with pytest.raises(Stopped):
        whole.result(60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep.png", "rgb.npy"]
    with pytest.raises(UserError, match="no checkpoint"):
        renderer.pair(web_files / "none.safetensors", visit.rgb, web_view.view(visit.size, 4, (0.5, 0.5)), 1).result(60)


@pytest.mark.slow
def test_a_framework_that_dies_is_started_again(renderer, web_files, tmp_path):
    visit = web_view.Visit()
    visit.open(web_files / "deep.png", tmp_path)
    question = web_files / "small.safetensors", visit.rgb, web_view.view(visit.size, 1, (0.5, 0.5)), 1
    job = renderer.pair(*question)
    renderer.process.kill()
    with pytest.raises(UserError, match="torch has ended"):
        job.result(60)
    renderer.pair(*question).result(60)
    visit.close()
    assert not visit.rgb.exists()
    with pytest.raises(Stopped):
        renderer.pair(*question).result(60)
    renderer.close()
    assert renderer.process is None


def test_without_gradio_one_sentence_says_what_to_install():
    blocked = "import sys, runpy; sys.modules['gradio'] = None; sys.argv = ['demo_web.py']; "
    blocked += "runpy.run_path('scripts/demo_web.py', run_name='__main__')"
    result = run([sys.executable, "-c", blocked])
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert re.search("error: the Python package 'gradio' is not installed: run `.*pip install 'gradio", result.stderr)


@pytest.fixture(scope="module")
def server(web_files):
    """The address of the page, served by the script; it leaves nothing behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scratch = web_files / "scratch"
    scratch.mkdir()
    command = [sys.executable, "scripts/demo_web.py", "--model", web_files / "small.safetensors", "--gpu", "cpu"]
    command = ["env", f"TMPDIR={scratch}", *map(str, command), "--port", str(port)]
    with open(web_files / "log", "w") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while "Ctrl-C" not in (text := (web_files / "log").read_text()):
            assert child.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        status = child.wait(30)
    assert status == 130 and not list(scratch.iterdir())
    assert "Traceback" not in (web_files / "log").read_text()


@pytest.fixture
def page(server):
    """The page in a browser, and the addresses that it asked for beside its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        strangers = []
        page.on("request", lambda request: strangers.append(request.url))
        page.goto(server)
        yield page
        browser.close()
        assert not [url for url in strangers if not url.startswith((server, "data:", "blob:"))]


def drop(page, path) -> None:
    page.set_input_files("#drop input[type=file]", path)


def wait_for_view(page, framework: str, before: list[str]) -> list[str]:
    """The addresses of the two images, when they are others than before and all pixels are there."""
    page.wait_for_function(
        """([framework, before]) => {
            const shown = [...document.querySelectorAll('#view img')].map(image => image.src)
            const caption = document.querySelector('#caption .prose')?.innerText || ''
            return shown.length == 2 && shown[1] != before[1]
                && caption.includes(framework) && caption.endsWith(' s')
        }""",
        arg=[framework, before],
    )
    return [image.get_attribute("src") for image in page.locator("#view img").all()]


@in_a_browser
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_look_drag_click_swipe_and_download(page, web_files, framework, tmp_path):
    name = {"torch": "PyTorch", "jittor": "Jittor"}[framework]
    shown = wait_for_view(page, "PyTorch", ["", ""])  # the example is there
    if framework == "jittor":
        page.get_by_label("Jittor").check()
        page.get_by_text("Jittor is starting").wait_for()
        page.set_default_timeout(300_000)  # it may have to compile
        wait_for_view(page, name, ["", ""])
    drop(page, web_files / "deep.png")
    page.get_by_text("deep.png, 31x45").wait_for()
    shown = wait_for_view(page, name, shown)
    slider = page.locator("#factor input[type=range]").bounding_box()
    page.mouse.move(slider["x"] + slider["width"] * 3 / 29, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] * 0.6, slider["y"] + slider["height"] / 2, steps=9)
    page.mouse.up()
    shown = wait_for_view(page, name, shown)
    assert 17 < float(page.locator("#factor input[type=number]").input_value()) < 20
    overview = page.locator("#overview img").bounding_box()
    page.mouse.click(overview["x"] + overview["width"] * 0.2, overview["y"] + overview["height"] * 0.9)
    shown = wait_for_view(page, name, shown)
    view = page.locator("#view").bounding_box()
    page.mouse.move(view["x"] + view["width"] / 2, view["y"] + view["height"] / 2)
    page.mouse.wheel(0, 100)
    wait_for_view(page, name, shown)
    assert 13 < float(page.locator("#factor input[type=number]").input_value()) < 17
    page.mouse.down()
    page.mouse.move(view["x"] + view["width"] / 4, view["y"] + view["height"] / 2, steps=5)
    page.mouse.up()
    inset = page.locator("#view img").last.evaluate("image => image.style.clipPath")
    assert float(re.search(r"([0-9.]+)%\)", inset)[1]) == pytest.approx(25, abs=2)
    page.fill("#factor input[type=number]", "2.5")
    page.keyboard.press("Enter")
    page.get_by_text("Upscale the whole image to 78x112").click()
    with page.expect_download() as download:
        page.locator("#result a[download]").click()
    assert download.value.suggested_filename == "deep_x2.5.png"
    arguments = ["-i", web_files / "deep.png", "-o", tmp_path / "deep.png", "--model", web_files / "small.safetensors"]
    assert process(framework, "demo", *arguments, "--scale", 2.5).returncode == 0
    assert download.value.path().read_bytes() == (tmp_path / "deep.png").read_bytes()


@in_a_browser
def test_a_wrong_file_is_a_sentence_and_the_page_goes_on(page, web_files):
    shown = wait_for_view(page, "PyTorch", ["", ""])
    drop(page, web_files / "wrong.png")
    message = page.locator(".toast-body")
    message.wait_for()
    assert "cannot read wrong.png: it is text" in message.inner_text() and str(web_files) not in message.inner_text()
    page.get_by_text("chelsea.png, 300x451").wait_for()
    drop(page, web_files / "deep.png")
    page.get_by_text("deep.png, 31x45").wait_for()
    wait_for_view(page, "PyTorch", shown)


@in_a_browser
def test_a_long_upscaling_is_stopped(page, web_files):
    shown = wait_for_view(page, "PyTorch", ["", ""])
    page.fill("#factor input[type=number]", "30")
    page.keyboard.press("Enter")
    page.get_by_text("Upscale the whole image to 9000x13530").click()
    page.locator("#result .progress-text").first.wait_for()
    wait_for_view(page, "PyTorch", shown)  # meanwhile
    page.click("#stop")
    page.locator("#start").wait_for()
    assert not page.locator("#result").is_visible()
