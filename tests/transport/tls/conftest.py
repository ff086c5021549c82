"""What the tests of TLS share."""

from ...helpers.tls import no_hang, secure

__all__ = ["no_hang", "secure"]
