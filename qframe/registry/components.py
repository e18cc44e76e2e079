"""The components that manifests yield: names, with targets to load later."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from qframe.errors import PluginError, shown
from qframe.registry.foreign import Failure, isolated

_NAME = re.compile(r"[A-Za-z_]\w*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_TEXT = re.compile(r".*", re.DOTALL)
_SUFFIX = re.compile(r"\.\w+")
_MODULE = re.compile(r"([A-Za-z_][\w.]*)?")


def _matches(pattern: re.Pattern[str], form: str) -> Any:
    def validate(record: Component, field: attrs.Attribute[str], value: str) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise PluginError(
                f"the {field.name} of the {record.kind} {record.target!r} must be {form}, "
                f"found {shown(value)}."
            )

    return validate


def _check_aliases(record: Component, field: attrs.Attribute[Any], value: Any) -> None:
    for alias in value:
        if not isinstance(alias, str) or not _NAME.fullmatch(alias):
            raise PluginError(
                f"the aliases of the {record.kind} {record.target!r} must be plain names, "
                f"found {shown(alias)}. Write for example aliases=['SteSign']."
            )


def _aliases(names: Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple; a string is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


WEIGHT_IN_A_LIST = (
    "a weight in a list or dict takes an attribute for itself: write self.w = "
    "self.add_weight(...) in build, and read self.w in call"
)


def fault_of_weights(weights: Mapping[str, Any]) -> str:
    """The fault in the weights of a layer class, prefix = attribute; "" if valid."""
    if not weights:
        return "no weight is named"
    for prefix, attribute in weights.items():
        if not (isinstance(attribute, str) and attribute.isidentifier()):
            return f"{prefix}={shown(attribute)} names no attribute ({WEIGHT_IN_A_LIST})"
        if prefix in ("input", "preactivation", "output"):
            return f"{prefix}_quantizer is that of an activation"
    return ""


@attrs.frozen
class Component:
    """A component of a plugin: its kind, its name, and the path of its target."""

    kind: str
    name: str = attrs.field(validator=_matches(_NAME, "a plain name"))
    target: str = attrs.field(validator=_matches(_TARGET, "'module:attribute'"))
    summary: str = attrs.field(default="", validator=_matches(_TEXT, "one line of text"))
    aliases: tuple[str, ...] = attrs.field(
        default=(), converter=_aliases, validator=_check_aliases
    )
    namespace: str = ""
    distribution: str = ""
    positional: bool = False
    # The file and the line of the manifest.
    place: str = attrs.field(default="", kw_only=True, eq=False, repr=False)

    @property
    def qualified_name(self) -> str:
        """The name after its namespace, as in ``"binary:ste_sign"``."""
        return f"{self.namespace}:{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    def load(self) -> Any:
        """Import the target. Raises `PluginError` that names the distribution."""
        return self._imported(self.target)

    def _imported(self, target: str) -> Any:
        """``"module:attribute"``, or a module."""
        module, _, attribute = target.partition(":")
        try:
            with isolated():
                loaded: Any = importlib.import_module(module)
                for part in attribute.split(".") if attribute else ():
                    loaded = getattr(loaded, part)
        except Failure as failure:
            place = failure.place or self.place
            raise PluginError(
                f"{self.kind} '{self.qualified_name}' (distribution "
                f"{self.distribution or 'unknown'}) points at {target}, which "
                f"cannot be loaded: {failure.reason}{f' ({place})' if place else ''}. "
                f"Reinstall or upgrade that distribution, or set QFRAME_DISABLE_PLUGINS="
                f"{self.namespace}."
            ) from failure.__cause__
        return loaded


@attrs.frozen
class AdapterComponent(Component):
    """An adapter, named after its layer class."""

    kind: str = attrs.field(default="adapter", init=False)
    name: str = attrs.field(init=False)
    weights: tuple[tuple[str, str], ...] = attrs.field(kw_only=True)
    channel_axis: int | tuple[int, ...] | None = attrs.field(default=-1, kw_only=True)

    @name.default
    def _class_name(self) -> str:
        return str(self.target).rpartition(":")[2].rpartition(".")[2]

    @weights.validator
    def _name_attributes(self, field: Any, value: tuple[tuple[str, str], ...]) -> None:
        if fault := fault_of_weights(dict(value)):
            raise PluginError(
                f"the adapter {self.target!r} needs the weights of its layer by their "
                f"attributes; {fault}. Write for example adapter({self.target!r}, "
                "kernel='w')."
            )

    @channel_axis.validator
    def _name_axes(self, field: Any, value: Any) -> None:
        axes = value if isinstance(value, tuple) else (value,)
        if value is not None and not all(type(axis) is int for axis in axes):
            raise PluginError(
                f"the channel_axis of the adapter {self.target!r} must be an integer, a "
                f"tuple of integers or None, found {value!r}."
            )

    @property
    def package(self) -> str:
        """The top-level package of the layer class."""
        return self.target.partition(":")[0].partition(".")[0]


@attrs.frozen
class ExporterComponent(Component):
    """An exporter, which writes models as files."""

    kind: str = attrs.field(default="exporter", init=False)
    suffix: str = attrs.field(
        kw_only=True, validator=_matches(_SUFFIX, "one such as '.onnx'")
    )
    runtime: str = attrs.field(
        default="", kw_only=True, validator=_matches(_MODULE, "the name of a module")
    )

    def load_runtime(self) -> Any:
        """Import the module that runs the files; None without one."""
        return self._imported(self.runtime) if self.runtime else None


def quantizer(
    name: str,
    target: str,
    *,
    summary: str = "",
    aliases: Iterable[str] = (),
    positional: bool = False,
) -> Component:
    """A quantizer: `target` is ``"module:Class"`` of a `qframe.quantizers.Quantizer`.

    With `positional`, ``"name(4, 0)"`` is read as the first two parameters of the class,
    for names that other libraries write in this way.
    """
    return Component(
        "quantizer", name, target, summary, _aliases(aliases), positional=positional
    )


def constraint(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A constraint: `target` is ``"module:Class"`` of a `qframe.constraints.Constraint`."""
    return Component("constraint", name, target, summary, _aliases(aliases))


