"""TLS for the link: who the server must be, and who we say we are (extra ``tls``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coord.errors import InvalidURL

__all__ = ["Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a ``rediss://`` URL says of TLS: paths to PEM files.

    ``ca``: who may vouch for the server; the system's authorities by default. ``cert`` and ``key``: our own
    certificate. The host's name is always checked against the server's certificate.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def wrap(self, endpoint: Any, host: str) -> Any:
        """Return an endpoint that speaks TLS, and with nobody but ``host``.

        :raises InvalidURL: where a file cannot be read, or is none of what it should be.
        """
        try:
            from OpenSSL.SSL import Error as SSLError
            from twisted.internet.endpoints import wrapClientTLS
            from twisted.internet.ssl import (
                Certificate,
                PrivateCertificate,
                optionsForClientTLS,
                trustRootFromCertificates,
            )
        except ImportError:
            raise InvalidURL("a rediss:// URL needs the extra 'tls': pip install 'coord[tls]'") from None
        own = trust = None
        try:
            if self.cert is not None:
                own = PrivateCertificate.loadPEM(_read("cert", self.cert) + b"\n" + _read("key", self.key or self.cert))
            if self.ca is not None:
                trust = trustRootFromCertificates(
                    Certificate.loadPEM(pem) for pem in _certificates(_read("ca", self.ca))
                )
        except (SSLError, ValueError) as error:
            raise InvalidURL(f"the files named in the URL hold no certificate and key: {error}") from None
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=trust, clientCertificate=own), endpoint)


def _read(what: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidURL(f"{what}: {error.strerror}: {path}") from None


def _certificates(pem: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----"
    found = [part + end for part in pem.split(end)[:-1]]
    if not found:
        raise ValueError("no certificate in the file of authorities")
    return found
