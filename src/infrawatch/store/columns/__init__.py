"""Numpy columns: ragged runs, packed integers, and their binary forms in PostgreSQL."""
