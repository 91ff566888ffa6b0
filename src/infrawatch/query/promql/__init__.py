"""PromQL, and the endpoints of Prometheus that Grafana and its like ask."""
