"""Noisy texts, for students that can read what users type, and for measuring how well they do."""
