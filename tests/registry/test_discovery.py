"""Discovery, resolution and everything that can be wrong with a plugin."""

import subprocess
import sys
import textwrap

import pytest

import qframe as qf
from qframe.errors import (
    AmbiguousNameError,
    ArgumentError,
    PluginError,
    UnknownNameError,
    UnknownPluginWarning,
)
from qframe.registry.components import Component, adapter, quantizer
from qframe.registry.discovery import Registry, registry
from qframe.registry.identifier import Identifier

pytestmark = pytest.mark.ends

MANIFEST = """
    from qframe.registry.components import quantizer
    from qframe.registry.hookspecs import hookimpl

    @hookimpl
    def qframe_components():
        yield quantizer("{name}", "{target}", summary="a stranger's", aliases=["{alias}"])
"""


def manifest(name="soft", target="stranger_quantizers:Soft", alias="Soft"):
    return MANIFEST.format(name=name, target=target, alias=alias)


def resolve(text):
    return Registry().resolve("quantizer", Identifier.parse(text)).qualified_name


def test_first_party_components_are_found_by_their_entry_point():
    names = {c.qualified_name for c in Registry().components("quantizer")}
    assert {"binary:ste_sign", "binary:noop"} <= names
    assert resolve("ste_sign") == resolve("SteSign") == "binary:ste_sign"
    assert resolve("binary:SteSign") == "binary:ste_sign"


def test_a_strangers_plugin_goes_through_the_same_door(install):
    install("acme", manifest(), "acme-quant")
    assert resolve("soft") == resolve("acme:Soft") == "acme:soft"
    plugin = Registry().discover()["acme"]
    assert (plugin.distribution, plugin.version) == ("acme-quant", "1.2")


def test_first_party_wins_a_bare_name(install):
    install("acme", manifest("ste_sign", alias="Other"), "acme-quant")
    assert resolve("ste_sign") == "binary:ste_sign"
    assert resolve("acme:ste_sign") == "acme:ste_sign"


def test_two_strangers_with_one_name_are_ambiguous(install):
    install("acme_a", manifest(), "acme-a")
    install("acme_b", manifest(), "acme-b")
    with pytest.raises(AmbiguousNameError, match="'acme_a:soft', 'acme_b:soft'"):
        resolve("soft")
    assert resolve("acme_b:soft") == "acme_b:soft"


def test_a_name_that_is_also_another_namespace_is_ambiguous():
    with pytest.raises(AmbiguousNameError, match=r"quantizer 'fixed:binary', and .*sign'"):
        resolve("binary")
    with pytest.raises(AttributeError, match="quantizer 'fixed:ternary', and"):
        getattr(qf.quantizers, "ternary")  # noqa: B009
    assert resolve("fixed:binary") == "fixed:binary"
    assert resolve("Binary") == "fixed:binary"
    # The namespace of the component itself.
    assert resolve("integer") == "integer:integer"


