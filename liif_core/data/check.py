"""Are the folders what a config expects? Everything that is wrong is collected, not only the first of it."""

from dataclasses import dataclass, field
from pathlib import Path

from liif_core.config.load import locate_data
from liif_core.config.schema import Data
from liif_core.data import factor, folders, sets
from liif_core.data.batching import Batches
from liif_core.data.catalogue import known_count
from liif_core.data.registries import DATASETS, WRAPPERS
from liif_core.errors import UserError
from liif_core.images import rgb8


@dataclass
class Folder:
    """Sizes (h, w) of the images that can be read, sentences on those that cannot, and on the folder."""

    root: Path
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The folder, how many images it gives and the lengths of their sides."""
        sides = [side for size in self.sizes.values() for side in size]
        span = f", sides of {min(sides)} to {max(sides)}" if sides else ""
        return f"{self.root} ({len(self.sizes)} images{span})"


@dataclass
class Finding:
    """What was found of one data set: a summary, problems that would end a run, notes that would not."""

    summary: str
    problems: list[str]
    notes: list[str]


class Listing:
    """Stands in for a data set where only names and lengths are asked for."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """File name without its ending."""
        return self.paths[index].stem


class Checker:
    """Checks the data sets of any number of configs; a folder that several name is read once.

    quick: read the headers of the images, not their pixels.
    """

    def __init__(self, quick: bool = False):
        self.quick = quick
        self.folders: dict[tuple, Folder] = {}

    def examine(self, spec: Data, training: bool, batches: bool, eval_type: str | None = None) -> Finding:
        """Check one data set of a config: folders, split, images, pairs, sizes, and the first sample.

        training, eval_type: as for `sets.make`. batches: it is read in batches, not image by image. Raises UserError
        for names and arguments that are not known.
        """
        arguments = DATASETS.arguments(spec.dataset.model_dump())
        roots = [arguments[key] for key in ("root_path", "root_path_1", "root_path_2") if key in arguments]
        listing = [arguments.get(key) for key in ("split_file", "split_key", "first_k")]
        found = [self._folder(root, *listing) for root in roots]
        problems = [problem for folder in found for problem in folder.problems]
        notes = [note for folder in found for note in folder.notes]
        broken = [sentence for folder in found for sentence in folder.broken.values()]
        if arguments.get("skip_broken"):
            notes += [f"left out: {sentence}" for sentence in broken]
        else:
            problems += broken
        if problem := sets.misfit(spec.model_dump()):
            problems.append(problem)
        elif found and not any(folder.problems for folder in found):
            problems += _pairs_and_sizes(spec, found, training, eval_type)
        if not problems:
            problems += _first_sample(spec, training, batches)
        return Finding(" and ".join(folder.summary() for folder in found), problems, notes)

    def _folder(self, *listing) -> Folder:
        if listing not in self.folders:
            self.folders[listing] = _examine_folder(not self.quick, *listing)
        return self.folders[listing]


def _examine_folder(decode: bool, root_path: str, split_file, split_key, first_k) -> Folder:
    found = Folder(Path(root_path))
    try:
        found.root = locate_data(root_path)
        everything = folders.found(found.root)
        names = folders.listed(found.root, split_file, split_key) if split_file else everything
    except UserError as error:
        found.problems.append(str(error))
        return found
    if not names:
        found.problems.append(f"no images in {found.root}: put image files (png, jpg, ...) there")
    complete = known_count(found.root)
    if complete not in (None, len(everything)):
        found.notes.append(f"{found.root} holds {len(everything)} files; the complete set has {complete}")
    paths = [found.root / name for name in names[:first_k]]
    found.broken = folders.unreadable(paths, decode)
    found.sizes = {path: rgb8.read_size(path) for path in paths if path not in found.broken}
    return found


def _pairs_and_sizes(spec: Data, found: list[Folder], training: bool, eval_type: str | None) -> list[str]:
    """Whether the folders pair up, what the wrapper says of the size of each image or pair, and the protocol of all."""
    skipped = {folders.unscaled(path.name) for folder in found for path in folder.broken}
    kept = [[path for path in folder.sizes if folders.unscaled(path.name) not in skipped] for folder in found]
    problems = []
    if len(found) == 2 and (problem := folders.unpaired((found[0].root, found[1].root), kept[0], kept[1])):
        problems.append(problem)
    partners = [
        {folders.unscaled(path.name): folder.sizes[path] for path in paths}
        for folder, paths in zip(found, kept, strict=True)
    ]
    items = [path for path in kept[-1] if all(folders.unscaled(path.name) in sizes for sizes in partners)]
    try:
        wrapper = WRAPPERS.make(spec.wrapper.model_dump(), dataset=Listing(items), seed=0, training=training)
    except UserError as error:  # of the numbers of the config alone
        return [*problems, str(error)]
    fitting = {}
    for index, path in enumerate(items):
        item = tuple(sizes[folders.unscaled(path.name)] for sizes in partners)
        try:
            wrapper.check(index, *item)
            fitting[index] = item
        except UserError as error:
            problems.append(str(error))
    if eval_type and (problem := factor.contradiction(wrapper, fitting, eval_type)):
        problems.append(problem)
    return problems


def make_uncached(spec: Data, training: bool, eval_type: str | None = None):
    """`sets.make` for a check, which writes no cache and fills no memory."""
    content = spec.model_dump()
    if "cache" in content["dataset"]["args"]:
        content["dataset"]["args"]["cache"] = "none"
    return sets.make(content, 0, training, eval_type)


def _first_sample(spec: Data, training: bool, batches: bool) -> list[str]:
    """What is wrong with the first batch, or pair, that a run would get, if anything."""
    try:
        wrapper = make_uncached(spec, training)
        if not batches:
            wrapper.pair(0)
            return []
        first = Batches(wrapper, spec.batch_size)[0]
    except UserError as error:
        return [str(error)]
    return [first["error"]] if "error" in first else []
