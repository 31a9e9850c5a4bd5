"""`distill cache`: compute the teacher's outputs once, for runs with `--teacher_cache`."""

import logging

from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.caching import fill, open_cache
from seq2seq_distill.training.components import build_components
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)


def fill_cache(config: RunConfig) -> None:
    """Fill the cache of a run, whose config this is; `config.teacher_cache` names its folder.

    Raises:
        UserError: in one line.
    """
    for field, value in (("teacher_cache", config.teacher_cache), ("teacher", config.teacher)):
        if value is None:
            raise ConfigError(f"`{field}` is missing: name one")
    parts = build_components(config)
    cache = open_cache(config, parts)
    assert parts.teacher is not None
    fill(cache, parts, parts.teacher, config)
    logger.info("%s is full: %.0f bytes a target token", cache.folder, cache.bytes_per_token)
