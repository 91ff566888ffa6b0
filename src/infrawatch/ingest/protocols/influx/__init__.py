"""Influx line protocol, as accepted by versions 1, 2 and 3 of the InfluxDB API."""
