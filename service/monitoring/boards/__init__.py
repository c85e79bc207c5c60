"""The dashboards as code. Only the generator imports this: it needs grafana-foundation-sdk, which
is for development."""
