"""POST /v1/samples: the formats of InfraWatch itself, JSON and NDJSON."""
