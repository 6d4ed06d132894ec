"""A large file over HTTP: resumed, and checked before it gets its name.

It grows as `<name>.part`; `<name>.part.json` says which address the part comes from, so that it is continued with
the same bytes or begun anew. Sources: RFC 9110, sections 13.1.5 (If-Range), 14 (Range) and 15.5.17 (416).
"""

import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from liif_core.errors import UserError
from liif_core.system import provenance

BLOCK = 1 << 20
ATTEMPTS = 5  # in a row that bring nothing new; an address that never brought anything gets two
PAUSE = 1.0  # seconds before the second attempt; doubled for each one after
TIMEOUT = 30.0  # seconds without a byte


class Failed(Exception):
    """This address does not give the file; another may. The message is a sentence without its full stop."""


class BrokenOff(Failed):
    """The connection could not be made or ended too early: the same address may give the rest."""


class Part:
    """A file on its way, and what is known of the answer that it began with."""

    def __init__(self, path: Path):
        self.path = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")

    def __len__(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> dict:
        """ "url", "validator" (ETag or date, for If-Range) and "bytes" (the whole length) of the first answer."""
        try:
            origin = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # nothing yet, or killed while it was written
            return {}
        return origin if isinstance(origin, dict) else {}

    def begin(self, origin: dict) -> None:
        """An empty part that comes from there."""
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps(origin), encoding="utf-8")

    def discard(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a large file, with a progress bar."""
    title, size = f"SHA-256 of {path.name}", path.stat().st_size
    with tqdm(desc=title, total=size, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        return provenance.sha256(path, bar.update)


def check_room(folder: Path, needed: float) -> None:
    """Raise UserError if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed: make room first")


def _open(url: str, part: Part, same_bytes: bool) -> http.client.HTTPResponse:
    """The answer to a request for what is missing of the part, or for everything."""
    origin = part.origin()
    headers = {"User-Agent": "liif", "Accept-Encoding": "identity"}
    if not same_bytes and origin.get("url") != url:
        part.discard()
    if len(part):
        headers["Range"] = f"bytes={len(part)}-"
        if origin.get("url") == url and origin.get("validator"):
            headers["If-Range"] = origin["validator"]
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part has all that the server has, or more: it is not its file
            part.discard()
        kind = BrokenOff if error.code in (408, 416, 429) or error.code >= 500 else Failed
        raise kind(f"{url} answers {error.code} {error.reason}") from None
    except (http.client.HTTPException, OSError) as error:
        raise BrokenOff(f"{url} cannot be reached ({getattr(error, 'reason', error)})") from None


def _prepare(url: str, answer: http.client.HTTPResponse, part: Part, size: int | None) -> int | None:
    """Make the part what the answer continues; returns the whole length as announced, None if it is not."""
    announced: int | None
    if answer.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        announced = int(span[2]) if span and span[2] != "*" else None
        if not span or int(span[1]) != len(part) or announced not in (None, part.origin().get("bytes"), size):
            part.discard()
            raise BrokenOff(f"{url} continues another file than the one begun")
    else:  # from the first byte on, also where a range was asked for
        length = answer.headers.get("Content-Length")
        announced = int(length) if length and length.isdecimal() else None
        etag = answer.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        part.begin({"url": url, "validator": validator, "bytes": announced})
    if size is not None and announced not in (None, size):
        part.discard()
        raise Failed(f"{url} announces {announced:,} bytes, {size:,} are expected")
    return announced if announced is not None else size


def _transfer(url: str, part: Part, size: int | None, same_bytes: bool) -> None:
    """One request. Raises BrokenOff if it does not bring the rest."""
    with _open(url, part, same_bytes) as answer:
        whole = _prepare(url, answer, part, size)
        name = part.path.name.removesuffix(".part")
        bar = tqdm(desc=name, total=whole, initial=len(part), unit="B", unit_scale=True, leave=False, disable=None)
        with bar, open(part.path, "ab") as file:
            while True:
                try:
                    block = answer.read1(BLOCK)
                except (http.client.HTTPException, OSError) as error:
                    raise BrokenOff(f"{url} broke off after {file.tell():,} bytes ({error})") from None
                if not block:
                    break
                file.write(block)
                bar.update(len(block))
    if whole is not None and len(part) < whole:
        raise BrokenOff(f"{url} broke off after {len(part):,} of {whole:,} bytes")


def _persist(url: str, part: Part, size: int | None, same_bytes: bool) -> None:
    """As many requests as it takes, as long as they bring something new."""
    furthest, fruitless, allowed = len(part), 0, 2
    while True:
        origin = part.origin()
        if len(part) and len(part) == (size or (origin.get("bytes") if origin.get("url") == url else None)):
            return
        try:
            return _transfer(url, part, size, same_bytes)
        except BrokenOff as error:
            if len(part) > furthest:
                furthest, fruitless, allowed = len(part), 0, ATTEMPTS
            else:
                fruitless += 1
            if fruitless >= allowed:
                raise
            tqdm.write(f"{error}: trying again")
            time.sleep(PAUSE * 2**fruitless)


def download(url: str, path: Path, size: int | None = None, digest: str | None = None) -> str:
    """Fetch a file, going on where an earlier attempt stopped; returns its SHA-256.

    size, digest: what it must be. A part of another address is continued if a digest will tell whether that was
    right. Raises Failed; after BrokenOff the part is kept. Raises UserError when the disk cannot be written.
    """
    part = Part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for fresh in (len(part) == 0, True):
            _persist(url, part, size, same_bytes=digest is not None)
            found = sha256(part.path)
            if digest in (None, found):
                part.path.replace(path)
                part.discard()
                return found
            part.discard()
            if fresh:
                break
            tqdm.write(f"{path.name} was continued with other bytes than it was begun with: once more from the start")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror})") from None
    raise Failed(f"{url} gives another file: its SHA-256 is {found}, {digest} is expected")
