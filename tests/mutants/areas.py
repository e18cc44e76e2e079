"""The tests of each module.

The row with the longest prefix of a module's path counts. It names the tests that mirror
the code and then those that use it most, the cheap ones first. A module at the top of
qframe needs no row when a test file has its name.
"""

from pathlib import Path

import attrs

# Without the slow tests, which only those mutants meet that survive the others.
SELECTION, SLOW = "not long", "long"

_CONFORMANCE = "plugins/test_conformance.py"
_VALUES = "plugins/test_binary.py plugins/test_ternary.py plugins/test_integer.py"
_PACKED = "plugins/packed/test_"
_GRAPHS = (
    f"{_PACKED}packing.py {_PACKED}lowering.py {_PACKED}rewriting.py {_PACKED}runtime.py "
    f"{_PACKED}files.py"
)
_OPERATIONS = f"{_GRAPHS} {_PACKED}kernels.py {_PACKED}export.py"
_ENGINE = f"{_PACKED}kernels.py {_PACKED}compiled.py {_PACKED}engine.py"
_NAMES = "registry recipes/test_recipes.py"
_QUANTIZE = "passes/test_planning.py passes/test_quantize.py passes/test_unusual.py"


@attrs.frozen
class Area:
    """Paths within the folder of tests, and the selection that pytest makes there."""

    paths: tuple[str, ...]
    keyword: str = ""
    marks: str = SELECTION

    def __str__(self) -> str:
        return " ".join(self.paths) + (f" -k '{self.keyword}'" if self.keyword else "")

    def slow(self) -> "Area":
        """Return the slow tests of the area."""
        return attrs.evolve(self, marks=SLOW)

    def within(self, tests: Path) -> "Area":
        """Return the same area without the paths that a folder does not have."""
        return attrs.evolve(
            self, paths=tuple(p for p in self.paths if (tests / p).exists())
        )


def _area(paths: str, keyword: str = "", marks: str = SELECTION) -> Area:
    return Area(tuple(paths.split()), keyword, marks)


def _plugin(name: str) -> Area:
    # The keyword selects all but the second file, and the plugin's own cases of that.
    return _area(
        f"plugins/test_{name}.py {_CONFORMANCE} plugins/test_promises.py",
        f"test_{name} or test_promises or {name}:",
    )


