"""The hooks that a plugin may implement.

A plugin is a module (the manifest) under the entry-point group ``qframe``; the name of the
entry point is the plugin's namespace::

    [project.entry-points.qframe]
    mine = "my_package"

    # my_package/__init__.py
    import qframe
    from qframe.registry.components import quantizer

    @qframe.hookimpl
    def qframe_components():
        yield quantizer("soft_sign", "my_package.quantizers:SoftSign", summary="...")

Listing names imports every manifest, so it must not import a backend. A target is loaded
when its name is used.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from qframe.registry.components import Component

hookspec = pluggy.HookspecMarker("qframe")
hookimpl = pluggy.HookimplMarker("qframe")


@hookspec
def qframe_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Yield the components of the plugin.

    They are quantizers, constraints, recipes, adapters, exporters and sensitivity metrics.

    An exporter may name a module that runs its files; ``qframe.deployment.runtime`` says
    what that module has, so that `qframe.verify` can compare a file with its model.
    """
