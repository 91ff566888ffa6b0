"""InfraWatch: telemetry on PostgreSQL, validated at the edge, committed before acknowledged."""
