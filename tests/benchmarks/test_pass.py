"""The time of `plan`, `quantize` and `strip`, on known models and on growing ones."""

import statistics

import keras

import qframe as qf
from benchmarks.timing import seconds, show
from passes import test_applications as applications
from passes import test_scaling as scaling

ROUNDS, GOAL = 7, "< 50"
SOME = ["MobileNetV2", "ResNet50", "DenseNet121", "EfficientNetB0", "ConvNeXtTiny"]


def milliseconds(*taken):
    return f"{1e3 * statistics.median(taken):.0f}"


def rounds(model, rules):
    """The seconds of each action, by action; the first round is cold."""
    taken = {"plan": [], "quantize": [], "strip": []}
    for _ in range(ROUNDS):
        for name, values in taken.items():
            given = [] if name == "strip" else [rules]
            values.append(seconds(lambda: getattr(qf, name)(model, *given)))  # noqa: B023
    return taken


def test_applications():
    rows = []
    for name in SOME:
        model, to_build = applications.build(name)
        cold = seconds(lambda: qf.quantize(model, applications.RECIPE))  # noqa: B023
        qf.strip(model)
        taken = rounds(model, applications.RECIPE)
        rows.append(
            [
                name,
                str(len(model.layers)),
                milliseconds(to_build),
                milliseconds(cold),
                *(milliseconds(*values) for values in taken.values()),
                GOAL if name == "MobileNetV2" else "",
            ]
        )
        keras.utils.clear_session()
    columns = ["model", "layers", "build (ms)", "quantize, first"]
    columns += ["plan", "quantize", "strip", "goal"]
    show("the passes on keras.applications", columns, rows)


def test_scaling():
    parts = [scaling.dense(index) for index in range(2000)]
    for part in parts:
        part.build((None, 1))
    rows = []
    for shape in scaling.SHAPES:
        for size in (500, 1000, 2000):
            taken = rounds(shape(parts[:size]), scaling.RULES)
            actual = (milliseconds(*values[1:]) for values in taken.values())
            rows.append([shape.__name__, str(size), *actual])
    columns = ["model", "layers", "plan (ms)", "quantize", "strip"]
    show(
        "the passes on growing models; the goal is: twice the layers, twice as long",
        columns,
        rows,
    )
