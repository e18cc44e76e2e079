"""Models of KerasHub, each of which overrides `get_config`."""

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub import models

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import QFrameError
from qframe.layers.quantized import Quantized

RULES = {"weight_quantizer": "ste_sign", "input_quantizer": "hwgq(bits=2)"}
RNG = np.random.default_rng(0)
TOKENS = np.arange(12).reshape(2, 6)
NO_PADDING = np.ones((2, 6), "int32")
PICTURES = RNG.normal(size=(2, 16, 16, 3)).astype("float32")
TEXT = {
    "vocabulary_size": 20,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}

VISION = {"image_shape": (16, 16, 3), "patch_size": 8, "num_heads": 2}


def gpt2():
    return models.GPT2Backbone(num_layers=2, max_sequence_length=12, **TEXT)


def gpt2_inputs():
    return {"token_ids": TOKENS, "padding_mask": NO_PADDING}


def bert():
    inputs = {**gpt2_inputs(), "segment_ids": np.zeros_like(TOKENS)}
    return models.BertBackbone(num_layers=2, max_sequence_length=12, **TEXT), inputs


def vit():
    return models.ViTBackbone(num_layers=2, hidden_dim=8, mlp_dim=16, **VISION), PICTURES


def resnet():
    model = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )
    return model, PICTURES


def whisper():
    model = models.WhisperBackbone(
        num_layers=1,
        num_mels=8,
        max_encoder_sequence_length=10,
        max_decoder_sequence_length=10,
        **TEXT,
    )
    inputs = {
        "encoder_features": RNG.normal(size=(2, 10, 8)).astype("float32"),
        "decoder_token_ids": TOKENS,
        "decoder_padding_mask": NO_PADDING,
    }
    return model, inputs


def sam():
    pictures = models.ViTDetBackbone(
        num_layers=1,
        hidden_size=32,
        intermediate_dim=16,
        num_output_channels=32,
        window_size=2,
        global_attention_layer_indices=[0],
        **VISION,
    )
    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=32,
        image_embedding_size=(2, 2),
        input_image_size=(16, 16),
        mask_in_channels=4,
    )
    masks = keras_hub.layers.SAMMaskDecoder(
        hidden_size=32,
        num_layers=1,
        intermediate_dim=8,
        num_heads=2,
        embedding_dim=32,
        num_multimask_outputs=3,
        iou_head_depth=1,
        iou_head_hidden_dim=4,
    )
    model = models.SAMBackbone(
        image_encoder=pictures, prompt_encoder=prompts, mask_decoder=masks
    )
    inputs = {
        "images": PICTURES[:1],
        "points": np.ones((1, 1, 2), "float32"),
        "labels": np.ones((1, 1), "float32"),
        "boxes": np.ones((1, 1, 2, 2), "float32"),
        "masks": np.zeros((1, 0, 16, 16, 1), "float32"),
    }
    return model, inputs


MODELS = {
    "GPT-2": lambda: (gpt2(), gpt2_inputs()),
    "BERT": bert,
    "ViT": vit,
    "ResNet": resnet,
    "Whisper": whisper,
    "SAM": sam,
}


def outputs(model, inputs):
    result = keras.tree.flatten(model(inputs))
    return np.concatenate([np.ravel(keras.ops.convert_to_numpy(each)) for each in result])


