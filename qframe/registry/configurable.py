"""Objects that a name and keyword arguments describe.

Quantizers and constraints keep scikit-learn's convention: each named parameter of
``__init__`` is stored under the same name. So parameters, configs and identifiers are
derived, and a class has nothing but its formulas.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, overload

import attrs

from qframe.errors import (
    AmbiguousNameError,
    ArgumentError,
    IdentifierError,
    QFrameError,
    UnknownNameError,
    did_you_mean,
)
from qframe.registry.components import Component
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier
from qframe.registry.requirements import requirements, without_requirements

T = TypeVar("T", bound=type)


class Configurable:
    """A mixin for classes whose objects an identifier describes."""

    kind: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Imported here, since commands without a backend import this module.
        import keras

        # Keras 3.10 and newer import no foreign module to load a file. So all classes
        # of a kind are saved under the name of their base; the identifier finds the class.
        base = next(parent for parent in reversed(cls.__mro__) if "kind" in vars(parent))
        register = keras.saving.register_keras_serializable("qframe", base.__name__)
        register(cls)
        register(base)

    @property
    def parameters(self) -> dict[str, Any]:
        """The named parameters of ``__init__`` with their values."""
        cls: Any = type(self)
        return {name: getattr(self, name) for name in parameter_names(cls)}

    @property
    def identifier(self) -> Identifier:
        """The qualified identifier that builds an equal object anywhere.

        Raises `QFrameError` if the class is not registered.
        """
        component = registry.component_of(type(self))
        if component is None:
            cls = type(self).__name__
            raise QFrameError(
                f"{cls} is not registered, so a saved model could not name it. Write "
                f"qframe.register({cls}) before saving and before loading, or offer it "
                "through a plugin."
            )
        return Identifier(component.name, component.namespace, self.parameters)

    def get_config(self) -> dict[str, Any]:
        """The name of the class and its parameters."""
        identifier = self.identifier
        return {
            "identifier": identifier.qualified_name,
            **identifier.arguments,
            **requirements([identifier]),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The inverse of `get_config`; finds the class by its identifier."""
        parameters = without_requirements(config)
        name = parameters.pop("identifier", None)
        if name is not None:
            cls = registry.load(registry.resolve(cls.kind, Identifier.parse(name)))
        return construct(cls, parameters)

    def __repr__(self) -> str:
        changed = changed_parameters(type(self), self.parameters)
        try:
            return str(attrs.evolve(self.identifier, arguments=changed))
        except QFrameError:
            pairs = (f"{key}={value!r}" for key, value in changed.items())
            return f"{type(self).__name__}({', '.join(pairs)})"


def changed_parameters(maker: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from the defaults of a class or function."""
    parameters = named_parameters(maker)
    return {
        name: _nested(value)
        for name, value in arguments.items()
        if name not in parameters or repr(parameters[name].default) != repr(value)
    }


def described(value: Any) -> str:
    """The identifier of an object with all its arguments; its ``repr`` without one."""
    if isinstance(value, Configurable):
        with contextlib.suppress(QFrameError):  # its class is not registered
            return str(value.identifier)
    return repr(value)


def without_defaults(text: str) -> str:
    """An identifier without arguments that are defaults; other text as it is.

    Identifiers in the arguments of an identifier lose theirs too.
    """
    try:
        identifier = Identifier.parse(text)
        (component,) = (
            c
            for c in registry.components()
            if (c.namespace, c.name) == (identifier.namespace, identifier.name)
        )
        maker = registry.load(component)
    except (QFrameError, ValueError):
        return text
    arguments = changed_parameters(maker, identifier.arguments)
    return str(attrs.evolve(identifier, arguments=arguments))


def _nested(value: Any) -> Any:
    return without_defaults(value) if isinstance(value, str) and ":" in value else value


def parameter_names(maker: Callable[..., Any]) -> tuple[str, ...]:
    """The named parameters of a class or function."""
    return tuple(named_parameters(maker))


@functools.cache
def named_parameters(maker: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a class or function, with their defaults."""
    # From __init__, not from the class: Python 3.10 would return the __new__ of Keras.
    function = maker.__init__ if inspect.isclass(maker) else maker
    parameters = [*inspect.signature(function).parameters.values()]
    if inspect.isclass(maker):
        del parameters[0]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters if p.kind in named}


def missing_arguments(maker: Any, present: Iterable[str] = ()) -> list[str]:
    """The parameters of a class or function that still need a value."""
    return [
        name
        for name, parameter in named_parameters(maker).items()
        if parameter.default is parameter.empty and name not in present
    ]


def build(kind: str, text: str, /, **further: Any) -> Any:
    """The object that an identifier and further arguments describe."""
    identifier = Identifier.parse(text, positional=True)
    component = registry.resolve(kind, identifier)
    arguments = {**arguments_of(component, identifier), **further}
    return construct(registry.load(component), arguments)


