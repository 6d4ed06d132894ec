"""Are the folders what a config expects? Everything that is wrong is collected, not only the first of it."""

from dataclasses import dataclass, field
from pathlib import Path

from liif_core.config.load import locate_data
from liif_core.config.schema import Data
from liif_core.data import names, sets
from liif_core.data.batching import Batches
from liif_core.data.catalogue import known_count
from liif_core.data.folders import Images
from liif_core.data.prepared import Prepared
from liif_core.data.registries import DATASETS, WRAPPERS
from liif_core.data.sizes import Size
from liif_core.errors import UserError


@dataclass
class Folder:
    """The names that a data set takes, what is wrong with the folder as a whole, and what else to say of it.

    sizes, broken: of the files that were looked at, as in `Images`.
    """

    root: Path
    taken: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: dict[Path, Size] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)

    def look(self, chosen: list[str], decode: bool) -> None:
        """Look at those of the files that have not been looked at."""
        new = [name for name in chosen if self.root / name not in self.sizes and self.root / name not in self.broken]
        images = Images(self.root, list(dict.fromkeys(new)), decode=decode)
        self.sizes |= images.sizes
        self.broken |= images.broken

    def summary(self, chosen: list[str]) -> str:
        """The folder, how many of the images can be read and the lengths of their sides."""
        sizes = [self.sizes[self.root / name] for name in chosen if self.root / name in self.sizes]
        sides = [side for size in sizes for side in size]
        span = f", sides of {min(sides)} to {max(sides)}" if sides else ""
        return f"{self.root} ({len(sizes)} images{span})"


@dataclass
class Finding:
    """What was found of one data set: a summary, problems that would end a run, notes that would not."""

    summary: str
    problems: list[str]
    notes: list[str]


class Listing:
    """Stands in for a data set of which names and sizes are known; an item's name is its last file's."""

    def __init__(self, items: list[tuple[Path, ...]], sizes: dict[Path, Size], repeat: int):
        self.items, self.of_path, self.repeat = items, sizes, repeat
        self.names = names.told_apart([item[-1].name for item in items])

    def __len__(self) -> int:
        return len(self.items) * self.repeat

    def name(self, index: int) -> str:
        """As the data set's own."""
        return self.names[index % len(self.items)]

    def sizes(self, index: int) -> tuple[Size, ...]:
        """As the data set's own."""
        return tuple(self.of_path[path] for path in self.items[index % len(self.items)])


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
        if issubclass(DATASETS.entries[spec.dataset.name], Prepared):  # type: ignore[arg-type]
            return _examine_prepared(spec, training, batches, eval_type, decode=not self.quick)
        roots = [arguments[key] for key in ("root_path", "root_path_1", "root_path_2") if key in arguments]
        split = arguments.get("split_file"), arguments.get("split_key")
        found = [self._folder(root, *split) for root in roots]
        problems = [problem for folder in found for problem in folder.problems]
        notes = [note for folder in found for note in folder.notes]
        misfit = sets.misfit(spec.model_dump())
        items, unpaired = _items(found, arguments) if not problems else ([], [])
        taken = [folder.taken[: arguments.get("first_k")] for folder in found]
        for place, folder in enumerate(found):
            taken[place] = list(dict.fromkeys([*taken[place], *(item[place] for item in items)]))
            folder.look(taken[place], decode=not self.quick)
        looked = [folder.root / name for folder, chosen in zip(found, taken, strict=True) for name in chosen]
        broken = [folder.broken[path] for folder in found for path in looked if path in folder.broken]
        if arguments.get("skip_broken"):
            notes += [f"left out: {sentence}" for sentence in broken]
        else:
            problems += broken
        if len(found) == 1 and (same := names.twins(taken[0])):
            notes.append(f"{found[0].root} has {' and '.join(same)}: both are taken, and named with endings")
        if misfit:
            problems.append(misfit)
        elif items or unpaired:
            problems += unpaired + _misfits(spec, found, items, training, eval_type)
        if not problems:
            problems += _first_sample(spec, training, batches)
        summaries = [folder.summary(chosen) for folder, chosen in zip(found, taken, strict=True)]
        return Finding(" and ".join(summaries), problems, notes)

    def _folder(self, *listing) -> Folder:
        if listing not in self.folders:
            self.folders[listing] = _list_folder(*listing)
        return self.folders[listing]


