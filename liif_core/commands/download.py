"""The command of scripts/download_data.py: the public data sets.

An interrupted download goes on where it stopped. What is complete is left alone. `celebAHQ --from FOLDER` makes
the small sizes of CelebA-HQ from images fetched by hand, `emoji` images of a font.
"""

import sys
from pathlib import Path

from liif_core.data.catalogue import ARCHIVES, DATA_SETS
from liif_core.data.names import found
from liif_core.download.emoji import EMOJI, FONT, make_emoji
from liif_core.download.faces import FACES, FFHQ, make_faces
from liif_core.download.obtain import count, missing, obtain
from liif_core.errors import UserError
from liif_core.system import files
from liif_core.system.arguments import Parser
from liif_core.system.places import WORK

MADE = {"celebAHQ", "emoji"}  # from what is fetched or installed by hand
ALL = [*DATA_SETS, *sorted(MADE)]


def show(root: Path) -> None:
    """What there is, and what of it is here."""
    for archive in ARCHIVES:
        places = ", ".join(f"{below} {count(root / below)}/{complete}" for below, complete in archive.counts.items())
        check = "no published checksum"
        if archive.sha256 or archive.contents:
            check = "SHA-256 of the archive known" if archive.sha256 else "SHA-256 of the images known"
        print(f"{archive.data_set}: {archive.size / 1e6:,.0f} MB, {check}: {places}")
        for url in archive.urls:
            print(f"  {url}")
    print(FACES)
    print(FFHQ)
    print(EMOJI)


def download_all(data_sets: list[str], root: Path, dry_run: bool, keep: bool) -> None:
    """Every archive of the data sets; one that fails does not keep the others from coming."""
    failures = []
    for archive in (archive for archive in ARCHIVES if archive.data_set in data_sets):
        try:
            folders = missing(archive, root)
            if not folders:
                print(f"complete: {', '.join(str(root / below) for below in archive.counts)}")
            elif dry_run:
                print(f"would fetch {archive.size / 1e6:,.0f} MB from {archive.urls[0]} into {', '.join(folders)}")
            else:
                obtain(archive, root, keep)
                print(f"fetched: {', '.join(str(root / below) for below in folders)}")
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failures.append(str(error))
    if failures:
        raise UserError(f"{len(failures)} of the archives could not be fetched")


def main() -> int:
    """Download, downsample or list; returns the exit status."""
    parser = Parser(description="Fetch DIV2K, the benchmark sets and BSDS400 into load/.")
    parser.add_argument("data_sets", nargs="*", metavar="NAME", help=f"{', '.join(ALL)}; celebAHQ with --from")
    parser.add_argument("--to", type=Path, default=WORK / "load", help="the folder to fill (default: load/)")
    parser.add_argument(
        "--from", type=Path, dest="source", help="celebAHQ's images of 1024x1024, fetched by hand; the font of emoji"
    )
    parser.add_argument(
        "--list", action="store_true", help="list what can be downloaded, from where, and what is already here"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument("--keep", action="store_true", help="keep the archives in load/.downloads")
    arguments = parser.parse_args()
    chosen = arguments.data_sets
    if arguments.list:
        show(arguments.to)
        return 0
    if unknown := [name for name in chosen if name not in ALL]:
        raise UserError(f"no data set '{unknown[0]}': known are {', '.join(ALL)}")
    if not chosen:
        raise UserError(f"which data set? name some of {', '.join(ALL)}, or give --list")
    if "celebAHQ" in chosen and not arguments.source:
        print(FACES)
        raise UserError("celebAHQ needs --from FOLDER, the images of 1024x1024 that were fetched by hand")
    if arguments.source and len(MADE & set(chosen)) != 1:
        raise UserError(
            f"--from {arguments.source}: it goes with celebAHQ or emoji alone; what is public comes from its own place"
        )
    if not arguments.dry_run:
        files.check_writable(arguments.to / "anything")
    download_all(chosen, arguments.to, arguments.dry_run, arguments.keep)
    if "celebAHQ" in chosen:
        if arguments.dry_run:
            print(f"would downsample {len(found(arguments.source))} images into {arguments.to / 'celebAHQ'}")
        else:
            make_faces(arguments.source, arguments.to / "celebAHQ")
    if "emoji" in chosen:
        font = arguments.source or FONT
        if arguments.dry_run:
            print(f"would make {arguments.to / 'emoji'} of {font}")
        elif not arguments.source and not FONT.exists():
            print(EMOJI)
            raise UserError(f"emoji: no font {FONT}: install it, or name it by --from")
        else:
            make_emoji(font, arguments.to / "emoji")
    return 0
