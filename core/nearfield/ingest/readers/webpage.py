"""HTML: the text of the page, without scripts, styles and navigation."""

from __future__ import annotations

import codecs
import io
import re
from typing import TYPE_CHECKING

from nearfield.errors import IngestError, MissingDependencyError
from nearfield.ingest.entries import Entry
from nearfield.ingest.readers.outline import Outline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bs4 import BeautifulSoup, Tag

__all__ = ["declared_encoding", "read_html"]

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "form", "header", "hr", "html", "li"),
        *("main", "ol", "p", "pre", "section", "summary", "table", "td", "th", "tr", "ul"),
        *_HEADINGS,
    }
)
_BOILERPLATE = frozenset(
    {
        *("script", "style", "noscript", "template", "nav", "footer", "button", "select", "iframe"),
        *("object", "svg", "canvas", "audio", "video"),
    }
)
_BOILERPLATE_ROLES = frozenset({"navigation", "search", "banner", "contentinfo"})
_LISTS = ("ul", "ol", "dl")
_BULLETS = {"li": "- ", "dt": "", "dd": "  "}
_STRUCTURE = ["pre", "table", "caption", *_HEADINGS]
"""What would be lost if a list or table around it were read line by line."""
_SPACE = re.compile(r"\s+")
_DECLARED = re.compile(rb"""<meta[^>]+?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_DECLARED_XML = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_PROCESSING_INSTRUCTION = re.compile(r"<\?xml.*?>", re.DOTALL | re.IGNORECASE)
_PRESCAN_BYTES = 1024
"""Where a declaration must stand. Source: WHATWG HTML, "prescan a byte stream"."""


def declared_encoding(data: bytes, name: str) -> str | None:
    """Find the encoding that a page declares in its first 1024 bytes.

    As in browsers, ``iso-8859-1`` and ``ascii`` mean windows-1252, and a declared UTF-16 that
    could be read as ASCII this far is UTF-8. Source: WHATWG Encoding, "names and labels".

    Raises:
        IngestError: It declares an encoding that Python does not know.
    """
    head = data[:_PRESCAN_BYTES]
    found = _DECLARED_XML.match(head) or _DECLARED.search(head)
    if found is None:
        return None
    label = found[1].decode("ascii")
    try:
        codec = codecs.lookup(label).name
    except LookupError:
        raise IngestError(
            f"{name} declares the encoding {label!r}, which is not known; save it as UTF-8",
            source=name,
        ) from None
    if codec.startswith(("utf-16", "utf-32")):
        return "utf-8"
    return "cp1252" if codec in {"iso8859-1", "ascii"} else codec


def read_html(text: str, name: str) -> list[Entry]:  # noqa: ARG001  # a reader's signature
    """Read a page's headings and text; nothing is run, followed or fetched.

    What is inside ``main``, or the only ``article``, is taken where the page has one.
    """
    try:
        from bs4 import BeautifulSoup  # of the extra `files`
    except ImportError:
        raise MissingDependencyError(
            "beautifulsoup4", extra="files", purpose="reading HTML files"
        ) from None

    # From a stream, since a short string could be taken for a file's name.
    stream = io.StringIO(_PROCESSING_INSTRUCTION.sub("", text))
    soup = BeautifulSoup(stream, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    language = soup.html.get("lang") if soup.html else None
    for unwanted in soup.find_all(_is_boilerplate):
        unwanted.decompose()
    page = _Page()
    page.walk(_content(soup))
    page.end_block()
    metadata = {"language": language} if isinstance(language, str) and language else {}
    outline = page.outline
    return [Entry(outline.sections(), title=title or outline.title, metadata=metadata)]


def _is_boilerplate(element: Tag) -> bool:
    if element.name in _BOILERPLATE:
        return True
    attributes = element.attrs
    return bool(attributes) and (
        "hidden" in attributes
        or attributes.get("role") in _BOILERPLATE_ROLES
        or attributes.get("aria-hidden") == "true"
    )


def _content(soup: BeautifulSoup) -> Tag:
    main = soup.find_all("main") or soup.find_all(role="main") or soup.find_all("article")
    if len(main) == 1:
        return main[0]
    for aside in soup.find_all("aside"):
        aside.decompose()
    for header in soup.find_all("header"):
        if not header.decomposed and header.find([*_HEADINGS]) is None:
            header.decompose()  # a site's banner, not a document's head
    return soup.body or soup


class _Page:
    """Walks an element and gathers its blocks into an outline."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._inline: list[str] = []

    def walk(self, element: Tag) -> None:
        from bs4 import Tag  # of the extra `files`

        for child in element.children:
            if isinstance(child, Tag):
                self._enter(child)
            elif _is_text(child):
                self._inline.append(_SPACE.sub(" ", str(child)))

    def end_block(self) -> None:
        lines = "".join(self._inline).split("\n")
        self._inline = []
        self.outline.add("\n".join(" ".join(line.split()) for line in lines))

    def _enter(self, element: Tag) -> None:
        if element.name == "br":
            self._inline.append("\n")
        elif element.name not in _BLOCKS:
            self.walk(element)
        else:
            self.end_block()
            self._block(element)
            self.end_block()

    def _block(self, element: Tag) -> None:
        if element.name in _HEADINGS:
            self.outline.enter(_HEADINGS[element.name], _flat(element))
        elif element.name == "pre":
            self.outline.add(element.get_text().rstrip())
        elif element.name in _LISTS and element.find(_STRUCTURE) is None:
            items = element.find_all(["li", "dt", "dd"], recursive=False)
            self.outline.add("\n".join(f"{_BULLETS[i.name]}{_flat(i)}" for i in items))
        elif element.name == "table" and element.find(_STRUCTURE) is None:
            rows = [row.find_all(["th", "td"], recursive=False) for row in element.find_all("tr")]
            self.outline.add("\n".join(" | ".join(map(_flat, cells)) for cells in rows))
        else:
            self.walk(element)


def _flat(element: Tag) -> str:
    """Return the text on one line; blocks inside are set apart by a space."""
    return " ".join("".join(_pieces(element)).split())


def _pieces(element: Tag) -> Iterator[str]:
    from bs4 import Tag  # of the extra `files`

    for child in element.children:
        if isinstance(child, Tag):
            gap = " " if child.name in _BLOCKS or child.name == "br" else ""
            yield gap
            yield from _pieces(child)
            yield gap
        elif _is_text(child):
            yield str(child)


def _is_text(node: object) -> bool:
    from bs4.element import CData, NavigableString  # of the extra `files`

    # Not their subclasses: comments, declarations and the like are no text.
    return type(node) in {NavigableString, CData}
