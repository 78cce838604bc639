"""
The whole platform on one machine: NATS, the sandbox vendor and every service.

``python -m embedded up`` is what ``./just up`` runs. Nothing here is imported by a
service; in production systemd, compose or Kubernetes does what this does.
"""
