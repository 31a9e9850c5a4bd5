"""What a model costs: parameters, bytes, and the time it takes to decode."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seq2seq_distill.decoding.generation import (
    GenerationSettings,
    decoding,
    generate_batch,
    generated_length,
    generation_config,
    to_device,
)
from seq2seq_distill.utils.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Decoding:
    """How fast a model decodes, one batch after the other."""

    latency_ms: float
    """Median time of a batch, in milliseconds."""
    ms_per_token: float
    """Time of all batches by tokens generated in them, in milliseconds."""
    mean_length: float
    """Mean of `generated_length` over the rows."""
    n: int
    """Batches measured."""
    beams: int
    """Beams of the search."""
    p95_ms: float
    """Time that 95% of the batches stay below, in milliseconds."""
    seconds: tuple[float, ...] = ()
    """Time of each batch."""


@dataclass(frozen=True)
class Times:
    """What was measured of something that decodes."""

    seconds: list[float]
    """Time of each batch."""
    lengths: list[int]
    """Tokens generated, row by row."""


def count_parameters(model: nn.Module) -> int:
    """Number of weights; tied ones count once."""
    return sum(p.numel() for p in _unique(model.parameters()))


def model_bytes(model: nn.Module) -> int:
    """Bytes of what `state_dict` holds, parameters and persistent buffers; a shared storage counts once."""
    tensors = _unique(t for t in model.state_dict(keep_vars=True).values() if isinstance(t, Tensor))
    return sum(t.untyped_storage().nbytes() for t in tensors)


def measure_decoding(
    models: Mapping[str, PreTrainedModel],
    inputs: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    settings: GenerationSettings,
    *,
    warmup: int = 3,
    on_input: Callable[[int], None] | None = None,
) -> dict[str, Decoding]:
    """Time the models against each other on the same collated batches (of one row each, for a latency).

    Where models read the same rows in different ways, `inputs` has the batches of each by its name.

    They take turns on each batch, and on every other batch in reverse order, so that a machine that slows
    down meanwhile slows all of them. The first `warmup` batches are decoded once beforehand, unmeasured. Each
    model decodes with its own generation config plus `settings`, on its own device, which is waited for.
    `on_input(1)` follows each batch.

    Returns a `Decoding` for each name. Raises DataError when `inputs` is empty.
    """
    by_name = inputs if isinstance(inputs, Mapping) else dict.fromkeys(models, inputs)
    if not all(by_name.values()):
        raise DataError("there is nothing to decode: give at least one input to measure")
    configs = {name: generation_config(model, settings) for name, model in models.items()}
    batches = {name: [to_device(batch, model.device) for batch in by_name[name]] for name, model in models.items()}

    def decode(name: str, i: int) -> list[int]:
        outputs = generate_batch(models[name], batches[name][i], configs[name])
        synchronize(models[name].device)
        return [generated_length(ids, configs[name]) for ids in outputs]

    decoders = {name: partial(decode, name) for name in models}
    with decoding(*models.values()):
        times = time_in_turns(decoders, min(map(len, batches.values())), warmup=warmup, on_input=on_input)
    return {name: summarize_times(times[name], configs[name].num_beams or 1) for name in models}


def time_in_turns(
    decoders: Mapping[str, Callable[[int], list[int]]],
    inputs: int,
    *,
    warmup: int = 3,
    on_input: Callable[[int], None] | None = None,
) -> dict[str, Times]:
    """Time functions against each other that decode the input of a number and give the tokens of each row.

    They take turns on each of the `inputs` inputs, as `measure_decoding` says, and wait for their device themselves.
    """
    times = {name: Times([], []) for name in decoders}
    for decode in decoders.values():
        for i in range(min(warmup, inputs)):
            decode(i)
    for i in range(inputs):
        for name in list(decoders)[:: 1 if i % 2 == 0 else -1]:
            start = perf_counter()
            lengths = decoders[name](i)
            times[name].seconds.append(perf_counter() - start)
            times[name].lengths.extend(lengths)
        if on_input is not None:
            on_input(1)
    return times


def decoding_memory(model: PreTrainedModel, batch: Mapping[str, Any], settings: GenerationSettings) -> int:
    """Bytes of the weights and, at its peak, of what decoding this collated batch makes besides."""
    config, batch = generation_config(model, settings), to_device(batch, model.device)
    with decoding(model), PeakMemory(model.device) as peak:
        generate_batch(model, batch, config)
    return model_bytes(model) + peak.bytes


class PeakMemory:
    """Counts, inside a `with`, the bytes of tensors that are alive at once beyond those that were there before.

    On a GPU these are the allocator's; elsewhere every storage counts from the operation that makes it until it is
    freed, but what a kernel needs within itself does not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0
        """The peak so far; whole after the `with`."""
        self._storages = _Storages()

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._storages.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        else:
            self._storages.__exit__(*error)
            self.bytes = self._storages.peak


class _Storages(TorchDispatchMode):
    """The bytes of storages that operations make, while these live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, int] = {}
        self._total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        given = {_address(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and _address(tensor) not in given:
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._total += storage.nbytes()
            self.peak = max(self.peak, self._total)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._total -= self._alive.pop(key)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def speedup(baseline: Decoding, system: Decoding) -> float:
    """How many times as fast `system` generates a token as `baseline`."""
    return baseline.ms_per_token / system.ms_per_token


def synchronize(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def summarize_times(times: Times, beams: int) -> Decoding:
    """Of what was measured with so many beams."""
    seconds, lengths = times.seconds, times.lengths
    return Decoding(
        latency_ms=1000 * median(seconds),
        ms_per_token=1000 * sum(seconds) / max(1, sum(lengths)),
        mean_length=sum(lengths) / max(1, len(lengths)),
        n=len(seconds),
        beams=beams,
        seconds=tuple(seconds),
        p95_ms=1000 * (quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]),
    )


def _unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """One tensor for each storage; those without memory (on the meta device, or empty) by identity."""
    by_storage = {(t.device, t.untyped_storage().data_ptr() or id(t)): t for t in tensors}
    return list(by_storage.values())
