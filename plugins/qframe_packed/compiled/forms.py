"""Forms of the tensors of a schedule, and the epilogues that write them."""

from __future__ import annotations

import math

import numpy as np

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.coding import Border, Decode, Encode, Inset, unit_of
from qframe_packed.compiled.depthwise_codes import DepthwiseCodes
from qframe_packed.compiled.dots import Dot
from qframe_packed.compiled.epilogue import Store
from qframe_packed.compiled.fallback import Fallback
from qframe_packed.compiled.finishing import Residual
from qframe_packed.compiled.gemm import Gemm, Pointwise
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.layout import Bits, Image, Spread, Surround, Unpack
from qframe_packed.compiled.levels import Pack
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import Parameters
from qframe_packed.compiled.reading import Reading
from qframe_packed.compiled.tiles import BITS, FLOATS
from qframe_packed.compiled.vectors import LONGEST
from qframe_packed.graph import PackedGraph
from qframe_packed.packing import MOST_PLANES

Step = Parameters | Fallback
# Kernels that have an epilogue.
Ending = Gemm | Pointwise | DepthwiseCodes


class Forms:
    """The steps of a graph so far, and the forms of its tensors.

    A tensor is floats, bits, codes, or several of them, as the steps that read it need. A
    tensor that only later stages of its epilogue read has no buffer.
    """

    def __init__(self, graph: PackedGraph) -> None:
        self.graph = graph
        self.values = graph.values()
        self.steps: list[Step] = []
        # The node of each step, by its place.
        self.owners: list[int] = []
        self._reading = Reading.of(graph, self.values)
        self._floats: dict[int, Buffer] = {}
        self._bits: dict[int, Buffer] = {}
        # By the index and the image, of which None has no padding.
        self._codes: dict[tuple[int, Image | None, int], Buffer] = {}
        self._large: dict[int, Buffer] = {}
        # The step that writes a tensor as floats.
        self._written: dict[int, int] = {}
        # The kernel whose epilogue computes a tensor.
        self._kernels: dict[int, Ending] = {}
        self._place = 0

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.owners.append(self._place)

    # Forms of tensors

    def _float_buffer(self, index: int, step: int | None = None) -> Buffer:
        """A buffer for a tensor that a step, by default the next one, writes."""
        buffer = self._floats[index] = Buffer(4 * math.prod(self.values[index].shape))
        self._written[index] = len(self.steps) if step is None else step
        return buffer

    def _can_be_bits(self, index: int) -> bool:
        value = self.values[index]
        return (
            value.span is not None and value.span.bits <= MOST_PLANES and bool(value.shape)
        )

    def floats(self, index: int) -> Buffer:
        """A tensor as floats, for the next steps."""
        if index in self._floats:
            return self._floats[index]
        if index in self._kernels:
            buffer = self._float_buffer(index, self._step_of(index))
            self._kernels[index].epilogue.by_tensor[index].append(Store(buffer))
            return buffer
        value, buffer = self.values[index], self._float_buffer(index)
        if index in self._large:
            large, real = [self._large[index]], Value(value.shape)
            self._add(Fallback(operations.Affine(), large, [value], buffer, real))
        elif index in self._bits:
            self._add(Unpack(self._bits[index], Bits.of(value), buffer))
        else:
            self._add(Decode.of(self._codes[index, None, 0], value, buffer))
        return buffer

    def bits(self, index: int) -> Buffer:
        """A tensor as bits, for the next steps."""
        if index not in self._bits:
            span = self.values[index].span
            assert span is not None  # noqa: S101
            between = span.low + span.step * (np.arange(1, span.count) - 0.5)
            quantize = operations.Quantize(
                thresholds=between.astype(np.float32), low=span.low, step=span.step
            )
            kernel = self._kernels.get(index) or self._load(index)
            self._pack(kernel, index, index, quantize)
        return self._bits[index]

    def codes(self, index: int, image: Image | None = None, pad: int = 0) -> Buffer:
        """A tensor as codes, for the next steps; in an image, with padding of a code."""
        value = self.values[index]
        if image is None or not image.is_padded:
            image, pad = None, 0
        key = index, image, pad
        if key in self._codes:
            return self._codes[key]
        layout = image or self._plain(index)
        kernel, plain = self._kernels.get(index), self._codes.get((index, None, 0))
        if kernel is None and plain is None:
            kernel = self._load(index)
        if image is not None and layout.items < LONGEST and isinstance(kernel, Pointwise):
            # Pixels of few channels are rounded side by side, without padding.
            kernel, plain = None, self.codes(index)
        out = self._codes[key] = Buffer(layout.nbytes)
        if image is not None:
            self._add(Border(image, out, pad))
        if kernel is None:
            self._add(Inset(plain, layout, out))
        else:
            assert value.span is not None  # noqa: S101
            stage = Encode.of(value.span, layout, out)
            kernel.epilogue.by_tensor[index].append(stage)
        return out

    def _plain(self, index: int) -> Image:
        """The image of the codes of a tensor, without padding."""
        *pixels, channels = self.values[index].shape
        rows, columns = pixels if len(pixels) == 2 else (1, math.prod(pixels))
        return Image.of_codes((rows, columns, channels), (0, 0, 0, 0))

    def _residual(
        self, index: int, affine: operations.Affine, step: int
    ) -> Residual | None:
        """An affine function of codes, for a sum; None unless a step before writes them."""
        kernel, span = self._kernels.get(index), self.values[index].span
        images = [(key[1], codes) for key, codes in self._codes.items() if key[0] == index]
        if kernel is None or not images or kernel.epilogue.step >= step:
            return None
        assert span is not None  # noqa: S101
        parts = {
            name: float(np.float32(part.item()))
            for name, part in (("scale", affine.scale), ("shift", affine.shift))
            if part is not None
        }
        # A later step may copy those without padding into an image.
        image, codes = min(images, key=lambda pair: pair[0] is not None)
        layout = image or self._plain(index)
        return Residual(codes, layout, True, unit_of(span), span.low, **parts)

    def _image(self, source: int, kind: Kind, image: Image, pad: float) -> Buffer:
        """A tensor in the layout of an image, for products of a kind."""
        if isinstance(kind, Dot):
            return self.codes(source, image, int(pad))
        if kind is FLOATS and not image.is_padded:
            return self.floats(source)
        out = Buffer(image.nbytes)
        if kind is BITS:
            bits = Bits.of(self.values[source])
            self._add(Spread.of(self.bits(source), bits, image, out, int(pad)))
        else:
            self._add(Surround(self.floats(source), image, out, pad))
        return out

    # Epilogues

    def _begin(self, kernel: Ending, index: int) -> None:
        kernel.epilogue.step = len(self.steps)
        self._add(kernel)
        kernel.epilogue.extend(index)
        self._kernels.setdefault(index, kernel)

    def _load(self, index: int) -> Pointwise:
        """A kernel whose epilogue begins with the numbers of a tensor."""
        source, shape = self.floats(index), self.values[index].shape
        pixels, channels = math.prod(shape[:-1]), shape[-1] if shape else 1
        kernel = Pointwise.of(source, pixels, channels)
        self._begin(kernel, index)
        return kernel

    def _extend(self, kernel: Ending, index: int, *stages: Parameters) -> None:
        """Let the numbers of an epilogue become those of another tensor."""
        kernel.epilogue.extend(index, *stages)
        self._kernels[index] = kernel

    def _ending_at(self, index: int) -> Ending:
        """A kernel whose epilogue can go on from a tensor."""
        kernel = self._kernels.get(index)
        if kernel is None or kernel.epilogue.last != index:
            return self._load(index)
        return kernel

    def _step_of(self, index: int) -> int:
        """The step that writes a tensor as floats, or would."""
        if index in self._written:
            return self._written[index]
        kernel = self._kernels.get(index)
        return len(self.steps) if kernel is None else kernel.epilogue.step

    def _pack(
        self,
        kernel: Ending,
        source: int,
        index: int,
        operation: operations.Quantize,
    ) -> None:
        bits = Bits.of(self.values[index])
        out = self._bits[index] = Buffer(bits.nbytes)
        stage = Pack.of(operation, kernel.width, out, bits)
        kernel.epilogue.by_tensor[source].append(stage)
