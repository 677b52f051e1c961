"""The demo's documents are gathered from this interpreter's own standard library."""

import subprocess
import sys

import pytest

from nearfield.cli.docstrings import compiled_docstrings, source_docstrings, standard_library


@pytest.fixture(scope="module")
def documents():
    return {document.id: document for document in standard_library()}


def test_there_are_thousands_of_documents_with_unique_ids(documents):
    assert 3_000 < len(documents) < 8_000
    assert all(document.id == document.metadata["title"] for document in documents.values())


def test_a_function_from_a_source_carries_signature_docstring_and_line(documents):
    document = documents["textwrap.dedent"]
    assert document.text.startswith("textwrap.dedent(text)\n\nRemove any common leading whitespace")
    assert document.metadata["kind"] == "function"
    assert document.metadata["module"] == "textwrap"
    assert document.metadata["line"] > 1


def test_a_method_is_told_without_its_receiver(documents):
    document = documents["pathlib.Path.is_dir"]
    assert document.metadata["kind"] == "method"
    assert "self" not in document.text.splitlines()[0]


def test_modules_and_classes_are_documents_too(documents):
    assert documents["json"].metadata["kind"] == "module"
    assert documents["collections.Counter"].metadata["kind"] == "class"


@pytest.mark.parametrize(
    "name", ["len", "str.split", "math.sqrt", "itertools.chain", "time.sleep", "os.listdir"]
)
def test_what_is_written_in_c_is_there_as_well(documents, name):
    assert documents[name].text.startswith(name)
    assert "line" not in documents[name].metadata


def test_private_names_and_tests_are_left_out(documents):
    parts = {part for name in documents for part in name.split(".")}
    assert not any(part.startswith("_") for part in parts)
    assert not any(name.startswith(("test.", "idlelib.", "tkinter.")) for name in documents)


def test_a_limit_returns_the_first_of_all(documents):
    assert [document.id for document in standard_library(7)] == list(documents)[:7]


def test_sources_are_parsed_but_never_run(tmp_path):
    (tmp_path / "trap.py").write_text('"""A trap."""\nraise SystemExit("was run")\n')
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "_private.py").write_text('"""Private."""\n')
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(
        "class Shape:\n"
        '    """A shape."""\n'
        "    @classmethod\n"
        "    def square(cls, side: float, *, name: str = 'x') -> 'Shape':\n"
        '        """Make a square."""\n'
        "def undocumented(): pass\n"
    )
    found = {document.id: document.text for document in source_docstrings(tmp_path)}
    assert found == {
        "trap": "trap\n\nA trap.",
        "package.Shape": "package.Shape\n\nA shape.",
        "package.Shape.square": "package.Shape.square(side: float, *, name: str='x') -> 'Shape'"
        "\n\nMake a square.",
    }


def test_a_module_that_this_interpreter_lacks_is_passed_over():
    names = {document.id for document in compiled_docstrings(["no_such_module", "math"])}
    assert "math.sqrt" in names


def test_gathering_does_not_import_what_it_reads():
    script = (
        "import sys, sysconfig; from pathlib import Path\n"
        "from nearfield.cli.docstrings import source_docstrings\n"
        "package = Path(sysconfig.get_path('stdlib')) / 'email'\n"
        "found = [document.id for document in source_docstrings(package)]\n"
        "print(len(found) > 50, 'mime.audio.MIMEAudio' in found, 'email.mime.audio' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "True True False\n"
