"""Recipes: to TOML and back, files, names, and what is refused."""

import contextlib
import re
from pathlib import Path

import keras
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings
from identifier_parts import LITERALS, NAMES
from qframe import recipes
from qframe.errors import (
    ArgumentError,
    DataError,
    IdentifierError,
    OutputError,
    PluginError,
    QFrameError,
    UnknownNameError,
)
from qframe.recipes import KERAS_CONSTRAINTS, patterns
from qframe.recipes.rules import Position, Rule
from qframe.registry.configurable import snake_case
from qframe.registry.discovery import registry
from qframe.registry.identifier import Identifier

pytestmark = pytest.mark.ends

SETTINGS = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def is_regex(text):
    try:
        patterns.parse(text)
    except ArgumentError:
        return False
    return True


def names(kind):
    components = registry.components(kind)
    names = [n for c in components for n in (c.qualified_name, *c.names)]
    # One that is a namespace too is an error.
    return st.sampled_from([n for n in names if n not in ("binary", "ternary")])


def identifiers(kind):
    arguments = st.dictionaries(NAMES, LITERALS, max_size=2)
    return st.builds(
        lambda name, given: str(Identifier(name, arguments=given)), names(kind), arguments
    )


SELECTORS = st.one_of(
    st.none(),
    st.sampled_from([qf.first, qf.last]),
    st.sampled_from(["first", "last", "Conv2D", "Größe"]),
    NAMES,
    st.text(max_size=8).filter(is_regex).map("re:{}".format),
    st.from_regex(r"re:\^?(block\\d|\\w+/|it's \\.|\")*", fullmatch=True).filter(
        lambda selector: is_regex(selector[3:])
    ),
)
KERAS = st.sampled_from(sorted(KERAS_CONSTRAINTS))
RULE_WORDS = st.builds(
    lambda a, b: a | b,
    st.dictionaries(
        st.one_of(NAMES, st.text(max_size=4)).map("{}_quantizer".format),
        st.none() | identifiers("quantizer"),
        min_size=1,
        max_size=3,
    ),
    st.dictionaries(
        NAMES.map("{}_constraint".format),
        st.none() | KERAS | identifiers("constraint"),
        max_size=2,
    ),
)
RULES = st.lists(st.builds(Rule, SELECTORS, st.none() | RULE_WORDS), min_size=1, max_size=4)
RECIPES = st.builds(qf.Recipe, RULES, name=st.text(), summary=st.text())


@given(RECIPES)
def test_from_toml_is_the_inverse_of_to_toml(recipe):
    assert qf.Recipe.from_toml(recipe.to_toml()) == recipe


