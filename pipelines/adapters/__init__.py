"""Adapters behind the ports: client libraries live here, and their errors are translated here."""