def test_unknown_names_say_what_was_meant_and_what_is_known():
    with pytest.raises(UnknownNameError) as error:
        resolve("ste_sing")
    assert "Did you mean 'ste_sign'" in str(error.value)
    assert "Known:" not in str(error.value)
    with pytest.raises(UnknownNameError, match=r"Known: .*binary:approx_sign.*kind quant"):
        resolve("xyzzy")
    with pytest.raises(UnknownNameError, match="'gptq' is the name of a rounder: `qframe"):
        resolve("gptq")
    with pytest.raises(UnknownNameError, match=r"No plugin 'binry' is installed.*binary"):
        resolve("binry:ste_sign")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import does_not_exist_anywhere", "No module named"),
        ("x = 1", "no function qframe_components"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            """
            import qframe
            @qframe.hookimpl
            def qframe_components():
                yield "ste_sign"
            """,
            "yielded 'ste_sign'",
        ),
        (
            """
            import qframe
            from qframe.registry.components import quantizer
            @qframe.hookimpl
            def qframe_components():
                yield quantizer("a", "m:A")
                yield quantizer("b", "m:B", aliases=["a"])
            """,
            "quantizer 'a' is offered twice",
        ),
        (
            """
            import qframe
            from qframe.registry.components import quantizer
            @qframe.hookimpl
            def qframe_components():
                yield quantizer("a", "m:A")
                yield quantizer("a", "m:B")
            """,
            "quantizer 'a' is offered twice",
        ),
        (
            """
            import qframe
            from qframe.registry.components import adapter
            @qframe.hookimpl
            def qframe_components():
                yield adapter("acme.layers:Scale")
            """,
            "no weight is named. Write for example adapter('acme.layers:Scale', kernel=",
        ),
    ],
)
def test_a_broken_plugin_is_recorded_and_quoted_but_stops_nobody(
    install, monkeypatch, text, reason
):
    install("acme", text, "acme-broken")
    assert resolve("ste_sign") == "binary:ste_sign"
    assert reason in Registry().discover()["acme"].error
    with pytest.raises(UnknownNameError, match=r"Plugin 'acme' \(acme-broken\) is broken"):
        resolve("soft")
    monkeypatch.setenv("QFRAME_STRICT_PLUGINS", "1")
    strict = Registry()
    for _ in range(2):  # the second question gets the same answer
        with pytest.raises(PluginError, match=r"'acme' .*QFRAME_STRICT_PLUGINS is set"):
            strict.discover()


def test_a_namespace_belongs_to_one_distribution(install):
    install("binary", manifest(), "acme-thief")
    assert resolve("ste_sign") == "binary:ste_sign"
    plugins = Registry().discover()
    assert "belongs to keras-qframe" in plugins["binary (acme-thief)"].error


def test_plugins_can_be_switched_off(install, monkeypatch):
    install("acme", manifest(), "acme-quant")
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "acme, ")
    with pytest.raises(UnknownNameError, match="disabled by QFRAME_DISABLE_PLUGINS"):
        resolve("acme:soft")
    monkeypatch.delenv("QFRAME_DISABLE_PLUGINS")
    monkeypatch.setenv("QFRAME_LOAD_PLUGINS", "acme")
    assert resolve("acme:soft") == "acme:soft"
    with pytest.raises(UnknownNameError):
        resolve("ste_sign")


@pytest.mark.parametrize("variable", ["DISABLE", "LOAD"])
def test_discover_with_a_name_of_no_plugin_in_a_variable_warns(monkeypatch, variable):
    monkeypatch.setenv(f"QFRAME_{variable}_PLUGINS", "binary,tenary")
    said = rf"QFRAME_{variable}_PLUGINS names 'tenary', .* Did you mean 'ternary'"
    with pytest.warns(UnknownPluginWarning, match=said) as warned:
        Registry().discover()
    assert len(warned) == 1
    monkeypatch.setenv("QFRAME_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=said):
        Registry().discover()


RAISERS = {
    "exit": ("raise SystemExit(3)", "SystemExit: 3"),
    "exit of no message": ("import sys\nsys.exit()", "SystemExit: "),
    "base": ("class Stop(BaseException): pass\nraise Stop('now')", "Stop: now"),
    "derived": ("class Stop(KeyboardInterrupt): pass\nraise Stop('now')", "Stop: now"),
    "generator exit": ("raise GeneratorExit('now')", "GeneratorExit: now"),
    "stop iteration": ("raise StopIteration('now')", "StopIteration: now"),
    "message": (
        "class Mute(Exception):\n    def __str__(self): raise SystemExit\nraise Mute",
        "Mute, whose message fails with SystemExit",
    ),
    "syntax": ("x = (", "SyntaxError: "),
    "repr": (
        "import qframe\n"
        "class Mute:\n    def __repr__(self): raise SystemExit\n"
        "@qframe.hookimpl\ndef qframe_components():\n    return [Mute()]",
        "",
    ),
    "aliases": (
        "import qframe\nfrom qframe.registry.components import quantizer\n"
        "@qframe.hookimpl\ndef qframe_components():\n"
        "    yield quantizer('a', 'm:A', aliases=[3])",
        "aliases of the quantizer 'm:A' must be plain names, found 3",
    ),
    "summary": (
        "import qframe\nfrom qframe.registry.components import quantizer\n"
        "@qframe.hookimpl\ndef qframe_components():\n"
        "    yield quantizer('a', 'm:A', summary=['a'])",
        "summary of the quantizer 'm:A' must be one line of text",
    ),
}


@pytest.mark.parametrize("name", RAISERS)
def test_discover_of_a_plugin_that_raises_anything_records_it_for_all_others(
    install, name, capfd
):
    source, reason = RAISERS[name]
    install("acme", f"print('hello')\n{source}", "acme-broken")
    assert resolve("ste_sign") == "binary:ste_sign"
    actual = Registry().discover()["acme"]
    assert reason in actual.error
    assert actual.error
    assert "acme_m.py, line " in actual.place or not actual.place
    assert capfd.readouterr().out == ""


def test_discover_that_the_user_interrupts_is_interrupted(install):
    # What Python makes of the signal, which a process in the background may ignore.
    install("acme", "import signal\nsignal.default_int_handler(signal.SIGINT, None)")
    with pytest.raises(KeyboardInterrupt):
        Registry().discover()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "print('hello')\nraise SystemExit(3)",
            r"SystemExit: 3 \(.*acme_code.py, line 2\)",
        ),
        ("x = (", r"SyntaxError: .*acme_code.py, line 1\)"),
        ("x = 1", r"has no attribute 'Soft' \(.*acme_m.py, line 7\)"),
        ("def __getattr__(name): raise SystemExit", r"SystemExit.*acme_code.py, line 1"),
    ],
    ids=range(4),
)
def test_load_of_a_module_that_raises_anything_is_an_error_with_its_place(
    install, source, message, capfd
):
    folder = install("acme", manifest(target="acme_code:Soft"), "acme-quant")
    (folder / "acme_code.py").write_text(source)
    component = Registry().resolve("quantizer", Identifier("soft"))
    with pytest.raises(PluginError, match=message):
        component.load()
    assert capfd.readouterr().out == ""