@settings(max_examples=20)
@given(RECIPES)
def test_load_is_the_inverse_of_save(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("recipes") / "r.toml"
    recipe.save(path)
    assert qf.Recipe.load(path) == recipe
    assert recipes.get(str(path)) == recipes.get(path) == recipe
    assert list(path.parent.iterdir()) == [path]


@st.composite
def damaged(draw):
    """The text of a recipe with some of it cut out and something put in."""
    text = draw(RECIPES).to_toml()
    begin, length = draw(st.integers(0, len(text))), draw(st.integers(0, 9))
    inserted = draw(st.text("[]{}='\"\\#.,\n\r\t0a\x00é-", max_size=4))
    return text[:begin] + inserted + text[begin + length :]


@given(damaged() | st.text())
@example("[[rule]]\nkernel_quantizer.a = 1")
@example("rule.a = 1\n[[rule]]")
@example("a = " + "[" * 5000)
@example("a" + ".a" * 3000 + " = 1")
def test_any_text_is_a_recipe_or_an_error(text):
    with contextlib.suppress(QFrameError):
        assert isinstance(qf.Recipe.from_toml(text), qf.Recipe)


def test_the_text_is_readable():
    recipe = qf.Recipe(
        [
            (qf.first, None),
            ("first", {"kernel_quantizer": qf.quantizers.SteSign(clip_value=1.25)}),
            (layers.Conv2D, {"kernel_quantizer": qf.quantizers.ApproxSign}),
            (r"re:^block\d/", {"weight_quantizer": "ste_sign", "bias_quantizer": None}),
            (None, {"kernel_constraint": qf.constraints.WeightClip(0.5)}),
        ],
        name="mine",
    )
    assert (
        recipe.to_toml()
        == r"""name = "mine"

[[rule]]
position = "first"
skip = true

[[rule]]
layers = "first"
kernel_quantizer = "binary:ste_sign(clip_value=1.25)"

[[rule]]
layers = "Conv2D"
kernel_quantizer = "binary:approx_sign"

[[rule]]
layers = 're:^block\d/'
weight_quantizer = "ste_sign"
bias_quantizer = false

[[rule]]
kernel_constraint = "binary:weight_clip(clip_value=0.5)"
"""
    )
    assert qf.Recipe.from_toml(recipe.to_toml()).to_toml() == recipe.to_toml()


def test_comments_and_order_are_the_writers():
    recipe = qf.Recipe.from_toml(
        "# mine\nsummary = '''two\nlines'''\r\n"
        "[[rule]] # all\n'kernel_quantizer' = 'ste_sign'\n"
    )
    assert recipe == qf.Recipe({"kernel_quantizer": "ste_sign"}, summary="two\nlines")


BAD_TEXTS = {
    "syntax": ("[[rule]]\nlayers = ", DataError, "not TOML: .* line 2"),
    "twice": ("name = ''\nname = ''", DataError, "not TOML: .*name"),
    "empty": ("", ArgumentError, r"each below a line \[\[rule\]\]; found None"),
    "no rules": ("rule = []", ArgumentError, r"each below a line \[\[rule\]\]"),
    "one bracket": ("[rule]\nskip = true", ArgumentError, r"below a line \[\[rule\]\]"),
    "no table": ("rule = [3]", ArgumentError, "rule 1: a rule is a table"),
    "key": ("sumary = ''", ArgumentError, "no 'sumary'.*Did you mean 'summary'"),
    "word above": ("kernel_quantizer = ''", ArgumentError, r"write \[\[rule\]\] before"),
    "name": ("name = 3\n[[rule]]\nskip = true", ArgumentError, "name of a recipe is"),
    "rule key": ("[[rule]]\nlayer = ''", ArgumentError, "rule 1.*Did you mean 'layers'"),
    "word": (
        "[[rule]]\nskip = true\n[[rule]]\nkernel_quantiser = 'ste_sign'",
        ArgumentError,
        "rule 2: a rule has no 'kernel_quantiser'.*Did you mean 'kernel_quantizer'",
    ),
    "layers": (
        "[[rule]]\nskip = true\nlayers = ['a']",
        ArgumentError,
        r"found \['a'\].*one rule",
    ),
    "regex": (
        "[[rule]]\nskip = true\n[[rule]]\nskip = true\nlayers = 're:('",
        ArgumentError,
        "rule 2: selector 're:\\(' is not a regex",
    ),
    "regex that looks ahead": (
        "[[rule]]\nskip = true\nlayers = 're:(?!a)'",
        ArgumentError,
        "looks ahead; write a rule for what to leave out before this one",
    ),
    "path": ("[[rule]]\nskip = true\nlayers = 'a/.*'", ArgumentError, "begins with re:"),
    "position": (
        "[[rule]]\nskip = true\nposition = 'second'",
        ArgumentError,
        "position is 'first' or 'last', found 'second'",
    ),
    "index": ("[[rule]]\nskip = true\nposition = []", ArgumentError, r"found \[\]"),
    "both": (
        "[[rule]]\nskip = true\nposition = 'last'\nlayers = 'Dense'",
        ArgumentError,
        "layers and position",
    ),
    "skip": ("[[rule]]\nskip = 1", ArgumentError, "skip = true .* found skip = 1"),
    "skip and word": (
        "[[rule]]\nskip = true\nkernel_quantizer = 'ste_sign'",
        ArgumentError,
        "takes no settings; found kernel_quantizer",
    ),
    "nothing": ("[[rule]]\nlayers = 'Dense'", ArgumentError, "rule 1: it has no settings"),
    "number": ("[[rule]]\nkernel_quantizer = 8", ArgumentError, "or false .* found 8"),
    "true": ("[[rule]]\nkernel_quantizer = true", ArgumentError, "found True"),
    "none": ("[[rule]]\nkernel_quantizer = 'None'", ArgumentError, "or false for none"),
    "dotted": ("[[rule]]\nkernel.bias_quantizer = ''", ArgumentError, "no 'kernel'"),
    "grammar": (
        "[[rule]]\nskip = true\n[[rule]]\nkernel_quantizer = 'ste_sign(1)'",
        IdentifierError,
        "rule 2: .* has no key; write key=value",
    ),
    "quantizer": (
        "[[rule]]\nkernel_quantizer = 'ste_sing'",
        UnknownNameError,
        "unknown quantizer 'ste_sing'. Did you mean 'ste_sign'",
    ),
    "constraint": (
        "[[rule]]\nkernel_constraint = 'weigth_clip'",
        UnknownNameError,
        "unknown constraint .* Did you mean 'weight_clip'",
    ),
    "kind": ("[[rule]]\nkernel_constraint = 'ste_sign'", UnknownNameError, "constraint"),
    "keras": ("[[rule]]\nkernel_quantizer = 'max_norm'", UnknownNameError, "quantizer"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_bad_texts(case, tmp_path):
    text, error, message = BAD_TEXTS[case]
    with pytest.raises(error, match=f"(?s){message}"):
        qf.Recipe.from_toml(text)
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(error, match=f"(?s)^{re.escape(str(path))}: .*{message}"):
        qf.Recipe.load(path)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="rules are a dict"):
        qf.Recipe("ste_sign")
    with pytest.raises(ArgumentError, match="summary of a recipe is a text, found None"):
        qf.Recipe(SETTINGS, summary=None)
    with pytest.raises(UnknownNameError, match=r"^rule 2: unknown quantizer 'x'"):
        qf.Recipe([("Dense", None), ("Conv2D", {"kernel_quantizer": "x"})])


class Unnamed(qf.quantizers.Quantizer):
    def value(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("selector", "settings", "message"),
    [
        (lambda layer: True, SETTINGS, "the selector <function .*select by a class name"),
        (Position("second", 1), SETTINGS, "the selector qframe.second"),
        (None, {"kernel_quantizer": lambda x: x}, "kernel_quantizer=<function"),
        (None, {"bias_constraint": keras.constraints.NonNeg()}, "bias_constraint=<"),
        (None, {"kernel_quantizer": Unnamed()}, r"qframe.register\(Unnamed\)"),
        (None, {"kernel_quantizer": {"a": 1}}, "kernel_quantizer={'a': 1}"),
    ],
)
def test_recipe_that_a_file_cannot_store_is_refused(tmp_path, selector, settings, message):
    recipe = qf.Recipe([(qf.last, None), (selector, settings)])
    path = tmp_path / "r.toml"
    path.write_text("before")
    with pytest.raises(QFrameError, match=f"^rule 2: .*{message}"):
        recipe.save(path)
    assert path.read_text() == "before"


def test_a_recipe_keeps_its_settings():
    settings = dict(SETTINGS)
    recipe = qf.Recipe(settings)
    settings.clear()
    assert recipe.rules == (Rule(None, SETTINGS),)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "r.toml").write_text("name = 'ä'\n[[rule]]\nskip = true", "utf-8-sig")
    assert qf.Recipe.load(tmp_path / "r.toml").name == "ä"


def test_constraints_of_keras_are_known_by_name():
    known = {name for name in dir(keras.constraints) if name[0].isupper()}
    assert known | {snake_case(name) for name in known} == KERAS_CONSTRAINTS


def test_examples_in_the_documents_are_recipes():
    document = (Path(__file__).parents[2] / "docs" / "quantize.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", document, re.DOTALL)
    assert [len(qf.Recipe.from_toml(block).rules) for block in blocks] == [3]


def test_bad_files(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(DataError, match=r"r\.toml: the file cannot be read: .*utf-8"):
        qf.Recipe.load(tmp_path / "r.toml")
    with pytest.raises(OutputError, match="absent does not exist; make it first"):
        qf.Recipe(SETTINGS).save(tmp_path / "absent" / "r.toml")
    with pytest.raises(OutputError, match=r"write for example 'r\.toml'"):
        qf.Recipe(SETTINGS).save(tmp_path / "r")
    with pytest.raises(DataError, match=r"does not exist; name a \.toml file"):
        recipes.get(str(tmp_path / "absent.toml"))
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(DataError, match=r"does not end in \.toml"):
        recipes.get(tmp_path / "r.txt")


# Named recipes.


def two_layers():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")]
    )


SIGN, CLIP = "binary:ste_sign(clip_value={})", "binary:weight_clip(clip_value={})"


@pytest.mark.parametrize("clip_value", [1.0, 1.25])
def test_binarized_network(clip_value):
    settings = {
        "kernel_quantizer": SIGN.format(clip_value),
        "kernel_constraint": CLIP.format(clip_value),
    }
    rows = qf.quantize(two_layers(), f"bnn(clip_value={clip_value})").quantized
    assert {row.path: dict(row.settings) for row in rows} == {
        "a": settings,
        "b": {"input_quantizer": SIGN.format(clip_value), **settings},
    }


def test_binary_weight_network():
    model = two_layers()
    report = qf.quantize(model, "binary:bwn")
    assert [row.path for row in report.quantized] == ["a"]
    kernel = qf.integers(model)["a/kernel"]
    latent = keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert (kernel.values == 1 - 2 * (latent < 0)).all()
    assert kernel.scale.shape == (1, 4)


def test_a_recipe_is_found_by_name_path_and_as_itself(tmp_path):
    recipe = recipes.get("bnn")
    recipe.save(tmp_path / "r.toml")
    reports = [
        qf.plan(two_layers(), given).to_dict()["rows"]
        for given in ("bnn", recipe, str(tmp_path / "r.toml"), tmp_path / "r.toml")
    ]
    assert all(rows == reports[0] for rows in reports)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bnm", UnknownNameError, "unknown recipe 'bnm'. Did you mean .*'bnn'"),
        ("bnn(clip=1)", ArgumentError, "bnn has no argument 'clip'.*accepts: clip_value"),
        ("bnn(clip_value=-1)", ArgumentError, "must be a positive number, found -1"),
        ("bnn(", IdentifierError, r"The path of a recipe ends in \.toml"),
        ("ste_sign", UnknownNameError, "not a recipe but a quantizer"),
        ("weight_clip", UnknownNameError, "a constraint; .*'kernel_constraint': 'weight"),
        ("gptq", UnknownNameError, "round weights; .*round_weights.model, data, 'gptq'"),
        ("litert", UnknownNameError, "a target of files; .*path, target='litert'"),
        ("sqnr", UnknownNameError, "a metric of sensitivity; .*metric='sqnr'"),
    ],
)
def test_wrong_names(name, error, message):
    with pytest.raises(error, match=message):
        recipes.get(name)