def _list_folder(root_path: str, split_file: str | None, split_key: str | None) -> Folder:
    found = Folder(Path(root_path))
    try:
        found.root = locate_data(root_path)
        everything = set(names.found(found.root))
        found.taken = names.taken(found.root, split_file, split_key)
    except UserError as error:
        found.problems.append(str(error))
        return found
    complete = known_count(found.root)
    if complete not in (None, len(everything)):
        found.notes.append(f"{found.root} holds {len(everything)} files; the complete set has {complete}")
    if others := [entry.name for entry in names.files(found.root) if entry.name not in everything]:
        found.notes.append(f"{found.root}: not looked at, for they do not end like images: {names.some(others)}")
    return found


def _items(found: list[Folder], arguments: dict) -> tuple[list[tuple[str, ...]], list[str]]:
    """The names of what makes an item, one for each folder, and what is wrong with them."""
    first_k = arguments.get("first_k")
    if len(found) != 2:
        return [(name,) for folder in found for name in folder.taken[:first_k]], []
    patterns = arguments.get("low_name"), arguments.get("high_name")
    try:
        pairs, problems = names.pairs(
            (found[0].root, found[1].root), found[0].taken, found[1].taken, *patterns, first_k
        )
    except UserError as error:
        return [], [str(error)]
    return [*pairs], problems


def _examine_prepared(spec: Data, training: bool, batches: bool, eval_type: str | None, decode: bool) -> Finding:
    """Of the parts of an item, which look after themselves; what is read of them, and what the wrapper says."""
    summary = f"{spec.dataset.args.get('root_path')} ({spec.dataset.name})"
    try:
        if misfit := sets.misfit(spec.model_dump()):
            raise UserError(misfit)
        dataset = DATASETS.make(spec.dataset.model_dump())
        wrapper = WRAPPERS.make(spec.wrapper.model_dump(), dataset=dataset, seed=0, training=training)
    except UserError as error:
        return Finding(summary, [str(error)], [])
    problems = sets.unfit(wrapper, eval_type)
    for item in range(len(dataset.titles) if decode else 0):
        try:
            dataset[item], dataset.condition(item)
        except UserError as error:
            problems.append(str(error))
    problems = problems or _first_sample(spec, training, batches)
    return Finding(f"{dataset.where} ({len(dataset.titles)} images)", problems, [])


def _misfits(
    spec: Data, found: list[Folder], items: list[tuple[str, ...]], training: bool, eval_type: str | None
) -> list[str]:
    """What the wrapper says of the sizes of each image or pair that can be read, and the protocol of all."""
    sizes = {path: size for folder in found for path, size in folder.sizes.items()}
    roots = [folder.root for folder in found]
    paths = [tuple(root / name for root, name in zip(roots, item, strict=True)) for item in items]
    whole = [item for item in paths if all(path in sizes for path in item)]
    repeat = DATASETS.arguments(spec.dataset.model_dump()).get("repeat", 1)
    listing = Listing(whole, sizes, repeat)
    try:
        wrapper = WRAPPERS.make(spec.wrapper.model_dump(), dataset=listing, seed=0, training=training)
    except UserError as error:  # of the numbers of the config alone
        return [str(error)]
    return sets.unfit(wrapper, eval_type)


def make_uncached(spec: Data, training: bool, eval_type: str | None = None, seed: int = 0):
    """`sets.make` for a check, which writes no cache and fills no memory."""
    content = spec.model_dump()
    if "cache" in content["dataset"]["args"]:
        content["dataset"]["args"]["cache"] = "none"
    return sets.make(content, seed, training, eval_type)


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
