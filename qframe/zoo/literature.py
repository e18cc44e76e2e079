"""Networks from papers on low-bit quantization."""

from __future__ import annotations

from qframe.zoo.binary_alexnet import BinaryAlexNet
from qframe.zoo.birealnet import BiRealNet
from qframe.zoo.densenet import (
    BinaryDenseNet28,
    BinaryDenseNet37,
    BinaryDenseNet37Dilated,
    BinaryDenseNet45,
)
from qframe.zoo.dorefanet import DoReFaNet
from qframe.zoo.real_to_binary import RealToBinaryNet
from qframe.zoo.resnet_e import BinaryResNetE18
from qframe.zoo.xnornet import XNORNet

__all__ = [
    "BiRealNet",
    "BinaryAlexNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "BinaryResNetE18",
    "DoReFaNet",
    "RealToBinaryNet",
    "XNORNet",
]