@pytest.mark.parametrize("name", ["bnn", "bwn"])
def test_a_single_layer_is_too_few(name):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, name="a")])
    with pytest.raises(ArgumentError, match=r"matches no layer.* layers are: a\."):
        qf.quantize(model, name)
    assert type(model.layers[0]) is layers.Dense


def test_every_kind_of_weight_is_quantized():
    x = inputs = keras.Input((8, 8, 2))
    for layer in (
        layers.Conv2D(3, 3, name="stem"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.SeparableConv2D(4, 3, name="separable"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="head"),
    ):
        x = layer(x)
    slots = {
        name: {
            row.path: {k.removesuffix("_quantizer") for k in row.settings if "_q" in k}
            for row in qf.plan(keras.Model(inputs, x), name).rows
        }
        for name in ("bnn", "bwn")
    }
    weights = {
        "stem": {"kernel"},
        "depthwise": {"depthwise"},
        "separable": {"depthwise", "pointwise"},
        "head": {"kernel"},
    }
    assert slots["bwn"] == weights | {"head": set()}
    assert slots["bnn"] == {
        path: actual | ({"input"} if path != "stem" else set())
        for path, actual in weights.items()
    }


MANIFEST = """
    import qframe as qf
    from qframe.registry.components import recipe

    @qf.hookimpl
    def qframe_components():
        yield recipe("signs", "acme_m:signs", summary="a stranger's")
        yield recipe("number", "acme_m:number")
        yield recipe("constant", "acme_m:number.__doc__")

    def signs(position="first"):
        return qf.Recipe([(getattr(qf, position), {"kernel_quantizer": "ste_sign"})])

    def number():
        return 3
"""


def test_the_recipe_of_a_stranger(install):
    install("acme", MANIFEST, "stranger")
    (row,) = qf.quantize(two_layers(), "acme:signs(position='last')").quantized
    assert row.path == "b"
    for name in ("number", "constant"):
        with pytest.raises(PluginError, match=r"\(distribution stranger\).* not a func"):
            recipes.get(name)
