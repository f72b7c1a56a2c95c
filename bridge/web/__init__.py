"""The web end of a node: admin API, health, metrics and a status page."""