TABLE = {
    **{f"plugins/qframe_{p}/": _plugin(p) for p in ("binary", "fixed", "float", "integer")},
    **{f"plugins/qframe_{p}/": _plugin(p) for p in ("kbit", "ternary")},
    "plugins/qframe_litert/": _area("plugins/litert"),
    "plugins/qframe_packed/": _area(f"{_GRAPHS} {_PACKED}export.py"),
    "plugins/qframe_packed/compiled/": _area(_ENGINE),
    "plugins/qframe_packed/compiled/allocation.py": _area(
        f"{_PACKED}allocation.py {_ENGINE}"
    ),
    "plugins/qframe_packed/interpreter.py": _area(f"{_GRAPHS} {_PACKED}compiled.py"),
    "qframe/__init__.py": _area("test_documents.py registry"),
    "qframe/__main__.py": _area("cli/test_errors.py"),
    "qframe/callbacks/": _area("callbacks"),
    "qframe/cli/": _area("cli"),
    "qframe/cli/quickstart/": _area("cli/quickstart"),
    "qframe/constraints.py": _area("plugins/test_binary.py layers optimizers/test_bop.py"),
    "qframe/deployment/": _area(f"deployment {_OPERATIONS}"),
    "qframe/errors.py": _area(f"{_NAMES} cli/test_errors.py"),
    "qframe/keras_internals/": _area(
        "test_keras_internals.py models/test_reads.py layers passes/test_machine.py"
    ),
    "qframe/keras_internals/overrides.py": _area("test_overrides.py"),
    "qframe/layers/": _area("layers passes/test_quantize.py"),
    "qframe/layers/initializers.py": _area("layers/test_initializers.py zoo"),
    "qframe/layers/stubs.py": _area("layers/test_stubs.py", marks=SLOW),
    "qframe/models/": _area("models passes/test_planning.py"),
    "qframe/models/model_profile.py": _area("models/test_model_profile.py"),
    "qframe/observation/": _area(
        "observation passes/test_recalibration.py passes/test_calibration.py reports"
    ),
    "qframe/optimizers/": _area("optimizers callbacks/test_hyperparameters.py"),
    "qframe/passes/": _area(f"{_QUANTIZE} passes/test_properties.py"),
    "qframe/passes/calibration.py": _area(
        "observation/test_progress.py passes/test_calibration.py"
    ),
    "qframe/passes/differences.py": _area(
        "passes/test_differences.py passes/test_planning.py"
    ),
    "qframe/passes/plans.py": _area("passes/test_calibration.py reports/test_report.py"),
    "qframe/layers/float_scope.py": _area("layers/test_float_scope.py reports"),
    "qframe/passes/inputs.py": _area("passes/test_calibration.py"),
    "qframe/passes/equalization/": _area(
        "passes/test_equalizing.py passes/test_equalizing_code.py"
    ),
    "qframe/passes/equalization/input_rows.py": _area(
        "passes/test_input_rows.py passes/test_equalizing.py"
    ),
    "qframe/passes/rounding/": _area("passes/test_rounding.py"),
    "qframe/observation/replay.py": _area("passes/test_rounding.py"),
    "qframe/quantizers/rounded.py": _area(
        "passes/test_rounding.py plugins/test_conformance.py"
    ),
    "plugins/qframe_rounding/": _area("passes/test_rounding.py"),
    "plugins/qframe_sensitivity/": _area("passes/bit_widths"),
    "qframe/passes/proofs.py": _area("passes/test_folding.py passes/test_equalizing.py"),
    "qframe/passes/weights.py": _area("passes/test_folding.py passes/test_equalizing.py"),
    "qframe/passes/integer_weights.py": _area("passes/test_integer_weights.py"),
    "qframe/passes/ranges.py": _area("passes/test_ranges.py passes/test_calibration.py"),
    "qframe/passes/recalibration.py": _area("passes/test_recalibration.py callbacks"),
    "qframe/passes/searching.py": _area("passes/test_ranges.py passes/test_calibration.py"),
    "qframe/passes/validation.py": _area("passes/test_calibration.py"),
    "qframe/quantizers/": _area(
        f"layers/test_slots.py {_VALUES} plugins/test_kbit.py {_CONFORMANCE}",
        "not test_conformance or ste_sign or lsq or integer: or dorefa",
    ),
    "qframe/quantizers/callables.py": _area("test_utils.py layers/test_layers.py"),
    "qframe/quantizers/differentiation.py": _area(f"{_VALUES} reports/test_figures.py"),
    "qframe/quantizers/integers.py": _area(
        "plugins/test_integer.py passes/test_integer_weights.py"
    ),
    "qframe/recipes/": _area("recipes passes/test_quantize.py passes/test_planning.py"),
    "qframe/registry/": _area("registry test_exporters.py testing/test_plugins.py"),
    "qframe/registry/configurable.py": _area(f"{_NAMES} {_VALUES}"),
    "qframe/registry/foreign.py": _area("registry cli/test_components.py"),
    "qframe/registry/hookspecs.py": _area("registry layers/test_adapters.py"),
    "qframe/registry/identifier.py": _area(_NAMES),
    "qframe/registry/requirements.py": _area("registry cli/test_doctor.py"),
    "qframe/registry/runtimes.py": _area("test_exporters.py"),
    "qframe/passes/bit_widths/charts.py": _area("reports/test_bits.py"),
    "qframe/reports/": _area("reports"),
    "qframe/tables/": _area("test_tables.py models/test_model_profile.py reports"),
    "qframe/testing/": _area("testing passes/test_properties.py"),
    "qframe/utils.py": _area("test_utils.py models/test_model_profile.py"),
    "qframe/validation.py": _area(
        f"test_validation.py test_metrics.py {_VALUES} passes/test_calibration.py"
    ),
    "qframe/zoo/": _area("zoo"),
    "qframe/zoo/larq_weights.py": _area("zoo/test_larq_weights.py"),
}


def area_of(path: str) -> Area:
    """Return the tests of a module, and the examples in docstrings around it."""
    first, second, *rest = path.removesuffix(".py").split("/")
    rows = [prefix for prefix in TABLE if path.startswith(prefix)]
    if rows:
        area = TABLE[max(rows, key=len)]
    elif first == "qframe" and not rest:
        area = Area((f"test_{second}.py",))
    else:
        raise ValueError(f"no tests for {path}; give it a row in {Path(__file__).name}")
    module = "qframe" if second == "__init__" else f"qframe.{second}"
    name = second if first == "plugins" else module if rest else f"{module}]"
    examples = f"test_docstrings[{name}"
    keyword = f"not test_docs and ({area.keyword})" if area.keyword else "not test_docs"
    if area.marks != SELECTION:
        return area
    return attrs.evolve(
        area, paths=(*area.paths, "test_docs.py"), keyword=f"{keyword} or {examples}"
    )
