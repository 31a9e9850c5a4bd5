"""Disturbed texts, for students that stand what users type, and for tests of what they stand."""
