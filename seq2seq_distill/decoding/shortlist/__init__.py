"""Shortlists: for each source, the few target pieces that an exported model chooses among."""
