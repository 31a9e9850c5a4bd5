"""Chunks of targets in which two tokenisations meet, for teachers with other tokens."""
