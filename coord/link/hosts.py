"""Names of hosts: each that a resolver may know can be asked for, and be in a certificate.

The rules for domain names (IDNA) allow no underscore, and no hyphen at an end. Docker Compose, Swarm and Active
Directory name hosts so, and resolvers know them; but Twisted keeps to the rules, and asks no resolver.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["certified", "in_ascii", "is_host"]

_LONGEST: Final = 253
_PLACEHOLDER: Final = "host.invalid"


def is_host(name: str) -> bool:
    """Whether a resolver can be asked for the name: no part of it is empty or too long."""
    try:
        return 0 < len(in_ascii(name).removesuffix(".")) <= _LONGEST
    except UnicodeError:
        return False


def in_ascii(name: str) -> str:
    """Return the name as resolvers take it.

    :raises UnicodeError: a part is empty or too long; Python's own codec looks no further.
    """
    return name.encode("idna").decode("ascii")


def certified(options: Any, host: str, **more: Any) -> Any:
    """Return what Twisted's ``optionsForClientTLS`` (``options``) does, for a host of any name."""
    # A certificate has the name without the dot that may end it (RFC 6066).
    name = host.removesuffix(".")
    try:
        return options(name, **more)
    except UnicodeError:
        made = options(_PLACEHOLDER, **more)
    # Were these called otherwise in a later Twisted, it would ask for a certificate that does not exist.
    made._hostname = made._hostnameASCII = in_ascii(name)
    made._hostnameBytes = made._hostnameASCII.encode("ascii")
    return made
