"""How many examples a property draws."""

import hypothesis

# What a profile draws unless it says otherwise; tests/conftest.py has one that draws fewer.
_USUAL = 100


def settings(max_examples):
    """Hypothesis's settings, with more or fewer examples in a profile that has so."""
    drawn = hypothesis.settings().max_examples
    return hypothesis.settings(max_examples=max(1, max_examples * drawn // _USUAL))


def are_complete():
    """Return whether these are the fixed examples, all of them."""
    profile = hypothesis.settings()
    return profile.derandomize and profile.max_examples >= _USUAL
