"""Paths, and small files that may come from strangers: read whole, but never more than such a file can need."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from autoderain_jax.errors import InputError, shown

MOST_JSON = 2**22
"""Bytes of a JSON file. Genotypes take a hundred for each block; parsed, JSON may take eighty times as much memory."""


def expanded(text: str | Path) -> Path:
    """A path in which ``~`` is a home folder; raises ``InputError`` for text that no path can have."""
    try:
        return Path(os.path.expanduser(text))
    except ValueError:
        raise InputError(f"{shown(str(text))} is no path") from None


def read_bytes(path: Path, what: str, most: int) -> bytes:
    """The content of a file of at most ``most`` bytes.

    Raises:
      InputError: it is missing, larger, or none that has an end; the sentence calls it ``what``.
    """
    try:
        # Opening a pipe would wait for whoever writes to it.
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {what} {path}: it is not a file")
        with path.open("rb") as file:
            # What is asked for is allocated at once.
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None
    if len(content) > most:
        raise InputError(f"cannot read {what} {path}: it has more than {most:,} bytes")
    return content


def read_json(path: Path, what: str) -> Any:
    """The value in a JSON file; raises ``InputError`` as ``read_bytes`` and ``parse_json`` do."""
    return parse_json(read_bytes(path, what, MOST_JSON), str(path))


def parse_json(text: str | bytes, source: str) -> Any:
    """The value of a JSON text, UTF-8 if it is bytes; raises ``InputError`` naming ``source`` if it is none."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse)
    except RecursionError:
        raise InputError(f"{source} is not JSON: it is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{source} is not JSON: {error}") from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises ``InputError`` naming a file or folder that cannot be written: a full disk's error names none."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def replace_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all, even if the machine stops; raises ``InputError`` as ``writing`` does."""
    replace_files({path: text.encode()})


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """The same for files of one folder that belong together: where the last is, all are of one write.

    Nothing is replaced before all are on the disk, so that a full one leaves what was there.
    """
    for path, content in contents.items():
        with writing(path):
            partial = _partial(path)
            partial.write_bytes(content)
            flush(partial)
    *others, last = contents
    with writing(last):
        if others:
            last.unlink(missing_ok=True)
        for path in contents:
            _partial(path).replace(path)
        flush(last.parent)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """The name of a file to write first, in the folder of one of any name, which it replaces unless an error is raised.

    It is hidden, has the suffix of the other, and is gone in the end.
    """
    partial = path.with_name(f".partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        # What kept it from being written may keep it from being looked for.
        with contextlib.suppress(OSError):
            partial.unlink()


def flush(path: Path) -> None:
    """Has a file, or a folder's list of its files, on the disk rather than in memory that is lost with the machine."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Not all file systems can.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has no number {constant}")
