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
    from pathlib import Path

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
        _check_none(options)
        return None
    if options.ssl_version not in _SERVER_VERSIONS:
        raise Mistake(f"--ssl-version {options.ssl_version} is not there: 17 speaks TLS 1.2 and 1.3, as the peer can")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, options)
    try:
        context.verify_mode = ssl.VerifyMode(options.ssl_cert_reqs)
    except ValueError:
        raise Mistake(f"--ssl-cert-reqs must be 0, 1 or 2, not {options.ssl_cert_reqs}") from None
    if context.verify_mode != ssl.CERT_NONE and options.ssl_ca_certs is None:
        raise Mistake(f"--ssl-cert-reqs {options.ssl_cert_reqs} needs --ssl-ca-certs, who issues clients' certificates")
    if options.ssl_ca_certs is not None:
        try:
            context.load_verify_locations(options.ssl_ca_certs)
        except OSError as exc:
            reason = "there is no certificate in it" if isinstance(exc, ssl.SSLError) else exc.strerror or exc
            raise Mistake(f"--ssl-ca-certs {options.ssl_ca_certs}: {reason}") from exc
    if options.ssl_ciphers is not None:
        try:
            context.set_ciphers(options.ssl_ciphers)
        except ssl.SSLError:
            raise Mistake(f"--ssl-ciphers {options.ssl_ciphers!r}: OpenSSL knows none of them") from None
    return context


def _check_none(options: Certificate) -> None:
    """Without a certificate there is no TLS: whoever asks for a part of it must not be served without."""
    if options.ssl_keyfile is not None:
        raise Mistake("--ssl-keyfile needs --ssl-certfile, the certificate of that key")
    for name in ("ssl_keyfile_password", "ssl_ca_certs", "ssl_ciphers"):
        if getattr(options, name) is not None:
            raise Mistake(f"--{name.replace('_', '-')} needs --ssl-certfile: without a certificate there is no TLS")
    if options.ssl_cert_reqs:
        raise Mistake("--ssl-cert-reqs needs --ssl-certfile: without a certificate there is no TLS")


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

    asked = []

    def password() -> str:
        asked.append(True)
        if options.ssl_keyfile_password is None:
            raise Mistake(f"the key in {key or certificate} has a password: give it with --ssl-keyfile-password")
        return options.ssl_keyfile_password

    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise Mistake(f"the file {str(path)!r} is not there: see --ssl-certfile and --ssl-keyfile")
    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as exc:
        reason = _reason(exc, certificate, key or certificate, bool(asked))
        raise Mistake(f"certificate {certificate} and key {key or certificate} cannot be used: {reason}") from exc
    except ValueError as exc:  # OpenSSL's limit
        raise Mistake(f"--ssl-keyfile-password: {exc}") from exc
    except OSError as exc:
        raise Mistake(f"certificate {certificate}: {exc.strerror or exc}") from exc


def _reason(exc: ssl.SSLError, certificate: Path, key: Path, with_password: bool) -> str:
    """What is wrong with the files. OpenSSL itself says "PEM lib" of nearly everything."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate.read_bytes():
        return f"there is no certificate in {certificate}"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return f"there is no private key in {key}: see --ssl-keyfile"
    if with_password:
        return "the password does not open the key: see --ssl-keyfile-password"
    return (exc.reason or "").replace("_", " ").lower() or "one of them is damaged"
