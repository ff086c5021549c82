"""WebSocket without I/O: frames, messages, compression, and the engine that joins them (RFC 6455, RFC 7692)."""
