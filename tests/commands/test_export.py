"""Exported models give what transformers gives, for each family that CTranslate2 can hold."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import load_decoder
from seq2seq_distill.cli.main import main
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.decoding.conversion import LOADERS, save_converted, saved_vocabularies, specification
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import TransformersDecoder
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.onnx_decoder import OnnxDecoder, onnx_files
from seq2seq_distill.decoding.onnx_model import save_onnx
from seq2seq_distill.decoding.parity import Parity, compare
from seq2seq_distill.decoding.shortlist.candidates import CandidateRanks, Shortlist
from seq2seq_distill.decoding.shortlist.model1 import learn_lexicon
from seq2seq_distill.decoding.shortlist.vmap import first_tokens, write_vmap
from seq2seq_distill.metrics.corpus import bleu
from seq2seq_distill.models import forward
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.shrink.trimming import ParallelTexts, trim_vocabulary
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_models import tiny_model
from tests.tiny_runs import save_marian_with_own_sources, save_teacher, write_data
from tests.tiny_tokenizers import SOURCES, TARGETS, plain_tokenizer

LANGUAGES = {"mbart": ("en_XX", "de_DE"), "m2m_100": ("eng_Latn", "deu_Latn")}
STEPS = 120


class Trained:
    """A model of one family that has learned a little from random words, and sources for it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind, self.folder = kind, folder
        size: dict[str, Any] = {"d_model": 32, "max_position_embeddings": 160}
        if kind in ("t5", "mt5"):
            size = {"d_model": 32}
        if kind == "mt5":  # as version 1.1: gated, and the output not scaled
            size |= {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_heads": 4}
        if kind == "bart":
            size |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
        save_teacher(folder, kind, **size)
        options = dict(zip(("src_lang", "tgt_lang"), LANGUAGES.get(kind, ()), strict=False))
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **options)
        self.model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
        self.words, self.targets = self._words(SOURCES, "text"), self._words(TARGETS, "text_target")
        self.chance = random.Random(0)
        torch.manual_seed(0)
        self._train()
        self.model.save_pretrained(folder)
        self.sources = [self.tokenizer(self._pair()[0])["input_ids"] for _ in range(64)]

    def _words(self, texts: list[str], side: str) -> list[str]:
        known = sorted(set(" ".join(texts).split()))
        unknown = self.tokenizer.unk_token_id
        return [word for word in known if unknown not in self.tokenizer(**{side: word})["input_ids"]] or known

    def _pair(self) -> tuple[str, str]:
        chosen = self.chance.choices(range(len(self.words)), k=self.chance.randint(1, 4))
        source = " ".join(self.words[i] for i in chosen)
        return source, " ".join(self.targets[i % len(self.targets)] for i in chosen)

    def batch(self, rows: int = 12) -> dict[str, torch.Tensor]:
        sources, targets = zip(*(self._pair() for _ in range(rows)), strict=True)
        batch = self.tokenizer(list(sources), text_target=list(targets), return_tensors="pt", padding=True)
        labels = batch["labels"].masked_fill(batch["labels"] == self.tokenizer.pad_token_id, -100)
        return {**batch, "labels": labels}

    def _train(self) -> None:
        model = self.model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(STEPS):
            batch = self.batch()
            labels = batch["labels"]
            inputs = forward.decoder_inputs(model, labels)
            logits = forward.head(model, forward.decode(model, batch, forward.encode(model, batch), inputs))
            optimizer.zero_grad()
            F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
            optimizer.step()
        model.eval()

    def settings(self, beams: int) -> Any:
        first = LANGUAGES.get(self.kind, (None, None))[1]
        forced = None if first is None else self.tokenizer.convert_tokens_to_ids(first)
        settings = GenerationSettings(beams=beams, max_length=60, forced_bos_token_id=forced)
        config = generation_config(self.model, settings)
        config.early_stopping = beams > 1  # these models are so unsure that the other rules part ways
        return config

    def parity(self, folder: Path, beams: int, model: PreTrainedModel | None = None, **settings: Any) -> Parity:
        """Of an exported folder, with this model or one cut from it."""
        config = self.settings(beams)
        config.update(**settings)
        loaded = LoadedModel(model or self.model, self.tokenizer, "", None, config)
        onnx = onnx_files(folder) is not None
        exported = (
            OnnxDecoder(folder, loaded, threads=1) if onnx else CTranslate2Decoder(folder, loaded, threads=(1, 1))
        )
        return compare(TransformersDecoder(loaded), exported, self.sources, config.max_length)


