"""Files: written and read again, damaged, and made by someone with bad intentions."""

import base64
import copy
import json
import os
import random
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import numpy as safetensors

from examples import settings
from packed_graphs import chain, computed, graphs, inputs_of, sign
from qframe.deployment.graph import operations as op
from qframe.errors import ArgumentError, DataError
from qframe_packed import files
from qframe_packed.graph import OPERATIONS, Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime

pytestmark = pytest.mark.pure

# How many files are damaged, and how many are written with bad intentions.
MUTATIONS = int(os.environ.get("QFRAME_MUTATIONS", "1000"))
RNG = np.random.default_rng(0)


def _every_operation():
    """A graph with each operation, every field of which is not its default."""
    f = np.float32
    signs = np.array([1, -1, 1, -1], np.int8)
    steps = [
        op.Pad(pads=(1, 0, 2, 1)),
        op.Conv2D(kernel=RNG.normal(size=(4, 2, 2, 2)).astype(np.float16), strides=(1, 2)),
        op.Affine(scale=np.array([1, -2, 0, 3], f), shift=np.asarray(0.5, f)),
        sign(thresholds=np.zeros((2, 4), f), direction=signs, low=-2, step=2),
        op.MaxPool(pool=(2, 1), strides=(1, 1), pads=(1, 0, 0, 0), direction=signs),
        op.Conv2D(
            kernel=PackedTensor.of(RNG.choice([-1, 0, 1], (4, 2, 2, 1))),
            dilation=(2, 1),
            pads=(1, 1, 1, 0),
            pad=-2,
            groups=4,
        ),
        sign(thresholds=np.array([-3, 0, 2], np.int16), low=0, step=1),
        op.Affine(scale=np.asarray(0.25, f)),
        op.AveragePool(strides=(2, 1), pads=(0, 1, 0, 0)),
        op.PReLU(alpha=np.full((1, 1, 4), 0.1, f)),
        op.Activation(function="relu", alpha=0.2, most=4.0, threshold=0.5),
        op.Round(low=-3, high=100, divisor=float(f(0.3)), factor=7.0),
        op.Affine(),
    ]
    built, shape = [], (4, 4, 2)
    for i, operation in enumerate(steps):
        built.append(Node(operation, (i,), f"layer{i}"))
    last = PackedGraph((shape,), tuple(built), (len(built),)).values()[-1].shape
    size = int(np.prod(last))
    i = len(built)
    built += [
        Node(op.Reshape(shape=(size,)), (i,), "flat"),
        Node(
            op.Dense(kernel=PackedTensor.of(RNG.integers(-3, 4, (3, size)))),
            (i + 1,),
            "dense",
        ),
        Node(op.GlobalPool(function="max"), (i,), "global"),
        Node(op.Dense(kernel=RNG.normal(size=(3, 4)).astype(f)), (i + 3,), "é"),
        Node(op.Merge(function="average"), (i + 2, i + 4), "merge"),
        Node(op.Concatenate(axis=1), (i + 2, i + 5), "join"),
        Node(op.Activation(function="softmax"), (i + 6,), "softmax"),
        Node(op.Slice(starts=(0, 1, 0), sizes=(3, 2, 1), steps=(1, 1, 1)), (0,), "crop"),
        Node(op.Transpose(axes=(2, 1, 3)), (i + 8,), "permute"),
        Node(op.Repeat(axis=3, count=2), (i + 9,), "repeat"),
        Node(op.Resize(size=(4, 3)), (i + 10,), "resize"),
        Node(op.Normalize(axes=(1, 3), epsilon=0.5, function="rms"), (i + 11,), "norm"),
        Node(op.Activation(function="clip", least=-1.0, most=0.0), (i + 12,), "clip"),
        Node(op.Affine(scale=np.asarray(-1, f)), (i + 13,), "indices"),
        Node(op.Lookup(kernel=PackedTensor.of(np.arange(6).reshape(2, 3))), (i + 14,), "é"),
        Node(
            op.Conv2DTranspose(
                kernel=PackedTensor.of(RNG.integers(-1, 2, (2, 3, 2, 2))),
                size=(8, 5),
                strides=(2, 1),
                crops=(1, 0),
            ),
            (0,),
            "up",
        ),
        Node(op.Transpose(axes=(1, 3, 2)), (i + 12,), "turned"),
        Node(op.Matmul(scale=0.5), (i + 12, i + 17), "products"),
        Node(op.Reshape(shape=(4, 6)), (i + 12,), "steps"),
        Node(
            op.Recurrence(
                function="gru_reset_after",
                kernel=PackedTensor.of(RNG.integers(-3, 4, (6, 2))),
                scale=RNG.uniform(0.1, 1, 6).astype(f),
                bias=RNG.normal(size=6).astype(f),
                activation=op.Activation(function="relu", most=6.0),
                gate=op.Activation(function="sigmoid"),
                reads="backwards",
                returns="reversed",
            ),
            (i + 19,),
            "loop",
        ),
    ]
    outputs = (i + 7, i + 2, i + 15, i + 16, i + 18, i + 20)
    return PackedGraph((shape,), tuple(built), outputs)


