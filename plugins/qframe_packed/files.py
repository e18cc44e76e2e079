"""Packed models as safetensors files.

The metadata holds ``format``, ``version``, the graph as compressed JSON under ``graph``,
and under ``sha256`` the digest of the graph and of every tensor. A file is checked as a
whole before it is used: its length, the checks of safetensors (the tensors fill the file
without gaps), the size of the JSON, the digest, the JSON, every field, and every tensor of
the graph.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.errors import DataError, PluginError
from qframe.paths import AnyPath, existing_file
from qframe_packed.graph import PackedGraph

SUFFIX = ".safetensors"
FORMAT, VERSION = "qframe-packed", "2"
# Version 1 has the JSON as it is, and has no operation "round".
_PLAIN = "1"
_READ = (_PLAIN, VERSION)
MOST_BYTES = 2**31
_DTYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
# The most bytes of JSON, for each byte of a file, in any small one, and at all: real graphs
# have fewer, and a file of a few bytes can be made that inflates to gigabytes. In memory
# JSON takes up to 40 times as much.
_INFLATION, _LEAST_TEXT, _MOST_TEXT = 16, 2**20, 2**23
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

Tensors = Mapping[str, NDArray[Any]]


def encode(graph: PackedGraph) -> bytes:
    """The content of a file."""
    tensors: dict[str, NDArray[Any]] = {}
    seen: dict[tuple[Any, ...], str] = {}

    def store(array: NDArray[Any]) -> str:
        # Equal weights are stored once. A scalar keeps its rank.
        array = np.asarray(array, order="C")
        key = (array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest())
        name = seen.setdefault(key, str(len(seen)))
        tensors[name] = array
        return name

    text = json.dumps(graph.to_json(store), separators=(",", ":"), allow_nan=False)
    return signed(text, tensors)


def signed(text: str, tensors: Tensors) -> bytes:
    """The content of a file with a graph, as JSON, and its tensors."""
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "graph": base64.b64encode(zlib.compress(text.encode(), 9)).decode(),
        "sha256": digest(text, tensors),
    }
    content: bytes = _safetensors().numpy.save(dict(tensors), metadata)
    return content


def tensor_bytes(content: bytes) -> int:
    """The size of the tensors in a file, without the description of the graph."""
    return len(content) - 8 - int.from_bytes(content[:8], "little")


class _NewerError(DataError):
    """The version of a file is above those that are read: it is not damaged."""


def decode(content: bytes, name: str = "the file") -> PackedGraph:
    """The graph that a file holds; raises `DataError` for any other content."""
    try:
        return _decode(content)
    except _NewerError as error:
        raise DataError(
            f"{name} was written by a newer qframe: {error}. Upgrade with pip install "
            "--upgrade keras-qframe."
        ) from error
    except RecursionError:
        raise DataError(f"{name} is not a packed model: its JSON is too deep.") from None
    except DataError as error:
        raise DataError(
            f"{name} is not a packed model, or is damaged: {error}. Write it again with "
            "qframe.export(model, path, target='packed')."
        ) from error


def read(path: AnyPath) -> PackedGraph:
    """The graph of a file; raises `DataError`."""
    file = existing_file(path, SUFFIX)
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path} has {size} bytes; {MOST_BYTES} are the most.")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return decode(content, str(path))


def digest(graph: str, tensors: Tensors) -> str:
    """The digest of the graph and of each named tensor."""
    sha256 = hashlib.sha256(graph.encode())
    for name, array in sorted(tensors.items()):
        dtype = _NAMES[array.dtype]
        sha256.update(f"\n{name}:{dtype}:{list(array.shape)}:".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()


def _decode(content: bytes) -> PackedGraph:
    safetensors = _safetensors()
    try:
        parts = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise DataError(f"safetensors cannot read it ({error})") from error
    # safetensors has checked the length of the header, and that it is JSON.
    length = int.from_bytes(content[:8], "little")
    metadata = _json(content[8 : 8 + length].decode()).get("__metadata__") or {}
    if metadata.get("format") != FORMAT:
        raise DataError("its metadata does not name the format " + repr(FORMAT))
    _check_version(metadata.get("version"))
    tensors = {name: _array(name, part) for name, part in parts}
    text = metadata.get("graph", "")
    if metadata["version"] != _PLAIN:
        text = _inflated(text, min(_LEAST_TEXT + _INFLATION * len(content), _MOST_TEXT))
    if metadata.get("sha256") != digest(text, tensors):
        raise DataError("its digest is that of another content")
    graph = PackedGraph.from_json(_json(text), tensors)
    graph.values()
    return graph


def _check_version(version: Any) -> None:
    if version in _READ:
        return
    # Metadata is text. A number that Python takes long to read is not a version.
    number = re.fullmatch("[1-9][0-9]{0,8}", str(version))
    kind = _NewerError if number and int(number[0]) > int(VERSION) else DataError
    raise kind(
        f"it has version {version!r} of the format, and this qframe reads "
        f"{' and '.join(map(repr, _READ))}"
    )


def _inflated(text: str, most: int) -> str:
    """The text that `signed` compresses, of at most so many bytes."""
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(base64.b64decode(text, validate=True), most)
        if not inflate.eof or inflate.unused_data:
            raise DataError("its graph is cut off, or larger than that of any model")
        return data.decode()
    except (zlib.error, ValueError) as error:
        raise DataError(f"its graph cannot be inflated ({error})") from error


def _array(name: str, part: dict[str, Any]) -> NDArray[Any]:
    dtype: Any = _DTYPES.get(part["dtype"])
    if dtype is None:
        raise DataError(f"the tensor {name[:40]!r} has the dtype {part['dtype']}")
    array: NDArray[Any] = np.frombuffer(part["data"], dtype)
    return array.reshape(part["shape"])


def _json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise DataError(f"its JSON holds {constant}")

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=_unique_keys)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"its metadata is not JSON ({error})") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) < len(pairs):
        raise DataError("its JSON holds a key twice")
    return items


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise PluginError(
            "packed models are safetensors files, and safetensors is not installed. "
            "Write: pip install 'keras-qframe[packed]'"
        ) from error
    return safetensors
