"""Influx line protocol, as versions 1, 2 and 3 of its API take it."""
