"""A tiny causal language model with a tokenizer and a chat template, made offline in a moment."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.tiny_tokenizers import SOURCES, TARGETS

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]


def language_model_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 160 tokens, of which the letters of "ü" end inside a character; appends nothing."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [*SOURCES, *TARGETS, "Translate the text below from English into German.\nAnswer: x"]
    trainer = trainers.BpeTrainer(vocab_size=160, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", extra_special_tokens=SPECIAL[2:]
    )


def save_language_model(
    folder: Path, *, chat: bool = True, seed: int = 0, positions: int = 512, model_type: str = "llama"
) -> Path:
    """Two layers of random weights, whose answers are of many kinds; gpt2 has absolute positions."""
    tokenizer = language_model_tokenizer()
    tokenizer.chat_template = TEMPLATE if chat else None
    torch.manual_seed(seed)
    keys = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.4,
    }
    if model_type == "llama":
        keys |= {"intermediate_size": 64, "num_key_value_heads": 2}
    config = AutoConfig.for_model(model_type, **keys)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