def recipe(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A recipe: `target` is ``"module:function"``, which returns a `qframe.Recipe`.

    Each parameter of the function has a default. Its module imports no backend.
    """
    return Component("recipe", name, target, summary, _aliases(aliases))


def sensitivity_metric(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A metric of `qframe.sensitivity`.

    `target` is ``"module:Class"`` of a `qframe.passes.SensitivityMetric`. It is not a
    metric of training, as those of ``qframe.metrics`` are.
    """
    return Component("sensitivity_metric", name, target, summary, _aliases(aliases))


def adapter(
    target: str,
    *,
    channel_axis: int | tuple[int, ...] | None = -1,
    summary: str = "",
    **weights: str,
) -> AdapterComponent:
    """An adapter: the attributes of a layer class that are weights to quantize.

    Args:
        target: ``"module:Class"`` of a subclass of `keras.layers.Layer`, in the top-level
            package that defines it.
        channel_axis: as of `qframe.register_layer`. Default -1.
        summary: one line.
        **weights: prefix = attribute; with ``kernel="w"``, ``kernel_quantizer`` and
            ``kernel_constraint`` apply to ``layer.w``.

    Raises:
        PluginError: `target` is not a target, or no weight is named.

    Example:
        >>> from qframe.registry.components import adapter
        >>> adapter("my_package.layers:Scale", kernel="w").name
        'Scale'
    """
    return AdapterComponent(
        target, summary, weights=tuple(weights.items()), channel_axis=channel_axis
    )


def exporter(
    name: str,
    target: str,
    *,
    suffix: str,
    runtime: str = "",
    summary: str = "",
    aliases: Iterable[str] = (),
) -> ExporterComponent:
    """An exporter: ``qframe.export(model, path, target=name)`` writes a file.

    Args:
        name: the target.
        target: ``"module:Class"``. Its parameters, which have defaults, are the options
            of the target; its objects are called with a model and the path to write to,
            and raise `ExportError` for what they cannot write.
        suffix: the suffix of the files, such as ``".onnx"``.
        runtime: a module that runs the files, which is then ``qframe.<name>``: a
            `qframe.deployment.runtime.RuntimeModule`. It should not need Keras. With one,
            `qframe.verify` compares files with their models. Default "", none.
        summary: one line.
        aliases: other names.

    Raises:
        PluginError: `suffix` or `runtime` is something else.

    Example:
        >>> from qframe.registry.components import exporter
        >>> exporter("text", "my_package.text:Text", suffix=".txt").kind
        'exporter'
    """
    return ExporterComponent(
        name, target, summary, _aliases(aliases), suffix=suffix, runtime=runtime
    )


def rounder(
    name: str, target: str, *, summary: str = "", aliases: Iterable[str] = ()
) -> Component:
    """A rounder: a method of `qframe.round_weights`.

    Args:
        name: the method.
        target: ``"module:Class"``. Its parameters, which have defaults, are the options of
            the method; its objects are called with a `qframe.passes.Rounding`, and
            return the number of a level for each weight. Where their `compensates` is
            False, they take the latent weights, and not those that make up for the errors
            of the layers before. Its module imports no backend.
        summary: one line.
        aliases: other names.

    Example:
        >>> from qframe.registry.components import rounder
        >>> rounder("up", "my_package.up:Up").kind
        'rounder'
    """
    return Component("rounder", name, target, summary, _aliases(aliases))
