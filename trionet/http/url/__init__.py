"""URLs: taken apart, checked and put together (RFC 3986)."""
