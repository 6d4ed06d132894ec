"""LIIF in a web page:  python scripts/demo_web.py [--model FILE ...] [--gpu ..] [--port 7860] [--host 127.0.0.1]

Any part of an image at any factor, beside Pillow's bicubic or another model, and the whole image upscaled, as demo.py
does it.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# The repository root instead of this folder, so that nothing has to be installed.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from liif_core.system import process

process.begin()

import numpy as np
from PIL import Image

from liif_core.commands.entry import GPU_HELP
from liif_core.errors import Stopped, UserError, one_line
from liif_core.experiments import jobs
from liif_core.images import rgb8, vips
from liif_core.images.image import FORMATS
from liif_core.inference import web_view
from liif_core.inference.web_view import Visit
from liif_core.inference.web_worker import Renderer
from liif_core.system import packages
from liif_core.system.arguments import Parser

GRADIO = "gradio>=6.31,<7"
FOLDER = tempfile.TemporaryDirectory(prefix="liif-web-")  # of uploads, views and results
# Gradio looks at these when it is imported, and would report that it was.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": FOLDER.name}
try:
    gr = packages.load("gradio", GRADIO)
except UserError as error:
    process.leave(str(error))

BICUBIC = "bicubic"
EXAMPLE = ROOT / "examples" / "chelsea.png"
FRAMEWORKS = {"PyTorch": "torch", "Jittor": "jittor"}
SLOW = {"Jittor": "; the first time, it compiles for some minutes"}
KEPT = 3600  # seconds that uploads and results wait to be fetched
STYLE = """
#caption { min-height: 24px }
#overview img { cursor: crosshair; max-height: 360px }
#view { position: relative }
#view::before, #view::after { position: absolute; bottom: 14px; z-index: 1000; padding: 0 8px; border-radius: 4px;
  background: rgba(0, 0, 0, .6); color: white; font-size: 13px; pointer-events: none }
