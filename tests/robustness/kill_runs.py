"""Trainings that are killed, damaged, stopped and starved, and whether they end as if nothing had happened.

    python tests/robustness/kill_runs.py --framework torch --kills 20 --seed 1 --folder /tmp/kills
    python tests/robustness/kill_runs.py --framework numpy --kills 100             the loop alone, by a free model
    python tests/robustness/kill_runs.py --framework jittor --only signals lock    see SCENES

A run that nothing disturbs comes first. All others must end with the same checkpoints, byte for byte, and the same
metrics.jsonl, and a kill must not lose more than `step_save` steps. Prints a table and writes it as report.json.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[k]) for k in (1, 2)]

from helpers import made_images, small_run
from helpers.run_process import LAST, Life, Run, differences
from liif_core.errors import UserError
from robustness import kill_scenes

KILLS_PER_RUN = 5  # about: a run that is killed more often than it saves gets nowhere
STEP_SAVE = 7
SMALL = {"a.png": (30, 44), "b.png": (41, 29), "c.png": (28, 37)}  # the images of conftest's `image_folders`
BRIEF = 0.0002  # seconds between two looks at what takes milliseconds
# What a kill waits for after its moment, and how often. An opening is the time between log.txt and the first step.
AIMS = {"any": 11, "writing": 4, "renaming": 3, "opening": 2}
SCENES = ("kills", *kill_scenes.SCENES)


def large_config(image_folders: Path) -> dict:
    """A run of half a minute with all that has a state: 4 epochs of 32 steps, of which a save is never the last."""
    config = small_run.train_config(image_folders, epoch_max=4, step_save=STEP_SAVE, step_log=1)
    config.update(accumulate=2, clip_grad=1.0, ema=0.9, val_images=1)
    config["train_dataset"]["batch_size"] = 4
    config["train_dataset"]["dataset"]["args"]["repeat"] = 16
    config["train_dataset"]["wrapper"]["args"].update(inp_size=24, sample_q=576, scale_max=3)
    config["val_dataset"]["wrapper"]["args"].update(inp_size=24, scale_max=3)
    encoder = config["model"]["args"]["encoder_spec"]["args"]
    encoder.update(n_resblocks=4, n_feats=32)
    config["model"]["args"]["imnet_spec"]["args"]["hidden_list"] = [64, 64]
    return config


@dataclass
class Trial:
    """What all scenes have: a place, a run that nothing disturbed, chance, and the rows of the report."""

    framework: str
    place: Path
    config: Path
    step_save: int
    rng: random.Random
    undisturbed: Run
    every: int = 1
    rows: list[dict] = field(default_factory=list)

    def fresh(self, name: str) -> Run:
        """A run that has not begun."""
        return Run(self.framework, self.config, self.place, name)

    def late(self, name: str, place: Path | None = None) -> Run:
        """A copy of a run that was killed in its midst, between two saves."""
        run = self.fresh("late")
        if not run.folder.exists():
            life, end = Life(run), self.undisturbed.step()
            life.until(lambda: run.step() >= 5 * end // 8 and run.step() % self.step_save)
            life.kill()
        return run.copy(place or self.place, name)

    def add(self, scene: str, seconds: float, faults: list[str], **more) -> None:
        """A row of the report, printed at once."""
        row = {"scene": scene, "seconds": round(seconds, 1), **more, "faults": faults}
        self.rows.append(row)
        values = {key: value for key, value in row.items() if key not in ("scene", "seconds", "faults")}
        text = "  ".join(f"{key} {value}" for key, value in values.items() if value not in (None, ""))
        print(f"{scene:32} {row['seconds']:6.1f} s  {text}")
        for fault in faults:
            print(f"    FAULT: {fault}", flush=True)


def make_trial(
    framework: str, place: Path, seed: int, large: bool, undisturbed: Path | None = None, gan: bool = False
) -> Trial:
    """The images, the config and the run that nothing disturbs, unless its folder is given."""
    sizes = {f"{k}.png": (75 + 7 * k, 140 - 8 * k) for k in range(8)} if large or gan else SMALL
    place.mkdir(parents=True, exist_ok=True)
    image_folders = made_images.folder(place / "images" / "train", sizes).parent
    if gan:
        content = small_run.gan_config(image_folders, step_log=1, epoch_max=8 if large else 3)
    else:
        content = large_config(image_folders) if large else small_run.train_config(image_folders, step_log=1)
    config = small_run.write_yaml(place / "config.yaml", content)
    run = Run(framework, config, *((undisturbed.parent, undisturbed.name) if undisturbed else (place, "undisturbed")))
    trial = Trial(framework, place, config, content["step_save"], random.Random(f"{framework} {seed}"), run)
    if undisturbed is None:
        began, life = time.monotonic(), Life(run)
        if life.wait() != 0:
            sys.exit(f"the run that nothing disturbs ended with status {life.status}: {life.err}")
        trial.add("undisturbed", time.monotonic() - began, [], step=run.step(), training=f"{run.seconds():.1f} s")
    return trial


def kills(trial: Trial, count: int) -> None:
    """Kill `count` times, in as many runs as it takes; after each kill the run goes on, in the end it is compared."""
    pause = 2 * trial.undisturbed.seconds() / KILLS_PER_RUN
    done, number = 0, 0
    while done < count:
        number += 1
        run, began, row = trial.fresh(f"kills-{number}"), time.monotonic(), None
        faults: list[str] = []
        lives: list[Life] = []
        while True:
            workers = trial.rng.choice((0, 2))
            aim = trial.rng.choices([*AIMS], weights=[*AIMS.values()])[0] if done < count else None
            life = Life(run, "--set", f"num_workers={workers}")
            lives.append(life)
            if row:
                _resumed(trial, life, row)
                row = None
            if aim is None or not _reaches(life, aim, trial.rng.uniform(0, pause)):
                break
            life.kill()
            done += 1
            row = {
                "seconds": time.monotonic() - life.began,
                "kill": done,
                "aim": aim,
                "workers": workers,
                "step": run.step(),
            }
            row["half_files"] = len(run.half_files())
            row["faults"] = _unsound(trial, run)
        if life.wait() != 0:
            faults.append(f"status {life.status}: {life.err.strip()[-500:]}")
        faults += differences(run, trial.undisturbed) + [left for life in lives for left in life.lives_on()]
        trial.add(f"run {number} compared", time.monotonic() - began, faults, step=run.step())


def _reaches(life: Life, aim: str, pause: float) -> bool:
    """Wait until it is time to kill; False if the life ended before."""
    if aim == "opening":
        return life.until(lambda: life.start() is not None)
    if not life.has_stepped() or not life.stays(pause):
        return False
    if aim == "writing":
        return life.until(life.run.half_files, pause=BRIEF)
    if aim == "renaming":
        before = life.run.inode(LAST)
        return life.until(lambda: life.run.inode(LAST) != before, pause=BRIEF)
    return True


def _unsound(trial: Trial, run: Run) -> list[str]:
    """What is wrong with a folder right after a kill, before anybody has gone on."""
    try:
        lost = run.step() - run.newest()["step"]
    except UserError as error:
        return [f"no whole checkpoint under its name: {error}"]
    return [f"{lost} steps are in no checkpoint"] if lost > trial.step_save else []


def _resumed(trial: Trial, life: Life, row: dict) -> None:
    """Complete the row of the kill before this life."""
    life.until(lambda: life.start() is not None)
    start, seconds, faults = life.start(), row.pop("seconds"), row.pop("faults")
    if start is None:
        faults.append(f"did not go on, status {life.wait()}: {life.err.strip()[-500:]}")
    else:
        row |= {"resumed": start, "lost": row["step"] - start}
        if not 0 <= row["lost"] <= trial.step_save:
            faults.append(f"{row['lost']} steps lost, step_save is {trial.step_save}")
    trial.add("kill", seconds, faults, **row)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings in many ways and compare what they end with.")
    parser.add_argument("--framework", choices=("torch", "jittor", "numpy"), default="torch")
    parser.add_argument("--kills", type=int, default=20, help="at moments of chance (20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("killed_runs"), help="where all runs stay (killed_runs/)")
    parser.add_argument("--only", nargs="+", choices=SCENES, default=SCENES, help="some of what is done otherwise")
    parser.add_argument("--every", type=int, default=1, help="of the changes of files, end before every so manyth (1)")
    parser.add_argument("--gan", action="store_true", help="an SRGAN, whose two networks take turns")
    parser.add_argument("--small", action="store_true", help="a run of a second, for the tests")
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        parser.error(f"{arguments.folder} is not empty")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the trainings would ignore it, too
    place = arguments.folder.resolve()
    large = arguments.framework != "numpy" and not arguments.small
    trial = make_trial(arguments.framework, place, arguments.seed, large, gan=arguments.gan)
    trial.every = arguments.every
    if "kills" in arguments.only:
        kills(trial, arguments.kills)
    kill_scenes.play(trial, [scene for scene in kill_scenes.SCENES if scene in arguments.only])
    faults = sum(len(row["faults"]) for row in trial.rows)
    machine = {"framework": arguments.framework, "seed": arguments.seed, "cores": os.cpu_count()}
    (place / "report.json").write_text(json.dumps(machine | {"faults": faults, "rows": trial.rows}, indent=1) + "\n")
    lost = [row["lost"] for row in trial.rows if "lost" in row]
    summary = (
        f", {len(lost)} kills lost {max(lost)} steps at most, {sum(lost) / len(lost):.1f} on average" if lost else ""
    )
    print(f"{faults} faults{summary}; all runs are in {arguments.folder}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
