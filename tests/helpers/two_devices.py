"""Code that runs with TensorFlow on two devices, which a process has from its start."""

import subprocess
import sys

_BEGIN = """
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, qframe as qf
two_devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


def run_on_two_devices(code):
    """Run code in a process of its own, which has `two_devices`, the strategy."""
    run = [sys.executable, "-c", _BEGIN + code]
    out = subprocess.run(run, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
