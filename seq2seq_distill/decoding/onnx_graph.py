"""ONNX graphs, node by node: float32 or dynamic int8, each weight once in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET, IR_VERSION = 20, 10
"""Of the files: the oldest with all operators that are used."""
INT8_MAX = 63
"""Largest quantised weight: processors without VNNI add two products with 8-bit activations in 16 bits, which holds
2 * 255 * 64 and no more."""
FLOAT = 1
"""onnx.TensorProto.FLOAT"""


class Graph:
    """A graph that grows by calls: `graph("Add", a, b)` adds a node and returns the name of its output.

    Args:
        onnx: the package.
        quantize: whether matrices are int8, with a scale per output; activations are quantised as they come.
        parent: of the branch of an `If`, which shares the weights of its parent and sees its values.
    """

    def __init__(self, onnx: Any, *, quantize: bool = False, parent: Graph | None = None) -> None:
        self.onnx = onnx
        self.quantize: bool = quantize if parent is None else parent.quantize
        self.nodes: list[Any] = []
        self._root: Graph = self if parent is None else parent._root
        self._weights: dict[Any, Any] = {}
        self._count = 0
        self._quantized: dict[str, tuple[str, str, str]] = {}

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        return self.nodes_out(operator, inputs, 1, **attributes)[0]

    def nodes_out(self, operator: str, inputs: tuple[str, ...], outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; their names."""
        self._root._count += 1
        names = [f"{operator}_{self._root._count}_{index}" for index in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """A small constant, once for each value."""
        array = np.asarray(value, dtype)
        return self._weight((array.dtype.str, array.shape, array.tobytes()), array)

    def weight(self, tensor: Tensor, *, transposed: bool = False) -> str:
        """A weight in float32, once however often it is asked for; `transposed` lays its last two dimensions out
        the other way round."""
        key = (tensor.data_ptr(), tuple(tensor.shape), transposed)
        if key in self._root._weights:
            return self._root._weights[key].name
        array = tensor.detach().float().cpu().numpy()
        return self._weight(key, np.ascontiguousarray(array.T if transposed else array))

    def _weight(self, key: Any, array: NDArray[Any]) -> str:
        weights = self._root._weights
        if key not in weights:
            weights[key] = self.onnx.numpy_helper.from_array(array, f"weight_{len(weights)}")
        return weights[key].name

    def linear(self, x: str, layer: nn.Linear) -> str:
        """The layer applied to x [..., in]."""
        if self.quantize:
            weight, scales = self._int8(layer.weight, transposed=True)
            y = self._integer_product(x, weight, scales)
        else:
            y = self("MatMul", x, self.weight(layer.weight, transposed=True))
        return y if layer.bias is None else self("Add", y, self.weight(layer.bias))

    def embedding(self, ids: str, weight: Tensor) -> str:
        """Rows of an embedding [V, H]."""
        if not self.quantize:
            return self("Gather", self.weight(weight), ids)
        rows, scales = self._int8(weight)
        values = self("Cast", self("Gather", rows, ids), to=FLOAT)
        return self("Mul", values, self("Unsqueeze", self("Gather", scales, ids), self.constant([-1])))

    def head(self, x: str, weight: Tensor) -> str:
        """Products [..., V] of x [..., H] with the rows of an embedding [V, H], which are in the file as for
        `embedding`, once."""
        if self.quantize:
            rows, scales = self._int8(weight)
            return self._integer_product(x, self("Transpose", rows, perm=[1, 0]), scales)
        size, width = weight.shape
        flat = self("Gemm", self("Reshape", x, self.constant([-1, width])), self.weight(weight), transB=1)
        shape = self("Concat", self("Shape", x, start=0, end=2), self.constant([size]), axis=0)
        return self("Reshape", flat, shape)

    def _int8(self, weight: Tensor, *, transposed: bool = False) -> tuple[str, str]:
        """Rows of a matrix [out, in] as int8, and the scale of each."""
        key = (weight.data_ptr(), tuple(weight.shape), transposed, "int8")
        if key not in self._root._weights:
            rows = weight.detach().float().cpu()
            scales = (rows.abs().amax(1) / INT8_MAX).clamp(min=1e-12)
            values = (rows / scales[:, None]).round().to(torch.int8).numpy()
            self._weight(key, np.ascontiguousarray(values.T if transposed else values))
            self._weight((*key, "scales"), scales.numpy())
        return self._root._weights[key].name, self._root._weights[(*key, "scales")].name

    def _integer_product(self, x: str, matrix: str, scales: str) -> str:
        if x not in self._quantized:
            a, b, c = self.nodes_out("DynamicQuantizeLinear", (x,), 3)
            self._quantized[x] = a, b, c
        values, scale, zero = self._quantized[x]
        product = self("MatMulInteger", values, matrix, zero, self.constant(0, np.int8))
        return self("Mul", self("Cast", product, to=FLOAT), self("Mul", scale, scales))

    def branch(self) -> Graph:
        """A graph for a branch of an `If`."""
        return Graph(self.onnx, parent=self)

    def choose(self, condition: str, then: tuple[Graph, list[str]], otherwise: tuple[Graph, list[str]]) -> list[str]:
        """An `If`: of two branches, each with the names of its outputs, the one that the condition names."""
        helper = self.onnx.helper
        branches = [
            helper.make_graph(graph.nodes, name, [], [helper.make_tensor_value_info(out, FLOAT, None) for out in outs])
            for name, (graph, outs) in (("then", then), ("else", otherwise))
        ]
        outputs = len(then[1])
        return self.nodes_out("If", (condition,), outputs, then_branch=branches[0], else_branch=branches[1])

    def rename(self, value: str, name: str) -> None:
        """Give a value a name that the graph can show."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name]))

    def model(self, inputs: dict[str, tuple[int, list[str | int]]], outputs: dict[str, list[str | int]]) -> Any:
        """The whole model.

        Args:
            inputs: type and shape by name.
            outputs: shape by name; all are float32.
        """
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes,
            "seq2seq_distill",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
            list(self._weights.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="seq2seq_distill")
