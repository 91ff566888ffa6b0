"""Collectors of readings: one module per part of the host, named as node_exporter names them."""
