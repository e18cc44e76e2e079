"""Every family of `keras.applications` as packed files, against Keras.

Run by ``tox run -e bench -- -k families``. It prints the rows of the table in
``docs/packed.md``.
"""

import time

import attrs
import keras
import pytest

import qframe as qf
from families import FAMILIES, difference, distance_before_flips, in_numpy, quantized

# Of floats; of what quantizers read, in steps; and of outputs after levels have differed.
ROUNDING, STEPS, LEVELS = 2e-5, 2e-3, 1e-1


@attrs.frozen
class Export:
    """A file: its bytes, the seconds of its export, and how far from Keras it is."""

    size: int
    seconds: float
    far: float
    in_numpy: str


def exported(model, images, path):
    """The export of a model, with the larger difference of both engines."""
    start = time.perf_counter()
    qf.export(model, path, target="packed")
    seconds = time.perf_counter() - start
    # Without compiling, which takes longer than the images do.
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    engines = [qf.packed.load(path, engine=name) for name in ("numpy", "numba")]
    far = max(difference(engine.predict(images), expected) for engine in engines)
    return Export(path.stat().st_size, seconds, far, in_numpy(engines[1]))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_exported_and_agrees(name, tmp_path):
    family = FAMILIES[name]
    model, images = family.build(), family.images()
    path = tmp_path / "m.safetensors"
    floats = exported(model, images, path)
    weights = model.count_params()
    quantized(model, images)
    memory = qf.models.profile(model).memory / 8
    eight = exported(model, images, path)
    before = distance_before_flips(model, images)
    cells = [
        name,
        f"`{family.model}`",
        f"{weights / 1e6:.1f}",
        f"{floats.size / 1e6:.1f}",
        f"{eight.size / 1e6:.1f}",
        f"{eight.size / memory:.3f}",
        f"{floats.far:.0e}",
        f"{before:.0e}",
        f"{eight.far:.0e}",
        eight.in_numpy,
    ]
    print(f"\n| {' | '.join(cells)} |")
    print(f"exported in {floats.seconds:.1f} s, in 8 bits in {eight.seconds:.1f} s")
    assert floats.far < ROUNDING
    assert before < STEPS
    assert eight.far < LEVELS
    assert eight.size < 1.05 * memory + 4000
