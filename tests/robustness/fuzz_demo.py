"""Thousands of damaged images and checkpoints and odd command lines for demo.py.

    python tests/robustness/fuzz_demo.py --cases 5000                                one kind: --only images
    python tests/robustness/fuzz_demo.py --only arguments --seed 3 --case 1234       one case again

Whatever comes in, demo.py ends soon, with status 0, 2 or 130, says one sentence for each image that failed, and
leaves whole results of the announced size and nothing else. `judge` is that rule. Cases run in children, for libvips is
C and may end its process; what a case is depends on its kind, seed and number alone. Those that break the rule stay in
--keep, with the command, its output and the folder it ran in.
"""

import argparse
import collections
import contextlib
import ctypes
import hashlib
import json
import os
import queue
import random
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

KINDS = ("images", "arguments", "checkpoints")
LIMIT = 60  # seconds for a case, on a busy machine
MOST_PIXELS = 3_000_000  # stands for imaging.MAX_PIXELS, so that cases are quick
MORE_PIXELS = 40_000_000  # in some
MEMORY = 500 << 20, 60  # bytes by which a case may grow, and per pixel that is accepted
OWN = ("arguments.json", "stdout", "stderr", "tmp")  # of this program, in a case's folder

# What the children run


def work(kind: str, seed: int, folder: Path) -> None:
    """Run the cases whose numbers come from stdin; for each, a line of JSON to the descriptor that was stdout."""
    answers = os.fdopen(os.dup(1), "w")
    obey_permissions()
    os.environ["TMPDIR"] = str(folder / "case" / "tmp")
    os.environ["HOME"] = str(folder / "case" / "work")  # which ~ stands for
    tempfile.tempdir = None
    load_tree = _prepare(folder)
    for line in sys.stdin:
        case = folder / "case"
        outcome = run_case(kind, seed, int(line), case, load_tree)
        print(json.dumps(outcome), file=answers, flush=True)


