"""How soon does the web page follow in a browser?  python benchmarks/browser.py [--model edsr-baseline-thera-air ...]

Chromium shows a part of examples/chelsea.png through networks with random weights, and the slider is moved from x2 to
x12, one step after the other is seen: from the slider's event until the browser has decoded the view that answers it.
`page.py` measures the part of the page's process alone. It takes gradio, as scripts/demo_web.py does, the Python
package playwright, and a Chromium that is installed; the device is that of demo_web.py.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
from compare_upstream import SPECS
from page import FACTORS

from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.system import devices, packages
from liif_core.system.arguments import Parser

MODELS = ["edsr-baseline-thera-air", "edsr-baseline-lmliif"]
FRAMEWORKS = "PyTorch", "Jittor"
DECODERS = "thera", "lmliif", "lmlte"  # others show a draft first, which this would take for the view
QUICK = [name for name, spec in SPECS.items() if spec["name"] in DECODERS]
PATIENCE = 600  # seconds: Jittor may have to compile
IDLE = 8  # seconds before the first move, in which the page encodes what lies around the first view
# Resolves to milliseconds from the slider's event to the decoded image that answers it.
MOVE = """factor => new Promise((resolve, reject) => {
    const seen = () => [...document.querySelectorAll('#view img')].pop()
    const slider = document.querySelector('#factor input[type=range]')
    const before = seen().src, start = performance.now()
    const observer = new MutationObserver(() => {
        if (seen().src === before) return
        observer.disconnect()
        seen().decode().then(() => resolve(performance.now() - start), reject)
    })
    setTimeout(() => reject(new Error('no other view in ten seconds')), 10000)
    observer.observe(document.querySelector('#view'), {subtree: true, childList: true, attributeFilter: ['src']})
    slider.value = factor
    slider.dispatchEvent(new Event('input', {bubbles: true}))
})"""
WHOLE = """name => {
    const caption = document.querySelector('#caption .prose')?.innerText || ''
    return document.querySelectorAll('#view img').length == 2 && caption.includes(name) && caption.endsWith(' s')
}"""


def save(folder: Path, model: str) -> Path:
    """A checkpoint with random weights."""
    from liif_torch.engine import Engine

    engine = Engine(SPECS[model])
    engine.seed(0)
    path = folder / f"{model}.safetensors"
    native.save(path, Checkpoint(SPECS[model], {MODEL: NetworkState(engine.state()[MODEL].parameters)}))
    return path


@contextmanager
def served(path: Path, gpu: str) -> Iterator[str]:
    """The address of the page, whose first model is this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "scripts/demo_web.py", "--model", str(path), "--gpu", gpu, "--port", port]
    child = subprocess.Popen(command, cwd=common.ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        if not any("Ctrl-C" in line for line in child.stdout):
            raise UserError("scripts/demo_web.py has ended before it served a page")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait()


def measured(playwright: Any, executable: str, address: str, framework: str, runs: int) -> list[float]:
    """Milliseconds of the moves."""
    browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(address)
        page.wait_for_function(WHOLE, arg="PyTorch")
        if framework != "PyTorch":
            page.get_by_label(framework).check()
            page.wait_for_function(WHOLE, arg=framework)
        page.wait_for_timeout(IDLE * 1000)
        found = []
        for factor in np.geomspace(*FACTORS, runs):
            page.wait_for_timeout(300)
            found.append(page.evaluate(MOVE, f"{factor:.2f}"))
        return found
    finally:
        browser.close()


def main() -> None:
    """Measure and print."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model", nargs="+", choices=QUICK, metavar="NAME", default=MODELS)
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--gpu", default="cpu", help="GPU number (default: cpu)")
    arguments = parser.parse_args()
    playwright = packages.load("playwright.sync_api", "playwright")
    names = "chromium", "chromium-browser", "google-chrome", "chrome"
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        raise UserError(f"no browser found: expected one of {', '.join(names)} on the PATH")
    rows = []
    with tempfile.TemporaryDirectory() as folder, playwright.sync_playwright() as started:
        for model in arguments.model:
            path = save(Path(folder), model)
            for framework in arguments.frameworks:
                with served(path, arguments.gpu) as address:
                    found = measured(started, executable, address, framework, arguments.runs)
                rows.append([f"{framework} {model}", f"{statistics.median(found):.0f}", f"{max(found):.0f}"])
    common.print_head(devices.choose_device(arguments.gpu).kind)
    print(f"\nA view of examples/chelsea.png, {arguments.runs} factors from {FACTORS[0]} to {FACTORS[1]}, in ms.\n")
    common.print_table(["variant", "median", "longest"], rows)


if __name__ == "__main__":
    common.exit_with(main)
