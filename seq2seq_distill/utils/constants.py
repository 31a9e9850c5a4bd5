"""Values on which several rooms must agree."""

IGNORE_INDEX = -100
"""Label of a position without a target, such as padding; PyTorch's and transformers' own value."""

SPLITS = ("train", "val", "test")

CACHE_VARIABLE = "SEQ2SEQ_DISTILL_CACHE"
"""Environment variable that names the folder of encoded data and of the demo's data."""
