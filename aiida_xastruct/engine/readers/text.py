"""Bytes of a stranger's file as text, with limits."""

from __future__ import annotations

import gzip
import io
import zlib

from ..errors import SpectrumError

#: A day of quick scans in one Athena project takes 20 MB; a file a hundred times as large as a scan is no spectrum.
MAX_BYTES = 128_000_000

_GZIP = b"\x1f\x8b"


def as_text(content: bytes, name: str) -> str:
    """The text in a file.

    A beamline may write a degree sign in whatever encoding; what is no UTF-8 stands in comments, which are not needed, and is replaced.

    Raises:
        SpectrumError: if the content is binary.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    if b"\x00" in content[:4096]:
        raise SpectrumError(f"{name} is a binary file of no known kind; export it as columns of text (XDI, .dat) or as NeXus.")
    return content.decode("utf-8-sig", errors="replace")


def unzipped(content: bytes, name: str, most: int = MAX_BYTES + 1) -> bytes:
    """The content of a gzip file, or the content itself if it is none.

    Args:
        content: of the file.
        name: of the file, for messages.
        most: bytes that are unpacked at most.

    Raises:
        SpectrumError: if the file is damaged, or holds more than `MAX_BYTES`.
    """
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            text = stream.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise SpectrumError(f"{name} is a damaged gzip file ({error}); copy it again.") from error
    if len(text) > MAX_BYTES:
        raise SpectrumError(f"{name} unpacks to more than {MAX_BYTES / 1e6:.0f} MB; that is no file of spectra.")
    return text