def arguments_of(component: Component, identifier: Identifier) -> Mapping[str, Any]:
    """The arguments of an identifier by their names.

    Raises:
        ArgumentError: the component takes fewer arguments without a key.
    """
    values = identifier.positional
    if not values:
        return identifier.arguments
    names = parameter_names(registry.load(component))
    if len(values) > len(names):
        raise ArgumentError(
            f"{component.name} takes at most {len(names)} arguments ({', '.join(names)}), "
            f"found {len(values)}: {identifier}."
        )
    return dict(zip(names, values, strict=False))


def construct(maker: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """``maker(**arguments)``, with an error that lists the arguments that it accepts."""
    names = parameter_names(maker)
    unknown = [name for name in arguments if name not in names]
    if unknown:
        raise ArgumentError(
            f"{maker.__name__} has no argument {unknown[0]!r}."
            + did_you_mean(unknown[0], names)
            + f" It accepts: {', '.join(names) or 'no arguments'}."
        )
    missing = missing_arguments(maker, arguments)
    if missing:
        raise ArgumentError(
            f"{maker.__name__} needs a value for {missing[0]!r}; write "
            f"{maker.__name__}({missing[0]}=...)."
        )
    return maker(**arguments)


def interpret(kind: str, value: Any) -> Any:
    """The object that text, a dict, a class or the object itself describes.

    A dict is a Keras or Larq config: ``{"class_name": ..., "config": {...}}``.
    """
    if isinstance(value, str):
        registered = registered_with_keras(kind, value)
        if registered is None:
            return build(kind, value)
        return registered() if inspect.isclass(registered) else registered
    if isinstance(value, dict) and "class_name" in value:
        config = dict(value.get("config") or {})
        name = config.pop("identifier", value["class_name"])
        identifier = Identifier.parse(name)
        cls = registry.load(registry.resolve(kind, identifier))
        names = parameter_names(cls)
        return construct(cls, {k: v for k, v in config.items() if k in names})
    if inspect.isclass(value) and issubclass(value, Configurable):
        return construct(value, {})
    return value


def registered_with_keras(kind: str, name: str) -> Any:
    """The function or class that a user registered with Keras under a name, or None.

    Raises:
        AmbiguousNameError: a plugin offers the name too.
    """
    keras = sys.modules.get("keras")  # without an import nothing is registered
    registered = keras.saving.get_registered_object(name) if keras is not None else None
    configurable = inspect.isclass(registered) and issubclass(registered, Configurable)
    if registered is None or configurable:
        return None
    try:
        component = registry.resolve(kind, Identifier.parse(name))
    except (UnknownNameError, IdentifierError):
        return registered
    raise AmbiguousNameError(
        f"{name!r} is {registered!r}, which is registered with Keras, and a {kind} of "
        f"{component.namespace!r}. Pass the first as an object, or write "
        f"'{component.namespace}:{name}' for the second."
    )


def attribute(kind: str, name: str) -> Any:
    """The value of ``module.name``: a class by its name, else a default instance.

    Raises `AttributeError`, as a module's ``__getattr__`` must.
    """
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        cls = registry.load(registry.resolve(kind, Identifier(name)))
    except (UnknownNameError, AmbiguousNameError) as error:
        raise AttributeError(str(error)) from None
    return cls if cls.__name__ == name else construct(cls, {})


@overload
def register(cls: T, *, name: str | None = None) -> T: ...
@overload
def register(cls: None = None, *, name: str | None = None) -> Callable[[T], T]: ...
def register(cls: Any = None, *, name: str | None = None) -> Any:
    """Register a quantizer or constraint in this process, in the namespace ``local``.

    Args:
        cls: a subclass of `qframe.quantizers.Quantizer` or
            `qframe.constraints.Constraint`. Left out, a decorator is returned.
        name: the name in identifiers; the class name in snake case by default.

    Raises:
        ArgumentError: `cls` is something else.

    Example:
        >>> import qframe as qf
        >>> @qf.register
        ... class Half(qf.quantizers.Quantizer):
        ...     def value(self, inputs):
        ...         return inputs / 2
        ...     def gradient(self, inputs):
        ...         return 0.5 + 0 * inputs
        >>> qf.quantizers.get("half")
        local:half
    """
    if cls is None:
        return functools.partial(register, name=name)
    if not (inspect.isclass(cls) and issubclass(cls, Configurable)):
        raise ArgumentError(
            f"qframe.register takes a subclass of qframe.quantizers.Quantizer or "
            f"qframe.constraints.Constraint, found {cls!r}. A plain callable needs no "
            "registration: pass it as the quantizer."
        )
    registry.register(cls.kind, cls, name or snake_case(cls.__name__))
    return cls


def snake_case(name: str) -> str:
    """``SteSign`` -> ``ste_sign``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