GRAPH = _every_operation()
CONTENT = files.encode(GRAPH)
X = RNG.normal(size=(2, 4, 4, 2)).astype(np.float32)


def _parts(content):
    """The graph as JSON, and the tensors."""
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])["__metadata__"]["graph"]
    return json.loads(zlib.decompress(base64.b64decode(text))), safetensors.load(content)


def signed(graph, tensors):
    """A file that only its meaning is wrong with."""
    return files.signed(json.dumps(graph), tensors)


def test_round_trip():
    assert {type(node.operation) for node in GRAPH.nodes} == {*OPERATIONS.values()}
    read = files.decode(CONTENT)
    assert files.encode(read)[-500:] == CONTENT[-500:]
    assert [node.name for node in read.nodes] == [node.name for node in GRAPH.nodes]
    for output, target in zip(computed(read, X), computed(GRAPH, X), strict=True):
        np.testing.assert_array_equal(output, target)


@pytest.mark.parametrize("rank", range(1, 8))
def test_slopes_of_any_rank(rank):
    alpha = np.full((1,) * (rank - 1) + (4,), 0.1, np.float32)
    (node,) = files.decode(files.encode(chain(alpha.shape, op.PReLU(alpha=alpha)))).nodes
    np.testing.assert_array_equal(node.operation.alpha, alpha)


@given(graphs())
@settings(max_examples=40)
def test_any_graph_is_read_as_it_was_written(graph):
    read = files.decode(files.encode(graph))
    for x in inputs_of(graph):
        np.testing.assert_array_equal(computed(read, x)[0], computed(graph, x)[0])


def test_shared_weights_are_stored_once():
    kernel = PackedTensor.of(RNG.choice([-1, 1], (16, 16)))
    steps = sign(), op.Dense(kernel=kernel)
    one, two = chain((16,), *steps), chain((16,), *steps, *steps)
    assert len(files.encode(two)) - len(files.encode(one)) < 400
    assert len(_parts(files.encode(two))[1]) == len(_parts(files.encode(one))[1])


