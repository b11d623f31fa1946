"""TLS for the link: who the server must be, and who we say we are (extra ``tls``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coord.errors import InvalidURL
from coord.link.hosts import certified

__all__ = ["Tls", "explain_loss"]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a ``rediss://`` URL says of TLS: paths to PEM files.

    ``ca``: who may vouch for the server; the system's authorities by default. ``cert`` and ``key``: our own
    certificate. The host's name is always checked against the server's certificate.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def wrap(self, endpoint: Any, host: str, reactor: Any = None) -> Any:
        """Return an endpoint that speaks TLS, and with nobody but ``host``.

        :raises InvalidURL: where a file cannot be read, or is none of what it should be.
        """
        try:
            from OpenSSL import SSL, crypto
            from twisted.internet.error import VerifyError
            from twisted.internet.ssl import (
                Certificate,
                PrivateCertificate,
                optionsForClientTLS,
                trustRootFromCertificates,
            )
            from twisted.protocols.tls import TLSMemoryBIOFactory
        except ImportError:
            raise InvalidURL("a rediss:// URL needs the extra 'tls': pip install 'coord[tls]'") from None
        own = trust = None
        try:
            if self.cert is not None:
                own = PrivateCertificate.loadPEM(_read("cert", self.cert) + b"\n" + _read("key", self.key or self.cert))
            if self.ca is not None:
                trust = trustRootFromCertificates(map(Certificate.loadPEM, _certificates(_read("ca", self.ca))))
            # Nothing of what this returns may be overridden: with another verification callback, Twisted no longer
            # looks at the host's name.
            creator = certified(optionsForClientTLS, host, trustRoot=trust, clientCertificate=own)
        except (SSL.Error, crypto.Error, VerifyError, ValueError) as error:
            named = ", ".join(f"{name}={path}" for name, path in asdict(self).items() if path is not None)
            raise InvalidURL(f"{named}: no certificate and key that belong together ({_reasons(error)})") from None

        def encrypted(factory: Any) -> Any:
            return TLSMemoryBIOFactory(creator, True, factory, clock=reactor)

        return _Wrapped(endpoint, encrypted)


class _Wrapped:
    """An endpoint with another protocol around what it connects. An older Twisted's wrapClientTLS takes no clock."""

    def __init__(self, endpoint: Any, wrapper: Callable[[Any], Any]) -> None:
        self._endpoint = endpoint
        self._wrapper = wrapper

    def connect(self, factory: Any) -> Any:
        connecting = self._endpoint.connect(self._wrapper(factory))
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def explain_loss(error: BaseException | None) -> str:
    """Return why a connection was lost, in words that an operator understands."""
    if error is None:
        return "the connection was lost"
    if type(error).__name__ == "VerificationError":
        names = ", ".join(_names(error))
        return f"the server's certificate is for another host than {names}"
    if not _is_openssl(error):
        return str(error)
    reasons = _reasons(error)
    if "wrong version number" in reasons or "record layer failure" in reasons or "packet length" in reasons:
        return f"what answers there does not speak TLS; for that, the URL begins with redis:// ({reasons})"
    if "certificate required" in reasons or "handshake failure" in reasons:
        return f"the server ended TLS: it wants a certificate of ours, as in ?cert=FILE&key=FILE ({reasons})"
    if "certificate verify failed" in reasons:
        # pyOpenSSL knows no more, and asking OpenSSL would take another callback (see `Tls.wrap`).
        return (
            "the server's certificate was refused: nobody we trust vouches for it (?ca=FILE says whom we trust), "
            f"or this is not within its time ({reasons})"
        )
    return f"TLS failed: {reasons or 'the server hung up'}"


def _is_openssl(error: BaseException) -> bool:
    return type(error).__module__.startswith("OpenSSL") and len(error.args) == 1 and isinstance(error.args[0], list)


def _reasons(error: BaseException) -> str:
    """Return what OpenSSL says, without where it says it."""
    return ", ".join(str(reason) for *_, reason in error.args[0]) if _is_openssl(error) else str(error)


def _names(error: Any) -> list[str]:
    """Return the host names, or addresses, that a certificate was not for."""
    wanted = [mismatch.mismatched_id for mismatch in error.errors]
    return [str(getattr(each, "hostname", None) or getattr(each, "ip", each)).removeprefix("b") for each in wanted]


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
