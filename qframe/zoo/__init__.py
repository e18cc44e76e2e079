"""Low-bit reference networks, with the names and arguments of larq-zoo."""

from __future__ import annotations

from qframe.zoo import literature, sota
from qframe.zoo.literature import (
    BinaryAlexNet,
    BinaryDenseNet28,
    BinaryDenseNet37,
    BinaryDenseNet37Dilated,
    BinaryDenseNet45,
    BinaryResNetE18,
    BiRealNet,
    DoReFaNet,
    RealToBinaryNet,
    XNORNet,
)
from qframe.zoo.sota import QuickNet, QuickNetLarge, QuickNetSmall

__all__ = [
    "BiRealNet",
    "BinaryAlexNet",
    "BinaryDenseNet28",
    "BinaryDenseNet37",
    "BinaryDenseNet37Dilated",
    "BinaryDenseNet45",
    "BinaryResNetE18",
    "DoReFaNet",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "RealToBinaryNet",
    "XNORNet",
    "literature",
    "sota",
]
