"""Transports: they move the bytes of one endpoint and know no owner."""