def quantized_layers(model):
    return [
        (layer.path, sorted(layer.quantizers))
        for layer in model._flatten_layers()
        if isinstance(layer, Quantized)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_quantize_save_load_and_strip(name, tmp_path):
    model, inputs = MODELS[name]()
    in_float = outputs(model, inputs)
    report = qf.quantize(model, RULES)
    quantized = outputs(model, inputs)
    actual = quantized_layers(model)
    assert len(report.quantized) == len(actual) > 0
    assert abs(quantized - in_float).max() > 1e-3
    model.save(tmp_path / "model.keras")
    loaded = qf.load_model(tmp_path / "model.keras")
    assert [slots for _, slots in quantized_layers(loaded)] == [
        slots for _, slots in actual
    ]
    np.testing.assert_array_equal(outputs(loaded, inputs), quantized)
    qf.strip(model)
    assert not quantized_layers(model)
    np.testing.assert_array_equal(outputs(model, inputs), in_float)


def decoder(name, **settings):
    text = {
        "vocabulary_size": 20,
        "num_layers": 2,
        "num_query_heads": 2,
        "num_key_value_heads": 1,
        "hidden_dim": 16,
        "intermediate_dim": 32,
        **settings,
    }
    backbone = getattr(models, f"{name}Backbone")(**text)
    return getattr(models, f"{name}CausalLM")(backbone=backbone, preprocessor=None)


# Each with the number of its weights, and whether its embedding is tied.
DECODERS = {
    "GPT-2": (lambda: models.GPT2CausalLM(backbone=gpt2(), preprocessor=None), 12, True),
    "Llama": (lambda: decoder("Llama"), 15, False),
    "Gemma": (lambda: decoder("Gemma", head_dim=8), 14, True),
}
GROUPS = "integer(bits=4, granularity='group', group_size=8, narrow_range=True)"


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_of_four_bits_is_rounded_and_generates(name, tmp_path):
    make, count, is_tied = DECODERS[name]
    keras.utils.set_random_seed(0)
    model = make()
    for weight in model.weights:
        # So that attention matters, and tokens differ.
        weight.assign(weight + RNG.normal(0, 0.2, weight.shape))
    tokens = RNG.integers(0, 20, (32, 6))
    data = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    in_float = outputs(model, data)
    qf.quantize(model, {"weight_quantizer": GROUPS})
    nearest = np.square(outputs(model, data) - in_float).mean()
    report = qf.round_weights(model, data, verbose=0)
    assert len(report.rounded) == count
    (row,) = report.skipped
    assert ("tied" in row.reason) is is_tied
    assert np.square(outputs(model, data) - in_float).mean() < 0.6 * nearest
    model.compile(sampler="greedy", **WITHOUT_XLA)
    np.testing.assert_array_equal(generated(model), tokens_of_whole_calls(model))
    model.save(tmp_path / "model.keras")
    loaded = qf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(loaded, data), outputs(model, data))
    qf.strip(model)
    np.testing.assert_array_equal(outputs(model, data), in_float)


def tokens_of_whole_calls(model):
    """What a model generates from the same tokens as `generated`, without a cache."""
    tokens = np.zeros((4, 6), "int32")
    tokens[:, 0] = np.arange(4)
    for i in range(1, 6):
        padding = np.tile(np.arange(6) < i, (4, 1)).astype("int32")
        logits = model({"token_ids": tokens, "padding_mask": padding})
        tokens[:, i] = keras.ops.convert_to_numpy(logits)[:, i - 1].argmax(-1)
    return tokens


def opt():
    return models.OPTBackbone(num_layers=2, max_sequence_length=12, **TEXT)


def bloom():
    return models.BloomBackbone(num_layers=2, **TEXT)


# Each with the layers of products whose inputs no scale reaches, and the reason.
EQUALIZED = {
    "GPT-2": (
        lambda: models.GPT2CausalLM(backbone=gpt2(), preprocessor=None),
        {"feedforward_output_dense": "the activation gelu", "token_embedding": "tied"},
    ),
    "OPT": (
        lambda: models.OPTCausalLM(backbone=opt(), preprocessor=None),
        {"token_embedding": "tied"},
    ),
    "BLOOM": (
        lambda: models.BloomCausalLM(backbone=bloom(), preprocessor=None),
        {"mlp_output_dense": "(Gelu)", "token_embedding": "tied"},
    ),
    "Llama": (lambda: decoder("Llama", num_query_heads=4, num_key_value_heads=2), {}),
    "Mistral": (lambda: decoder("Mistral", num_query_heads=4), {}),
    "Gemma": (lambda: decoder("Gemma", head_dim=8), {"token_embedding": "tied"}),
}


