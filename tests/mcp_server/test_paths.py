"""Files are read below the allowed folders and nowhere else, whatever paths are asked for."""

from __future__ import annotations

import os
import socket
import threading

import pytest

pytest.importorskip("mcp", reason="mcp is not installed")

from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import IngestError
from nearfield.ingest.sync import FileContent, SourceFile, sync_files
from nearfield_mcp.opening import DescriptorAccess, NotReadableError, PathAccess, Place
from nearfield_mcp.paths import AllowedFolders, FileLimits, PathRefusedError

CANARY = "the canary outside"


def unchecked():
    """Go on."""


@pytest.fixture(params=[DescriptorAccess, PathAccess])
def access(request):
    return request.param()


@pytest.fixture
def tree(tmp_path):
    """An allowed folder with traps in it, beside a canary."""
    return make_tree(tmp_path)


def make_tree(root):
    (root / "canary.md").write_text(CANARY)
    (root / "outside").mkdir()
    (root / "outside" / "canary.md").write_text(CANARY)
    docs = root / "docs"
    (docs / "sub" / ".git").mkdir(parents=True)
    (docs / "a.md").write_text("inside a")
    (docs / "sub" / "b.md").write_text("inside b")
    (docs / "sub" / ".git" / "config.md").write_text("hidden")
    (docs / ".env.md").write_text("hidden")
    (docs / "data.xyz").write_text("unknown")
    (docs / "link.md").symlink_to(root / "canary.md")
    (docs / "inner.md").symlink_to(docs / "a.md")
    (docs / "out").symlink_to(root / "outside")
    (docs / "up").symlink_to("..")
    os.mkfifo(docs / "pipe.md")
    return docs


def texts_of(allowed, *paths):
    found = allowed.find([allowed.place(path) for path in paths], check=unchecked)
    return [allowed.read(file).decode() for file in found.files], found


def test_a_folder_is_read_without_links_hidden_or_special_files(tree, access):
    allowed = AllowedFolders([tree], access=access)
    texts, found = texts_of(allowed, str(tree))
    assert texts == ["inside a", "inside b"]
    assert [file.place.source for file in found.files] == [
        (tree / "a.md").as_posix(),
        (tree / "sub" / "b.md").as_posix(),
    ]
    assert found.skipped == {".xyz": 1, "symbolic link": 4, "special file": 1}
    assert found.failures == []


def test_a_file_that_two_paths_lead_to_is_read_once(tree, access):
    allowed = AllowedFolders([tree, tree / "sub"], access=access)
    texts, _ = texts_of(allowed, str(tree), str(tree / "sub"), str(tree / "sub" / "b.md"))
    assert texts == ["inside a", "inside b"]


@pytest.mark.parametrize(
    "name", ["link.md", "inner.md", "out", "up", "pipe.md", "no.md", "data.xyz"]
)
def test_a_link_or_a_special_file_that_is_named_is_a_failure(tree, access, name):
    allowed = AllowedFolders([tree], access=access)
    texts, found = texts_of(allowed, str(tree / name))
    assert texts == []
    assert [source for source, _ in found.failures] == [(tree / name).as_posix()]
    assert CANARY not in found.failures[0][1]


@pytest.mark.parametrize("name", ["out/canary.md", "up/canary.md", "up/docs/a.md"])
def test_nothing_behind_a_link_is_read(tree, access, name):
    allowed = AllowedFolders([tree], access=access)
    texts, found = texts_of(allowed, str(tree / name))
    assert texts == []
    assert len(found.failures) == 1


@pytest.mark.parametrize(
    "spelling", ["../canary.md", "sub/../a.md", "", " ", "a\0b", "\ud800.md", "..", "./.."]
)
def test_spellings_that_could_mean_another_place_are_refused(tree, spelling):
    allowed = AllowedFolders([tree])
    for path in (spelling, f"{tree}/{spelling}"):
        if path in {f"{tree}/", f"{tree}/ "}:
            continue
        with pytest.raises(PathRefusedError):
            allowed.place(path)


@pytest.mark.parametrize("name", [".env.md", "sub/.git/config.md", "sub/.git"])
def test_hidden_files_are_refused_by_name(tree, name):
    with pytest.raises(PathRefusedError, match="hidden"):
        AllowedFolders([tree]).place(str(tree / name))


def test_an_error_does_not_tell_whether_a_path_outside_exists(tree):
    allowed = AllowedFolders([tree])

    def told(path):
        with pytest.raises(PathRefusedError) as raised:
            allowed.place(path)
        return str(raised.value).replace(path, "PATH")

    outside = tree.parent
    assert told(f"{outside}/canary.md") == told(f"{outside}/nothing.md") == told("/root/x/y.md")
    assert told(f"{tree}2/a.md") == told(f"{outside}/outside")


def test_without_an_allowed_folder_the_flag_is_named(tree):
    with pytest.raises(PathRefusedError, match="--allow-dir FOLDER"):
        AllowedFolders([]).place(str(tree))


def test_a_relative_path_counts_from_the_only_folder(tree):
    assert AllowedFolders([tree]).place("sub/b.md") == Place(str(tree), ("sub", "b.md"))
    assert AllowedFolders([tree]).place(".") == Place(str(tree))
    with pytest.raises(PathRefusedError):
        AllowedFolders([tree, tree.parent / "outside"]).place("sub/b.md")


