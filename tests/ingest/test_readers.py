"""Readers: every format from real files, and every way a file can be wrong."""

from __future__ import annotations

import builtins
import io
import json
import socket
import zipfile

import docx
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ingest.files import make_docx, make_pdf

from nearfield.errors import IngestError, InvalidInputError, MissingDependencyError
from nearfield.ingest import Entry, Markup, Section, read
from nearfield.ingest.readers import FORMATS, check_encoding


def only(entries: list[Entry]) -> Entry:
    assert len(entries) == 1
    return entries[0]


def texts(entry: Entry) -> list[str]:
    return [section.text for section in entry.sections]


# ── plain text and encodings ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("naïve ☃".encode(), None),
        ("naïve ☃".encode("utf-8-sig"), None),
        (b"\xff\xfe" + "naïve ☃".encode("utf-16-le"), "utf-16-le"),
        (b"\xfe\xff" + "naïve ☃".encode("utf-16-be"), "utf-16-be"),
        (b"\xff\xfe\x00\x00" + "naïve ☃".encode("utf-32-le"), "utf-32-le"),
    ],
)
def test_text_is_decoded_by_its_byte_order_mark_or_as_utf8(data, encoding):
    entry = only(read(data, "a.txt"))
    assert texts(entry) == ["naïve ☃"]
    assert entry.metadata.get("encoding") == encoding


def test_text_that_is_not_utf8_is_refused_by_name_and_byte():
    with pytest.raises(IngestError, match=r"notes/a\.txt is not UTF-8: byte 3 is 0xe9") as caught:
        read(b"caf\xe9", "notes/a.txt")
    assert caught.value.source == "notes/a.txt"


def test_a_named_encoding_reads_what_is_not_utf8_and_is_kept_in_the_metadata():
    entry = only(read(b"caf\xe9", "a.txt", encoding="cp1252"))
    assert texts(entry) == ["café"]
    assert entry.metadata == {"encoding": "cp1252"}


def test_a_named_encoding_does_not_touch_a_file_that_is_utf8():
    entry = only(read("café".encode(), "a.txt", encoding="cp1252"))
    assert texts(entry) == ["café"]
    assert entry.metadata == {}


def test_a_byte_that_the_named_encoding_lacks_is_refused():
    with pytest.raises(IngestError, match="not valid cp1252: byte 1 "):
        read(b"a\x81", "a.txt", encoding="cp1252")


@pytest.mark.parametrize("encoding", ["no-such-encoding", "hex", "\0"])
def test_an_unknown_encoding_is_refused_before_anything_is_read(encoding):
    with pytest.raises(InvalidInputError, match="is not known"):
        check_encoding(encoding)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.json", "a.csv", "a.html", "a.rst"])
def test_a_binary_file_under_a_text_suffix_is_refused(name):
    with pytest.raises(IngestError, match="is not text: byte 4 is zero"):
        read(b"\x89PNG\x00\x01\x02", name)


def test_line_ends_of_every_system_become_one():
    assert texts(only(read(b"a\r\nb\rc\nd", "a.txt"))) == ["a\nb\nc\nd"]


def test_a_blank_file_has_no_entries():
    for name in ("a.txt", "a.md", "a.html", "a.rst", "a.csv", "a.jsonl"):
        assert read(b" \n\n", name) == []


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)))
def test_any_bytes_are_read_or_refused_with_the_files_name(data, suffix):
    try:
        entries = read(data, f"file{suffix}")
    except IngestError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.source == f"file{suffix}"
        assert f"file{suffix}" in str(refused)
        return
    for entry in entries:
        json.dumps(dict(entry.metadata))
        for section in entry.sections:
            section.text.encode()


def test_an_unknown_suffix_is_refused_with_the_known_ones():
    with pytest.raises(IngestError, match=r"expected one of \.csv, \.docx"):
        read(b"x", "a.xyz")


def test_suffixes_are_read_in_any_case():
    assert only(read(b"# T\n\nx", "A.MD")).markup is Markup.MARKDOWN


# ── markdown ─────────────────────────────────────────────────────────────────────────────────

MARKDOWN = b"""---
# a comment
title: "The manual"
date: 2024-01-01
tags:
  - a
---

Before any heading.

# First *part*

Some text.

```python
# not a heading
```

## Detail `x`

More.

Second part
===========

Last words.
"""


