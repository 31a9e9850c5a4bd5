"""Values on which several rooms must agree."""

import re

IGNORE_INDEX = -100
"""Label of a position without a target, such as padding; PyTorch's and transformers' own value."""

SPLITS = ("train", "val", "test")

CACHE_VARIABLE = "SEQ2SEQ_DISTILL_CACHE"
"""Environment variable that names the folder of encoded data and of the demo's data."""

NO_SPACES = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""A character of Thai, Lao, Tibetan, Burmese, Khmer, Kana or Chinese."""
