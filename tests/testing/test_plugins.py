"""The checks of the kit for a whole plugin."""

import re

import pytest

from qframe.registry.discovery import registry
from qframe.testing import plugin_checks

MANIFEST = """
{imports}
import qframe
from qframe.registry.components import constraint, exporter, quantizer

@qframe.hookimpl
def qframe_components():
    yield {component}
"""


def failures(namespace, *identifiers):
    """The messages of the failing checks of a manifest, by name."""
    result = {}
    for check in plugin_checks(namespace, identifiers):
        if check.name in ("reads", "light", "loads", "documented"):
            try:
                check()
            except Exception as error:
                result[check.name] = str(error)
    return result


def manifest(component, imports=""):
    return MANIFEST.format(component=component, imports=imports)


def test_a_manifest_that_imports_a_backend(install):
    component = "quantizer('sign', 'qframe_binary.quantizers:SteSign', summary='sign')"
    # As if it had, in the process that finds out: a real import takes ten seconds.
    fake = "import sys; 'pytest' in sys.modules or sys.modules.update(tensorflow=sys)"
    install("heavy", manifest(component, fake))
    said = failures("heavy")["light"]
    assert "importing heavy_m imports tensorflow" in said
    assert "'module:Class'" in said


def test_a_manifest_that_cannot_be_imported(install):
    install("broken", "raise ImportError('no flux')")
    assert "no flux" in failures("broken")["reads"]


def test_a_target_that_is_missing_or_something_else(install):
    install("lost", manifest("quantizer('sign', 'lost_m:Sign', summary='sign')"))
    assert "cannot be loaded" in failures("lost")["loads"]
    component = "quantizer('clip', 'qframe_binary.constraints:WeightClip', summary='c')"
    install("other", manifest(component))
    assert "is not a quantizer class" in failures("other")["loads"]


def test_a_component_without_summary_or_defaults(install):
    install("terse", manifest("quantizer('tag', 'qframe_binary.quantizers:NoOp')"))
    said = failures("terse")
    assert "no summary" in said["documented"]
    assert "name some in `identifiers`" in said["loads"]
    assert "loads" not in failures("terse", "tag(precision=4)")


def test_two_plugins_with_one_namespace(install):
    component = "quantizer('sign', 'qframe_binary.quantizers:SteSign', summary='sign')"
    install("twice", manifest(component), distribution="first")
    install("twice", manifest(component), distribution="second")
    [second] = [name for name in registry.discover() if name.startswith("twice (")]
    said = failures(second)["reads"]
    assert re.search("the namespace 'twice' belongs to (first|second) already", said)


@pytest.mark.long
def test_a_plugin_without_a_test_file(pytester):
    """``pytest --qframe`` in a separate process."""
    pytester.makepyfile("def test_that_must_not_run(): assert False")
    result = pytester.runpytest_subprocess("--qframe", "ternary", "-q", "-k", "levels")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*passed*deselected*"])


def test_an_unknown_plugin(pytester):
    result = pytester.runpytest_inprocess("--qframe", "ternry")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no plugin 'ternry' is installed. Did you mean*"])


def test_expected_failures_are_strict(pytester):
    pytester.makepyfile(
        """
        import qframe as qf
        from qframe.testing import parametrize_with_checks
        from conforming_quantizers import Thirds

        @qf.register
        class Doubled(Thirds):
            def value(self, inputs):
                return 2 * super().value(inputs)

        @parametrize_with_checks(
            [Doubled], expected_failures={"range_": "doubled", "nan": "it was wrong once"}
        )
        def test_conformance(check):
            if check.name in ("range_", "nan", "levels"):
                check()
        """
    )
    result = pytester.runpytest_inprocess("-rA")
    actual = result.parseoutcomes()
    # A failure that was expected; levels; and one that was expected and passes.
    assert (actual["xfailed"], actual["failed"]) == (1, 2)
    result.stdout.fnmatch_lines(["*XPASS(strict)*it was wrong once*"])


@pytest.mark.parametrize(
    ("target", "runtime", "why"),
    [
        ("builtins:dict", "", "does not return a callable"),
        ("functools:partial", "", "partial"),
        ("qframe_packed.exporting:PackedExporter", "no_such_module", "cannot be loaded"),
    ],
)
def test_an_exporter_that_is_none(install, target, runtime, why):
    component = f"exporter('x', {target!r}, suffix='.x', runtime={runtime!r})"
    install("odd", manifest(component))
    assert why in failures("odd")["loads"]
