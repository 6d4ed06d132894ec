"""The tables of the runs of an experiments folder: how each was trained, and how far the two frameworks agree."""

from liif_core.report.experiments_folder import FRAMEWORKS, ExperimentsFolder, Score
from liif_core.report.tables import NOTHING, Cell, Table, code, decibel, largest, short, signed, tiny
from liif_core.system.text import title


def run_table(source: ExperimentsFolder) -> Table:
    """How every run was trained and what its validation said."""
    header = (
        "experiment,framework,data,epochs,steps,batch,learning rate,seed,last loss,best PSNR,best epoch,time,commit"
    )
    rows: list[list[Cell | str]] = []
    for run in source.runs:
        config, last = run.config, run.epochs[-1] if run.epochs else {}
        best = max(run.validated(), key=lambda record: record["val_psnr"], default=None)
        seconds = [record["seconds"] for record in run.epochs if "seconds" in record]
        time = f"{sum(seconds) / 60:.1f} min" if len(seconds) == len(run.epochs) > 0 else NOTHING
        rows.append(
            [
                *(title(run.experiment), FRAMEWORKS[run.framework], run.data),
                f"{run.epochs_done} of {config['epoch_max']}{run.origin}",
                *(f"{run.steps:,}", str(config["train_dataset"]["batch_size"])),
                *(f"{float(config['optimizer']['args']['lr']):g}", str(config.get("seed", 0))),
                f"{last['train_loss']:.4f}" if last else NOTHING,
                *((decibel(best["val_psnr"]), str(best["epoch"])) if best else (NOTHING, NOTHING)),
                *(time, ", ".join(dict.fromkeys(code(short(r.get("commit") or "")) for r in run.epochs)) or NOTHING),
            ]
        )
    names = header.split(",")
    # What all runs share is said once; the first two columns say which run it is.
    shared = [i for i in range(2, len(names)) if len(rows) > 1 and len({str(row[i]) for row in rows}) == 1]
    notes = ["Of all: " + ", ".join(f"{names[i]} {rows[0][i]}" for i in shared) + "."] if shared else []
    kept = [i for i in range(len(names)) if i not in shared]
    return Table("Runs", [names[i] for i in kept], [[row[i] for i in kept] for row in rows], 2, notes)


def framework_table(source: ExperimentsFolder) -> Table | None:
    """How far PyTorch and Jittor are apart, with the same weights and when each trained its own; None without pairs."""
    header = ["experiment", "tests, same weights", "ΔPSNR", "ΔSSIM", "tests, own training", "ΔPSNR", "mean ΔPSNR"]
    header += ["ΔPSNR of validation"]
    networks = [score for score in source.scores if score.weights and score.psnr is not None]
    rows: list[list[Cell | str]] = []
    every_same: list[tuple[Score, Score]] = []
    every_own: list[tuple[Score, Score]] = []
    every_end: list[float] = []
    names = [run.experiment for run in source.runs] + [score.experiment for score in networks]
    for experiment in dict.fromkeys(names):
        here = [score for score in networks if score.experiment == experiment]
        same = _pairs(here, lambda score: score.weights)
        own = _pairs([score for score in here if score.trained_in == score.framework], lambda score: "")
        end = _last_gap(source, experiment)
        if same or own or end:
            rows.append([title(experiment), *_gaps(same, own, end)])
            every_same += same
            every_own += own
            every_end += end
    if not rows:
        return None
    rows.append(["all", *_gaps(every_same, every_own, every_end)])
    note = (
        "Same weights: one file, measured in both. Own training: each framework's own run. ΔPSNR (in dB) and ΔSSIM: "
        "the largest absolute differences of a test set's mean. Mean ΔPSNR: of Jittor less PyTorch. "
        "ΔPSNR of validation: after the last epoch of both runs."
    )
    return Table("PyTorch and Jittor", header, rows, notes=[note])


def _last_gap(source: ExperimentsFolder, experiment: str) -> list[float]:
    """By how much validation PSNR differs after the last epoch, of two runs that have come as far; else empty."""
    ends = {run.framework: run.validated() for run in source.runs if run.experiment == experiment}
    if len(ends) < len(FRAMEWORKS) or not all(ends.values()):
        return []
    first, second = ends["torch"][-1], ends["jittor"][-1]
    return [second["val_psnr"] - first["val_psnr"]] if first["step"] == second["step"] else []


def _pairs(scores: list[Score], identity) -> list[tuple[Score, Score]]:
    """The scores of PyTorch and of Jittor that belong together."""
    found = {
        framework: {(identity(s), s.config): s for s in scores if s.framework == framework} for framework in FRAMEWORKS
    }
    return [(score, found["jittor"][key]) for key, score in found["torch"].items() if key in found["jittor"]]


def _gaps(same: list[tuple[Score, Score]], own: list[tuple[Score, Score]], end: list[float]) -> list[Cell | str]:
    same_psnr, own_psnr = ([b.psnr - a.psnr for a, b in pairs if a.psnr and b.psnr] for pairs in (same, own))
    same_ssim = [b.ssim - a.ssim for a, b in same]
    return [
        *(str(len(same) or NOTHING), tiny(largest(same_psnr)), tiny(largest(same_ssim))),
        *(str(len(own) or NOTHING), decibel(largest(own_psnr))),
        signed(sum(own_psnr) / len(own_psnr) if own_psnr else None),
        tiny(largest(end)),
    ]
