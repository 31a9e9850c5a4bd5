"""Rows of token ids to padded tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seq2seq_distill.utils.constants import IGNORE_INDEX

EMPTY_ROW = -1
"""Row number of a batch without rows."""


class Collator:
    """Pad rows of one batch into tensors.

    Args:
        pad_token_id: fills `input_ids`; labels are filled with -100.
        extras: further inputs of the family; "global_attention_mask" (LED) is 1 on the first token alone.
        pad_to_multiple_of: round both widths up to a multiple of it.

    A call takes dicts with `input_ids`, `row` and, where there are targets, `labels`. It gives int64 tensors
    `input_ids`, `attention_mask` [B,S], `labels` [B,T], `row` [B] and the extras [B,S]. An empty list gives
    one row that counts nowhere: a single pad token that is attended to (attention over nothing is NaN),
    labels -100 and row -1.
    """

    def __init__(self, pad_token_id: int, extras: tuple[str, ...] = (), pad_to_multiple_of: int | None = None) -> None:
        unknown = set(extras) - {"global_attention_mask"}
        if unknown:
            raise ValueError(f"unknown extra inputs: {', '.join(sorted(unknown))}")
        self.pad_token_id = pad_token_id
        self.extras = extras
        self.multiple = pad_to_multiple_of or 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = rows or [{"input_ids": [self.pad_token_id], "labels": [], "row": EMPTY_ROW}]
        sources = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": self._pad(sources, self.pad_token_id),
            "attention_mask": self._mask([len(ids) for ids in sources]),
        }
        if "labels" in rows[0]:
            batch["labels"] = self._pad([row["labels"] for row in rows], IGNORE_INDEX)
        batch["row"] = torch.tensor([row["row"] for row in rows], dtype=torch.int64)
        if "global_attention_mask" in self.extras:
            batch["global_attention_mask"] = torch.zeros_like(batch["input_ids"])
            batch["global_attention_mask"][:, 0] = 1
        return batch

    def _width(self, longest: int) -> int:
        width = max(1, longest)
        return width + -width % self.multiple

    def _pad(self, rows: Sequence[Sequence[int] | NDArray[np.integer]], value: int) -> Tensor:
        padded = np.full((len(rows), self._width(max(map(len, rows)))), value, dtype=np.int64)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = row
        return torch.from_numpy(padded)

    def _mask(self, lengths: Sequence[int]) -> Tensor:
        places = np.arange(self._width(max(lengths)))
        return torch.from_numpy((places < np.array(lengths)[:, None]).astype(np.int64))
