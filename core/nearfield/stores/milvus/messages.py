"""Rows as messages to Milvus, made column by column.

pymilvus makes them of rows one value at a time, each number of a vector too, which takes longer
than the server does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pymilvus.client.entity_helper import sparse_rows_to_proto
from pymilvus.grpc_gen.milvus_pb2 import InsertRequest, UpsertRequest
from pymilvus.grpc_gen.schema_pb2 import DataType, FieldData

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["DYNAMIC", "fill", "insert", "upsert"]

DYNAMIC = "$meta"
"""What Milvus calls the dynamic part of a row, which is JSON."""

_Rows: TypeAlias = Sequence[Mapping[str, Any]]
_SEVEN_BITS = 0x7F
_MORE = 0x80


def insert(client: MilvusClient, name: str, rows: _Rows, within_s: float) -> None:
    """Do what ``MilvusClient.insert`` does; all rows have the same names."""
    request = InsertRequest(collection_name=name, num_rows=len(rows))
    fill(request, rows)
    _send(client, "batch_insert", name, within_s, insert_param=request)


def upsert(client: MilvusClient, name: str, rows: _Rows, within_s: float) -> None:
    """Do what ``MilvusClient.upsert`` does; all rows have the same names."""
    request = UpsertRequest(collection_name=name, num_rows=len(rows))
    fill(request, rows)
    _send(client, "upsert", name, within_s, upsert_param=request)


def _send(client: Any, verb: str, name: str, within_s: float, **request: Any) -> None:
    getattr(client._handler, verb)(  # noqa: SLF001
        name,
        [],
        timeout=within_s,
        context=client._generate_call_context(),  # noqa: SLF001
        schema={"fields": []},  # or it asks the server for it
        **request,
    )


def fill(request: Any, rows: _Rows) -> None:
    """Put rows into a request that is to insert or upsert them."""
    for name in rows[0]:
        column = request.fields_data.add(field_name=name)
        _COLUMNS[name](column, [row[name] for row in rows])


def _texts(column: FieldData, values: Iterable[str]) -> None:
    column.type = DataType.VarChar
    column.scalars.string_data.data.extend(values)


def _integers(column: FieldData, values: Iterable[int]) -> None:
    column.type = DataType.Int64
    column.scalars.long_data.data.extend(values)


def _lists_of_texts(column: FieldData, values: Iterable[list[str]]) -> None:
    column.type = DataType.Array
    cells = column.scalars.array_data.data
    for value in values:
        cells.add().string_data.data.extend(value)


def _dynamic(column: FieldData, values: Iterable[bytes]) -> None:
    column.type = DataType.JSON
    column.is_dynamic = True
    column.scalars.json_data.data.extend(values)


def _vectors(column: FieldData, values: Sequence[Any]) -> None:
    column.type = DataType.FloatVector
    column.vectors.dim = len(values[0])
    data = np.asarray(values, "<f4").tobytes()
    # The one field of a FloatArray, whose number is 1, as it is on the wire.
    column.vectors.float_vector.MergeFromString(b"\x0a" + _varint(len(data)) + data)


def _words(column: FieldData, values: Sequence[Any]) -> None:
    column.type = DataType.SparseFloatVector
    column.vectors.sparse_float_vector.contents.extend(sparse_rows_to_proto(values).contents)


_COLUMNS: Mapping[str, Callable[[FieldData, Any], None]] = {
    "id": _texts,
    "text": _lists_of_texts,
    "metadata": _texts,
    "created": _integers,
    "written": _integers,
    "vector": _vectors,
    "words": _words,
    DYNAMIC: _dynamic,
}


def _varint(number: int) -> bytes:
    """Return an integer as protobuf writes it: seven bits a byte, the lowest first."""
    written = bytearray()
    while number > _SEVEN_BITS:
        written.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    written.append(number)
    return bytes(written)
