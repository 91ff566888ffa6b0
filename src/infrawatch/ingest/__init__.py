"""Ingestion of samples: bytes become columns and verdicts, columns become committed groups."""