def test_component_with_one_text_as_aliases_has_one_alias():
    assert quantizer("a", "m:A", aliases="SteSign").aliases == ("SteSign",)
    assert Component("quantizer", "a", "m:A", aliases="Twice").names == ("a", "Twice")


def test_discover_of_a_distribution_without_metadata_says_that_it_is_unknown(install):
    folder = install("acme", manifest(), "acme-quant")
    (folder / "acme_quant-1.2.dist-info" / "METADATA").unlink()
    assert Registry().discover()["acme"].distribution == "unknown"
    assert resolve("soft") == "acme:soft"


def test_a_target_that_does_not_load_names_the_distribution(install):
    install("acme", manifest(target="acme_missing:Soft"), "acme-quant")
    component = Registry().resolve("quantizer", Identifier("soft"))
    with pytest.raises(PluginError, match=r"distribution acme-quant.*acme_missing"):
        component.load()


@pytest.mark.parametrize(
    ("name", "target"), [("two words", "m:A"), ("a", "m"), ("a", "m:"), ("", "m:A")]
)
def test_a_record_is_checked_where_it_is_written(name, target):
    with pytest.raises(PluginError, match="must be"):
        quantizer(name, target)


@pytest.mark.parametrize("target", [None, "m", "m:", "two words:A", "m:A()"])
def test_the_target_of_an_adapter_is_checked_where_it_is_written(target):
    with pytest.raises(PluginError, match=r"target of the adapter .*'module:attribute'"):
        adapter(target, kernel="w")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no weight is named"),
        ({"kernel": "a.w"}, r"kernel='a\.w' names no attribute"),
        ({"kernel": 3}, "kernel=3 names no attribute"),
        ({"output": "w"}, "output_quantizer is that of an activation"),
        ({"kernel": "w", "channel_axis": "last"}, "an integer, a tuple .* found 'last'"),
        ({"kernel": "w", "channel_axis": (0, True)}, r"found \(0, True\)"),
    ],
)
def test_the_weights_of_an_adapter_are_checked_where_they_are_written(weights, message):
    with pytest.raises(PluginError, match=message):
        adapter("acme.layers:Scale", **weights)


