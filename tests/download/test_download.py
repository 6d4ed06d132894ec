"""Downloads from servers that break off, lie about the length, serve something else or ignore what they are asked."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import ROOT, made_images
from liif_core.data import catalogue
from liif_core.data.catalogue import Archive
from liif_core.download import emoji, obtain
from liif_core.download import transfer as downloads
from liif_core.download.transfer import BrokenOff, Failed, download
from liif_core.errors import UserError
from liif_core.images import rgb8

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Site:
    """What one path of the server does; every request is logged as its Range header."""

    def __init__(self, content, breaks=(), ranges=True, announce=None, status=200, etag='"one"', wrong_start=False):
        self.content, self.breaks, self.ranges = content, list(breaks), ranges
        self.announce, self.status, self.etag, self.wrong_start = announce, status, etag, wrong_start
        self.log: list[str | None] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        self.log.append(asked)
        if self.status != 200:
            return request.send_error(self.status)
        start = 0
        if asked and self.ranges and condition in (None, self.etag):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(self.content):
                return request.send_error(416)
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            first = start - 1 if self.wrong_start else start
            request.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        if self.announce != "nothing":
            request.send_header("Content-Length", str(self.announce or len(body)))
        request.end_headers()
        request.wfile.write(body[: self.breaks.pop(0)] if self.breaks else body)


@pytest.fixture
def server(monkeypatch):
    """server(path=Site(...)) -> address of the path; whatever else is asked for is not found."""
    sites: dict[str, Site] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            sites[self.path].answer(self) if self.path in sites else self.send_error(404)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    monkeypatch.setattr(downloads, "TIMEOUT", 5.0)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def add(path: str, site: Site | None = None) -> str:
        if site:
            sites[f"/{path}"] = site
        return f"http://127.0.0.1:{http.server_port}/{path}"

    yield add
    http.shutdown()
    http.server_close()


def nothing_left(path: Path, *kept: str) -> bool:
    return sorted(p.name for p in path.parent.iterdir()) == sorted(kept)


def test_a_good_server_gives_the_file(server, tmp_path):
    site = Site(CONTENT)
    path = tmp_path / "new" / "file"
    assert download(server("file", site), path, len(CONTENT), digest(CONTENT)) == digest(CONTENT)
    assert path.read_bytes() == CONTENT and nothing_left(path, "file") and site.log == [None]


def test_a_server_that_breaks_off_is_asked_for_the_rest(server, tmp_path):
    site = Site(CONTENT, breaks=[100_000, 50_000, 0, 1])
    path = tmp_path / "file"
    download(server("file", site), path, len(CONTENT), digest(CONTENT))
    assert path.read_bytes() == CONTENT
    assert site.log == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150001-"]


def test_another_process_goes_on_where_one_stopped(server, tmp_path):
    path = tmp_path / "file"
    site = Site(CONTENT, breaks=[100_000] + [0] * 20)
    with pytest.raises(BrokenOff, match="broke off after 100,000 of 300,000 bytes"):
        download(server("file", site), path)
    assert nothing_left(path, "file.part", "file.part.json")
    site.breaks.clear()
    site.log.clear()
    download(server("file"), path)
    assert path.read_bytes() == CONTENT and site.log == ["bytes=100000-"] and nothing_left(path, "file")


def test_a_whole_part_is_not_asked_for_again(server, tmp_path):
    path = tmp_path / "file"
    site = Site(CONTENT, breaks=[100_000] + [0] * 20)
    with pytest.raises(BrokenOff):
        download(server("file", site), path)
    (tmp_path / "file.part").write_bytes(CONTENT)
    site.log.clear()
    assert download(server("file"), path) == digest(CONTENT)
    assert site.log == []


def test_a_server_that_ignores_ranges_sends_everything_again(server, tmp_path):
    path = tmp_path / "file"
    site = Site(CONTENT, breaks=[100_000, 200_000], ranges=False)
    download(server("file", site), path, None, digest(CONTENT))
    assert path.read_bytes() == CONTENT
    assert site.log == [None, "bytes=100000-", "bytes=200000-"]


def test_a_server_that_ignores_ranges_and_always_breaks_off_is_given_up(server, tmp_path):
    site = Site(CONTENT, breaks=[100_000] * 100, ranges=False)
    with pytest.raises(BrokenOff, match="broke off after 100,000"):
        download(server("file", site), tmp_path / "file")
    assert len(site.log) == downloads.ATTEMPTS + 1


@pytest.mark.parametrize("etag", ['"one"', 'W/"weak"', None])
def test_a_file_that_changed_in_between_is_begun_anew(server, tmp_path, etag):
    """With a strong validator the server notices, without one its length has to tell."""
    path = tmp_path / "file"
    with pytest.raises(BrokenOff):
        download(server("file", Site(CONTENT, breaks=[100_000] + [0] * 20, etag=etag)), path)
    changed = OTHER if etag == '"one"' else OTHER + b"longer"
    download(server("file", Site(changed, etag='"two"' if etag else None)), path)
    assert path.read_bytes() == changed


def test_a_range_that_was_not_asked_for_is_not_appended(server, tmp_path):
    path = tmp_path / "file"
    site = Site(CONTENT, breaks=[100_000], wrong_start=True)
    download(server("file", site), path)
    assert path.read_bytes() == CONTENT and site.log == [None, "bytes=100000-", None]


def test_416_begins_anew(server, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(BrokenOff):
        download(server("file", Site(CONTENT, breaks=[200_000] + [0] * 20, etag=None)), path)
    site = Site(CONTENT[:150_000], etag=None)
    download(server("file", site), path)
    assert path.read_bytes() == CONTENT[:150_000] and site.log == ["bytes=200000-", None]


@pytest.mark.parametrize("length", [400_000, 200_000])
def test_a_length_that_is_not_the_known_one_is_refused_before_the_bytes(server, tmp_path, length):
    path = tmp_path / "file"
    with pytest.raises(Failed, match=f"announces {length:,} bytes, 300,000 are expected"):
        download(server("file", Site(CONTENT, announce=length)), path, len(CONTENT), digest(CONTENT))
    assert nothing_left(path)


def test_a_length_that_is_too_long_is_found_out(server, tmp_path):
    site = Site(CONTENT, announce=400_000)
    with pytest.raises(BrokenOff):
        download(server("file", site), tmp_path / "file")
    assert not (tmp_path / "file").exists() and len(site.log) < 20


def test_a_length_that_is_too_short_is_found_out_by_the_digest(server, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(Failed, match="another file: its SHA-256 is"):
        download(server("file", Site(CONTENT, announce=200_000)), path, None, digest(CONTENT))
    assert nothing_left(path)


def test_no_length_at_all_is_good_enough(server, tmp_path):
    download(server("file", Site(CONTENT, announce="nothing")), tmp_path / "file", len(CONTENT), digest(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_wrong_file_leaves_nothing(server, tmp_path):
    path = tmp_path / "file"
    site = Site(OTHER)
    with pytest.raises(Failed, match=f"its SHA-256 is {digest(OTHER)}, {digest(CONTENT)} is expected"):
        download(server("file", site), path, len(CONTENT), digest(CONTENT))
    assert nothing_left(path) and site.log == [None]


def test_a_part_of_a_wrong_file_is_not_held_against_the_right_one(server, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(BrokenOff):
        download(server("wrong", Site(OTHER, breaks=[100_000] + [0] * 20)), path, len(CONTENT), digest(CONTENT))
    right = Site(CONTENT)
    download(server("right", right), path, len(CONTENT), digest(CONTENT))
    assert path.read_bytes() == CONTENT and right.log == ["bytes=100000-", None]


def test_a_part_of_another_address_is_continued_only_when_a_digest_will_tell(server, tmp_path):
    path = tmp_path / "file"
    for known, expected in ((digest(CONTENT), "bytes=100000-"), (None, None)):
        with pytest.raises(BrokenOff):
            download(server("one", Site(CONTENT, breaks=[100_000] + [0] * 20)), path, None, known)
        mirror = Site(CONTENT)
        download(server("two", mirror), path, None, known)
        assert path.read_bytes() == CONTENT and mirror.log == [expected]
        path.unlink()


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, 2), (503, 2)])
def test_errors_of_the_server_are_said(server, tmp_path, status, tries):
    site = Site(CONTENT, status=status)
    with pytest.raises(Failed, match=f"answers {status}"):
        download(server("file", site), tmp_path / "file")
    assert len(site.log) == tries


def test_a_server_that_is_not_there(server, tmp_path):
    with pytest.raises(BrokenOff, match="cannot be reached"):
        download("http://127.0.0.1:9/file", tmp_path / "file")


def test_a_place_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        download(server("x", Site(CONTENT)), tmp_path / "file" / "deeper")


# Archives


NAMES = ["0001.png", "0002.png", "0003.png"]


def png(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(made_images.make_image(9, 13, seed)).save(content, "PNG")
    return content.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files: dict[str, bytes], mode="w:gz", links=()) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return content.getvalue()


GOOD = {f"set/HR/{name}": png(number) for number, name in enumerate(NAMES)} | {"set/readme.txt": b"hello"}


def archive(*urls, content: bytes | None = None, **changes) -> Archive:
    """Three images, found out by the SHA-256 of `content` if there is one."""
    known = {"sha256": digest(content), "size": len(content)} if content else {"size": 1000}
    what = {"data_set": "small", "urls": urls, "members": r"set/(HR/[^/]+\.png)", "becomes": r"small/\1"}
    return Archive(**what | {"counts": {"small/HR": 3}} | known | changes)


def filled(root: Path) -> bool:
    return {p.name: p.read_bytes() for p in (root / "small" / "HR").iterdir()} == {
        name: GOOD[f"set/HR/{name}"] for name in NAMES
    }


@pytest.mark.parametrize("pack", [zipped, tarred, lambda files: tarred(files, "w")])
def test_an_archive_becomes_a_folder_and_goes(server, tmp_path, pack):
    content = pack(GOOD)
    one = archive(server("set.zip", Site(content, breaks=[len(content) // 2])), content=content)
    obtain.obtain(one, tmp_path)
    assert filled(tmp_path) and obtain.missing(one, tmp_path) == []
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == NAMES


def test_the_next_address_is_tried_and_the_reasons_are_said(server, tmp_path):
    content = zipped(GOOD)
    wrong = server("wrong/set.zip", Site(OTHER[: len(content)]))
    gone, good = server("gone/set.zip"), server("good/set.zip", Site(content))
    obtain.obtain(archive(gone, wrong, good, content=content), tmp_path / "a")
    assert filled(tmp_path / "a")
    with pytest.raises(UserError, match=r"gone/set.zip answers 404 .*wrong/set.zip gives another file: its SHA-256"):
        obtain.obtain(archive(gone, wrong, content=content), tmp_path / "b")
    assert not (tmp_path / "b" / "small").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(GOOD | {"../evil.png": png(9)}), r"holds '../evil.png', which leads out of the folder"),
        (zipped(GOOD | {"set/../../evil.png": png(9)}), "leads out"),
        (tarred(GOOD | {"/tmp/liif-evil.png": png(9)}), "holds '/tmp/liif-evil.png'"),
        (zipped(GOOD | {"..\\evil.png": png(9)}), "leads out"),
        (
            tarred({k: v for k, v in GOOD.items() if "0003" not in k}, links=[("set/HR/0003.png", "/etc/passwd")]),
            "2 images",
        ),
        (zipped({k: v for k, v in GOOD.items() if "0002" not in k}), "holds 2 images for small/HR, not 3"),
        (zipped(GOOD | {"set/HR/0002.png": png(1)[:-40]}), r"holds 1 broken images: cannot read .*0002.png"),
        (b"<!DOCTYPE html><html>sign in</html>", "is no zip or tar archive: it begins with b'<!DOCTYPE html>"),
        (tarred(GOOD)[:-400], "is damaged|is no zip"),
        (zipped(GOOD).replace(png(1)[30:60], b"x" * 30), "is damaged"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be_is_refused_whole(server, tmp_path, content, message):
    root = tmp_path / "deep" / "load"
    with pytest.raises(UserError, match=message):
        obtain.obtain(archive(server("set.zip", Site(content))), root)
    assert not (root / "small").exists()
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/liif-evil.png").exists()
    assert not (root / ".downloads.json").exists()  # nothing to be trusted
    assert not list((root / ".downloads").iterdir())


def test_the_first_download_without_a_checksum_is_trusted_and_remembered(server, tmp_path):
    content = zipped(GOOD)
    url = server("set.zip", Site(content))
    obtain.obtain(archive(url), tmp_path)
    ledger = json.loads((tmp_path / ".downloads.json").read_text())
    assert ledger[url]["sha256"] == digest(content) and ledger[url]["bytes"] == len(content)
    (tmp_path / "small").rename(tmp_path / "away")
    server("set.zip", Site(zipped(GOOD | {"set/readme.txt": b"changed"})))
    with pytest.raises(UserError, match=r"another file: its SHA-256 .*downloads.json holds the digest of the first"):
        obtain.obtain(archive(url), tmp_path)
    server("set.zip", Site(content))
    obtain.obtain(archive(url), tmp_path)
    assert filled(tmp_path)


def test_the_same_images_may_come_in_different_archives(server, tmp_path):
    """Without a digest of the archive, that of the images decides."""
    (tmp_path / "model").mkdir()
    for name in NAMES:
        (tmp_path / "model" / name).write_bytes(GOOD[f"set/HR/{name}"])
    contents = {"small/HR": obtain.contents_digest(tmp_path / "model")}
    wrong = server("a.zip", Site(zipped(GOOD | {"set/HR/0001.png": png(5)})))
    right = server("b.tgz", Site(tarred(GOOD)))
    obtain.obtain(archive(wrong, right, contents=contents), tmp_path / "load")
    assert filled(tmp_path / "load")
    with pytest.raises(UserError, match="holds other images for small/HR than it should"):
        obtain.obtain(archive(wrong, contents=contents), tmp_path / "other")


def test_what_is_there_is_left_alone(server, tmp_path):
    content = zipped(GOOD | {"set/LR/0001.png": png(7)})
    two = {"members": r"set/((?:HR|LR)/[^/]+\.png)", "counts": {"small/HR": 3, "small/LR": 1}}
    one = archive(server("set.zip", Site(content)), content=content, **two)
    made_images.folder(tmp_path / "small" / "HR", {name: (4, 5) for name in NAMES})
    assert obtain.missing(one, tmp_path) == ["small/LR"]
    obtain.obtain(one, tmp_path)
    assert not filled(tmp_path) and (tmp_path / "small" / "LR" / "0001.png").read_bytes() == png(7)
    (tmp_path / "small" / "HR" / NAMES[0]).unlink()
    with pytest.raises(UserError, match=r"holds 2 of 3 images: move it away"):
        obtain.missing(one, tmp_path)


def test_a_disk_that_is_too_small_is_said_before_anything_is_asked_for(server, tmp_path):
    site = Site(CONTENT)
    with pytest.raises(UserError, match=r"GB free, .* GB are needed"):
        obtain.obtain(archive(server("set.zip", site), size=10**17), tmp_path)
    assert site.log == []


def test_files_unpacked_by_a_killed_process_go_and_those_of_another_stay(server, tmp_path):
    content = zipped(GOOD)
    one = archive(server("set.zip", Site(content)), content=content)
    for name in ("unpacking-set.zip-abc", "unpacking-other.zip-abc"):
        made_images.folder(tmp_path / ".downloads" / name / "small" / "HR", {"0001.png": (4, 5)})
    obtain.obtain(one, tmp_path)
    assert filled(tmp_path)
    assert [path.name for path in (tmp_path / ".downloads").iterdir()] == ["unpacking-other.zip-abc"]


def test_the_archive_is_kept_on_request_and_used_again(server, tmp_path):
    content = zipped(GOOD)
    site = Site(content)
    one = archive(server("set.zip", site), content=content)
    obtain.obtain(one, tmp_path, keep=True)
    assert (tmp_path / ".downloads" / "set.zip").read_bytes() == content
    (tmp_path / "small").rename(tmp_path / "away")
    obtain.obtain(one, tmp_path)
    assert filled(tmp_path) and site.log == [None]


# The catalogue and the command


def test_every_archive_of_the_catalogue_fills_its_own_folders():
    """Patterns and places agree: a name as the archive has it lands in a folder that is counted."""
    samples = {
        "DIV2K_train_HR/0001.png": "div2k/DIV2K_train_HR",
        "DIV2K_valid_LR_bicubic/X3/0801x3.png": "div2k/DIV2K_valid_LR_bicubic/X3",
        "DIV2K_train_LR_bicubic/X2/0001x2.png": "div2k/DIV2K_train_LR_bicubic/X2",
        "benchmark/Urban100/LR_bicubic/X4/img001x4.png": "benchmark/Urban100/LR_bicubic/X4",
        "BSR/BSDS500/data/images/train/100075.jpg": "bsds400",
        "BSDS500-a04b7c6c/BSDS500/data/images/test/100007.jpg": "bsds400",
    }
    for name, folder in samples.items():
        (one,) = [a for a in catalogue.ARCHIVES if re.fullmatch(a.members, name)]
        place = re.fullmatch(one.members, name).expand(one.becomes)
        assert place == f"{folder}/{name.rsplit('/', 1)[1]}" and folder in one.counts
    assert not any(re.fullmatch(a.members, "BSR/BSDS500/data/images/val/3096.jpg") for a in catalogue.ARCHIVES)
    for one in catalogue.ARCHIVES:
        assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256)


@pytest.mark.data
@pytest.mark.skipif(not (ROOT / "load" / "bsds400").is_dir(), reason="load/bsds400 is not here")
def test_the_images_of_bsds400_are_those_of_the_catalogue():
    assert catalogue.BSDS400.contents["bsds400"] == obtain.contents_digest(ROOT / "load" / "bsds400")
    assert obtain.missing(catalogue.BSDS400, ROOT / "load") == []


def command(*arguments):
    program = [sys.executable, str(ROOT / "scripts" / "download_data.py"), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


def test_a_dry_run_says_what_would_come_and_writes_nothing(tmp_path):
    result = command("div2k", "benchmark", "--to", tmp_path / "load", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "would fetch 3,531 MB from https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip" in result.stdout
    assert len(result.stdout.splitlines()) == 7 and not list(tmp_path.iterdir())


def test_the_list_says_what_is_to_be_fetched_by_hand():
    result = command("--list")
    assert result.returncode == 0
    for part in (
        "benchmark.tar",
        "DIV2K_valid_LR_bicubic_X4.zip",
        "data1024x1024",
        "split.json",
        "by hand",
        "ffhq-dataset",
        "fonts-noto",
    ):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which data set?"),
        (["div3k"], "no data set 'div3k': known are div2k"),
        (["celebAHQ"], "needs --from FOLDER"),
        (["div2k", "--from", "faces", "--dry-run"], "--from faces: it goes with celebAHQ or emoji alone"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments, message):
    result = command(*arguments)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_faces_are_downsampled_as_liif_does_it(tmp_path):
    """256 from 1024 and the others from 256, each by Pillow's bicubic."""
    source = made_images.folder(tmp_path / "data1024x1024", {"1.jpg": (1024, 1024), "2.png": (1024, 1024)})
    result = command("celebAHQ", "--from", source, "--to", tmp_path / "load")
    assert result.returncode == 0, result.stderr
    assert "split.json is missing" in result.stdout
    for name in ("1.jpg", "2.png"):
        largest = Image.open(source / name).resize((256, 256), Image.Resampling.BICUBIC)
        for size in (256, 128, 64, 32):
            found = rgb8.read_image(tmp_path / f"load/celebAHQ/{size}/{name[0]}.png")
            expected = largest.resize((size, size), Image.Resampling.BICUBIC) if size < 256 else largest
            np.testing.assert_array_equal(found, np.asarray(expected))
    (tmp_path / "load/celebAHQ/split.json").write_text('{"train": ["1.png"], "test": ["2.png"]}')
    stamp = (tmp_path / "load/celebAHQ/32/1.png").stat().st_mtime_ns
    again = command("celebAHQ", "--from", source, "--to", tmp_path / "load")
    assert "split.json: train 1, test 1" in again.stdout
    assert (tmp_path / "load/celebAHQ/32/1.png").stat().st_mtime_ns == stamp
    made_images.write(source / "3.png", 512, 512)
    refused = command("celebAHQ", "--from", source, "--to", tmp_path / "load")
    assert refused.returncode == 2 and "3.png is 512x512: CelebA-HQ's images are 1024x1024" in refused.stderr


