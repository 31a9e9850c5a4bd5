"""Readers of text files, JSON, CSV, TSV and Parquet, batch by batch: none holds more of a file than a batch."""
