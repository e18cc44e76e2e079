"""The state of the installation, as ``qframe doctor`` prints it."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import tempfile
from pathlib import Path

import attrs

from qframe import __version__
from qframe.cli.backend import BackendError, start_backend
from qframe.registry.discovery import Plugin, registry

BACKENDS = ("tensorflow", "jax", "torch")


@attrs.frozen
class Cpu:
    """The processor, as numba compiles kernels for it."""

    name: str
    features: tuple[str, ...]


@attrs.frozen
class Diagnosis:
    """The state of the installation.

    Args:
        versions: of qframe, Python, Keras and the backends; None for one that is not
            installed.
        platform: the operating system and the machine.
        backend: the chosen backend; None if it cannot be imported.
        cpu: the processor; None without numba.
        plugins: the installed plugins.
        failure: the error of the self-test; empty if it passed.
    """

    versions: dict[str, str | None]
    platform: str
    backend: str | None
    cpu: Cpu | None
    plugins: tuple[Plugin, ...]
    failure: str

    @classmethod
    def make(cls) -> Diagnosis:
        """Diagnose the installation, with the self-test."""
        names = ("keras", *BACKENDS, "numpy", "numba")
        versions: dict[str, str | None] = {
            "qframe": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in names},
        }
        backend, failure = None, ""
        try:
            start_backend()
            backend = importlib.import_module("keras").backend.backend()
            failure = self_test()
        except BackendError as error:
            failure = str(error)
        # Any error is a finding.
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        plugins = tuple(registry.discover().values())
        return cls(versions, platform.platform(), backend, _cpu(), plugins, failure)


def self_test() -> str:
    """The difference between a small model and its saved copy; empty if they agree."""
    import keras
    import numpy as np

    import qframe as qf
    from qframe.cli.quickstart.reload import difference, predict

    layers = [keras.layers.Dense(8), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((16,)), *layers])
    qf.quantize(model, {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"})
    inputs = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
    predicted = predict(model, inputs)
    with qf.float_weights(model):
        if not difference(predicted, predict(model, inputs)):
            return "a quantized model predicts what it does in float."
    with tempfile.TemporaryDirectory(prefix="qframe-") as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return difference(predicted, predict(qf.load_model(path), inputs))


def _version(distribution: str) -> str | None:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cpu() -> Cpu | None:
    try:
        # numba asks it too; it is installed only with numba.
        llvm = importlib.import_module("llvmlite.binding")
        features = llvm.get_host_cpu_features()
        name = llvm.get_host_cpu_name()
    except (ImportError, RuntimeError):  # a processor that LLVM does not know
        return None
    return Cpu(name, tuple(sorted(key for key, present in features.items() if present)))
