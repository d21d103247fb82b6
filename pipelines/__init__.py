"""Services that carry readings to alerts: ports, the loop, and the adapters behind the ports."""
