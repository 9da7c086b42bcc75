"""Dashboards as code: `python -m grafana.generate` writes dashboards/*.json from these modules and queries/*.sql."""