def test_a_file_is_read_and_checked(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(CONTENT)
    assert len(files.read(path).nodes) == len(GRAPH.nodes)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(
        DataError, match=r"m\.safetensors is not a packed model, or is damaged"
    ):
        files.read(path)
    with pytest.raises(DataError, match="does not exist"):
        files.read(tmp_path / "absent.safetensors")


def test_a_file_of_terabytes_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse: it takes no room
    with pytest.raises(DataError, match="are the most"):
        files.read(path)


def nodes_of(name):
    graph, _ = _parts(CONTENT)
    return [i for i, node in enumerate(graph["nodes"]) if node["operation"] == name]


CONV, DENSE, QUANTIZE = nodes_of("conv2d")[1], nodes_of("dense")[0], nodes_of("quantize")[0]
ROUND = nodes_of("round")[0]
DEEP = "[" * 100_000 + "]" * 100_000
BAD = {
    "a huge shape": (("nodes", CONV, "kernel", "shape"), [2**31, 2**31, 2**31, 2**31]),
    "a large shape": (("nodes", CONV, "kernel", "shape"), [2**20, 2**10, 1, 1]),
    "a negative shape": (("nodes", CONV, "kernel", "shape"), [-4, -2, 2, 1]),
    "a shape of zeros": (("nodes", CONV, "kernel", "shape"), [0, 2, 2, 1]),
    "an input of huge shape": (("inputs", 0), [2**15, 2**15, 2]),
    "an input without shape": (("inputs", 0), []),
    "an unknown operation": (("nodes", CONV, "operation"), "import_os"),
    "no operation": (("nodes", CONV, "operation"), ["conv2d"]),
    "a cycle": (("nodes", CONV, "inputs"), [CONV + 1]),
    "a negative index": (("nodes", CONV, "inputs"), [-1]),
    "a tensor from later": (("nodes", CONV, "inputs"), [CONV + 2]),
    "no inputs": (("nodes", CONV, "inputs"), []),
    "too many inputs": (("nodes", CONV, "inputs"), [0, 0]),
    "huge padding": (("nodes", CONV, "pads"), [2**16, 0, 0, 0]),
    "padding beyond a window": (("nodes", CONV, "pads"), [3, 0, 0, 0]),
    "a stride of 0": (("nodes", CONV, "strides"), [0, 1]),
    "a stride that is true": (("nodes", CONV, "strides"), [True, True]),
    "a number for a list": (("nodes", CONV, "strides"), 2),
    "more groups than channels": (("nodes", CONV, "groups"), 8),
    "padding between integers": (("nodes", CONV, "pad"), 0.5),
    "an infinite number": (("nodes", CONV, "pad"), 1e999),
    "weights beyond the bits": (("nodes", DENSE, "kernel", "high"), 2**40),
    "weights of too many bits": (("nodes", DENSE, "kernel", "high"), 2**20),
    "weights upside down": (("nodes", DENSE, "kernel", "low"), 100),
    "weights that are floats": (("nodes", DENSE, "kernel", "tensor"), "0"),
    "a tensor that is not there": (("nodes", DENSE, "kernel", "tensor"), "absent"),
    "an unknown argument": (("nodes", DENSE, "code"), "x"),
    "levels beyond 32 bits": (("nodes", QUANTIZE, "step"), 2**31 - 2),
    "no levels": (("nodes", ROUND, "high"), -3),
    "too many levels": (("nodes", ROUND, "high"), 2**16),
    "levels that are floats": (("nodes", ROUND, "low"), -3.5),
    "a division by 0": (("nodes", ROUND, "divisor"), 0),
    "a negative factor": (("nodes", ROUND, "factor"), -7),
    "a divisor beyond float32": (("nodes", ROUND, "divisor"), 0.3),
    "a factor beyond float32": (("nodes", ROUND, "factor"), 1e300),
    "steps that are too large": (("nodes", ROUND, "divisor"), 2.0**120),
    "a function that is none": (("nodes", -1, "function"), 7),
    "a cell of other gates": (("nodes", -1, "function"), "lstm"),
    "an activation that is none": (("nodes", -1, "gate"), "tanh"),
    "an activation of an unknown field": (("nodes", -1, "gate", "x"), 1),
    "an activation without a function": (("nodes", -1, "gate"), {"most": 6}),
    "a recurrent kernel that is a vector": (("nodes", -1, "kernel", "shape"), [12]),
    "an order that is none": (("nodes", -1, "reads"), 1),
    "an output that is not there": (("outputs",), [99]),
    "no outputs": (("outputs",), []),
    "text for nodes": (("nodes",), "nodes"),
    "too many nodes": (("nodes",), [{}] * 2**15),
    "a name that is none": (("nodes", 0, "name"), None),
    "a very long name": (("nodes", 0, "name"), "n" * 5000),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_graphs(case):
    path, value = BAD[case]
    graph, tensors = _parts(CONTENT)
    place = graph
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    content = signed(graph, tensors)
    size = len(content) + len(json.dumps(graph))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="Write it again"):
            files.decode(content)
        assert tracemalloc.get_traced_memory()[1] < 40 * size + 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1, 2]", "has inputs, outputs and nodes"),
        ('{"inputs": [], "inputs": []}', "a key twice"),
        ('{"inputs": NaN}', "holds NaN"),
        (DEEP, "too deep"),
        ("9" * 10_000, "not JSON|has inputs"),
    ],
)
def test_bad_json(text, why):
    with pytest.raises(DataError, match=why):
        files.decode(files.signed(text, {"0": np.zeros(1, np.float32)}))