def _prepare(folder: Path):
    """A small network with weights of chance, which answers large requests with grey; imports what a case needs."""
    import numpy as np
    import torch

    from helpers.small_run import model_spec
    from liif_core.checkpoints import native
    from liif_torch.engine import Engine

    torch.set_num_threads(1)
    engine = Engine(model_spec(8), "cpu")
    engine.seed(0)
    half = {"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.5], "div": [0.5]}}
    native.save(folder / "model.safetensors", native.Checkpoint(model_spec(8), engine.state(), half))

    class Light(Engine):
        def predict_image(self, inp, height, width, *more, **named):
            if inp.shape[2] * inp.shape[3] + height * width < 40_000:
                yield from super().predict_image(inp, height, width, *more, **named)
                return
            rows = max(1, 1_000_000 // width)
            for top in range(0, height, rows):
                yield np.zeros((min(rows, height - top), width, 3), np.float32)

    return lambda: (Light, None)


def run_case(kind: str, seed: int, number: int, case: Path, load_tree) -> dict:
    """Make a case and run it: its complaints and how it ended."""
    from liif_core.images import rgb8

    if case.exists():
        shutil.rmtree(case)
    rng = random.Random(f"{kind} {seed} {number}")
    rgb8.MAX_PIXELS = MORE_PIXELS if rng.random() < 0.02 else MOST_PIXELS
    (case / "tmp").mkdir(parents=True)
    words = make(kind, rng, case / "work")
    words += [f"--model={case.parent / 'model.safetensors'}"] if not any(w.startswith("--model") for w in words) else []
    words += ["--gpu=cpu"] if not any(w.startswith("--gpu") for w in words) else []
    (case / "arguments.json").write_text(json.dumps(words))
    before, held = snapshot(case), memory(reset=True)
    closed = case / "work" / "closed"
    if closed.exists():
        closed.chmod(rng.choice([0, 0o400, 0o500]))
    status = run_demo(words, case, load_tree)
    grown = memory()[1] - held[0]
    if closed.exists():
        closed.chmod(0o700)
    out, err = ((case / name).read_bytes().decode(errors="surrogateescape") for name in ("stdout", "stderr"))
    complaints = judge(words, status, out, err, before, snapshot(case), case)
    if kind == "images" and status == 2:
        name = next((case / "work").glob("in/*")).name
        complaints += [] if name in err or "--ext mp4: expected" in err else ["the sentence does not name the image"]
    if grown > MEMORY[0] + MEMORY[1] * rgb8.MAX_PIXELS:
        complaints.append(f"memory: grew by {grown >> 20} MiB")
    sentence = re.sub(r"'.*?'|\S*/\S*|\d+", "_", next(iter(err.splitlines()), ""))[:70]
    ended = f"{status}" if status != 2 else f"2 {sentence}"
    return {"complaints": complaints, "ended": ended}


def obey_permissions() -> None:
    """Root is held back by none: it gives up its capabilities, in this process."""
    if os.geteuid() == 0:
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
            raise OSError(ctypes.get_errno(), "capset")


def make(kind: str, rng: random.Random, place: Path) -> list[str]:
    """The files of a case; the words after demo.py."""
    from robustness import fuzz_arguments, fuzz_images

    place.mkdir()
    if kind == "arguments":
        fuzz_arguments.make_folder(rng, place)
        return fuzz_arguments.arguments(rng, place)
    (place / "in").mkdir()
    if kind == "checkpoints":
        return make_checkpoint(rng, place / "in")
    name, data = fuzz_images.damaged(rng)
    (place / "in" / name).write_bytes(data)
    words = [f"in/{name}", rng.choice(["--resolution=17,23", "--scale=1.3", "--scale=2", "--width=21", "--height=19"])]
    words += (
        [f"--ext={rng.choice(['png', 'jpg', 'webp', 'tif', 'avif', 'gif', 'bmp', 'mp4'])}"]
        if rng.random() < 0.5
        else []
    )
    words += [f"--frames={rng.choice(['all', 'all', 'first'])}"] if rng.random() < 0.4 else []
    words += ["--metadata=strip"] if rng.random() < 0.2 else []
    words += ["--compare"] if rng.random() < 0.2 else []
    return words + (["--tile=24"] if rng.random() < 0.1 else [])


def make_checkpoint(rng: random.Random, place: Path) -> list[str]:
    """A checkpoint, an image, and maybe the config that says what bare weights are; the words after demo.py."""
    import yaml

    from helpers import made_images
    from robustness import fuzz_checkpoints

    name, data = fuzz_checkpoints.damaged(rng)
    (place / name).write_bytes(data)
    made_images.write(place / "image.png", 5, 7)
    words = ["in/image.png", "--scale=1.5", f"--model=in/{name}"]
    if rng.random() < 0.3:
        (place / "config.yaml").write_text(yaml.safe_dump(fuzz_checkpoints.config(rng)))
        words.append("--config=in/config.yaml")
    return words


def run_demo(words: list[str], case: Path, load_tree) -> int:
    """Call demo.py with these words in work/; its exit status, 1 with a traceback."""
    from liif_core.commands import demo, entry

    here, kept = os.getcwd(), [os.dup(1), os.dup(2)]
    for number, name in ((1, "stdout"), (2, "stderr")):
        # Of the process, not of Python: what C writes counts.
        with open(case / name, "wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(case / "work")
    sys.argv = ["demo.py", *words]
    try:
        entry.run(demo.demo, "torch", load_tree)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for stream, number, descriptor in ((sys.stdout, 1, kept[0]), (sys.stderr, 2, kept[1])):
            stream.flush()
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(here)
    return status


def memory(reset: bool = False) -> list[int]:
    """Bytes that the process holds, and the most that it has held since the last reset."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text(errors="replace")
    return [int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M)[1]) << 10 for name in ("VmRSS", "VmHWM")]


def snapshot(case: Path) -> dict[str, tuple]:
    """What lies there; folders as well, without a time."""
    found = {}
    for folder, folders, files in os.walk(case):
        for name in (*folders, *files):
            path = Path(folder, name)
            relative, state = str(path.relative_to(case)), path.lstat()
            if relative in OWN:
                continue
            content = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            found[relative] = (state.st_ino, state.st_mtime_ns, content) if path.is_file() else ()
    return found


# The rule


def judge(words: list[str], status: int, out: str, err: str, before: dict, after: dict, case: Path) -> list[str]:
    """What a run did that it must not do."""
    complaints = []
    # libvips' own, of numbers in a damaged AVIF, beside the sentence.
    said = [line for line in err.split("\n") if line and "GLib-GObject-CRITICAL" not in line]
    done = [line for line in out.split("\n") if " -> " in line]
    if "Traceback" in out + err:
        complaints.append("traceback: " + said[-1])
    elif status not in (0, 2, 130):
        complaints.append(f"status {status}")
    elif status == 0 and said:
        complaints.append("status 0 with something on stderr")
    elif status == 2:
        if not said or not all(line.startswith("error: ") for line in said):
            complaints.append("status 2 without sentences alone on stderr")
        total = re.search(r"^(\d+) upscaled, (\d+) skipped, (\d+) failed$", out, re.M)
        # Without a total the command gave up, maybe after images that could not be read.
        if (total and (int(total[3]), int(total[1])) != (len(said), len(done))) or (done and not total):
            complaints.append("the sentences are not as many as the images that failed")
    if status == 0 and not done and "skipped" not in out and not {"-h", "--help"} & set(words):
        complaints.append("status 0, and nothing was done")
    gone = [name for name in before if name not in after]
    new = [name for name in after if after[name] and after[name] != before.get(name)]
    lost = [name for name in new if name in before and "--overwrite" not in words]
    complaints += [f"files are gone: {gone}"] if gone else []
    complaints += [f"replaced without --overwrite: {lost}"] if lost else []
    return complaints + _judge_results(words, new, done, case)


def _judge_results(words: list[str], new: list[str], done: list[str], case: Path) -> list[str]:
    """Whether the new files are the announced ones, and whole."""
    complaints = []
    if len(new) != len(done) * (2 if "--compare" in words else 1):
        complaints.append(f"{len(done)} images announced, new files: {new}")
    for name in new:
        try:
            sizes = whole_size(case / name)
        except Exception as error:
            complaints.append(f"{name} does not open: {error}")
            continue
        announced = {tuple(map(int, pair)) for line in done for pair in re.findall(r"-> (\d+)x(\d+) ", line)}
        if not sizes <= announced and not ("--compare" in words and name.endswith("_compare.png")):
            complaints.append(f"{name} is {sizes}, announced {announced}")
    return complaints


def whole_size(path: Path) -> set[tuple[int, int]]:
    """Height and width as Pillow and libvips decode it."""
    import PIL.Image

    from liif_core.images import video_read
    from liif_core.images.image import pyvips

    if path.suffix.lower() == ".mp4":
        return {video_read.inspect(path).size}
    sizes = set()
    if path.suffix.lower() != ".bmp" and path.read_bytes()[4:12] != b"ftypavis":  # which libvips does not recognise
        source = pyvips.Source.new_from_memory(path.read_bytes())
        image = pyvips.Image.new_from_source(source, "", fail_on="warning").copy_memory()
        sizes.add((image.height, image.width))
        if (image.get("vips-loader"), image.format, image.bands) == ("tiffload_source", "ushort", 2):
            return sizes  # grey and alpha of 16 bits, which Pillow does not know in TIFF
    with PIL.Image.open(path) as image:
        sizes.add((image.height, image.width))
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
    return sizes


# The parent


def run(kind: str, numbers: range, seed: int, keep: Path, workers: int = 1, limit: float = LIMIT):
    """Run these cases; how many ended how, and the complaints by case number."""
    waiting: queue.Queue[int] = queue.Queue()
    for number in numbers:
        waiting.put(number)
    counts: collections.Counter[str] = collections.Counter()
    culprits: dict[int, list[str]] = {}
    threads = [
        threading.Thread(target=_lead, args=(kind, seed, waiting, keep, limit, counts, culprits))
        for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, culprits


def _lead(kind, seed, waiting, keep, limit, counts, culprits) -> None:
    """Give numbers to a child until there are none; another child where one ends."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder, child = Path(name), None
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                break
            child = child or _start(kind, seed, folder)
            outcome = _ask(child, number, limit)
            if "died" in outcome:
                child = None
            counts[outcome["ended"]] += 1
            if outcome["complaints"]:
                culprits[number] = outcome["complaints"]
                _keep(folder / "case", keep / f"{kind}-{seed}-{number}", outcome)
        if child:
            child.stdin.close()
            child.wait()


def _start(kind: str, seed: int, folder: Path) -> subprocess.Popen:
    command = [sys.executable, __file__, "--only", kind, "--seed", str(seed), "--work", str(folder)]
    # As in a terminal of most users, where Python is strict about what it prints; under C.UTF-8 it is not.
    variables = {"PYTHONIOENCODING": "utf-8:strict", "OMP_WAIT_POLICY": "PASSIVE", "VIPS_CONCURRENCY": "1"}
    return subprocess.Popen(command, stdin=-1, stdout=-1, env=os.environ | variables, text=True)


def _ask(child: subprocess.Popen, number: int, limit: float) -> dict:
    """The outcome of a case; "died" in it if the child is no more."""
    try:
        child.stdin.write(f"{number}\n")
        child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], limit)
        line = child.stdout.readline() if ready else ""
    except BrokenPipeError:
        ready, line = [True], ""
    if line:
        return json.loads(line)
    if not ready:
        child.kill()
    status = child.wait()
    ended = f"ended by signal {-status}" if ready else f"not ended after {limit:g} s"
    return {"complaints": [ended], "ended": ended, "died": True}


def _keep(case: Path, place: Path, outcome: dict) -> None:
    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(case, place)
    words = json.loads((place / "arguments.json").read_text()) if (place / "arguments.json").exists() else []
    command = f"cd work && demo.py {shlex.join(words)}\n"
    text = command + "\n".join(outcome["complaints"]) + "\n"
    (place / "case.txt").write_text(text, errors="backslashreplace")


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged images and checkpoints and odd command lines for demo.py.")
    parser.add_argument("--cases", type=int, default=1000, help="of each kind (1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds for a case ({LIMIT})")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_culprits"), help="where culprits stay (fuzz_culprits/)")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.only, arguments.seed, arguments.work)
        return 0
    failed = 0
    for kind in [arguments.only] if arguments.only else KINDS:
        numbers = range(arguments.first, arguments.first + arguments.cases)
        if arguments.case is not None:
            numbers = range(arguments.case, arguments.case + 1)
        counts, culprits = run(kind, numbers, arguments.seed, arguments.keep, arguments.workers, arguments.limit)
        print(f"{kind}: {sum(counts.values())} cases, seed {arguments.seed}")
        for ended, count in counts.most_common():
            print(f"{count:7} {ended}")
        for number, complaints in sorted(culprits.items()):
            print(f"case {number}: " + "; ".join(complaints))
        failed += len(culprits)
    print(f"{failed} broke the rule" + (f", kept in {arguments.keep}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[k]) for k in (1, 2)]
    sys.exit(main())
