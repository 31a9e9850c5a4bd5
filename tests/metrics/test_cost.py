"""What a model costs."""

from dataclasses import astuple
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.commands.evaluate.speed import paired_speedup
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.metrics import cost
from seq2seq_distill.metrics.cost import (
    PeakMemory,
    Times,
    count_parameters,
    decoding_memory,
    measure_decoding,
    model_bytes,
    speedup,
)
from seq2seq_distill.utils.errors import DataError


def tiny(decoder_layers: int = 2, **extra: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40}
    layers = {"encoder_layers": 2, "decoder_layers": decoder_layers}
    config = AutoConfig.for_model("bart", vocab_size=64, **heads, **widths, **layers, **extra)
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def batches(n: int) -> list[dict[str, torch.Tensor]]:
    ids = [torch.randint(4, 64, (1, 6), generator=torch.Generator().manual_seed(i)) for i in range(n)]
    return [{"input_ids": x, "attention_mask": torch.ones_like(x)} for x in ids]


class TestSize:
    def test_closed_form(self) -> None:
        model = nn.Linear(3, 4)
        assert count_parameters(model) == 16
        assert model_bytes(model) == 64
        assert model_bytes(model.half()) == 32

    def test_tied_weights_count_once(self) -> None:
        embedding, head = nn.Embedding(64, 16), nn.Linear(16, 64, bias=False)
        model = nn.Sequential(embedding, head)
        assert count_parameters(model) == 2 * 64 * 16
        head.weight = embedding.weight
        assert count_parameters(model) == 64 * 16
        head.weight = nn.Parameter(embedding.weight.data)  # two parameters on one storage
        assert count_parameters(model) == 64 * 16
        assert model_bytes(model) == 4 * 64 * 16

    def test_tied_head_of_a_real_architecture(self) -> None:
        model = tiny()
        assert count_parameters(model) == sum(p.numel() for p in model.parameters())
        assert model_bytes(model) == 4 * (count_parameters(model) + model.get_buffer("final_logits_bias").numel())

    def test_buffers_count_as_bytes_only_if_they_are_saved(self) -> None:
        model = nn.Linear(3, 4, bias=False)
        model.register_buffer("kept", torch.zeros(5))
        model.register_buffer("made_anew", torch.zeros(7), persistent=False)
        assert (count_parameters(model), model_bytes(model)) == (12, 4 * (12 + 5))

    def test_weights_that_are_not_there_yet_still_count(self) -> None:
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4))
        assert count_parameters(model) == 32


class TestMeasureDecoding:
    def test_what_is_reported(self) -> None:
        teacher, student = tiny(4), tiny(1)
        teacher.generation_config.num_beams = 3
        models = {"teacher": teacher, "student": student}
        got = measure_decoding(models, batches(4), GenerationSettings(max_length=5), warmup=1)
        assert list(got) == ["teacher", "student"]
        assert (got["teacher"].beams, got["student"].beams) == (3, 1)
        for result in got.values():
            assert result.n == 4 and result.latency_ms > 0 and 1 <= result.mean_length <= 5
            assert result.ms_per_token <= 5 * result.latency_ms

    def test_models_may_have_inputs_of_their_own(self, monkeypatch: Any) -> None:
        seen: list[tuple[int, int]] = []

        def generate(model: PreTrainedModel, batch: dict[str, torch.Tensor], config: Any) -> list[list[int]]:
            seen.append((id(model), batch["input_ids"].shape[1]))
            return [[2]]

        monkeypatch.setattr(cost, "generate_batch", generate)
        models, whole = {"teacher": tiny(4), "student": tiny(1)}, batches(2)
        short = [{name: field[:, :3] for name, field in batch.items()} for batch in whole]
        measure_decoding(models, {"teacher": whole, "student": short}, GenerationSettings(max_length=5))
        assert set(seen) == {(id(models["teacher"]), 6), (id(models["student"]), 3)}

    def test_times_are_added_up_per_token_and_models_take_turns(self, monkeypatch: Any) -> None:
        clock, order = [0.0], []
        a, b = tiny(), tiny()

        def fake(model: Any, batch: Any, config: Any) -> list[list[int]]:
            name = "a" if model is a else "b"
            order.append(name)
            clock[0] += {"a": 0.06, "b": 0.01}[name] * (9 if len(order) == 6 else 1)  # one of a's is slow
            return [[7] * {"a": 3, "b": 2}[name]]

        monkeypatch.setattr(cost, "generate_batch", fake)
        monkeypatch.setattr(cost, "perf_counter", lambda: clock[0])
        heard: list[int] = []
        got = measure_decoding({"a": a, "b": b}, batches(3), GenerationSettings(), warmup=1, on_input=heard.append)
        assert order == ["a", "b"] + ["a", "b", "b", "a", "a", "b"]
        *figures, seconds = astuple(got["b"])
        assert figures == pytest.approx([10, 5, 2, 3, 1, 10])
        assert seconds == pytest.approx((0.01, 0.01, 0.01))
        assert got["a"].latency_ms == pytest.approx(60)
        assert speedup(got["a"], got["b"]) == pytest.approx(got["a"].ms_per_token / 5)
        assert heard == [1, 1, 1]

    def test_a_speedup_is_paired_and_a_standstill_does_not_count(self) -> None:
        slow = Times([0.2, 0.4, 9.0, 0.4, 0.8], [1, 2, 2, 2, 2])
        fast = Times([0.1, 0.1, 0.1, 0.1, 9.0], [1, 1, 1, 1, 1])
        assert paired_speedup(slow, fast) == pytest.approx(2)
        assert paired_speedup(fast, slow) == pytest.approx(0.5)
        assert paired_speedup(slow, slow) == 1

    def test_modes_come_back(self) -> None:
        model = tiny().train()
        measure_decoding({"m": model}, batches(1), GenerationSettings(max_length=2))
        assert model.training

    def test_nothing_to_measure_is_refused(self) -> None:
        with pytest.raises(DataError, match="at least one input"):
            measure_decoding({"m": tiny()}, [], GenerationSettings())


class TestPeakMemory:
    CPU = torch.device("cpu")

    def test_what_is_alive_at_once_counts(self) -> None:
        there = torch.zeros(100)
        with PeakMemory(self.CPU) as peak:
            first = torch.zeros(1000)
            second = first + 1  # 8,000 bytes at once
            del first
            third = second.view(10, 100)[0] * 2  # a view has no bytes of its own
            there.add_(third)
        assert peak.bytes == 8000

    def test_backward_passes_count(self) -> None:
        weight = torch.ones(50, requires_grad=True)
        with PeakMemory(self.CPU) as peak:
            weight.exp().sum().backward()  # forward it is one tensor of 200 bytes, backward there is its gradient too
        assert peak.bytes >= 400

    def test_decoding_needs_weights_and_a_growing_cache(self) -> None:
        model = tiny()
        needs = [
            decoding_memory(model, batches(1)[0], GenerationSettings(beams=beams, max_length=20)) for beams in (1, 4)
        ]
        assert model_bytes(model) < needs[0] < needs[1]
