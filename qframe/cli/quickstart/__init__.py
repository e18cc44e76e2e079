"""The whole way of a model in one run: build, train, save, load elsewhere, compare."""
