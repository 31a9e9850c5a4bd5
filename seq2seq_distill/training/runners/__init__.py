"""Who fills the shards of a folder: this process, or workers of a Ray cluster. What fills a shard is not known here."""
