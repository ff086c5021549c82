"""Which files a path from outside can name, and which it cannot."""

import errno
import os
import socket

import pytest

from trionet.http.server import open_file
from trionet.http.server.open_file import SMALL, open_below, open_regular


@pytest.fixture
def root(tmp_path):
    """A folder with files, and things beside it and in it that nobody may have."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b c.txt").write_text("b")
    (root / "%2e%2e").mkdir()
    (root / "%2e%2e" / "odd").write_text("odd")
    (root / "ä").write_text("umlaut")
    (root / "...").write_text("dots")
    (root / "C:").write_text("colon")
    (root / "inside").symlink_to(root / "a.txt")
    (root / "secret").symlink_to(tmp_path / "secret")
    (root / "out").symlink_to(tmp_path)
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    (root / "device").symlink_to("/dev/zero")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "x").write_text("secret")
    return root


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.txt", b"a"),
        ("a.txt", b"a"),
        ("/sub/b%20c.txt", b"b"),
        ("/sub//b%20c.txt", b"b"),
        ("/./a.txt", b"a"),
        ("/%61.txt", b"a"),
        ("/sub%2fb%20c.txt", b"b"),
        ("/%C3%A4", b"umlaut"),
        ("/%252e%252e/odd", b"odd"),
        ("/...", b"dots"),
        ("/C:", b"colon"),
        ("/inside", b"a"),
    ],
)
def test_files_below_the_folder(root, path, content):
    opened = open_below(root, path)
    assert opened is not None
    with opened.file:
        assert (opened.data, opened.size) == (content, len(content))


HOSTILE = [
    "", "/", "//", "/sub", "/sub/", "/a.txt/", "/a.txt/x", "/nothing", "/.", "/..",
    "/../secret", "../secret", "/sub/../../secret", "/%2e%2e/secret", "/%2E%2E%2Fsecret", "/..%2fsecret",
    "/sub/..%2f..%2fsecret", "/.%2e/secret", "/sub/../a.txt", "//etc/passwd", "/%2fetc/passwd", "/%2Fetc%2Fpasswd",
    "/a.txt%00", "/a.txt%00.png", "/%00", "/..%5csecret", "/..\\secret", "/sub%5cb%20c.txt", "/secret", "/out/secret",
    "/up/secret", "/out/root/a.txt/", "/loop", "/dangling", "/fifo", "/device", "/../root-too/x", "/%252e%252e/secret",
    "/%c0%ae%c0%ae/secret", "/" + "x" * 5000, "/" + "sub/" * 2000, "/%", "/~root/.bashrc", "/proc/self/environ",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_paths_find_nothing(root, path):
    assert len(HOSTILE) >= 40
    assert open_below(root, path) is None


def test_a_socket_is_no_file(root):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fsencode(root / "socket"))
        assert open_below(root, "/socket") is None


def test_a_folder_that_is_a_link_and_one_at_the_root_of_all(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    opened = open_below(tmp_path / "link", "/a.txt")
    assert opened is not None
    opened.close()
    opened = open_below("/", os.fspath(root / "a.txt"))
    assert opened is not None
    opened.close()


def test_a_path_that_becomes_a_link_while_it_is_opened_is_not_found(root, tmp_path, monkeypatch):
    """The look at the path is over, and the file is not open yet: then somebody puts a link in its place."""
    plain = os.open

    def swapped(path, flags):
        monkeypatch.undo()
        (root / "a.txt").unlink()
        (root / "a.txt").symlink_to(tmp_path / "secret")
        return plain(path, flags)

    monkeypatch.setattr(open_file.os, "open", swapped)
    before = len(os.listdir("/proc/self/fd"))
    assert open_below(root, "/a.txt") is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_trouble_of_this_machine_is_raised(root, monkeypatch):
    def full(path, flags):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(open_file.os, "open", full)
    with pytest.raises(OSError, match="Too many"):
        open_below(root, "/a.txt")


@pytest.mark.parametrize("wrong", ["a.txt", "nothing"])
def test_a_root_that_is_no_folder_is_the_programs_mistake(root, wrong):
    with pytest.raises(OSError, match=r"not a folder|No such file"):
        open_below(root / wrong, "/x")


def test_a_path_of_the_programs_own(root):
    opened = open_regular(root / "secret")  # links are its own business
    with opened.file:
        assert opened.data == b"secret"
    with pytest.raises(FileNotFoundError):
        open_regular(root / "nothing")
    for path in (root, root / "fifo", "/dev/zero"):
        with pytest.raises(OSError, match="only a regular file"):
            open_regular(path)


def test_only_small_files_are_read_at_once(root):
    for size in (0, SMALL, SMALL + 1):
        (root / "sized").write_bytes(b"x" * size)
        opened = open_regular(root / "sized")
        with opened.file:
            assert opened.size == size
            assert opened.data == (b"x" * size if size <= SMALL else None)
