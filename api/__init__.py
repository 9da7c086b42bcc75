"""The HTTP API: ingest, reads, the Prometheus exporter."""
