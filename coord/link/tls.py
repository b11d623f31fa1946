"""TLS for the link: verification of the server, and our own certificate."""

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
    """The TLS options of a ``rediss://`` URL: paths to PEM files.

    ``ca``: the authorities that may sign the server's certificate; the system's by default. ``cert`` and ``key``: our
    own certificate. The host's name is always checked against the server's certificate.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def wrap(self, endpoint: Any, host: str, reactor: Any = None) -> Any:
        """Return an endpoint that connects with TLS, and only to ``host``.

        :raises InvalidURL: a file cannot be read, or is invalid.
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
            raise InvalidURL("a rediss:// URL needs pyOpenSSL: pip install 'twisted[tls]'") from None
        own = trust = None
        try:
            if self.cert is not None:
                own = PrivateCertificate.loadPEM(_read("cert", self.cert) + b"\n" + _read("key", self.key or self.cert))
            if self.ca is not None:
                trust = trustRootFromCertificates(map(Certificate.loadPEM, _certificates(_read("ca", self.ca))))
            # Do not override anything of the result: with another verification callback, Twisted no longer checks the
            # host's name.
            creator = certified(optionsForClientTLS, host, trustRoot=trust, clientCertificate=own)
        except (SSL.Error, crypto.Error, VerifyError, ValueError) as error:
            named = ", ".join(f"{name}={path}" for name, path in asdict(self).items() if path is not None)
            raise InvalidURL(f"{named}: no certificate and key that belong together ({_reasons(error)})") from None

        def encrypted(factory: Any) -> Any:
            return TLSMemoryBIOFactory(creator, True, factory, clock=reactor)

        return _Wrapped(endpoint, encrypted)


class _Wrapped:
    """An endpoint that wraps the protocol; the wrapClientTLS of older versions of Twisted takes no clock."""

    def __init__(self, endpoint: Any, wrapper: Callable[[Any], Any]) -> None:
        self._endpoint = endpoint
        self._wrapper = wrapper

    def connect(self, factory: Any) -> Any:
        connecting = self._endpoint.connect(self._wrapper(factory))
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def explain_loss(error: BaseException | None) -> str:
    """Return why a connection was lost, in terms of an operator."""
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
        # pyOpenSSL does not know more, and to ask OpenSSL would take another callback (see `Tls.wrap`).
        return (
            "the server's certificate was refused: nobody we trust vouches for it (?ca=FILE says whom we trust), "
            f"or this is not within its time ({reasons})"
        )
    return f"TLS failed: {reasons or 'the server hung up'}"


def _is_openssl(error: BaseException) -> bool:
    return type(error).__module__.startswith("OpenSSL") and len(error.args) == 1 and isinstance(error.args[0], list)


def _reasons(error: BaseException) -> str:
    """Return the reasons in an OpenSSL error, without their locations."""
    return ", ".join(str(reason) for *_, reason in error.args[0]) if _is_openssl(error) else str(error)


def _names(error: Any) -> list[str]:
    """Return the host names or addresses that a certificate does not match."""
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
