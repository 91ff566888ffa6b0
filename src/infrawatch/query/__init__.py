"""Queries: series, samples, ranges, and PromQL."""
