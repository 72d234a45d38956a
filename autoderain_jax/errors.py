"""The one exception for what a user can mend."""

from __future__ import annotations

import reprlib
from typing import Any


class InputError(ValueError):
    """Bad input, said in one clear sentence that names the file or option. Commands print it and exit non-zero.

    What cannot be printed is escaped: names of files may hold line breaks, and what terminals obey.
    """

    def __init__(self, sentence: str):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 150


def shown(value: Any) -> str:
    """What a file holds, in a sentence: as ``repr``, on one line, cut where it is too long to be read."""
    return _SHORT.repr(value)


def in_short(error: BaseException) -> str:
    """What an exception of another library says, on one line, cut where it is too long to be read."""
    return " ".join(str(error).split())[:300] or type(error).__name__