def test_an_adapter_is_a_record_with_the_name_of_its_class():
    record = adapter("acme.layers:Outer.Scale", kernel="w", channel_axis=(0, 1))
    assert (record.kind, record.name, record.package) == ("adapter", "Scale", "acme")
    assert (record.weights, record.channel_axis) == ((("kernel", "w"),), (0, 1))
    again = adapter("acme.layers:Outer.Scale", kernel="w", channel_axis=(0, 1))
    assert len({record, again}) == 1
    assert record != adapter("acme.layers:Outer.Scale", kernel="w")


def test_adapters_are_found_by_the_package_of_their_class(install, monkeypatch):
    install(
        "acme",
        """
        import qframe
        from qframe.registry.components import adapter
        @qframe.hookimpl
        def qframe_components():
            yield adapter("acme_layers.scale:Scale", kernel="w")
            yield adapter("acme_layers:Shift", bias="b")
            yield adapter("other_layers:Turn", kernel="w", summary="turns")
        """,
        "acme-quant",
    )
    actual = Registry().adapters()
    assert {package: [c.name for c in every] for package, every in actual.items()} == {
        "acme_layers": ["Scale", "Shift"],
        "other_layers": ["Turn"],
    }
    turn = actual["other_layers"][0]
    assert (turn.qualified_name, turn.distribution) == ("acme:Turn", "acme-quant")
    assert turn in Registry().components("adapter")
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "acme")
    assert not Registry().adapters()


def test_registering_in_a_notebook():
    @qf.register(name="twice")
    class Twice(qf.quantizers.Quantizer):
        def value(self, inputs):
            return inputs * 2

        def gradient(self, inputs):
            return 2 + 0 * inputs

    try:
        actual = qf.quantizers.get("twice")
        assert type(actual) is Twice
        assert repr(actual) == "local:twice"
        registry.reset()
        assert type(qf.quantizers.get("local:twice")) is Twice
    finally:
        registry.forget_local()


def test_a_local_name_of_another_process_says_to_register():
    with pytest.raises(UnknownNameError, match=r"qframe.register\(...\)"):
        resolve("local:soft")


@pytest.mark.parametrize("wrong", [int, 3, "ste_sign", lambda x: x])
def test_register_takes_our_classes_only(wrong):
    with pytest.raises(ArgumentError, match="takes a subclass of"):
        qf.register(wrong)


def test_an_unregistered_class_works_but_cannot_be_named():
    class Secret(qf.quantizers.Quantizer):
        def value(self, inputs):
            return inputs

    assert repr(Secret()) == "Secret()"
    with pytest.raises(qf.errors.QFrameError, match=r"qframe.register\(Secret\)"):
        Secret().get_config()


def test_importing_and_listing_imports_no_backend():
    code = """
        import sys
        import qframe
        from qframe.registry.discovery import registry
        assert registry.components()
        print([m for m in ("keras", "tensorflow", "jax", "torch") if m in sys.modules])
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "[]"


def test_components_compare_by_value():
    assert quantizer("a", "m:A") == Component("quantizer", "a", "m:A")


def test_saved_configs_name_the_distribution_to_install(install, monkeypatch):
    import keras

    target = "acme_quantizers:Soft"
    folder = install("acme", manifest(target=target), "acme-quant")
    (folder / "acme_quantizers.py").write_text(
        "import qframe\n"
        "class Soft(qframe.quantizers.Quantizer):\n"
        "    def value(self, inputs):\n"
        "        return inputs\n"
    )
    soft = qf.quantizers.get("soft")
    saved = [
        keras.saving.serialize_keras_object(model_part)
        for model_part in (
            soft,
            keras.layers.Activation(soft),
            qf.layers.QuantDense(2, kernel_quantizer=soft, name="d"),
        )
    ]
    for config in saved:
        keras.saving.deserialize_keras_object(config)
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "acme")
    registry.reset()
    for config in saved:
        # Keras turns what goes wrong inside of its own layers into a TypeError.
        with pytest.raises((ValueError, TypeError), match="pip install acme-quant"):
            keras.saving.deserialize_keras_object(config)
