"""Bytes to text, never by guessing."""

from __future__ import annotations

import codecs
import re

from nearfield.errors import IngestError, InvalidInputError

__all__ = ["check_encoding", "decode", "tidy"]

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_encoding(encoding: str | None) -> None:
    """Raise ``InvalidInputError`` where Python has no text encoding of this name."""
    if encoding is None:
        return
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise InvalidInputError(
            f"encoding {encoding!r} is not known; expected a name such as 'cp1252', 'latin-1' or "
            "'shift_jis', or None for UTF-8 and files with a byte order mark"
        ) from None


def decode(
    data: bytes, *, name: str, encoding: str | None = None, declared: str | None = None
) -> tuple[str, str]:
    """Decode a text file: by its byte order mark, by what it declares, as UTF-8, as told.

    A byte order mark is believed over all else. Then comes the encoding that the file itself
    declares (HTML can), then UTF-8, and what is not UTF-8 is read in ``encoding``. Every step is
    strict: a byte that does not belong refuses the file rather than garble it.

    Args:
        data: The file's bytes.
        name: The file, for messages.
        encoding: What files that are not UTF-8 are written in; None refuses them.
        declared: The encoding that the file declares, where it does.

    Returns:
        The text, with Unix line ends and no byte order mark, and the encoding it was in.

    Raises:
        IngestError: The file is binary, or not in that encoding.
    """
    for mark, marked in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], marked, name=name, offset=len(mark)), marked
    if b"\0" in data:
        raise IngestError(
            f"{name} is not text: byte {data.index(0)} is zero; if it is UTF-16, save it with a "
            "byte order mark or as UTF-8",
            source=name,
        )
    if declared is not None:
        return _strict(data, declared, name=name), declared
    try:
        return _newlines(data.decode("utf-8")), "utf-8"
    except UnicodeDecodeError as error:
        if encoding is not None:
            return _strict(data, encoding, name=name), encoding
        raise IngestError(
            f"{name} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}; save it as "
            "UTF-8, or name the encoding that such files are in, for example encoding='cp1252'",
            source=name,
        ) from None


def tidy(text: str) -> str:
    """Make text from a binary format storable: no zero characters, no lone surrogates."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", _newlines(text).replace("\0", ""))


def _strict(data: bytes, encoding: str, *, name: str, offset: int = 0) -> str:
    try:
        return _newlines(data.decode(encoding))
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise IngestError(
            f"{name} is not valid {encoding}: byte {offset + start} does not belong; save it as "
            "UTF-8",
            source=name,
        ) from None


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