# What only ONNX can hold is like the others, but for its positions.
KINDS = [*LOADERS, pytest.param("blenderbot", marks=pytest.mark.all_families)]


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("export") / request.param, request.param)


def test_outputs_and_scores_are_those_of_transformers(trained, tmp_path):
    if trained.kind not in LOADERS:
        pytest.skip("CTranslate2 cannot hold it")
    spec = specification(trained.model, trained.tokenizer, "--format ctranslate2")
    spec.validate()
    spec.optimize(quantization="float32")
    spec.save(str(tmp_path))
    trained.tokenizer.save_pretrained(tmp_path)
    for beams in (1, 4):
        parity = trained.parity(tmp_path, beams)
        assert parity.passes and parity.score_gap < 1e-4, f"{beams} beams: {parity}"


def test_narrower_students_are_exported_like_any_model(trained, tmp_path):
    widths: dict[str, Any] = {
        "bart": {"d_model": 24},
        "marian": {"encoder_ffn_dim": 16, "decoder_ffn_dim": 24},
        "mt5": {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_heads": 2},
    }
    if trained.kind not in widths:
        pytest.skip("the others have the shapes of one of these")
    student = create_student(trained.model, 2, 2, **widths[trained.kind], batches=[trained.batch(64)])
    spec = specification(student, trained.tokenizer, "--format ctranslate2")
    spec.validate()
    spec.optimize(quantization="float32")
    spec.save(str(tmp_path))
    trained.tokenizer.save_pretrained(tmp_path)
    parity = trained.parity(tmp_path, 1, student)
    assert parity.passes and parity.score_gap < 1e-4, parity


def test_outputs_of_a_trimmed_model_are_those_of_transformers(trained, tmp_path):
    texts, forced = ParallelTexts(SOURCES[:4], TARGETS[:4]), trained.settings(4).forced_bos_token_id
    for separate in (False, True) if trained.kind == "marian" else (False,):
        trimmed = trim_vocabulary(trained.model, trained.tokenizer, texts, coverage=0.9, separate=separate)
        config = copy.deepcopy(trimmed.model.generation_config)
        config.update(num_beams=4, max_length=60, early_stopping=True)
        config.forced_bos_token_id = None if forced is None else trimmed.rows["target"].index(forced)
        loaded = LoadedModel(trimmed.model, trimmed.tokenizer, "", None, config)
        folder = tmp_path / str(separate)
        folder.mkdir()
        save_converted(folder, trimmed.model, trimmed.tokenizer, config, "float32", "--format ctranslate2")
        sources = trimmed.tokenizer([trained._pair()[0] for _ in range(32)])["input_ids"]
        exported = CTranslate2Decoder(folder, loaded, threads=(1, 1))
        parity = compare(TransformersDecoder(loaded), exported, sources, config.max_length)
        # CTranslate2 finds a better output for a few sources of mBART, where transformers stops earlier.
        assert parity.equal > 0.9 and parity.score_gap < 1e-4, f"separate {separate}: {parity}"


class TestSpecialTokensFirst:
    """Once it has decoded a batch, CTranslate2 with a shortlist looks tokens up in a map that is right for the first
    rows of the vocabulary alone."""

    @pytest.fixture
    def folders(self, trained, tmp_path):
        """The model, its special tokens first or not, with few candidates, which differ from source to source."""
        if trained.kind not in LOADERS:
            pytest.skip("CTranslate2 cannot hold it")
        first, config = first_tokens(trained.model, trained.tokenizer), trained.settings(1)
        examples = list(zip(*(trained._pair() for _ in range(40)), strict=True))
        encoders = (TextEncoder(trained.tokenizer, side) for side in ("text", "text_target"))
        sources, targets = (
            encoder.encode(side).rows.without(np.array(first)) for encoder, side in zip(encoders, examples, strict=True)
        )
        folders = {}
        for name, rows in (("first", first), ("as they were", [])):
            folders[name] = tmp_path / name
            folders[name].mkdir()
            save_converted(
                folders[name], trained.model, trained.tokenizer, config, "float32", "--format ctranslate2", rows
            )
            vocabularies = saved_vocabularies(folders[name])
            ranks = CandidateRanks(learn_lexicon(sources, targets), targets, vocabularies, np.array(first))
            write_vmap(folders[name], ranks, Shortlist(4, 2, 0.0, 0.0), vocabularies)
        return folders

    def outputs(self, trained, folder: Path, sources, **options):
        loaded = LoadedModel(None, trained.tokenizer, "", None, trained.settings(options.pop("beams", 1)))
        decoder = CTranslate2Decoder(folder, loaded, threads=(1, 1), **options)
        return [(best.ids, best.score) for best, *_ in decoder.decode(sources)]

    def test_no_output_changes(self, trained, folders):
        for beams in (1, 4):
            first, others = (
                self.outputs(trained, folders[name], trained.sources, beams=beams, shortlist=False) for name in folders
            )
            assert [ids for ids, _ in first] == [ids for ids, _ in others]
            assert [score for _, score in first] == pytest.approx([score for _, score in others], abs=1e-4)

    def test_one_translator_gives_what_a_new_one_for_each_source_gives(self, trained, folders):
        sources = [[source] for source in trained.sources[:24]]
        for beams in (1, 4):
            options = {"beams": beams, "batch_size": 1}
            together = self.outputs(trained, folders["first"], trained.sources[:24], **options)
            assert together == sum(
                (self.outputs(trained, folders["first"], source, **options) for source in sources), []
            )
            whole = self.outputs(trained, folders["first"], trained.sources[:24], shortlist=False, **options)
            assert together != whole, "the shortlist does nothing"

    def test_elsewhere_they_are_lost(self, trained, folders):
        """Once this passes for no family, rows can keep their order."""
        if trained.kind != "marian":
            pytest.skip("only Marian's start is the last row")
        with pytest.raises(IndexError):
            self.outputs(trained, folders["as they were"], trained.sources[:24], batch_size=1)


def test_the_stock_converter_still_needs_what_is_put_right(trained, tmp_path):
    """Once it does not, `specification` can be shorter."""
    if trained.kind in ("t5", "m2m_100", "blenderbot"):
        pytest.skip("T5 needs nothing, nor does M2M100 with the tokenizer of NLLB")
    try:
        TransformersConverter(str(trained.folder)).convert(str(tmp_path / "stock"), quantization="float32")
        trained.tokenizer.save_pretrained(tmp_path / "stock")
        parities = [trained.parity(tmp_path / "stock", beams) for beams in (1, 4)]
    except (AttributeError, RuntimeError, ValueError):
        return
    assert not all(parity.passes and parity.score_gap < 1e-4 for parity in parities)


SEARCHES: list[dict[str, Any]] = [
    {"early_stopping": False},
    {"early_stopping": "never", "length_penalty": 0.3},
    {"no_repeat_ngram_size": 2, "min_length": 6, "repetition_penalty": 1.3},
]


class TestOnnx:
    def test_outputs_and_scores_are_those_of_transformers(self, trained, tmp_path):
        save_onnx(tmp_path, trained.model, "float32", "--format onnx")
        for beams, settings in ((1, {}), (4, {}), *((3, settings) for settings in SEARCHES)):
            parity = trained.parity(tmp_path, beams, **settings)
            # Repetition changes the scores by which beams are compared, not those of the model.
            assert parity.equal == 1 and (parity.score_gap < 1e-4 or "repetition_penalty" in settings), settings

    @pytest.mark.parametrize("precision", ["float32", "int8"])
    def test_no_weight_is_in_a_file_twice(self, trained, tmp_path, precision):
        save_onnx(tmp_path, trained.model, precision, "--format onnx")
        files = onnx_files(tmp_path)
        stored = [[tensor.raw_data for tensor in onnx.load(file).graph.initializer] for file in files]
        for file, weights in zip(files, stored, strict=True):
            large = [weight for weight in weights if len(weight) > 2000]
            assert len(set(large)) == len(large)
            assert file.stat().st_size < 1.05 * sum(map(len, weights)) + 5e5
        if precision == "float32":
            parameters = {weight.data_ptr(): weight.numel() for weight in trained.model.parameters()}
            shared = trained.model.get_input_embeddings().weight.numel()  # stands in both files
            tables = 4000  # of T5's relative positions, masks and shapes
            assert sum(map(len, sum(stored, []))) < 4 * (sum(parameters.values()) + shared + tables)

    def test_int8_is_close(self, trained, tmp_path):
        save_onnx(tmp_path, trained.model, "int8", "--format onnx")
        loaded = LoadedModel(trained.model, trained.tokenizer, "", None, trained.settings(1))
        ours = TransformersDecoder(loaded).decode(trained.sources)
        theirs = OnnxDecoder(tmp_path, loaded, threads=1).decode(trained.sources)
        gaps = [abs(a.score - b.score) for (a,), (b,) in zip(ours, theirs, strict=True)]
        assert 0 < sum(gaps) / len(gaps) < 0.1


def test_what_cannot_be_held_is_refused():
    for kind, words in (("led", "cannot hold led models"), ("bart", "differ in attention heads")):
        model = tiny_model(kind, **({"decoder_attention_heads": 4} if kind == "bart" else {}))
        with pytest.raises(ModelError, match=words):
            specification(model, plain_tokenizer(), "--format ctranslate2")


def test_a_vocabulary_for_each_side(tmp_path):
    """Once a traceback: all rows were named after one vocabulary."""
    folder = save_marian_with_own_sources(tmp_path / "model", 50)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    config = generation_config(model, GenerationSettings(beams=1, max_length=12))
    save_converted(tmp_path, model, tokenizer, config, "float32", "--format ctranslate2")
    loaded = LoadedModel(model, tokenizer, "", None, config)
    exported = CTranslate2Decoder(tmp_path, loaded, threads=(1, 1))
    inputs = loaded.encode(SOURCES)
    ours, theirs = (decoder.decode(inputs) for decoder in (TransformersDecoder(loaded), exported))
    assert [best.text for best, *_ in theirs] == [best.text for best, *_ in ours]
    assert len({best.text for best, *_ in ours}) > 1


def test_suppressed_tokens_are_not_written(tmp_path):
    """Once an exported model wrote what its original suppresses, and passed the comparison."""
    folder = save_teacher(tmp_path / "model", "bart")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), plain_tokenizer()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)

    def written(options):
        config = generation_config(model, GenerationSettings(beams=1, max_length=12, options=options))
        save_converted(tmp_path / "served", model, tokenizer, config, "float32", "--format ctranslate2")
        loaded = LoadedModel(model, tokenizer, "", None, config)
        exported = CTranslate2Decoder(tmp_path / "served", loaded, threads=(1, 1))
        inputs = loaded.encode(SOURCES)
        ours, theirs = (decoder.decode(inputs) for decoder in (TransformersDecoder(loaded), exported))
        # The end that is forced at the limit is written by one of the two alone.
        assert [best.ids[:10] for best, *_ in theirs] == [best.ids[:10] for best, *_ in ours]
        return [best.ids[:10] for best, *_ in theirs]

    (tmp_path / "served").mkdir()
    ids = next(ids for ids in written({}) if len(set(ids)) > 1)
    pair = next([a, b] for a, b in zip(ids, ids[1:], strict=False) if a != b)
    for row in written({"suppress_tokens": pair[:1]}):
        assert pair[0] not in row
    for row in written({"bad_words_ids": [pair]}):
        assert pair not in [list(two) for two in zip(row, row[1:], strict=False)]


