"""Rollups: buckets of five minutes and one hour."""
