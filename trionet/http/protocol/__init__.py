"""HTTP/1.1 without I/O: fields, heads, framing, bodies, and the machines of both sides (RFC 9112)."""
