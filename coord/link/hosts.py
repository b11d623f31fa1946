"""Host names that Twisted refuses, though resolvers know them and certificates contain them.

The rules for domain names (IDNA) allow neither an underscore, nor a hyphen at an end. Docker Compose, Swarm and Active
Directory have such names; but Twisted enforces the rules and does not ask a resolver.
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
    """Return the name in the form for resolvers.

    :raises UnicodeError: a part is empty or too long; Python's codec checks nothing else.
    """
    return name.encode("idna").decode("ascii")


def certified(options: Any, host: str, **more: Any) -> Any:
    """Call ``options``, Twisted's ``optionsForClientTLS``, for a host of any name."""
    # Certificates have the name without a final dot (RFC 6066).
    name = host.removesuffix(".")
    try:
        return options(name, **more)
    except UnicodeError:
        made = options(_PLACEHOLDER, **more)
    # If a later Twisted renames these, it will refuse every certificate rather than accept a wrong one.
    made._hostname = made._hostnameASCII = in_ascii(name)
    made._hostnameBytes = made._hostnameASCII.encode("ascii")
    return made
