"""``pytest --qframe NAMESPACE``: the conformance kit for a plugin, without a test file.

pytest loads this module wherever qframe is installed, so it must not import a backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_TESTS = str(Path(__file__).with_name("conformance.py"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--qframe``."""
    parser.getgroup("qframe").addoption(
        "--qframe",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="Check a qframe plugin and all of its components; can be repeated. Without "
        "paths, nothing else runs.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the conformance test to the paths on the command line, or run it alone."""
    if config.getoption("qframe"):
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args.clear()
        config.args.append(_TESTS)


def pytest_generate_tests(metafunc: Any) -> None:
    """Parametrize the conformance test with the checks of the named plugins."""
    if metafunc.module.__name__ != "qframe.testing.conformance":
        return
    from qframe.errors import QFrameError
    from qframe.testing.parametrization import parametrize
    from qframe.testing.suites import plugin_checks

    try:
        checks = [
            check
            for namespace in metafunc.config.getoption("qframe")
            for check in plugin_checks(namespace)
        ]
    except QFrameError as error:
        raise pytest.UsageError(str(error)) from None
    mark = parametrize(checks, {})
    metafunc.parametrize(*mark.args, **mark.kwargs)
