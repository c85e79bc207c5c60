"""What an operator watches Plaudit with: dashboards, alert rules, and the configuration of
Prometheus and Alertmanager. Data, all of it: the service itself imports nothing from here."""