def test_markdown_is_cut_at_its_headings():
    entry = only(read(MARKDOWN, "a.md"))
    assert [section.headings for section in entry.sections] == [
        (),
        ("First part",),
        ("First part", "Detail x"),
        ("Second part",),
    ]
    assert entry.sections[1].text.startswith("# First *part*\n\nSome text.")
    assert entry.sections[1].text.endswith("# not a heading\n```")


def test_markdown_front_matter_becomes_metadata():
    entry = only(read(MARKDOWN, "a.md"))
    assert entry.title == "The manual"
    assert entry.metadata == {"date": "2024-01-01"}
    assert "title:" not in entry.sections[0].text


def test_a_thematic_break_at_the_top_is_not_front_matter():
    entry = only(read(b"---\nJust text.\n---\nMore.\n", "a.md"))
    assert "".join(texts(entry)).count("---") == 2
    assert entry.metadata == {}


def test_the_first_heading_of_the_highest_rank_is_the_title():
    assert only(read(b"## Minor\n\na\n\n# Major\n\nb\n\n# Other\n\nc", "a.md")).title == "Major"


def test_a_heading_without_text_stays_with_the_section_after_it():
    entry = only(read(b"# Part\n\n## Chapter\n\nText.\n\n# End\n", "a.md"))
    assert [(s.headings, s.text) for s in entry.sections] == [
        (("Part", "Chapter"), "# Part\n\n## Chapter\n\nText."),
        (("End",), "# End"),
    ]


WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
LINES = st.one_of(
    WORDS,
    st.builds(lambda n, w: "#" * n + " " + w, st.integers(1, 6), WORDS),
    st.sampled_from(["", "```", "---", "> quote", "- item", "    code", "==="]),
)


@given(st.lists(LINES, max_size=12))
def test_no_word_of_a_markdown_file_is_lost(lines):
    # A first line that is not a field keeps the rest from being front matter.
    source = "\n".join(["start", *lines])
    sections = [s for e in read(source.encode(), "a.md") for s in e.sections]
    assert "".join(s.text for s in sections).split() == source.split() or (
        "".join("".join(s.text for s in sections).split()) == "".join(source.split())
    )


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────

PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>A  page</title><style>p { color: red }</style>
<script>var secret = 1;</script></head>
<body>
<header><a href="/">Home of the site</a></header>
<nav><ul><li>Menu</li></ul></nav>
<h1>Top <em>line</em></h1>
<p>One<br>two <b>bo</b>ld.</p>
<!-- a comment -->
<ul><li>first</li><li>second <p>inner</p></li></ul>
<pre>x = 1
  y = 2</pre>
<table><tr><th>Name</th><th>Size</th></tr><tr><td>a</td><td>1</td></tr></table>
<h2>Below</h2>loose<div>boxed</div>
<noscript>Turn it on</noscript>
<footer>Imprint</footer>
</body></html>"""


def test_html_gives_its_text_by_heading_and_nothing_else():
    entry = only(read(PAGE.encode(), "a.html"))
    assert entry.title == "A page"
    assert entry.metadata == {"language": "en"}
    assert [(section.headings, section.text) for section in entry.sections] == [
        (
            ("Top line",),
            (
                "Top line\n\nOne\ntwo bold.\n\n- first\n- second inner\n\nx = 1\n  y = 2\n\n"
                "Name | Size\na | 1"
            ),
        ),
        (("Top line", "Below"), "Below\n\nloose\n\nboxed"),
    ]


def test_html_with_a_main_element_gives_that_alone():
    page = b"<body><div>advert</div><main><header>Lead</header><p>Text</p></main></body>"
    assert texts(only(read(page, "a.html"))) == ["Lead\n\nText"]


def test_a_page_that_is_one_form_is_read_and_what_is_hidden_is_not():
    page = (
        b"<body><form><p>Text</p><button>Send</button><div hidden>a</div>"
        b"<div role=navigation>b</div><span aria-hidden=true>c</span></form><aside>d</aside></body>"
    )
    assert texts(only(read(page, "a.html"))) == ["Text"]
    page = b"<article><p>Text</p><aside>A note.</aside></article>"
    assert texts(only(read(page, "a.html"))) == ["Text\n\nA note."]


def test_a_header_with_a_heading_in_it_is_kept():
    page = b"<body><header><h1>Title</h1></header><p>Text</p></body>"
    assert texts(only(read(page, "a.html"))) == ["Title\n\nText"]


@pytest.mark.parametrize(
    "head", ['<meta charset="iso-8859-1">', '<?xml version="1.0" encoding="windows-1252"?>']
)
def test_html_is_decoded_as_it_declares(head):
    page = f"{head}<p>caf\xe9 \x93quoted\x94</p>".encode("latin-1")
    entry = only(read(page, "a.html"))
    assert texts(entry) == ["café “quoted”"]
    assert entry.metadata == {"encoding": "cp1252"}


def test_html_that_declares_an_unknown_encoding_is_refused():
    with pytest.raises(IngestError, match="declares the encoding 'klingon'"):
        read(b"<meta charset=klingon><p>x</p>", "a.html")


def test_html_that_looks_like_a_file_name_is_read_as_text():
    assert texts(only(read(b"report.html", "a.html"))) == ["report.html"]


def test_html_nested_beyond_reason_is_refused_not_fatal():
    with pytest.raises(IngestError, match=r"a\.html could not be read: RecursionError"):
        read(b"<div>" * 5000 + b"x", "a.html")


# ── reStructuredText ─────────────────────────────────────────────────────────────────────────

RST = b"""
Title
=====

