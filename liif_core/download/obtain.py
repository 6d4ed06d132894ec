"""From the catalogue to folders below load/: download, check, unpack, rename into place."""

import datetime
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from liif_core.data.catalogue import Archive
from liif_core.data.folders import Images
from liif_core.data.names import image_files
from liif_core.download.archives import unpack
from liif_core.download.transfer import Failed, check_room, download, sha256
from liif_core.errors import UserError
from liif_core.system import locks, provenance
from liif_core.system.files import is_folder, write_atomically

LEDGER = ".downloads.json"


def count(folder: Path) -> int:
    """The files in a folder, hidden ones left out; 0 if there is no such folder."""
    return len(image_files(folder)) if is_folder(folder) else 0


def missing(archive: Archive, root: Path) -> list[str]:
    """The folders that the archive would fill. Raises UserError for one that is there with other contents."""
    empty = []
    for below, complete in archive.counts.items():
        found = count(root / below)
        if found not in (0, complete):
            raise UserError(f"{root / below} holds {found} of {complete} images: move it away, then run this again")
        if not found:
            empty.append(below)
    return empty


def contents_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files, in the order of their names."""
    digest = hashlib.sha256()
    for entry in image_files(folder):
        digest.update(entry.name.encode() + b"\0" + bytes.fromhex(provenance.sha256(Path(entry.path))))
    return digest.hexdigest()


class Ledger:
    """What was downloaded without a published checksum: the first time is trusted if the images are in order, and
    later times must equal it."""

    def __init__(self, root: Path):
        self.path = root / LEDGER
        try:
            self.entries = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {self.path} ({error}): fix it or remove it") from None

    def digest(self, url: str) -> str | None:
        """The SHA-256 of the first download."""
        return self.entries[url]["sha256"] if url in self.entries else None

    def record(self, url: str, digest: str, size: int) -> None:
        """Keep what the first download was."""
        today = datetime.date.today().isoformat()
        self.entries[url] = {"sha256": digest, "bytes": size, "first": today}
        write_atomically(self.path, (json.dumps(self.entries, indent=1) + "\n").encode())


def _fetch(archive: Archive, url: str, path: Path, ledger: Ledger) -> str:
    """The archive file from one address, or as an earlier run left it; returns its SHA-256."""
    digest = archive.sha256 or ledger.digest(url)
    if path.exists() and digest and sha256(path) == digest:
        return digest
    path.unlink(missing_ok=True)
    try:
        return download(url, path, archive.size if archive.sha256 else None, digest)
    except Failed as error:
        if digest == archive.sha256:
            raise
        raise Failed(f"{error}; {ledger.path} holds the digest of the first download") from None


def _verify(archive: Archive, path: Path, staging: Path) -> None:
    """Counts, contents where their digest is known, and pixels where nothing else vouches for them."""
    for below, complete in archive.counts.items():
        if count(staging / below) != complete:
            raise Failed(f"{path.name} holds {count(staging / below)} images for {below}, not {complete}")
    for below, digest in archive.contents.items():
        if contents_digest(staging / below) != digest:
            raise Failed(f"{path.name} holds other images for {below} than it should")
    if not archive.sha256 and not archive.contents:
        files = [f"{below}/{entry.name}" for below in archive.counts for entry in image_files(staging / below)]
        if broken := list(Images(staging, files, decode=True).broken.values()):
            raise Failed(f"{path.name} holds {len(broken)} broken images: {broken[0]}")


def _install(archive: Archive, path: Path, root: Path) -> None:
    """Unpack beside the final places and rename the folders into them."""
    staging = Path(tempfile.mkdtemp(prefix=f"unpacking-{path.name}-", dir=path.parent))
    try:
        unpack(path, archive.members, archive.becomes, staging)
        _verify(archive, path, staging)
        for below in missing(archive, root):
            (root / below).parent.mkdir(parents=True, exist_ok=True)
            (staging / below).rename(root / below)
    finally:
        shutil.rmtree(staging)


def obtain(archive: Archive, root: Path, keep: bool = False) -> None:
    """Fill the archive's folders below `root`, from the first of its addresses that gives what it should.

    keep: leave the archive in `<root>/.downloads`. One process at a time: another one that wants the same archive
    waits, and finds the folders filled. Raises UserError with what every address did.
    """
    place = root / ".downloads"
    names = [url.rsplit("/", 1)[1] for url in archive.urls]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with locks.alone(place / f"{names[0]}.lock", f"fetches {names[0]}"):
            if missing(archive, root):
                _obtain(archive, names, root, place, keep)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or root} ({error.strerror})") from None


def _obtain(archive: Archive, names: list[str], root: Path, place: Path, keep: bool) -> None:
    for leftover in [folder for name in names for folder in place.glob(f"unpacking-{name}-*")]:
        shutil.rmtree(leftover)  # a killed process unpacked this archive; others may be at work on theirs
    here = [file.stat().st_size for name in dict.fromkeys(names) for file in place.glob(f"{name}*")]
    check_room(place, 2 * archive.size - sum(here))
    reasons = []
    for url, name in zip(archive.urls, names, strict=True):
        path = place / name
        ledger = Ledger(root)
        try:
            digest = _fetch(archive, url, path, ledger)
            _install(archive, path, root)
        except Failed as error:
            path.unlink(missing_ok=True)
            reasons.append(str(error))
            tqdm.write(f"{error}")
            continue
        if not archive.sha256 and not ledger.digest(url):
            with locks.alone(place / "ledger.lock", f"writes {ledger.path}"):
                Ledger(root).record(url, digest, path.stat().st_size)  # others may have written since
            tqdm.write(f"{path.name}: no checksum is published; {ledger.path} now holds its SHA-256")
        if not keep:
            path.unlink()
        return
    kept = f" What has come is kept in {place}: run this again to go on." if list(place.glob("*.part")) else ""
    raise UserError(f"{archive.data_set}: no address gives what it should. {'. '.join(reasons)}.{kept}")