class TestCommand:
    @pytest.fixture
    def things(self, tmp_path):
        return save_teacher(tmp_path / "model"), write_data(tmp_path / "data")

    def command(self, things, *more: str) -> list[str]:
        model, data = things
        own = ["export", "--model", str(model), "--data", str(data), "--task", "translation", "--tgt_lang", "de"]
        return [*own, "--output_dir", str(model.parent / "out"), "--max_target_length", "8", "--n", "4", *more]

    def test_folder_holds_model_tokenizer_settings_and_report(self, things, capsys, monkeypatch):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)  # this model has learned nothing
        assert main(self.command(things, "--beams", "2")) == 0
        out = things[0].parent / "out"
        names = {path.name for path in out.iterdir()}
        assert {"model.bin", "config.json", "generation_config.json", "tokenizer_config.json", "export.json"} <= names
        report = json.loads((out / "export.json").read_text())
        assert report == json.loads(capsys.readouterr().out)
        assert report["parity_in_float32"]["greedy"]["sources"] == 4
        scores = report["scores"]
        assert scores["exported"].keys() == scores["transformers"].keys()
        model, tokenizer = (kind.from_pretrained(things[0]) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
        lines = [(things[1] / f"val.{side}").read_text().splitlines()[:4] for side in ("source", "target")]
        config = generation_config(model, GenerationSettings(beams=2, max_length=8))
        decoder = TransformersDecoder(LoadedModel(model, tokenizer, "", None, config))
        outputs = [best.text for best, *_ in decoder.decode(decoder.encode(lines[0]))]
        assert scores["transformers"] == bleu(outputs, lines[1]), "the model was changed before it was scored"
        threads = torch.get_num_threads()
        [[best]] = CTranslate2Decoder(out).decode([[5, 6, 0]])
        assert best.score <= 0 and best.log_probabilities is None
        assert torch.get_num_threads() == threads, "CTranslate2 sets those of OpenMP, and with them torch's"

    def test_an_onnx_folder_generates_labels_and_is_evaluated(self, things, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        assert main(self.command(things, "--beams", "2", "--format", "onnx", "--quantization", "int8")) == 0
        out, data = things[0].parent / "out", things[1]
        report = json.loads((out / "export.json").read_text())
        sources = {*"".join(path.read_text() for path in data.glob("*.source")).splitlines()}
        assert report["tokenizer_json"] == {"texts": len(sources), "ties": 0, "with_special_tokens": 0}
        assert report["int8"].startswith("Matrices are 7-bit")
        assert report["intervals"]["bleu"]["exported"].keys() == {"score", "low", "high", "p"}
        assert {path.name for path in (out / "onnx").iterdir()} == {
            "encoder_model_quantized.onnx",
            "decoder_model_merged_quantized.onnx",
        }
        settings, config = (json.loads((out / f"{name}.json").read_text()) for name in ("generation_config", "config"))
        assert settings.get("num_beams", 1) == 1 and config["transformers.js_config"] == {"dtype": "q8"}
        generator = load_decoder(out)
        assert generator.decoder.name == "onnxruntime" and generator.loaded.generation.num_beams == 2
        source = (data / "val.source").read_text().splitlines()[0]
        [[first, second]] = generator.generate([source], n_best=2).hypotheses
        assert first.score >= second.score and first.ids != second.ids
        places = ["--data", str(data), "--output_dir", str(tmp_path / "made")]
        capsys.readouterr()
        assert main(["label", "--model", str(out), *places, "--split", "val"]) == 0
        labels = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert labels["kept"] == 6 and '"onnxruntime"' in (tmp_path / "made" / "label.json").read_text()
        more = ["--n_speed", "2", "--task", "translation", "--n", "3"]
        places[-1] = str(tmp_path / "evaluation")
        assert main(["evaluate", "--models", str(things[0]), str(out), *places, *more]) == 0
        results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
        assert [model["engine"] for model in results["models"]] == ["transformers", "onnxruntime"]
        size = sum(file.stat().st_size for file in (out / "onnx").iterdir())
        assert results["models"][1]["bytes"] == size and results["models"][1]["beams"] == 2

    def test_options_that_ctranslate2_does_not_have_are_refused(self, things, capsys):
        assert main(self.command(things, "--generate", '{"typical_p": 0.5}')) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == "distill: --format ctranslate2 has no typical_p of --generate: leave it out"
        assert not (things[0].parent / "out").exists()

    def test_unequal_outputs_leave_nothing(self, things, capsys, monkeypatch):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 1.1)
        assert main(self.command(things)) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("distill: --format ctranslate2: ") and "% of the outputs (greedy) equal those" in line
        assert line.endswith("nothing was written; serve it with transformers")
        assert not (things[0].parent / "out").exists()

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--format", "onnx", "--quantization", "float16"], "--quantization float16 is not for --format onnx"),
            (["--page", "true"], "--page needs --format onnx, not ctranslate2: browsers run no other"),
            (["--n", "0"], "--n 0"),
        ],
    )
    def test_mistakes(self, things, capsys, more, words):
        command = self.command(things)
        if more[0] in command:
            del command[command.index(more[0]) : command.index(more[0]) + 2]
        assert main([*command, *more]) == 2
        assert words in capsys.readouterr().err

    def test_a_run_s_model_knows_its_data(self, things, tmp_path, monkeypatch):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        model, data = things
        run = tmp_path / "run"
        run.mkdir()
        model.rename(run / "best")
        (run / "run.yaml").write_text(json.dumps({"task": "translation", "data": [str(data)], "tgt_lang": "de"}))
        command = ["export", "--model", str(run / "best"), "--output_dir", str(tmp_path / "out"), "--n", "2"]
        assert main([*command, "--max_target_length", "8"]) == 0

    def test_no_page_for_what_transformers_js_does_not_know(self, tmp_path, capsys):
        things = save_teacher(tmp_path / "model", "pegasus"), write_data(tmp_path / "data")
        assert main(self.command(things, "--format", "onnx", "--page", "true")) == 2
        assert "--page: transformers.js has no class for pegasus models" in capsys.readouterr().err

    def test_without_data_there_is_nothing_to_compare(self, things, tmp_path, capsys):
        assert main(["export", "--model", str(things[0]), "--output_dir", str(tmp_path / "out")]) == 2
        assert "--data is missing: name the source of real texts" in capsys.readouterr().err