def test_an_allowed_folder_may_itself_be_given_by_a_link(tree, access):
    link = tree.parent / "way"
    link.symlink_to(tree)
    texts, found = texts_of(AllowedFolders([link], access=access), str(link / "a.md"))
    assert texts == ["inside a"]
    assert found.files[0].place.source == (tree / "a.md").as_posix()


def test_an_allowed_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        AllowedFolders([tmp_path / "none"])
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="--allow-dir"):
        AllowedFolders([tmp_path / "file"])


def test_a_socket_and_a_device_are_never_opened(tree, access):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tree / "s.md"))
        with pytest.raises(NotReadableError):
            access.read(Place(str(tree), ("s.md",)), 10)
    with pytest.raises(NotReadableError):
        access.read(Place("/dev", ("zero",)), 10)


def test_limits_of_count_and_size_hold(tree, access):
    def allowed(**limits):
        return AllowedFolders([tree], limits=FileLimits(**limits), access=access)

    with pytest.raises(PathRefusedError, match="more than 1 files"):
        texts_of(allowed(max_files=1), str(tree))
    with pytest.raises(PathRefusedError, match="more than 9 bytes"):
        texts_of(allowed(max_total_bytes=9), str(tree))
    with pytest.raises(IngestError, match="larger than 7 bytes"):
        texts_of(allowed(max_file_bytes=7), str(tree))


def test_a_search_ends_when_it_is_told_to(tree, access):
    def check():
        raise KeyboardInterrupt

    allowed = AllowedFolders([tree], access=access)
    with pytest.raises(KeyboardInterrupt):
        allowed.find([allowed.place(str(tree))], check=check)


def test_a_name_that_is_no_text_is_a_failure(tree, access):
    (tree / os.fsdecode(b"\xff.md")).touch()
    texts, found = texts_of(AllowedFolders([tree], access=access), str(tree))
    assert texts == ["inside a", "inside b"]
    assert "UTF-8" in found.failures[0][1]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_swapped_in_while_files_are_read_leads_nowhere(tree, what):
    """The file, or a folder on the way to it, is a link to the canary half of the time."""
    good, evil, at = (
        (tree / "good.md", tree / "evil.md", tree / "swapped.md")
        if what == "file"
        else (tree / "good", tree / "evil", tree / "swapped")
    )
    if what == "file":
        good.write_text("good")
        evil.symlink_to(tree.parent / "outside" / "canary.md")
        place = Place(str(tree), ("swapped.md",))
    else:
        good.mkdir()
        (good / "canary.md").write_text("good")
        evil.symlink_to(tree.parent / "outside")
        place = Place(str(tree), ("swapped", "canary.md"))
    done = threading.Event()

    def swap():
        while not done.is_set():
            for one in (good, evil):
                one.rename(at)
                at.rename(one)

    swapper = threading.Thread(target=swap)
    swapper.start()
    read = set()
    try:
        for attempt in range(200_000):
            try:
                read.add(DescriptorAccess().read(place, 100))
            except NotReadableError:
                read.add(b"")
            # On a busy machine the threads may take turns such that nothing is ever there.
            if attempt > 4_000 and b"good" in read:
                break
    finally:
        done.set()
        swapper.join()
    assert read <= {b"", b"good"}
    assert b"good" in read


PARTS = st.sampled_from(
    [
        *(
            "docs",
            "sub",
            "a.md",
            "b.md",
            "link.md",
            "out",
            "up",
            "outside",
            "canary.md",
            "inner.md",
        ),
        *("..", ".", "", "~", "...", ".git", "pipe.md", "a.md/", "\0", "docs2", "..\\", "%2e%2e"),
    ]
)


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("kind", [DescriptorAccess, PathAccess])
@given(
    parts=st.lists(PARTS, max_size=6),
    start=st.sampled_from(["", "/", "//", "{docs}/", "{root}/", "{docs}", "file://{docs}/", "~/"]),
)
def test_no_spelling_leads_outside(shared_tree, kind, parts, start):
    start = start.format(docs=shared_tree, root=shared_tree.parent)
    allowed = AllowedFolders([shared_tree], access=kind())
    try:
        texts, _ = texts_of(allowed, start + "/".join(parts))
    except PathRefusedError as refused:
        texts = [] if CANARY not in str(refused) else [CANARY]
    assert set(texts) <= {"inside a", "inside b"}


def test_a_file_read_by_the_caller_is_what_sync_would_have_read(tree, tmp_path):
    from tests.embedders import HashingEmbedder

    import nearfield
    from nearfield.ingest import sync

    allowed = AllowedFolders([tree])
    found = allowed.find([allowed.place(str(tree))], check=unchecked)
    files = [
        SourceFile(
            file.place.source,
            lambda file=file: FileContent(allowed.read(file), file.place.source),
            file.size_bytes,
        )
        for file in found.files
    ]
    with nearfield.open(tmp_path / "data", embedder=HashingEmbedder()) as collection:
        assert sync_files(collection, files).added == 2
        report = sync(collection, tree)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 2)
        (tree / "a.md").write_text("inside a, changed")
        report = sync_files(collection, files)
        assert (report.updated, report.unchanged) == (1, 1)
