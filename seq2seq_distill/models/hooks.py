"""Layer outputs taken by forward hooks, keyed by layer index."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.models.fsmt import modeling_fsmt
from transformers.models.prophetnet.modeling_prophetnet import ProphetNetDecoderLayer


class LayerOutputs(Mapping[int, Tensor]):
    """The outputs [B, T, H] of chosen layers during one forward pass.

        with LayerOutputs(decoder_layers(model), {0, 5}) as outputs:
            hidden = decode(model, batch, state, decoder_input_ids)
        outputs[5]

    Keys are the positions in `layers`; unlike the `hidden_states` tuple they do not shift when LayerDrop
    skips a layer: that layer is absent. A layer output is what the layer returns, before any final norm of
    the stack. Entering clears what an earlier pass left; the outputs stay readable after leaving.

    Args:
        layers: the stack, from `encoder_layers` or `decoder_layers`.
        indices: the layers to record, 0 to len(layers) - 1.
        length: cut to this many positions (default: uncut). LED, Pegasus-X and BigBird-Pegasus pad the source
            to a multiple of their window inside the encoder: give the width of `attention_mask` there.

    Raises:
        IndexError: a layer that the stack does not have.
    """

    def __init__(self, layers: nn.ModuleList, indices: Iterable[int], length: int | None = None) -> None:
        self._layers = {index: layers[index] for index in sorted(indices)}
        self._length = length
        self._outputs: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "LayerOutputs":
        self._outputs.clear()
        for index, layer in self._layers.items():

            def record(module: nn.Module, args: Any, output: Any, index: int = index) -> None:
                hidden = _batch_first(module, output[0] if isinstance(output, tuple) else output)
                self._outputs[index] = hidden if self._length is None else hidden[:, : self._length]

            self._handles.append(layer.register_forward_hook(record))
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __getitem__(self, index: int) -> Tensor:
        return self._outputs[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


def _batch_first(layer: nn.Module, hidden: Tensor) -> Tensor:
    if isinstance(layer, modeling_fsmt.EncoderLayer | modeling_fsmt.DecoderLayer):
        return hidden.transpose(0, 1)
    if isinstance(layer, ProphetNetDecoderLayer):
        # the main stream and one stream per n-gram lie behind each other; the head reads the first n-gram
        # stream
        return hidden.chunk(1 + layer.self_attn.ngram, dim=1)[1]
    return hidden
