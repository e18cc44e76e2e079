"""The example of ``qframe quickstart``: build, train, save, load elsewhere, compare."""
