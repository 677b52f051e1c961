"""What is public stays what it is, and the layers stay apart."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import nearfield
from nearfield import Collection, Database, errors

CORE = Path(nearfield.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in CORE.rglob("*.py")
)

TWINS = [
    "add",
    "backup",
    "check",
    "close",
    "count",
    "delete",
    "explain",
    "get",
    "maintain",
    "repair",
    "scan",
    "search",
    "search_many",
    "stats",
    "tune",
    "upsert",
    "version",
]


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def test_the_public_names_are_these():
    assert nearfield.__all__ == [
        "Collection",
        "Database",
        "Document",
        "EmbeddingInfo",
        "EmbeddingKind",
        "F",
        "Filter",
        "Hit",
        "Metric",
        "NearfieldError",
        "SearchMode",
        "connect",
        "errors",
        "open",
    ]
    assert all(hasattr(nearfield, name) for name in nearfield.__all__)


def test_a_collection_has_these_methods():
    public = {name for name in dir(Collection) if not name.startswith("_")}
    others = {"info", "embedder", "ledger", "modes"}
    assert public == {*TWINS, *(f"a{name}" for name in TWINS), *others}


def test_a_database_has_these_methods():
    public = {name for name in vars(Database) if not name.startswith("_")}
    assert public == {"names", "create", "create_like", "open", "drop", "rename", "close"}


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_exports_is_there(name):
    if name.endswith("__main__"):
        pytest.skip("running it is its purpose")
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    assert all(hasattr(module, each) for each in exported)


# ── signatures ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TWINS)
def test_an_async_twin_takes_what_the_other_takes(name):
    sync, twin = getattr(Collection, name), getattr(Collection, f"a{name}")
    assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)
    assert not inspect.iscoroutinefunction(sync)
    mine, its = inspect.signature(sync), inspect.signature(twin)
    assert mine.parameters == its.parameters
    if name == "scan":
        assert mine.return_annotation == "Generator[Document, None, None]"
        assert its.return_annotation == "AsyncGenerator[Document, None]"
    else:
        assert mine.return_annotation == its.return_annotation


def test_options_are_keyword_only():
    allowed = {
        "upsert": ["documents"],
        "add": ["documents"],
        "get": ["ids"],
        "delete": ["ids"],
        "search": ["query"],
        "explain": ["query"],
        "search_many": ["queries"],
        "scan": [],
        "count": ["where"],
        "backup": ["destination"],
    }
    for name in TWINS:
        for method in (getattr(Collection, name), getattr(Collection, f"a{name}")):
            positional = [
                parameter.name
                for parameter in list(inspect.signature(method).parameters.values())[1:]
                if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            ]
            assert positional == allowed.get(name, []), name


def test_search_and_search_many_take_the_same_options_with_the_same_defaults():
    one = inspect.signature(Collection.search).parameters
    many = inspect.signature(Collection.search_many).parameters
    shared = [
        "k",
        "where",
        "ids",
        "mode",
        "alpha",
        "min_score",
        "rerank",
        "diversity",
        "candidates",
        "include",
    ]
    assert [name for name in one if name in many] == ["self", *shared]
    assert [one[name] for name in shared] == [many[name] for name in shared]
    assert {name: one[name].default for name in shared} == {
        "k": 10,
        "where": None,
        "ids": None,
        "mode": nearfield.SearchMode.VECTOR,
        "alpha": 0.5,
        "min_score": None,
        "rerank": None,
        "diversity": None,
        "candidates": None,
        "include": ("text", "metadata"),
    }


def test_opening_takes_what_connecting_and_creating_take():
    opening = inspect.signature(nearfield.open).parameters
    connecting = inspect.signature(nearfield.connect).parameters
    creating = inspect.signature(Database.create).parameters
    assert opening.keys() == connecting.keys() | (creating.keys() - {"self"}) | {"create"}
    for name in opening.keys() & connecting.keys():
        assert opening[name] == connecting[name]
    for name in opening.keys() & creating.keys():
        assert opening[name] == creating[name]
    assert inspect.signature(Database.open).parameters == creating


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def error_types():
    return [getattr(errors, name) for name in errors.__all__]


def test_every_error_has_one_root_and_is_exported():
    defined = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert defined == set(error_types())
    assert all(issubclass(error, nearfield.NearfieldError) for error in defined)


def test_the_tree_in_the_docstring_is_the_tree_of_the_errors():
    drawn: dict[str, str] = {}
    branch: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ").split()
        if not words or not words[0].endswith("Error"):
            continue
        depth = line.index(words[0])
        branch = [(level, name) for level, name in branch if level < depth]
        drawn[words[0]] = branch[-1][1] if branch else ""
        branch.append((depth, words[0]))
    assert set(drawn) == set(errors.__all__)
    for name, parent in drawn.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert bases[0] == (parent or "Exception"), name


WITH_ATTRIBUTES = [
    errors.CollectionExistsError("told", name="notes"),
    errors.CollectionNotFoundError("told", name="notes"),
    errors.CorruptionError("told", path="file"),
    errors.DimensionMismatchError(expected=3, got=4),
    errors.DocumentNotFoundError("told", id="a"),
    errors.EmbeddingError("told", may_pass=True),
    errors.FormatVersionError(found=2, supported=1, path="file"),
    errors.IngestError("told", source="file"),
    errors.InvalidDocumentError("told", position=3),
    errors.MissingDependencyError("package", extra="extra", purpose="this"),
]


@pytest.mark.parametrize("error", WITH_ATTRIBUTES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_to_another_process_as_it_is(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────


def imports_of(name: str) -> set[str]:
    """Every module that a module imports anywhere, in functions and for types too."""
    path = CORE.parent.joinpath(*name.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports_any(name: str, *forbidden: str) -> set[str]:
    return {
        module
        for module in imports_of(name)
        if any(module == other or module.startswith(f"{other}.") for other in forbidden)
    }


@pytest.mark.parametrize("name", MODULES)
def test_the_core_imports_no_framework_and_no_integration(name):
    assert not imports_any(
        name,
        "langchain",
        "langchain_core",
        "langchain_nearfield",
        "llama_index",
        "mcp",
        "nearfield_mcp",
    )


@pytest.mark.parametrize("name", MODULES)
def test_only_the_factory_and_the_engine_itself_know_the_embedded_engine(name):
    knows = imports_any(name, "nearfield.stores.local")
    if name != "nearfield.connect" and not name.startswith("nearfield.stores.local"):
        assert not knows


@pytest.mark.parametrize("name", MODULES)
def test_lower_layers_do_not_import_higher_ones(name):
    """Values, then filters and embedders, then stores, then collections, then the doors."""
    layers = [
        ("nearfield.errors", "nearfield.documents"),
        ("nearfield.validation", "nearfield.ranking"),
        ("nearfield.filters",),
        ("nearfield.embedders", "nearfield.rerankers"),
        ("nearfield.stores",),
        ("nearfield.queries", "nearfield.selection"),
        ("nearfield.collection",),
        ("nearfield.connect",),
        ("nearfield.ingest", "nearfield.evaluation"),
        ("nearfield.cli",),
    ]
    own = [i for i, layer in enumerate(layers) if name.startswith(layer)]
    if own:
        higher = [module for layer in layers[own[0] + 1 :] for module in layer]
        assert not imports_any(name, *higher)


HEAVY = [
    "PIL",
    "bs4",
    "docutils",
    "docx",
    "faiss",
    "filelock",
    "httpx",
    "hypothesis",
    "onnxruntime",
    "pypdf",
    "requests",
    "rich",
    "semantic_text_splitter",
    "sentence_transformers",
    "sqlite3",
    "tokenizers",
    "torch",
    "typer",
]


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        env={"PYTHONPATH": str(CORE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.split()} | set(done.stdout.split())


def test_importing_nearfield_imports_nothing_heavy():
    loaded = loaded_after("import nearfield")
    assert "nearfield.collection" in loaded
    assert sorted(loaded & set(HEAVY)) == []
    assert not any(name.startswith("nearfield.stores.local") for name in loaded)


def test_describing_a_filter_or_a_document_imports_nothing_heavy():
    loaded = loaded_after(
        "from nearfield import Document, F\nDocument('a')\n(F.a == 1) & F.b.in_([1])"
    )
    assert sorted(loaded & set(HEAVY)) == []


def test_importing_nearfield_prints_and_changes_nothing():
    code = """
import numpy, os, threading, warnings
before = dict(os.environ), warnings.filters[:], threading.active_count()
import nearfield
assert before == (dict(os.environ), warnings.filters[:], threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(CORE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_package_says_that_it_is_typed():
    assert (CORE / "py.typed").is_file()
