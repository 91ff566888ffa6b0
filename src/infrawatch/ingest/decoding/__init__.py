"""Shared by decoders: names, numbers, and messages for bodies that are not valid JSON."""
