"""TLS as the options ask for it, and the same files read anew while it runs.

A certificate is read into a context of its own first. Only if that works, the context that serves is changed: a broken
file leaves the old certificate in use.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

from ..mistakes import Mistake

if TYPE_CHECKING:
    from .options import Certificate

__all__ = ["make_context", "reread"]

_LOG = logging.getLogger("trionet.server")

_SERVER_VERSIONS: Final = {ssl.PROTOCOL_TLS_SERVER.value, ssl.PROTOCOL_TLS.value}


def make_context(options: Certificate) -> ssl.SSLContext | None:
    """The context; None without a certificate.

    Raises:
        Mistake: a file is missing or broken, or the options do not go together.
    """
    if options.ssl_certfile is None:
        if options.ssl_keyfile is not None:
            raise Mistake("--ssl-keyfile needs --ssl-certfile, the certificate of that key")
        return None
    if options.ssl_version not in _SERVER_VERSIONS:
        raise Mistake(f"--ssl-version {options.ssl_version} is not there: 17 speaks TLS 1.2 and 1.3, as the peer can")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, options)
    try:
        context.verify_mode = ssl.VerifyMode(options.ssl_cert_reqs)
    except ValueError:
        raise Mistake(f"--ssl-cert-reqs must be 0, 1 or 2, not {options.ssl_cert_reqs}") from None
    if options.ssl_ca_certs is not None:
        try:
            context.load_verify_locations(options.ssl_ca_certs)
        except OSError as exc:
            raise Mistake(f"--ssl-ca-certs {options.ssl_ca_certs}: {exc.strerror or exc}") from exc
    if options.ssl_ciphers is not None:
        try:
            context.set_ciphers(options.ssl_ciphers)
        except ssl.SSLError:
            raise Mistake(f"--ssl-ciphers {options.ssl_ciphers!r}: OpenSSL knows none of them") from None
    return context


def reread(context: ssl.SSLContext, options: Certificate) -> bool:
    """Read the files of the certificate anew, for connections from now on: whether that was possible.

    What is wrong is logged, and changes nothing.
    """
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), options)
        _load(context, options)
    except Mistake as exc:
        _LOG.error("the certificate stays as it was: %s", exc)
        return False
    _LOG.info("the certificate was read anew from %s", options.ssl_certfile)
    return True


def _load(context: ssl.SSLContext, options: Certificate) -> None:
    certificate, key = options.ssl_certfile, options.ssl_keyfile
    assert certificate is not None

    def password() -> str:
        if options.ssl_keyfile_password is None:
            raise Mistake(f"the key in {key or certificate} has a password: give it with --ssl-keyfile-password")
        return options.ssl_keyfile_password

    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise Mistake(f"the file {str(path)!r} is not there: see --ssl-certfile and --ssl-keyfile")
    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as exc:
        reason = (exc.reason or "").replace("_", " ").lower() or str(exc)
        raise Mistake(f"certificate {certificate} and key {key or certificate} cannot be used: {reason}") from exc
    except OSError as exc:
        raise Mistake(f"certificate {certificate}: {exc.strerror or exc}") from exc