def test_emoji_are_laid_on_white_and_cut_and_equal_ones_dropped():
    glyph = np.zeros((128, 136, 4), np.uint8)
    glyph[:, 4] = 255, 0, 0, 255
    glyph[:, :4], glyph[:, 132:] = 9, 9  # what is cut away

    def png(pixels):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        return content.getvalue()

    half = glyph.copy()
    half[5, 70] = 0, 0, 0, 128
    made = emoji.images({"one": png(glyph), "same": png(glyph), "half": png(half)})
    assert list(made) == ["one", "half"] and made["one"].shape == (128, 128, 3)
    assert (made["one"][:, 0] == (255, 0, 0)).all() and (made["one"][:, 1:] == 255).all()
    assert tuple(made["half"][5, 66]) == (127, 127, 127)
    with pytest.raises(UserError, match="the emoji 'x' is 128x128: expected 128x136"):
        emoji.images({"x": png(glyph[:, 8:])})


def test_what_is_no_font_of_emoji_is_one_sentence(tmp_path):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    with pytest.raises(UserError, match="a.ttf has no bitmaps of emoji .*expected NotoColorEmoji.ttf"):
        emoji.make_emoji(tmp_path / "a.ttf", tmp_path)


def test_ctrl_c_is_no_traceback(tmp_path):
    """It goes to the whole group of the terminal, to the processes that downsample as well."""
    faces = made_images.folder(tmp_path / "faces", {"0.png": (1024, 1024)})
    for number in range(1, 20):
        shutil.copy(faces / "0.png", faces / f"{number}.png")
    program = [
        sys.executable,
        str(ROOT / "scripts" / "download_data.py"),
        "celebAHQ",
        "--from",
        "faces",
        "--to",
        "load",
    ]
    process = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob("load/celebAHQ/32/*")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "Traceback" not in errors
    assert len(list(tmp_path.glob("load/celebAHQ/32/*"))) < 20
