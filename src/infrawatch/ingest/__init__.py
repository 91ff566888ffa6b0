"""Samples come in: bytes become columns and verdicts, columns become committed groups."""
