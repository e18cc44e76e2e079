"""How many examples a property draws."""

from hypothesis import settings

# What profiles draw where nothing else is said; tests/conftest.py has one with fewer.
_USUAL = 100


def examples(count):
    """Draw so many examples, and more or fewer in a profile that has more or fewer."""
    drawn = settings().max_examples
    return settings(max_examples=max(1, count * drawn // _USUAL))


def are_complete():
    """Whether these are the fixed examples, all of them."""
    return settings().derandomize and settings().max_examples >= _USUAL
