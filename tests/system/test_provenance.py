"""Which commit and which weights a number comes from."""

import hashlib
import subprocess

import pytest

from liif_core.system import provenance


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder in the place of the project; `git(...)` runs git there."""
    folder = tmp_path / "outer" / "project"
    folder.mkdir(parents=True)
    monkeypatch.setattr(provenance, "CODE", folder)
    return folder


def git(folder, *arguments) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str | None:
    return provenance.commit.__wrapped__()  # not the one that was read before


def test_the_commit_and_whether_files_have_changed_since(project):
    git(project, "init")
    (project / "a").write_text("1")
    git(project, "add", "a")
    git(project, "commit", "-m", "a")
    git(project, "tag", "v1")  # no name is taken for the commit
    head = git(project, "rev-parse", "HEAD")
    assert commit() == head and len(head) == 40
    (project / "untracked").write_text("")
    assert commit() == head
    (project / "a").write_text("2")
    assert commit() == f"{head}-dirty"


def test_outside_git_there_is_none(project):
    assert commit() is None
    git(project.parent, "init")  # a repository that merely contains the project
    (project.parent / "b").write_text("")
    git(project.parent, "add", "b")
    git(project.parent, "commit", "-m", "b")
    assert commit() is None


def test_an_installed_package_has_none(project, monkeypatch):
    git(project, "init")  # someone's own, into which the package was installed
    git(project, "commit", "--allow-empty", "-m", "a")
    assert commit() is not None
    monkeypatch.setattr(provenance, "INSTALLED", True)
    assert commit() is None


def test_without_git_there_is_none(project, monkeypatch):
    monkeypatch.setenv("PATH", str(project))
    assert commit() is None


def test_the_checksum_is_that_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "weights").write_bytes(content)
    assert provenance.sha256(tmp_path / "weights") == hashlib.sha256(content).hexdigest()
