"""`distill cache`: compute the teacher's outputs once, for runs with `--teacher_cache`."""

import logging

from seq2seq_distill.config import CacheCommandConfig, RunConfig
from seq2seq_distill.training.caching import LOCAL, fill, open_cache
from seq2seq_distill.training.components import build_components
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)


def fill_cache(config: RunConfig) -> None:
    """Fill the cache of a run; `config.teacher_cache` names its folder.

    Args:
        config: the run's, or that of the command, which also says who does the work: by default this process.

    Raises:
        UserError: in one line.
    """
    for field, value in (("teacher_cache", config.teacher_cache), ("teacher", config.teacher)):
        if value is None:
            raise ConfigError(f"`{field}` is missing: name one")
    run, runner = (config.run, config) if isinstance(config, CacheCommandConfig) else (config, LOCAL)
    parts = build_components(run)
    cache = open_cache(run, parts)
    fill(cache, parts, run, runner)
    logger.info("%s is full: %.0f bytes a target token", cache.folder, cache.bytes_per_token)