#view::before { left: 14px }
#view::after { right: 14px }
#result .empty { min-height: 0; height: 96px }
footer { display: none !important }
"""
# The wheel over the view moves the slider, a notch by a fifth, instead of Gradio's magnifying of pixels.
WHEEL = """() => document.addEventListener('wheel', event => {
    if (!event.target.closest('#view')) return
    event.preventDefault()
    event.stopPropagation()
    const slider = document.querySelector('#factor input[type=range]')
    const pixels = event.deltaY * (event.deltaMode ? 33 : 1)
    slider.value = slider.value * Math.exp(-Math.max(-200, Math.min(200, pixels)) / 500)
    slider.dispatchEvent(new Event('input', {bubbles: true}))
}, {capture: true, passive: false})"""


class Page:
    """The page and what happens in it."""

    def __init__(self, models: dict[str, Path], gpu: str | None):
        self.models = models
        self.halves = [BICUBIC, *models]
        self.renderers = {name: Renderer(framework, gpu) for name, framework in FRAMEWORKS.items()}
        self.turns = {name: asyncio.Lock() for name in FRAMEWORKS}
        self.upscaling: dict[str, Callable[[], None]] = {}  # what stops it, by Gradio's name of the session

    def build(self) -> gr.Blocks:
        """Lay the page out."""
        with gr.Blocks(title="LIIF", analytics_enabled=False, delete_cache=(KEPT // 4, KEPT)) as blocks:
            self.visit = gr.State(Visit(), delete_callback=Visit.close)
            self.missing = gr.Number(0, visible="hidden")  # another one for every view that is not drawn at once
            gr.Markdown("## LIIF at any factor")
            with gr.Row():
                with gr.Column(scale=5, min_width=320):
                    self.drop = gr.File(label="Image", file_types=list(FORMATS), height=120, elem_id="drop")
                    self.overview = gr.Image(format="jpeg", interactive=False, buttons=[], elem_id="overview")
                    self.framework = gr.Radio(list(FRAMEWORKS), value="PyTorch", label="Framework", elem_id="framework")
                    self.model = gr.Dropdown(list(self.models), label="Model")
                    self.beside = gr.Dropdown(self.halves, label="Left half", visible=len(self.models) > 1)
                with gr.Column(scale=7, min_width=320):
                    self.factor = gr.Slider(*web_view.FACTORS, value=4, step=0.05, label="Factor", elem_id="factor")
                    self.seen = gr.ImageSlider(
                        format="webp", show_label=False, buttons=["fullscreen"], max_height=540, elem_id="view"
                    )
                    self.caption = gr.Markdown(elem_id="caption")
                    with gr.Row(equal_height=True):
                        self.ending = gr.Dropdown(
                            list(FORMATS), value=".png", label="Format", container=False, scale=1, min_width=100
                        )
                        self.start = gr.Button(variant="primary", scale=3, elem_id="start")
                        self.end = gr.Button("Stop", variant="stop", scale=3, visible=False, elem_id="stop")
                    self.result = gr.File(
                        label="Upscaled image", interactive=False, height=100, visible=False, elem_id="result"
                    )
            self._connect_view(blocks)
            self._connect_whole()
            blocks.unload(self.leave)
        return blocks

    def _connect_view(self, blocks: gr.Blocks) -> None:
        opened = gr.on(
            [blocks.load, self.drop.upload],
            self.open,
            [self.visit, self.drop],
            [self.visit, self.ending],
            concurrency_limit=None,
            show_progress="hidden",
        )
        for after in (opened.success, opened.failure):
            after(lambda: None, None, self.drop)
        clicked = self.overview.select(self.click, [self.visit], None, concurrency_limit=None)
        # While the slider is dragged, every step would be an event: the next is sent when the view is drawn, or will be
        # by `show`. Without the queue, which is a second way there and back.
        chosen = self.factor.input, self.framework.input, self.model.input, self.beside.input
        for event in (opened.success, clicked.then, *chosen):
            event(
                self.aim,
                [self.visit, self.factor, self.framework, self.model, self.beside],
                [self.overview, self.start, self.seen, self.caption, self.missing],
                trigger_mode="always_last",
                concurrency_limit=None,
                show_progress="hidden",
                queue=False,
            )
        self.missing.change(
            self.show,
            [self.visit, self.framework, self.model, self.beside],
            [self.seen, self.caption],
            trigger_mode="multiple",
            concurrency_limit=None,
            show_progress="hidden",
        )

    def _connect_whole(self) -> None:
        started = self.start.click(lambda: _running(True), None, [self.start, self.end, self.result], queue=False)
        done = started.then(
            self.upscale,
            [self.visit, self.factor, self.framework, self.model, self.ending],
            self.result,
            concurrency_limit=1,
        )
        done.success(lambda: _running(False)[:2], None, [self.start, self.end], queue=False)
        done.failure(lambda: _running(False), None, [self.start, self.end, self.result], queue=False)
        self.end.click(self.stop, [self.visit], None, queue=False)

    def open(self, visit: Visit, path: str | None):
        """Look at a file; at the example as long as there is none."""
        file = Path(path or EXAMPLE)
        try:
            visit.open(file, _folder())
        except UserError as error:
            raise _shown(error, file) from None
        return visit, visit.suffix

    def click(self, visit: Visit, event: gr.SelectData) -> None:
        """Look at where the overview was clicked."""
        right, down = event.index
        visit.look_at(down, right)

    async def aim(self, visit: Visit, factor: float, framework: str, model: str, beside: str):
        """Choose the view and frame it in the overview; draw it, if that takes no time."""
        size = visit.size
        visit.view = view = web_view.view(size, factor, visit.centre)
        visit.asked += 1
        framed = web_view.framed(visit.small, size, view.box)
        label = f"{visit.source.name}, {_sides(size)}: click where to look"
        whole = f"Upscale the whole image to {_sides(rgb8.upscaled_size(size, factor))}"
        chosen = gr.update(value=framed, label=label), gr.update(value=whole)
        renderer, started = self.renderers[framework], time.monotonic()
        if renderer.process is None or self.turns[framework].locked():
            return *chosen, gr.skip(), gr.skip(), visit.asked
        async with self.turns[framework]:
            try:
                job = renderer.at_once(self.models[model], visit.rgb, view, self.models.get(beside))
                pair = await asyncio.wrap_future(job)
            except (UserError, Stopped):  # `show` says it
                pair = None
        if pair is None:
            return *chosen, gr.skip(), gr.skip(), visit.asked
        return *chosen, *self.drawn(pair, view, framework, model, beside, time.monotonic() - started), gr.skip()

    async def show(self, visit: Visit, framework: str, model: str, beside: str):
        """The view in both ways: a draft, and all of its pixels unless another view was asked for meanwhile."""
        number, rgb, view = visit.asked, visit.rgb, visit.view
        if number == visit.drawing:  # two changes of the number came as one
            yield gr.skip(), gr.skip()
            return
        visit.drawing = number
        renderer = self.renderers[framework]
        starting = f"{framework} is starting{SLOW.get(framework, '')}"
        yield gr.skip(), gr.skip() if renderer.process else starting  # without any, Gradio would clear them
        for step in (web_view.DRAFT, 1):
            async with self.turns[framework]:
                if number != visit.asked:
                    return
                started = time.monotonic()
                try:
                    job = renderer.pair(self.models[model], rgb, view, step, self.models.get(beside))
                    pair = await asyncio.wrap_future(job)
                except UserError as error:
                    raise _shown(error) from None
                except Stopped:
                    return
            yield self.drawn(pair, view, framework, model, beside, time.monotonic() - started)
            if web_view.whole(pair, view):
                break

    def drawn(self, pair: web_view.Pair, view: web_view.View, framework: str, model: str, beside: str, seconds: float):
        """The two halves of a view, and what is said below them."""
        note = f"{_sides((view.height, view.width))} pixels of the upscaled image, {beside} left, {model} right, "
        note += f"in {framework}, {f'{seconds:.2f} s' if web_view.whole(pair, view) else 'a draft'}"
        names = [f"{half}-{self.halves.index(name)}" for half, name in (("left", beside), ("right", model))]
        return gr.update(value=tuple(map(_compressed, pair)), elem_classes=names), note

    @property
    def style(self) -> str:
        """What the page looks like; the halves of the view bear their names."""
        rules = [STYLE]
        for number, name in enumerate(self.halves):
            for half, where in (("left", "before"), ("right", "after")):
                rules.append(f"#view.{half}-{number}::{where} {{ content: {json.dumps(name, ensure_ascii=False)} }}")
        return "\n".join(rules)

    def upscale(
        self,
        visit: Visit,
        factor: float,
        framework: str,
        model: str,
        ending: str,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
    ):
        """The whole image in a file."""
        size = rgb8.upscaled_size(visit.size, factor)
        path = _folder() / web_view.file_name(visit.source.name, factor, ending)
        try:
            rgb8.check_pixels(size)
            vips.check_output(path, *size)
            job = self.renderers[framework].whole(self.models[model], visit.source, size, path)
            visit.stop = self.upscaling[request.session_hash] = self.renderers[framework].stop
            while not job.done():
                progress(job.progress, desc=f"{model} in {framework}")
                time.sleep(0.2)
            notes = job.result()
        except UserError as error:
            raise _shown(error, visit.source) from None
        except Stopped:
            return gr.update(visible=False)
        finally:
            visit.stop = None
            self.upscaling.pop(request.session_hash, None)
        for note in notes:
            gr.Info(note)
        return str(path)

    def stop(self, visit: Visit) -> None:
        """End the upscaling."""
        if visit.stop:
            visit.stop()

    def leave(self, request: gr.Request) -> None:
        """End it for a visitor who has gone."""
        if stop := self.upscaling.get(request.session_hash):
            stop()


def _running(running: bool):
    """Whether the buttons to start and to stop, and the result, are seen while an image is upscaled or not."""
    return gr.update(visible=not running), gr.update(visible=running), gr.update(visible=running, value=None)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _shown(error: UserError, file: Path | None = None) -> gr.Error:
    """The sentence in the page; a file by its name, since its folder means nothing to the visitor."""
    text = str(error).replace(one_line(str(file)), one_line(file.name)) if file else str(error)
    return gr.Error(text, print_exception=False)


def _compressed(pixels: np.ndarray) -> Image.Image:
    """An image that Gradio compresses without a loss in no time: as it does by itself would take longer than the
    view."""
    image = Image.fromarray(pixels)
    image.save = partial(image.save, lossless=True, quality=0, method=0)  # type: ignore[method-assign]
    return image


def _folder() -> Path:
    """A new one, to be removed at the end; nobody guesses its name."""
    return Path(tempfile.mkdtemp(dir=FOLDER.name))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Serve the page until Ctrl-C."""
    parser = Parser(description="LIIF in a web page.")
    parser.add_argument("--model", nargs="+", type=Path, default=[], help="checkpoints beside those in pretrained/")
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable from outside (default: 127.0.0.1)")
    arguments = parser.parse_args()
    page = Page(web_view.find_models(arguments.model), arguments.gpu)
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C, so that the files are removed
    with FOLDER:
        blocks = page.build()
        try:
            _, address, _ = blocks.launch(
                server_name=arguments.host,
                server_port=arguments.port,
                share=False,
                ssr_mode=False,
                run_history=False,
                prevent_thread_lock=True,
                quiet=True,
                theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=page.style,
                js=WHEEL,
            )
            print(f"{address} (Ctrl-C ends)", flush=True)
            threading.Event().wait()
        except OSError as error:
            raise UserError(f"cannot serve on {arguments.host}, port {arguments.port}: {error}") from None
        finally:
            for renderer in page.renderers.values():
                renderer.close()
            blocks.close(verbose=False)
    return 0


if __name__ == "__main__":
    jobs.exit_with(main)