Intro with *emphasis* and :func:`role`.

Sub
---

- one
- two

.. include:: secret.txt

.. raw:: html

   <b>raw</b>

.. function:: frob(x)

   Frobs it.

.. note:: Careful.

.. a comment

term
  meaning
"""


def test_rst_is_cut_at_its_headings_and_keeps_unknown_directives():
    entry = only(read(RST, "a.rst"))
    assert entry.title == "Title"
    assert [section.headings for section in entry.sections] == [("Title",), ("Title", "Sub")]
    body = entry.sections[1].text
    assert "- one\n- two" in body
    assert ".. function:: frob(x)\n\n   Frobs it." in body
    assert ".. raw:: html\n\n   <b>raw</b>" in body
    assert "Careful." in body
    assert "term\n  meaning" in body
    assert "a comment" not in body


def test_rst_neither_includes_files_nor_reads_settings_nearby(tmp_path, monkeypatch):
    (tmp_path / "secret.txt").write_text("the secret")
    (tmp_path / "docutils.conf").write_text("[general]\nfile_insertion_enabled: yes\n")
    monkeypatch.chdir(tmp_path)
    source = (
        b"Text.\n\n.. include:: secret.txt\n\n.. csv-table::\n   :file: secret.txt\n\n"
        b".. raw:: html\n   :file: secret.txt\n\n.. literalinclude:: secret.txt\n"
    )
    for name in ("a.rst", str(tmp_path / "a.rst")):
        assert "the secret" not in "".join(texts(only(read(source, name))))


def test_rst_warnings_are_not_printed(capfd):
    read(b"Title\n==\n\n*broken\n\n.. nonsense::\n\n:bad:`x`\n", "a.rst")
    assert capfd.readouterr() == ("", "")


# ── records ──────────────────────────────────────────────────────────────────────────────────


def test_a_json_array_has_a_record_per_item():
    items = [
        {"id": 7, "Title": "T", "body": "words", "year": 2020, "tags": ["a"], "deep": {"x": 1}},
        {"a": 1, "b": {"c": [1, 2]}, "d": True, "e": None},
        "bare",
    ]
    first, second, third = read(json.dumps(items).encode(), "a.json")
    assert first == Entry(
        (Section("T\n\nwords"),),
        title="T",
        record="7",
        metadata={"year": 2020, "tags": ["a"], "deep": {"x": 1}},
    )
    assert texts(second) == ["a: 1\nb.c: 1, 2\nd: true"]
    assert (second.record, second.metadata) == ("2", items[1])
    assert (third.record, texts(third)) == ("3", ["bare"])


def test_a_json_object_is_one_record():
    entry = only(read(b'{"_id": "x", "text": "hello"}', "a.json"))
    assert (entry.record, texts(entry)) == ("x", ["hello"])


def test_a_title_that_begins_the_text_is_not_repeated():
    entry = only(read(b'{"title": "Hello", "text": "Hello world"}', "a.json"))
    assert texts(entry) == ["Hello world"]


def test_json_lines_pass_over_blank_lines_and_keep_repeated_ids_apart():
    data = b'{"id": "x", "text": "one"}\n\n{"id": "x", "text": "two"}\r\n{"text": "three"}\n'
    assert [entry.record for entry in read(data, "a.jsonl")] == ["x", "x~2", "3"]


def test_a_record_number_that_is_taken_by_an_id_is_moved_aside():
    data = b'{"id": "2", "text": "one"}\n{"text": "two"}\n{"text": "three", "id": "2~2"}\n'
    assert [entry.record for entry in read(data, "a.jsonl")] == ["2", "2~2", "2~2~2"]


def test_nan_is_read_as_missing_and_integers_of_any_size_are_kept():
    entry = only(read(b'{"text": "x", "score": NaN, "big": 123456789012345678901}', "a.jsonl"))
    assert entry.metadata == {"score": None, "big": "123456789012345678901"}


@pytest.mark.parametrize(
    ("name", "data", "where"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"in line 2, column"),
        ("a.json", b'[\n{"a": 1},\n', r", line 3"),
        ("a.json", b'{"a": Infinity}', "Infinity"),
    ],
)
def test_damaged_json_is_refused_with_its_place(name, data, where):
    with pytest.raises(IngestError, match=rf"{name} is not JSON: .*{where}"):
        read(data, name)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", rb'{"text": "half of \ud83d a pair"}'),
        ("a.jsonl", rb'{"text": "x", "field": ["\udc00"]}'),
        ("a.rst", b"Half a pair: |x|.\n\n.. |x| unicode:: U+D83D\n"),
    ],
)
def test_a_lone_surrogate_is_refused(name, data):
    with pytest.raises(IngestError, match=rf"{name} has a lone surrogate"):
        read(data, name)


def test_json_nested_beyond_reason_is_refused_not_fatal():
    with pytest.raises(IngestError, match="RecursionError"):
        read(b"[" * 200_000, "a.json")


def test_a_csv_row_is_a_record_with_numbers_where_a_whole_column_is_numbers():
    data = 'name;year;zip;ratio\n"fo;o";2001;01234;1.5\nbär;2002;99999;\n'.encode()
    first, second = read(data, "a.csv")
    assert first.metadata == {"year": 2001, "zip": "01234", "ratio": 1.5}
    assert second.metadata == {"year": 2002, "zip": "99999"}
    assert (first.title, first.record) == ("fo;o", "1")
    assert texts(second) == ["name: bär\nyear: 2002\nzip: 99999"]


def test_a_csv_column_of_text_is_the_text():
    first, second = read(b"id,text,lang\n10,Hello,en\n11,Salut,fr\n", "a.csv")
    assert (first.record, texts(first), first.metadata) == ("10", ["Hello"], {"lang": "en"})
    assert second.record == "11"


def test_a_tsv_file_is_split_at_tabs_only():
    (entry,) = read(b"a,b\tc\n1,2\t3\n", "a.tsv")
    assert entry.metadata == {"a,b": "1,2", "c": 3}


def test_csv_headers_that_are_missing_or_repeated_get_names():
    (entry,) = read(b"a,a,\n1,2,3,4\n", "a.csv")
    assert entry.metadata == {"a": 1, "a~2": 2, "column_3": 3, "column_4": 4}


def test_a_csv_quote_that_is_never_closed_is_refused():
    with pytest.raises(IngestError, match="unexpected end of data, near line 3"):
        read(b'a,b\n1,2\n"3,4\n', "a.csv")


def test_a_csv_cell_may_be_larger_than_the_csv_modules_default():
    (entry,) = read(b"text\n" + b"x" * 200_000 + b"\n", "a.csv")
    assert len(entry.sections[0].text) == 200_000


CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=10)


@given(st.lists(st.dictionaries(st.sampled_from("pqr"), CELLS, min_size=1), max_size=5))
def test_json_lines_round_trip_through_the_reader(items):
    data = "\n".join(json.dumps(item) for item in items).encode()
    entries = {entry.record: entry.metadata for entry in read(data, "a.jsonl")}
    filled = {str(n): v for n, v in enumerate(items, 1) if any(x for x in v.values())}
    assert entries == filled


# ── PDF ──────────────────────────────────────────────────────────────────────────────────────


def test_a_pdf_has_a_section_per_page():
    entry = only(read(make_pdf(["First page.", "", "Third page."], title="Report"), "a.pdf"))
    assert entry.title == "Report"
    assert entry.sections == (Section("First page.", page=1), Section("Third page.", page=3))


def test_a_pdf_without_text_is_refused_as_a_scan():
    with pytest.raises(IngestError, match=r"scan\.pdf has 2 pages but no text"):
        read(make_pdf(["", ""]), "scan.pdf")


def encrypted(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf(["Classified."])))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def test_a_pdf_with_a_password_is_refused():
    with pytest.raises(IngestError, match=r"a\.pdf is encrypted and needs a password"):
        read(encrypted("open sesame"), "a.pdf")


def test_a_pdf_that_anyone_may_open_is_read():
    assert texts(only(read(encrypted(""), "a.pdf"))) == ["Classified."]


@pytest.mark.parametrize("keep", [0, 5, 100, 300])
def test_a_truncated_pdf_is_refused_by_name(keep):
    with pytest.raises(IngestError, match=r"a\.pdf"):
        read(make_pdf(["Some text."])[:keep], "a.pdf")


# ── Word ─────────────────────────────────────────────────────────────────────────────────────


def test_a_docx_gives_headings_paragraphs_lists_and_tables_in_order():
    entry = only(read(make_docx(), "a.docx"))
    assert entry.title == "Quarterly report"
    assert [(section.headings, section.text) for section in entry.sections] == [
        (("Results",), "Results\n\nSales rose."),
        (("Results", "Regions"), "Regions\n\n- north\n\nRegion | Sales\nNorth | 10\n\nThe end."),
    ]


def test_a_merged_cell_of_a_docx_table_is_read_once():
    document = docx.Document()
    table = document.add_table(rows=1, cols=3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(0, 2).text = "narrow"
    stream = io.BytesIO()
    document.save(stream)
    assert texts(only(read(stream.getvalue(), "a.docx"))) == ["wide | narrow"]


def test_a_truncated_docx_is_refused_by_name():
    with pytest.raises(IngestError, match=r"a\.docx is not a readable docx file"):
        read(make_docx()[:1000], "a.docx")


def test_an_encrypted_docx_is_told_apart():
    with pytest.raises(IngestError, match="encrypted, or in the old"):
        read(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "a.docx")


def test_an_archive_that_is_no_docx_is_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("hello.txt", "hi")
    with pytest.raises(IngestError, match="not a Word document"):
        read(stream.getvalue(), "a.docx")


def test_a_docx_that_unpacks_beyond_reason_is_refused_unopened():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w") as member:
            for _ in range(33):
                member.write(b"\0" * 2**24)
    with pytest.raises(IngestError, match="unpacks to"):
        read(stream.getvalue(), "bomb.docx")


# ── what holds for all ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("a.pdf", "pypdf", "pypdf"),
        ("a.docx", "python-docx", "docx"),
        ("a.html", "beautifulsoup4", "bs4"),
        ("a.rst", "docutils", "docutils"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    name, package, module, monkeypatch
):
    original = builtins.__import__

    def without(wanted, *args, **kwargs):
        if wanted.split(".")[0] == module:
            raise ImportError(wanted)
        return original(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r'pip install "nearfield\[files\]"') as caught:
        read(b"x", name)
    assert package in str(caught.value)


def test_no_reader_opens_a_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a reader opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    url = "http://192.0.2.1/x"
    page = (
        f'<!DOCTYPE html SYSTEM "{url}"><link rel=stylesheet href="{url}"><img src="{url}">'
        f'<iframe src="{url}"></iframe><p>text</p>'
    )
    assert texts(only(read(page.encode(), "a.html"))) == ["text"]
    rst = (
        f"text\n\n.. image:: {url}\n\n.. csv-table::\n   :url: {url}\n\n"
        f".. raw:: html\n   :url: {url}\n"
    )
    assert texts(only(read(rst.encode(), "a.rst")))[0].startswith("text")
    assert only(read(f"![i]({url}) text".encode(), "a.md")).sections
    assert only(read(make_docx(), "a.docx")).sections
    assert only(read(make_pdf(["text"]), "a.pdf")).sections


def test_metadata_of_a_record_is_bounded_and_long_fields_are_text():
    item = {"text": "Short.", "abstract": "long " * 300, "vector": [0.5] * 900, "year": 1999}
    (entry,) = read(json.dumps(item).encode(), "a.json")
    assert entry.metadata == {"year": 1999}
    assert texts(entry) == ["Short.\n\nabstract: " + ("long " * 300)]
    wide = {f"key-{n}": "value" for n in range(5000)}
    (entry,) = read(json.dumps(wide).encode(), "a.json")
    assert len(json.dumps(dict(entry.metadata))) < 12_000
    assert "key-4999: value" in entry.sections[0].text


def test_a_heading_of_any_length_is_short_in_the_path_and_whole_in_the_text():
    for heading in ("word " * 400, "題" * 400):
        (entry,) = read(f"# {heading}\n\nText.".encode(), "a.md")
        assert entry.sections[0].headings[0] == entry.title
        assert entry.title.endswith("…")
        assert 190 < len(entry.title) <= 200
        assert entry.sections[0].text.count(heading[0]) == 400
