"""A docutils document tree as sections of plain text. Imports docutils, so it is imported late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from docutils import nodes

if TYPE_CHECKING:
    from nearfield.ingest.readers.outline import Outline

__all__ = ["walk"]

# The stubs know no types of nodes' children.
_Renderer: TypeAlias = Callable[[Any], str]


def walk(element: nodes.Element, outline: Outline, *, level: int = 0) -> None:
    """Bring a document's sections and blocks into an outline, in order."""
    for child in element.children:
        if isinstance(child, nodes.section):
            walk(child, outline, level=level + 1)
        elif isinstance(child, nodes.title) and isinstance(element, nodes.section):
            outline.enter(level, child.astext())
        else:
            outline.add(_render(child))


def _render(node: Any) -> str:
    """Render one block; nested blocks keep their shape as far as plain text has one."""
    for kinds, renderer in _RENDERERS:
        if isinstance(node, kinds):
            return renderer(node)
    return _blocks(node)


def _nothing(_node: Any) -> str:
    return ""


def _text(node: Any) -> str:
    return str(node.astext())


def _blocks(node: Any) -> str:
    return "\n\n".join(filter(None, map(_render, node.children)))


def _lines(node: Any) -> str:
    return "\n".join(filter(None, map(_render, node.children)))


def _source(node: Any) -> str:
    """Return the source text that a message of the parser quotes."""
    return "\n\n".join(c.astext() for c in node.children if isinstance(c, nodes.literal_block))


def _bullets(node: Any) -> str:
    return "\n".join(f"- {_indented(item)}" for item in node.children)


def _definition(node: Any) -> str:
    return "\n  ".join(filter(None, map(_indented, node.children)))


def _pair(node: Any) -> str:
    return ": ".join(filter(None, map(_indented, node.children)))


def _row(node: Any) -> str:
    return " | ".join(" ".join(_render(cell).split()) for cell in node.children)


def _indented(node: Any) -> str:
    return _render(node).replace("\n\n", "\n").replace("\n", "\n  ")


_RENDERERS: tuple[tuple[tuple[type, ...], _Renderer], ...] = (
    ((nodes.comment, nodes.substitution_definition, nodes.target, nodes.pending), _nothing),
    # A directive that docutils does not know is quoted in its message.
    ((nodes.system_message,), _source),
    ((nodes.bullet_list, nodes.enumerated_list), _bullets),
    ((nodes.definition_list_item,), _definition),
    ((nodes.field, nodes.option_list_item), _pair),
    ((nodes.row,), _row),
    ((nodes.definition_list, nodes.field_list, nodes.option_list, nodes.line_block), _lines),
    ((nodes.tgroup, nodes.thead, nodes.tbody), _lines),
    ((nodes.TextElement, nodes.Text), _text),
)
