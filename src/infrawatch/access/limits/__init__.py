"""Limits of tenants and keys, and the counters that enforce them."""
