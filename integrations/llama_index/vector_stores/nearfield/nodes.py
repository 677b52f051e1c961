"""How a node is kept: a document that every door reads, and what it takes to rebuild the node.

The document has the node's id, its own text and its own metadata. ``ref_doc_id`` is added to the
metadata where the node has a source or is a Document, and ``_node``, a JSON text, where the node is
more than text and metadata: its class, relationships, templates, image and so on, without what is
the default.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import msgspec
import numpy as np
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.schema import (
    BaseNode,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    TextNode,
)
from llama_index.core.schema import Document as DocumentNode
from pydantic_core import to_jsonable_python

from nearfield import Document
from nearfield.errors import InvalidDocumentError

__all__ = ["SOURCE_KEY", "is_listed_by_indexes", "to_document", "to_node"]

SOURCE_KEY: Final = "ref_doc_id"
"""The field of the metadata that names the document a node was made of."""
_NODE_KEY: Final = "_node"
_RESERVED: Final = frozenset({SOURCE_KEY, _NODE_KEY})
_CLASSES: Final[dict[str, type[BaseNode]]] = {
    kind.class_name(): kind
    for kind in (TextNode, ImageNode, IndexNode, Node, DocumentNode, ImageDocument)
}
_TEXT_CLASSES: Final = frozenset({TextNode, ImageNode, IndexNode})
_APART: Final = frozenset({"id_", "text", "metadata", "embedding", "relationships", "obj"})
"""Fields that have a place of their own in the document, or a form of their own."""
_DEFAULTS: Final[dict[type[BaseNode], dict[str, Any]]] = {
    kind: {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if name not in _APART
    }
    for kind in _CLASSES.values()
}
_STORABLE: Final = (str, int, float, type(None), list, tuple, dict, date, np.generic)

_encode = msgspec.json.Encoder(enc_hook=to_jsonable_python).encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def to_document(node: BaseNode) -> Document:
    """Return the document that keeps a node, without its embedding.

    Raises:
        InvalidDocumentError: The node's class, or something in it, has no stored form.
    """
    kind = _nearest_class(node)
    text, extra = _rest(node, kind)
    metadata = {key: _jsonable(value) for key, value in node.metadata.items()}
    if not _RESERVED.isdisjoint(metadata):
        extra["metadata"] = metadata
        metadata = {key: value for key, value in metadata.items() if key not in _RESERVED}
    # A Document that is made of no other, as a pipeline without a splitter adds it, is its own.
    source = node.ref_doc_id or (node.id_ if isinstance(node, DocumentNode) else None)
    if source is not None:
        metadata[SOURCE_KEY] = source
    if extra:
        try:
            metadata[_NODE_KEY] = _encode(extra).decode()
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidDocumentError(
                f"node {node.id_!r} holds what JSON cannot: {error}; make it text, numbers, lists "
                "and dicts"
            ) from error
    return Document(text, node.id_, metadata)


def to_node(document: Document) -> BaseNode:
    """Rebuild the node that a document keeps; one that another door wrote becomes a TextNode."""
    metadata = dict(document.metadata)
    extra = _read_extra(metadata)
    if extra is not None:
        del metadata[_NODE_KEY]
        metadata.pop(SOURCE_KEY, None)
        metadata = extra.pop("metadata", metadata)
        try:
            return _rebuilt(document, metadata, extra)
        except (AttributeError, KeyError, TypeError, ValueError):
            metadata = dict(document.metadata)  # the field is someone's own
    return TextNode(id_=document.id, text=document.text, metadata=metadata)


def is_listed_by_indexes(document: Document) -> bool:
    """Whether an index lists this node although the store keeps its text."""
    extra = _read_extra(document.metadata)
    name = extra.get("class_name") if extra is not None else None
    return name in (ImageNode.class_name(), IndexNode.class_name())


def _nearest_class(node: BaseNode) -> type[BaseNode]:
    for kind in type(node).__mro__:
        if kind in _DEFAULTS:
            return kind
    raise InvalidDocumentError(
        f"a {type(node).__name__} cannot be stored; expected a node such as TextNode, or of a "
        f"class made from one of: {', '.join(_CLASSES)}"
    )


def _rest(node: BaseNode, kind: type[BaseNode]) -> tuple[str, dict[str, Any]]:
    """Return the text, and all else that is not in the document itself, JSON-ready."""
    extra: dict[str, Any] = {}
    if kind is not TextNode:
        extra["class_name"] = kind.class_name()
    for name, default in _DEFAULTS[kind].items():
        value = getattr(node, name)
        if value != default:
            extra[name] = _resource(value) if isinstance(value, MediaResource) else value
    if node.relationships:
        extra["relationships"] = {
            relationship.value: _related(infos)
            for relationship, infos in node.relationships.items()
        }
    if isinstance(node, IndexNode) and node.obj is not None:
        extra["obj"] = _object(node)
    if isinstance(node, TextNode):
        return node.text, extra
    resource = getattr(node, "text_resource", None)
    if resource is None:
        return "", extra
    if resource.text is None:
        extra["text_resource"]["text"] = None
        return "", extra
    return extra["text_resource"].pop("text"), extra


def _rebuilt(document: Document, metadata: dict[str, Any], extra: dict[str, Any]) -> BaseNode:
    kind = _CLASSES.get(extra.pop("class_name", "TextNode"), TextNode)
    extra["id_"] = document.id
    extra["metadata"] = metadata
    if kind in _TEXT_CLASSES:
        extra["text"] = document.text
    elif "text_resource" in extra:
        extra["text_resource"].setdefault("text", document.text)
    if "obj" in extra:
        extra["obj"] = _read_object(extra["obj"])
    return kind(**extra)  # pyright: ignore[reportOptionalCall]  # it is a class


def _read_extra(metadata: Any) -> dict[str, Any] | None:
    text = metadata.get(_NODE_KEY)
    if not isinstance(text, str):
        return None
    try:
        return _decode(text)
    except msgspec.MsgspecError:
        return None


def _related(infos: Any) -> Any:
    if isinstance(infos, list):
        return [_related(info) for info in infos]
    fields = {"node_type": infos.node_type, "metadata": infos.metadata or None, "hash": infos.hash}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"node_id": infos.node_id, **given}


def _resource(resource: MediaResource) -> dict[str, Any]:
    fields = resource.model_dump(mode="json", exclude_defaults=True)
    if resource.data is not None:  # base64 already; the framework leaves it out
        fields["data"] = resource.data.decode("ascii")
    return fields


def _object(node: IndexNode) -> dict[str, Any]:
    """Return what an IndexNode stands for: a node, or else JSON."""
    target = node.obj
    if isinstance(target, BaseModel) and not isinstance(target, BaseNode):
        target = TextNode(text=str(target.model_dump()))  # as the framework's own stores do
    if not isinstance(target, BaseNode):
        return {"json": target}
    document = to_document(target)
    return {
        "id": document.id,
        "text": document.text,
        "metadata": document.metadata,
        "embedding": target.embedding,
    }


def _read_object(stored: dict[str, Any]) -> Any:
    if "json" in stored:
        return stored["json"]
    node = to_node(Document(stored["text"], stored["id"], stored["metadata"]))
    node.embedding = stored["embedding"]
    return node


def _jsonable(value: Any) -> Any:
    """Bring what the framework allows in metadata, such as a set or a Path, to plain values."""
    if isinstance(value, _STORABLE):
        return value
    try:
        return to_jsonable_python(value)
    except ValueError:
        return value  # refused, or understood, with the rest of the document
