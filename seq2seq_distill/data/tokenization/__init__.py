"""Texts to token ids and back: tokenizers, their special tokens, offsets and prefixes."""
