"""OTLP/HTTP metrics: what OpenTelemetry SDKs and the Collector send."""
