"""Images as people have them: the bytes of a file, the path of one, or a Pillow image."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING

import numpy as np

from nearfield.errors import InvalidDocumentError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from PIL.Image import Image

    from nearfield.embedders.base import ImageLike

__all__ = ["check_image", "check_pillow", "is_image", "read_batches", "read_image"]

MAX_FILE_BYTES = 256 << 20
MAX_ASPECT_RATIO = 200
"""Models scale the shorter side to theirs: of a line of pixels, that makes gigabytes."""
_FORMATS = "AVIF BMP GIF HEIF ICO JPEG JPEG2000 MPO PNG PPM TIFF WEBP".split()
"""Not all that Pillow knows: for EPS it runs a program. HEIF is there once a plugin brings it."""
_BATCH_PIXELS = 1 << 26
"""Of the images that are decoded at once, 192 MiB."""


def is_image(value: object) -> bool:
    """Tell whether a search takes this for an image: bytes, a path object or a Pillow image.

    A ``str`` is a text, also where it is the path of an image.
    """
    return isinstance(value, bytes | os.PathLike) or _is_pillow(value)


def check_image(value: object, *, position: int | None = None) -> ImageLike:
    """Return what can be read as an image, unread, or raise ``InvalidDocumentError``."""
    if isinstance(value, str) or is_image(value):
        return value  # type: ignore[return-value]  # narrowed just now
    raise _refusal(
        f"is a {type(value).__name__}; expected the bytes of an image file, its path, or a Pillow "
        "image",
        position,
    )


def read_batches(images: Sequence[ImageLike], size: int) -> Iterator[list[Image]]:
    """Read images in batches of at most ``size``, fewer where they are large."""
    batch: list[Image] = []
    pixels = 0
    for position, given in enumerate(images):
        image = read_image(given, position=position)
        area = image.width * image.height
        if batch and (len(batch) == size or pixels + area > _BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(image)
        pixels += area
    if batch:
        yield batch


def read_image(image: ImageLike, *, position: int | None = None) -> Image:
    """Read an image as it is meant to be seen.

    It is turned the way its EXIF orientation says, transparency is laid over white, 16-bit grey
    is brought to 8 bits, and of an animation the first frame is taken.

    Args:
        image: What to read. What is given as a Pillow image stays as it is.
        position: Its place in a batch, for the error.

    Returns:
        A Pillow image of mode RGB.

    Raises:
        InvalidDocumentError: It is no image of a format that is read, damaged or truncated, its
            file is not there or has more than 256 MiB, or it has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` (about 89 million) or more than 200 times as many one
            way as the other.
        MissingDependencyError: Pillow is not installed.
    """
    pillow = check_pillow()
    given = check_image(image, position=position)
    if isinstance(given, str | os.PathLike):
        name = f" {os.fsdecode(given)!r}"
        opened = _open(pillow, _read_file(given, name, position), name, position)
    elif isinstance(given, bytes):
        name = ""
        opened = _open(pillow, given, name, position)
    else:
        name = ""
        opened = given
    _check_size(opened, pillow.MAX_IMAGE_PIXELS, name, position)
    try:
        return _as_seen(opened)
    except InvalidDocumentError as error:
        raise _refusal(f"{name} {error}", position) from None
    except Exception as error:
        raise _refusal(
            f"{name} is damaged or truncated ({type(error).__name__}: {error}); leave it out, or "
            "get it anew",
            position,
        ) from error


def _is_pillow(value: object) -> bool:
    pillow = sys.modules.get("PIL.Image")  # whoever has such an image has imported it
    return pillow is not None and isinstance(value, pillow.Image)


def check_pillow() -> ModuleType:
    """Return Pillow's module ``Image``, or raise ``MissingDependencyError``."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("pillow", extra="images", purpose="reading images") from None
    return Image


def _read_file(path: str | os.PathLike[str], name: str, position: int | None) -> bytes:
    try:
        with open(path, "rb", opener=_open_regular) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes <= MAX_FILE_BYTES:
                return file.read(MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise _refusal(
            f"{name} cannot be read ({reason}); expected the path of a file here, nothing is "
            "fetched from elsewhere",
            position,
        ) from None
    raise _too_large(size_bytes, name, position)


def _open_regular(path: str, flags: int) -> int:
    # Opening a pipe would wait for its other end.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no regular file")
    return descriptor


def _open(pillow: ModuleType, content: bytes, name: str, position: int | None) -> Image:
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(len(content), name, position)
    pillow.init()
    formats = [each for each in _FORMATS if each in pillow.OPEN]
    try:
        image: Image = pillow.open(io.BytesIO(content), formats=formats)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise _too_many_pixels(str(error), name, position) from None
    except Exception as error:
        readable = ", ".join(sorted(formats))
        raise _refusal(
            f"{name} ({len(content):,} bytes) is no image of a format that is read; expected one "
            f"of {readable}, or open it yourself and pass the Pillow image",
            position,
        ) from error
    return image


def _check_size(image: Image, most: int | None, name: str, position: int | None) -> None:
    width, height = image.size
    if most is not None and width * height > most:
        raise _too_many_pixels(f"{width} × {height}, the most is {most:,}", name, position)
    if not width or not height or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise _refusal(
            f"{name} is {width} × {height} pixels, expected sides of which one is at most "
            f"{MAX_ASPECT_RATIO} times the other; cut it into parts",
            position,
        )


def _as_seen(image: Image) -> Image:
    from PIL import Image as pillow  # noqa: N813
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in {"F", "I"}:
        raise InvalidDocumentError(
            f"has the mode {image.mode!r}, whose range of values is not known; convert it to "
            "RGB first"
        )
    if image.mode.startswith("I;16"):
        image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _too_large(size_bytes: int, name: str, position: int | None) -> InvalidDocumentError:
    return _refusal(
        f"{name} has {size_bytes:,} bytes, the most is {MAX_FILE_BYTES:,}; scale it down", position
    )


def _too_many_pixels(what: str, name: str, position: int | None) -> InvalidDocumentError:
    return _refusal(
        f"{name} has too many pixels ({what}); scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS "
        "where you trust it",
        position,
    )


def _refusal(what: str, position: int | None) -> InvalidDocumentError:
    place = "" if position is None else f" (document {position} of the batch)"
    return InvalidDocumentError(f"the image {what.strip()}{place}", position=position)
