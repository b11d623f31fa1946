"""The options of `connect`, for type checkers, and what is made of them before anything is connected."""

from __future__ import annotations

import re
import socket
from typing import Any, NamedTuple, TypedDict

from coord.core.names import check_name
from coord.link.passwords import Password
from coord.link.target import Target
from coord.link.urls import Address, Remap, parse_target
from coord.session.settings import SettingOptions, Settings

__all__ = ["ConnectOptions", "NodeOptions", "OwnOptions", "ParsedOptions"]


class LoginOptions(TypedDict, total=False):
    """Override what the URL says. Each password is a text, or a function that returns it, called at each login."""

    username: str | None
    password: Password | None
    sentinel_password: Password | None
    database: int | None
    remap: Remap | None


class NodeOptions(SettingOptions, LoginOptions, total=False):
    """What all nodes of a cluster usually share. ``namespace`` separates clusters on one server."""

    namespace: str


class OwnOptions(NodeOptions, total=False):
    """All options of one node but the reactor. ``node`` is its name."""

    node: str | None


class ConnectOptions(OwnOptions, total=False):
    """All options of `connect`; ``reactor`` is Twisted's by default."""

    reactor: Any


class ParsedOptions(NamedTuple):
    """The checked arguments of `connect`, but the reactor."""

    target: Target
    namespace: str
    node: str
    settings: Settings

    @classmethod
    def of(cls, address: Address, options: ConnectOptions) -> ParsedOptions:
        """Check the arguments.

        :raises InvalidURL, InvalidName, InvalidTime, InvalidInput: one of them breaks a rule.
        :raises TypeError: there is no such option.
        """
        unknown = set(options) - ConnectOptions.__optional_keys__
        if unknown:
            known = ", ".join(sorted(ConnectOptions.__optional_keys__))
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}; options: {known}")
        given: dict[str, Any] = dict(options)
        node = given.get("node")
        return cls(
            parse_target(address, **_some(given, LoginOptions)),
            check_name("namespace", given.get("namespace", "default")),
            _host_name() if node is None else check_name("node", node),
            Settings(**_some(given, SettingOptions)),
        )


def _some(given: dict[str, Any], kind: Any) -> dict[str, Any]:
    return {name: given[name] for name in kind.__optional_keys__ & given.keys()}


def _host_name() -> str:
    """Return the host's name, with characters that a name cannot contain replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "unnamed"
