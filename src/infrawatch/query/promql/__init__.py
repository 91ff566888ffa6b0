"""PromQL, and the endpoints of Prometheus that Grafana and similar clients use."""
