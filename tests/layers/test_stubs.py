"""The committed stub is what the generator writes, on the newest Keras."""

import pytest

from qframe.layers import stubs


@pytest.mark.long
def test_the_stub_is_up_to_date():
    actual = stubs.PATH.read_text(encoding="utf-8")
    assert actual == stubs.text(), "run python -m qframe.layers.stubs"
