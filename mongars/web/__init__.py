"""The page: Django that speaks the API through one client, and nothing else."""

from mongars.web.web import create_web

__all__ = ["create_web"]
