"""Every family of `keras.applications` as packed files, against Keras.

Run by ``tox run -e bench``. It prints a row of a table for each: its weights in millions,
and the files of the float model and of 8 bits in MB.
"""

import time

import pytest

import qframe as qf
from families import FAMILIES, difference, distance_before_flips, quantized

# Of floats; of what quantizers read, in steps; and of outputs after levels have differed.
ROUNDING, STEPS, LEVELS = 2e-5, 2e-3, 1e-1


def agreement(model, images, path):
    """The file, and how far both engines are from Keras."""
    start = time.perf_counter()
    qf.export(model, path, target="packed")
    seconds = time.perf_counter() - start
    expected = model.predict(images, verbose=0)
    far = [
        difference(qf.packed.load(path, engine=name).predict(images), expected)
        for name in ("numpy", "numba")
    ]
    return path.stat().st_size, seconds, max(far)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_exported_and_agrees(name, tmp_path):
    family = FAMILIES[name]
    model, images = family.build(), family.images()
    path = tmp_path / "m.safetensors"
    size, seconds, far = agreement(model, images, path)
    assert far < ROUNDING
    quantized(model, images)
    memory = qf.models.profile(model).memory / 8
    small, seconds_8, far_8 = agreement(model, images, path)
    before = distance_before_flips(model, images)
    print(
        f"\n{name}: float in {seconds:.1f} s, {far:.1e} from Keras; 8 bits in "
        f"{seconds_8:.1f} s, {before:.1e} steps before the first flip, {far_8:.1e} after"
    )
    assert before < STEPS
    assert far_8 < LEVELS
    assert small < 1.05 * memory + 4000
    print(
        f"| {name} | `{family.model}` | {model.count_params() / 1e6:.1f} | "
        f"{size / 1e6:.1f} | {small / 1e6:.1f} |"
    )
