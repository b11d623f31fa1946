"""An endpoint for any host name; a module of its own, because Twisted's endpoints take long to import."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint

from coord.link.hosts import in_ascii, is_host

__all__ = ["NamedHost"]


class NamedHost(HostnameEndpoint):
    """Twisted's endpoint for host names, without its rules for names."""

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        # Twisted has no public way to accept a name. A test checks that it still calls this.
        refused, encoded, text = HostnameEndpoint._hostAsBytesAndText(host)
        if refused and isinstance(host, str) and is_host(host):
            text = in_ascii(host)
            refused, encoded = False, text.encode("ascii")
        return refused, encoded, text
