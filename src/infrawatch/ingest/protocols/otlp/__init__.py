"""OTLP/HTTP metrics, as sent by the OpenTelemetry SDKs and the Collector."""
