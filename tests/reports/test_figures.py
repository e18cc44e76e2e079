"""The figures hold the numbers that they are about."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

import qframe as qf
from qframe.errors import ArgumentError, QFrameError
from qframe.registry.configurable import named_parameters
from qframe.registry.discovery import registry

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

# Its middle is 0, and the ends of the mask are on it.
X = np.linspace(-1.5, 1.5, 601).astype("float32")


def lines(figure):
    """The curve of the values and that of the gradient."""
    values, gradient = figure.axes
    return values.lines[-1].get_xydata().T, gradient.lines[-1].get_xydata().T


def test_the_values_and_the_mask_of_a_sign():
    (x, y), (same, gradient) = lines(qf.plot_quantizer("ste_sign"))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(y, np.where(X >= 0, 1, -1))
    np.testing.assert_array_equal(gradient, np.abs(X) <= 1)
    assert gradient.sum() == 401


def test_the_slopes_of_a_triangle():
    _, (x, gradient) = lines(qf.plot_quantizer("approx_sign"))
    np.testing.assert_allclose(gradient, np.maximum(2 - 2 * np.abs(x), 0), atol=1e-6)


def test_low_and_high():
    (x, y), _ = lines(qf.plot_quantizer("ste_tern(threshold_value=0.5)", -2, 4))
    assert (x[0], x[-1]) == (-2, 4)
    np.testing.assert_array_equal(y, np.sign(x) * (np.abs(x) >= 0.5))


@pytest.mark.parametrize(
    ("quantizer", "low", "high"),
    [
        ("ste_sign(clip_value=2.0)", -3, 3),
        ("dorefa", -0.25, 1.25),
        # The rest of its range, up to 448, would hide its steps.
        ("float8_e4m3", -12, 12),
        # It states no ends.
        ("noop(precision=8)", -1.5, 1.5),
        # The end of its range is the bound that it learns.
        ("pact(alpha=2.0)", -0.5, 2.5),
        (ops.tanh, -1.5, 1.5),
    ],
)
def test_default_limits_of_a_plot(quantizer, low, high):
    (x, _), _ = lines(qf.plot_quantizer(quantizer))
    np.testing.assert_allclose((x[0], x[-1]), (low, high), rtol=1e-5)


def test_a_callable():
    figure = qf.plot_quantizer(ops.tanh)
    (x, y), (_, gradient) = lines(figure)
    np.testing.assert_allclose(y, np.tanh(x), atol=1e-5)
    np.testing.assert_allclose(gradient, 1 - np.tanh(x) ** 2, atol=1e-5)
    assert figure.get_suptitle() == "tanh"


def test_the_title_is_what_was_asked_for():
    figure = qf.plot_quantizer("quantized_bits(3,0,1)")
    assert figure.get_suptitle() == "fixed:quantized_bits(bits=3, symmetric=True)"


def test_a_scale_is_that_of_the_numbers_that_are_drawn():
    (x, y), _ = lines(qf.plot_quantizer("magnitude_aware_sign"))
    scale = np.abs(x).mean()
    np.testing.assert_allclose(y, np.where(x >= 0, scale, -scale), rtol=1e-5)


def test_blocks_are_of_all_sizes():
    """The ones that share a scale would be neighbours, and the steps all different."""
    (_, y), _ = lines(qf.plot_quantizer("mxfp4"))
    assert set(np.unique(np.abs(y))) == {0, 0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5}
    assert (np.diff(y) >= 0).all()


def test_learned_state_starts_from_normal_numbers():
    (_, y), (x, gradient) = lines(qf.plot_quantizer("lsq(bits=3)"))
    batch = np.random.default_rng(0).normal(size=(1024, 1))
    step = 2 * np.abs(batch).mean() / np.sqrt(3)
    np.testing.assert_allclose(np.unique(y), step * np.arange(-4, 4), rtol=1e-5)
    inside = np.minimum(x + 4 * step, 3 * step - x)
    sure = np.abs(inside) > 1e-4  # not at the very ends
    np.testing.assert_array_equal(gradient[sure], inside[sure] > 0)


def test_a_quantizer_of_a_layer_is_drawn_by_channel_and_not_changed():
    layer = qf.layers.QuantDense(3, kernel_quantizer="lsq(bits=2, per_channel=True)")
    layer.build((None, 4))
    quantizer = layer.quantizers["kernel"]
    quantizer.set_range(np.full((1, 3), -2.0), np.asarray([[1.0, 2.0, 3.0]]))
    steps = ops.convert_to_numpy(quantizer.affine(layer.kernel.value)[0]).ravel()
    before = [ops.convert_to_numpy(v) for v in quantizer.variables]

    values = qf.plot_quantizer(quantizer, -9, 9).axes[0].lines[-3:]
    for step, line in zip(steps, values, strict=True):
        np.testing.assert_allclose(
            np.unique(line.get_ydata()), step * np.arange(-2, 2), 1e-6
        )
    for was, now in zip(before, quantizer.variables, strict=True):
        np.testing.assert_array_equal(was, now)


def test_draws_are_dots_and_leave_the_generator_alone():
    quantizer = qf.quantizers.get("stochastic_binary(seed=1)")
    quantizer.build((4,))
    before = [ops.convert_to_numpy(v) for v in quantizer.variables]
    assert before

    drawn = []
    for _ in range(2):
        values = qf.plot_quantizer(quantizer).axes[0]
        (dots,) = (line for line in values.lines if line.get_marker() == ".")
        drawn.append(dots.get_ydata())
    np.testing.assert_array_equal(*drawn)
    assert set(drawn[0]) == {-1, 1}
    assert (np.diff(drawn[0]) < 0).any(), "these are the values, not draws"
    for was, now in zip(before, quantizer.variables, strict=True):
        np.testing.assert_array_equal(was, now)


def test_one_that_is_in_no_layer_stays_so():
    quantizer = qf.quantizers.get("lsq(per_channel=True)")
    qf.plot_quantizer(quantizer)
    assert not quantizer.built


def test_every_quantizer_has_a_picture():
    for component in registry.components("quantizer"):
        if "quantizer" in named_parameters(registry.load(component)):
            continue  # it has the values of another one
        name = component.qualified_name
        figure = qf.plot_quantizer("noop(precision=1)" if name == "binary:noop" else name)
        for x, y in lines(figure):
            assert np.isfinite(x).all(), name
            assert np.isfinite(y).all(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "found None"),
        (("ste_sign", 1, 1), "low=1 and high=1"),
        (("ste_sign", 0, float("inf")), "high=inf"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        qf.plot_quantizer(*arguments)


def test_a_state_that_fits_no_line():
    quantizer = qf.quantizers.get("lsq(per_channel=True)")
    quantizer.build((4,))
    with pytest.raises(ArgumentError, match=r"plot_quantizer\('kbit:lsq\(per_channel"):
        qf.plot_quantizer(quantizer)


def network():
    settings = {"kernel_constraint": "weight_clip", "use_bias": False}
    model = keras.Sequential(
        [
            keras.Input((4,)),
            qf.layers.QuantDense(8, kernel_quantizer="ste_sign", name="first", **settings),
            qf.layers.QuantDense(
                2, kernel_quantizer="integer", input_quantizer="ste_sign", name="last"
            ),
        ]
    )
    first = np.full((4, 8), -0.5)
    first[0] = 0.25
    model.layers[0].set_weights([first])
    return model


def test_the_weights_of_a_model():
    figure = qf.plot_weights(network())
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["first/kernel", "last/kernel"]

    latent, quantized = figure.axes[0], figure.axes[2]
    bars = {
        (round(bar.get_x(), 3), round(bar.get_height(), 6)): bar for bar in latent.patches
    }
    assert {height for _, height in bars if height} == {0.75, 0.25}
    assert (-0.5, 0.75) in bars

    (levels,) = quantized.collections
    ends = [segment.tolist() for segment in levels.get_segments()]
    assert ends == [[[-1, 0], [-1, 0.75]], [[1, 0], [1, 0.25]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "latent values",
        "quantized values",
    ]


def test_many_values_are_gathered():
    layer = qf.layers.QuantDense(40, kernel_quantizer="noop(precision=32)", name="x")
    layer.build((None, 40))
    figure = qf.plot_weights(layer)
    (levels,) = figure.axes[1].collections
    heights = [segment[1, 1] for segment in levels.get_segments()]
    assert 100 < len(heights) <= 256
    assert abs(sum(heights) - 1) < 1e-6


def test_weights_that_cannot_be_drawn():
    model = network()
    model.layers[0].set_weights([np.full((4, 8), np.nan)])
    with pytest.raises(QFrameError, match="first/kernel holds NaN"):
        qf.plot_weights(model)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no weight of"):
        qf.plot_weights(plain)


def test_figures_are_written_and_belong_to_the_caller_alone(tmp_path):
    from matplotlib import pyplot

    figure = qf.plot_quantizer("ste_sign")
    figure.savefig(tmp_path / "sign.png")
    assert (tmp_path / "sign.png").read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []


def test_notebooks_show_figures_as_the_same_picture_each_time():
    """Without ``%matplotlib inline`` IPython has no picture of a figure of matplotlib."""
    pictures = [qf.plot_quantizer("ste_sign")._repr_svg_() for _ in range(2)]
    assert pictures[0].rstrip().endswith("</svg>")
    assert pictures[0] == pictures[1]
    assert "<dc:date>" not in pictures[0]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "qframe.reports.shown_figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(QFrameError, match=r"pip install 'keras-qframe\[plot\]'"):
        qf.plot_quantizer("ste_sign")
    with pytest.raises(QFrameError, match=r"pip install 'keras-qframe\[plot\]'"):
        qf.plot_weights(network())