@pytest.mark.parametrize(
    ("index", "change", "why"),
    [
        (0, lambda a: a.astype(np.float64), "has the dtype F64"),
        (0, lambda a: a.reshape(-1), "wrong rank"),
        (0, lambda a: a * np.float16(np.nan), "not finite"),
        (0, lambda a: a[:0], "is empty"),
        (0, lambda a: a.astype(np.int16), "wrong rank or dtype"),
    ],
)
def test_bad_tensors(index, change, why):
    graph, tensors = _parts(CONTENT)
    tensors[str(index)] = change(tensors[str(index)])
    with pytest.raises((DataError, KeyError), match=why) as caught:
        files.decode(_unchecked(graph, tensors))
    assert caught.type is DataError


def _unchecked(graph, tensors):
    """Signed, whatever the dtypes are."""
    try:
        return signed(graph, tensors)
    except KeyError:
        metadata = {"format": files.FORMAT, "version": "1", "graph": json.dumps(graph)}
        return safetensors.save(tensors, metadata)


def _with_header(change):
    length = int.from_bytes(CONTENT[:8], "little")
    header = json.loads(CONTENT[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + CONTENT[8 + length :]


def _overlap(header):
    header["0"]["data_offsets"][0] += 2


def _beyond(header):
    header["0"]["data_offsets"][1] += 2**40


def _large(header):
    header["0"]["shape"] = [2**40, 2**40]


def _with_text(text):
    """The file with another graph; text of ASCII that is to be compressed JSON."""
    return _with_header(lambda header: header["__metadata__"].update(graph=text.decode()))


def _with_version(version):
    return _with_header(lambda header: header["__metadata__"].update(version=version))


DEFLATED = base64.b64encode(zlib.compress(json.dumps(_parts(CONTENT)[0]).encode()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        CONTENT + b"\x00",
        CONTENT[:-1],
        CONTENT[:100],
        _with_header(_overlap),
        _with_header(_beyond),
        _with_header(_large),
        _with_header(lambda header: header.pop("__metadata__")),
        _with_header(lambda header: header["__metadata__"].update(format="else")),
        *map(_with_version, ("0", "", "02", "2.1", "-3", "9" * 10, "\u0663")),
        _with_header(lambda header: header["__metadata__"].pop("version")),
        _with_header(lambda header: header["__metadata__"].update(graph=3)),
        _with_header(lambda header: header["__metadata__"].pop("graph")),
        _with_header(lambda header: header["__metadata__"].pop("sha256")),
        *map(_with_text, (b"", b"{}", DEFLATED[:-8], DEFLATED + b"+", DEFLATED[4:])),
    ],
    ids=range(29),
)
def test_bad_containers(content):
    with pytest.raises(DataError, match="Write it again"):
        files.decode(content)


@pytest.mark.parametrize("version", ["3", "10"])
def test_a_newer_version_is_named_and_only_an_upgrade_is_advised(version):
    expected = (
        f"the file was written by a newer qframe: it has version '{version}' of the "
        "format, and this qframe reads '1' and '2'. Upgrade with pip install --upgrade "
        "keras-qframe."
    )
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        files.decode(_with_version(version))


def test_files_of_version_1_are_read():
    """Their graph is JSON that is not compressed."""
    graph, tensors = _parts(CONTENT)
    text = json.dumps(graph)
    metadata = {"format": files.FORMAT, "version": "1", "graph": text}
    metadata["sha256"] = files.digest(text, tensors)
    content = safetensors.save(tensors, metadata)
    written, _ = _parts(files.encode(files.decode(content)))
    assert written == graph
    assert len(CONTENT) < len(content) - 1500


def test_a_graph_that_inflates_a_thousandfold_is_refused_at_once():
    data = zlib.compress(b" " * 2**27, 9)
    content = _with_text(base64.b64encode(data))
    assert len(content) < 2**18
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="larger than that of any model"):
            files.decode(content)
        assert tracemalloc.get_traced_memory()[1] < 60 * len(content)
    finally:
        tracemalloc.stop()


def test_a_graph_of_many_megabytes_is_refused_however_large_the_file_is():
    content = files.signed(" " * 2**24, {"0": np.zeros(2**20, np.uint8)})
    with pytest.raises(DataError, match="larger than that of any model"):
        files.decode(content)


def _damaged(random):
    """The file with a few bytes changed, lost or added."""
    content = bytearray(CONTENT)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(content))
        kind = random.randrange(5)
        if kind == 0:
            content[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            content[at] = random.randrange(256)
        elif kind == 2:
            del content[at : at + random.randint(1, 64)]
        elif kind == 3:
            content[at:at] = random.randbytes(random.randint(1, 64))
        else:
            content[random.randrange(8)] = random.randrange(256)
    return bytes(content)


VALUES = (
    *(None, True, -1, 0, 1, 2, 3, 7, 255, 2**16, 2**31, 2**40, 2**70, 0.5, -0.0, 1e300),
    *("", "0", "3", "conv2d", "quantize", "merge", "relu", [], [0], [1, 1], [2, 2]),
    *([1, 1, 1, 1], [0, 0, 0, 0], [4, 4, 2], [2**13, 2**13], {}, {"tensor": "0"}, [[]]),
)


def _places(value, path=()):
    """The paths of everything within JSON."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        if isinstance(part, (dict, list)):
            yield from _places(part, (*path, key))
        else:
            yield (*path, key)


_GRAPH, _TENSORS = _parts(CONTENT)
_PLACES = list(_places(_GRAPH))


def _malicious(random):
    """The file with a few parts of the graph or of the tensors replaced, and signed."""
    graph, tensors = copy.deepcopy(_GRAPH), dict(_TENSORS)
    for _ in range(random.randint(1, 3)):
        *path, last = random.choice(_PLACES)
        place = graph
        try:
            for key in path:
                place = place[key]
            kind = random.randrange(6)
            if kind < 3:
                place[last] = copy.deepcopy(random.choice(VALUES))
            elif kind == 3:
                del place[last]
            elif kind == 4 and isinstance(place[last], int):
                place[last] += random.choice((-1, 1, 2))
            else:
                name = random.choice([*tensors])
                array = tensors[name]
                tensors[name] = random.choice(
                    [
                        array.reshape(-1),
                        array[:1],
                        np.ascontiguousarray(array[::-1]),
                        array.astype(random.choice([np.int8, np.int32, np.float32])),
                        np.full_like(array, random.choice([0, 1, 100])),
                    ]
                )
        except (KeyError, IndexError, TypeError):
            continue  # an earlier one took the place away
    return signed(graph, tensors)


def _read_or_refused(content):
    """The graph, which then can be computed; None for a file that is refused."""
    try:
        graph = files.decode(content)
    except DataError:
        return None
    values = graph.values()
    if sum(int(np.prod(value.shape)) for value in values) < 10**5:
        with np.errstate(all="ignore"):
            x = [np.zeros((1, *shape), np.float32) for shape in graph.inputs]
            try:
                runtime = Runtime(graph)
            except DataError:
                return (
                    None  # what it pads, or how often it multiplies, is beyond the limits
                )
            try:
                outputs = runtime.predict(x if len(x) > 1 else x[0])
            except ArgumentError:
                return graph  # what it looks up is beyond its rows
        actual = outputs if isinstance(outputs, list) else [outputs]
        assert [a.shape[1:] for a in actual] == [values[i].shape for i in graph.outputs]
    return graph


@pytest.mark.long
@given(st.integers(0, 2**62))
@settings(max_examples=MUTATIONS)
def test_damage_is_found(seed):
    content = _damaged(random.Random(seed))
    graph = _read_or_refused(content)
    # What is not refused is a change of nothing, such as of a byte into itself.
    if graph is not None:
        assert _parts(content)[0] == _GRAPH
        for name, array in _parts(content)[1].items():
            np.testing.assert_array_equal(array, _TENSORS[name])


@pytest.mark.long
@given(st.integers(0, 2**62))
@settings(max_examples=MUTATIONS)
def test_malice_ends_in_an_error_or_in_a_model(seed):
    _read_or_refused(_malicious(random.Random(seed)))


def test_malice_is_of_many_kinds():
    """Most, but not all, of these files are refused: or the test above could not fail."""
    actual = [_read_or_refused(_malicious(random.Random(seed))) for seed in range(300)]
    refused = sum(graph is None for graph in actual)
    assert 150 < refused < 290
