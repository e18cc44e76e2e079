"""Weights rounded by AIMET after training, for the table of `test_post_training.py`.

Run by ``QFRAME_EMOJI=FOLDER tox run -e bench-aimet``. AdaRound steps by 0.001 at a time, so
that it is the number of steps that decides how far it gets. By default there are the 15,000
for each layer that AIMET takes for weights of less than 8 bits, which is hours for all of
these; QFRAME_ROUNDS sets another number.
"""

import itertools
import os
from importlib import metadata
from pathlib import Path

import aimet_torch
import pytest
import torch
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.common.defs import QuantScheme
from aimet_torch.quantsim import QuantizationSimModel
from torch import nn

from benchmarks.emoji import SETTINGS, network, pictures, show_accuracies
from benchmarks.emoji_torch import accuracy, batches, copied, ends, tensor

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "15000"))
CONFIGS = Path(aimet_torch.__file__).parent / "common" / "quantsim_config"
CONFIG = {"channel": "default_config_per_channel.json", "tensor": "default_config.json"}
LARGEST, LEAST_NOISE = QuantScheme.min_max, QuantScheme.post_training_tf_enhanced
# How ranges are found, and the weight of the term that makes AdaRound decide.
WAYS = {
    "nearest, max": (LARGEST, None),
    "nearest, least noise": (LEAST_NOISE, None),
    "adaround, max": (LARGEST, 0.01),
    "adaround, least noise": (LEAST_NOISE, 0.01),
    "adaround, max, decided early": (LARGEST, 0.1),
}


def simulated(module, model, setting, scheme, images):
    """The module with quantizers of weights, and of what its layers with weights read."""
    result = QuantizationSimModel(
        module,
        dummy_input=tensor(images[:1]),
        quant_scheme=scheme,
        default_param_bw=setting.bits,
        config_file=str(CONFIGS / CONFIG[setting.granularity]),
    )
    children = [*result.model.children(), None]
    for layer, following in itertools.pairwise(children):
        # AIMET also quantizes what an activation, the pooling or nothing reads.
        if following is None or isinstance(following, (nn.ReLU, nn.Sequential)):
            layer.output_quantizers[0] = None
    for name in ends(model):
        getattr(result.model, name).param_quantizers["weight"].bitwidth = 8
    return result


def rounded(module, model, setting, way, images, folder):
    """The module with weights that AdaRound has moved, and the file of their ranges."""
    scheme, decisive = way
    shown = list(batches(images))
    parameters = AdaroundParameters(
        shown, len(shown), default_num_iterations=ROUNDS, default_reg_param=decisive
    )
    result = Adaround.apply_adaround(
        module,
        tensor(images[:1]),
        parameters,
        path=str(folder),
        filename_prefix="weights",
        default_param_bw=setting.bits,
        param_bw_override_list=[(getattr(module, name), 8) for name in ends(model)],
        default_quant_scheme=scheme,
        default_config_file=str(CONFIGS / CONFIG[setting.granularity]),
    )
    return result, folder / "weights.encodings"


@pytest.mark.parametrize("name", SETTINGS)
def test_aimet(name, tmp_path):
    setting = SETTINGS[name]

    def measure(number):
        model, shown = network(number), pictures(number)

        def show_images(module, _=None):
            with torch.no_grad():
                for batch in batches(shown.calibration):
                    module(batch)

        found = {}
        for way, (scheme, decisive) in WAYS.items():
            torch.manual_seed(0)
            module, ranges = copied(model), None
            if decisive is not None:
                module, ranges = rounded(
                    module, model, setting, WAYS[way], shown.calibration, tmp_path
                )
            simulation = simulated(module, model, setting, scheme, shown.calibration)
            if ranges is not None:
                simulation.set_and_freeze_param_encodings(str(ranges))
            simulation.compute_encodings(show_images)
            found[way] = accuracy(simulation.model, shown)
            print(name, number, way, found[way], flush=True)
        return found

    version = metadata.version("aimet-torch")
    show_accuracies(f"{name}, AIMET {version}, {ROUNDS} steps", WAYS, measure)