def draw_large_channels(model, seed, size):
    """Draw the weights of a model, with two large channels of each normalization."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for weight in layer._trainable_variables:
            weight.assign(rng.normal(0, size, weight.shape))
        if "norm" in layer.name and layer.weights:
            scale = rng.normal(1, 0.1, layer.weights[0].shape)
            scale[[3, 5]] = 8, -6
            layer.weights[0].assign(scale)


def text(size):
    tokens = np.random.default_rng(1).integers(0, 20, (size, 6))
    return {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}


AWQ = {"method": "awq", "bits": 4, "group_size": 8, "verbose": 0}


@pytest.mark.parametrize("name", EQUALIZED)
def test_equalized_decoder_computes_and_generates_the_same(name):
    make, left = EQUALIZED[name]
    keras.utils.set_random_seed(0)
    model = make()
    draw_large_channels(model, 0, 0.3)
    model.compile(sampler="greedy", **WITHOUT_XLA)
    in_float, tokens = outputs(model, text(8)), generated(model)
    report = qf.equalize(model, text(8), **AWQ)
    equal = outputs(model, text(8))
    np.testing.assert_allclose(equal, in_float, rtol=0, atol=1e-4 * abs(in_float).max())
    np.testing.assert_array_equal(generated(model), tokens)
    rows = [row for row in report.skipped if "no scale makes" not in row.reason]
    reasons = {row.path.split("/")[-1]: row.reason for row in rows}
    assert reasons.keys() == left.keys()
    for layer, reason in left.items():
        assert reason in reasons[layer]
    assert any("cache" in note for note in report.notes)


@pytest.mark.parametrize("name", EQUALIZED)
def test_equalized_decoder_loses_less_in_four_bits(name):
    model = EQUALIZED[name][0]()
    in_blocks = [(keras.layers.Embedding, None), (None, {"weight_quantizer": GROUPS})]

    def loss():
        qf.quantize(model, in_blocks)
        error = np.square(outputs(model, text(32)) - in_float).mean()
        qf.strip(model)
        return error

    ratios = []
    for seed in range(3):
        draw_large_channels(model, seed, 0.1)
        in_float = outputs(model, text(32))
        nearest = loss()
        qf.equalize(model, text(32), **AWQ)
        scaled = model.get_weights()
        ratios.append(loss() / nearest)
        for one, other in zip(scaled, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.exp(np.mean(np.log(ratios))) < 0.9, ratios


def test_equalized_and_rounded_decoder_generates_by_its_four_bits():
    model = EQUALIZED["Llama"][0]()
    draw_large_channels(model, 0, 0.3)
    model.compile(sampler="greedy", **WITHOUT_XLA)
    in_float = generated(model)
    qf.equalize(model, text(32), **AWQ)
    qf.quantize(model, {"weight_quantizer": GROUPS})
    qf.round_weights(model, text(32), verbose=0)
    tokens = generated(model)
    np.testing.assert_array_equal(tokens, tokens_of_whole_calls(model))
    assert np.any(tokens != in_float)
    qf.strip(model)
    np.testing.assert_array_equal(generated(model), in_float)


def language_model():
    keras.utils.set_random_seed(0)
    model = models.GPT2CausalLM(backbone=gpt2(), preprocessor=None)
    model.compile(sampler="greedy", **WITHOUT_XLA)
    return model


def generated(model):
    """The tokens after one token, generated by the model with a cache."""
    prompt = {
        "token_ids": np.tile(np.arange(4)[:, None], (1, 6)),
        "padding_mask": np.tile(np.arange(6) < 1, (4, 1)).astype("int32"),
    }
    result = model.generate(prompt, stop_token_ids=None)
    return keras.ops.convert_to_numpy(result["token_ids"])


def test_generate_is_of_the_model_as_it_is():
    model, twin = language_model(), language_model()
    twin.set_weights(model.get_weights())
    in_float = generated(model)
    qf.quantize(model.backbone, RULES)
    qf.quantize(twin.backbone, RULES)
    expected = generated(twin)
    assert np.any(expected != in_float)
    np.testing.assert_array_equal(generated(model), expected)
    with qf.float_weights(model, activations=True):
        np.testing.assert_array_equal(generated(model), in_float)
    np.testing.assert_array_equal(generated(model), expected)
    qf.strip(model)
    np.testing.assert_array_equal(generated(model), in_float)


def test_no_preset_can_hold_quantizers(tmp_path):
    preset = tmp_path / "preset"
    model = gpt2()
    in_float = outputs(model, gpt2_inputs())
    qf.quantize(model, RULES)
    quantized = outputs(model, gpt2_inputs())
    with pytest.raises(QFrameError, match=r"qf\.strip"):
        model.save_to_preset(preset)
    assert not preset.exists()
    task = models.GPT2CausalLM(backbone=model, preprocessor=None)
    with pytest.raises(QFrameError, match=r"qf\.strip"):
        task.save_to_preset(tmp_path / "task")
    # What the message says to do.
    qf.strip(model)
    model.save_to_preset(preset)
    loaded = models.Backbone.from_preset(str(preset))
    np.testing.assert_array_equal(outputs(loaded, gpt2_inputs()), in_float)
    qf.quantize(loaded, RULES)
    np.testing.assert_array_equal(outputs(loaded, gpt2_inputs()), quantized)
