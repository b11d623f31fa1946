"""An endpoint for a host's name; apart from `hosts`, because Twisted's endpoints take long to import."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint

from coord.link.hosts import in_ascii, is_host

__all__ = ["NamedHost"]


class NamedHost(HostnameEndpoint):
    """Twisted's endpoint for a host's name, whatever that is."""

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        # Twisted has no public way to say that a name is good. A test shows that this is still asked.
        refused, encoded, text = HostnameEndpoint._hostAsBytesAndText(host)
        if refused and isinstance(host, str) and is_host(host):
            text = in_ascii(host)
            refused, encoded = False, text.encode("ascii")
        return refused, encoded, text
