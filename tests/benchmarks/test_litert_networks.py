"""Whole networks as LiteRT files of integers: outputs beside Keras's, sizes, and times.

Weights are random, and statistics of batch normalization are those of the pictures. Run by
``tox run -e bench -- -k networks``. It prints the rows of the table in ``docs/litert.md``.
"""

import keras
import numpy as np
import pytest

import qframe as qf
from benchmarks.lite import called, lite
from benchmarks.timing import interleaved
from families import FAMILIES, Family

pytest.importorskip("ai_edge_litert", reason="in the environment `bench`")
SIZE, EXAMPLES, IMAGES, ALONE, ROUNDS = 64, 64, 200, 20, 10
NETWORKS = ("MobileNetV2", "MobileNetV3", "EfficientNet", "ResNet")


def pictures(count, family, seed):
    """Smooth noise in the range that a network takes."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 8, 8, 3)).astype("float32")
    x = keras.ops.image.resize(coarse, (SIZE, SIZE), interpolation="bilinear")
    x = np.asarray(x) + 0.2 * rng.normal(size=(count, SIZE, SIZE, 3))
    x = (x - x.min()) / (x.max() - x.min())
    return (255 * x if family.rescales else 2 * x - 1).astype("float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_prints_its_row(name, tmp_path):
    family = Family(FAMILIES[name].model, SIZE, FAMILIES[name].rescales)
    model, path = family.build(), tmp_path / "m.tflite"
    examples, images = pictures(EXAMPLES, family, 0), pictures(IMAGES, family, 1)
    # Compiling takes much longer than some hundred pictures.
    model.run_eagerly = True
    qf.recalibrate_batchnorm(model, examples, batch_size=EXAMPLES, verbose=0)
    in_floats = lite(model, 1, whole=False)
    qf.quantize(model, "int8")
    qf.calibrate(model, examples, verbose=0)
    qf.export(model, path, target="litert(batch=1)")
    verified = qf.verify(model, path, images, edge_examples=8)
    batch = np.asarray(model(images, training=False))[:ALONE]
    alone = [model(image[None], training=False) for image in images[:ALONE]]
    compared = verified.outputs[0].agreement
    step = compared.largest / max(1, compared.largest_steps)
    alike = np.mean(np.abs(batch - np.concatenate(alone)) < step / 2)
    taken = interleaved(
        {"int8": called(path.read_bytes()), "float32": in_floats}, ROUNDS, turn=0.05
    )
    cells = [
        f"`{family.model}`",
        f"{path.stat().st_size / 1e6:.1f}",
        f"{verified.equal:.0%}, {verified.within_one_step:.0%}, {verified.same_class:.0%}",
        f"{alike:.0%}",
        f"{taken['float32'] / taken['int8']:.1f} x",
    ]
    print(f"\n| {' | '.join(cells)} |")
    assert verified.same_class > 0.5
