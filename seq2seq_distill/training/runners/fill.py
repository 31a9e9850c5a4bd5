"""Fill shards by the runner that the options name."""

from collections.abc import Callable

from seq2seq_distill.config.runner import RunnerOptions
from seq2seq_distill.training.runners.ray_runner import fill_by_ray
from seq2seq_distill.training.runners.work import Shard, Work
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError


def fill_shards(work: Work[Shard], options: RunnerOptions, done: Callable[[Shard], None]) -> None:
    """Fill all shards of the work; those of other processes of torchrun or SLURM are not among them.

    Args:
        work: what to fill.
        options: who does it.
        done: is told each shard that is filled, in this process.

    Raises:
        UserError: of what fills a shard; or the options do not fit the cluster.
        RunError: workers end again and again.
    """
    if options.runner == "ray":
        if rank_and_world_size()[1] > 1:
            raise ConfigError(
                "`runner` ray deals out the shards to its own workers: start one process, without torchrun"
            )
        if work.shards:
            fill_by_ray(work, options, done)
        return
    for shard in work.shards:
        work.fill(shard)
        done(shard)
