"""A short form of ``python -m tests.fuzz``, and what it would hardly come upon."""

import pytest

from tests.fuzz import READERS, fuzz

EXAMPLES = 100


@pytest.mark.parametrize("name", READERS)
def test_readers_return_or_refuse(name):
    assert fuzz(name, EXAMPLES, derandomize=True) >= EXAMPLES // 2
