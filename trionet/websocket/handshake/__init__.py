"""The opening handshake of a WebSocket: its rules, and both sides of it (RFC 6455 §4)."""
