"""InfraWatch: telemetry on PostgreSQL, validated at the edge and committed before it is acknowledged."""
