"""Server options, their environment variables, and the coordinator made from them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import click

from coord.cli._durations import DURATION

if TYPE_CHECKING:
    from coord import Coordinator
    from coord.cli._metrics import Place
    from coord.link.target import Target
    from coord.session.settings import SettingOptions

__all__ = ["SERVER_OPTIONS", "PasswordFile", "Server", "password", "server_options", "takes_server"]

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_URL = "redis://127.0.0.1:6379"
_SENTINELS = re.compile("rediss?[+]sentinel://")
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^@]*:[^@]+@")


class Server(NamedTuple):
    """The server that the user named, and the node to connect as."""

    url: str = _DEFAULT_URL
    namespace: str = "default"
    node: str | None = None
    connect_timeout: float = 10.0
    lease: float | None = None
    grace: float | None = None
    metrics: Place | None = None

    @property
    def database(self) -> int:
        """The number of the database that the URL names; 0 by default."""
        from coord.link.urls import parse_target

        return parse_target(self.url).database

    @property
    def target(self) -> Target:
        """The server or cluster, with the password to use."""
        from coord.link.urls import parse_target

        return parse_target(self.url, password=None if _PASSWORD_IN_URL.match(self.url) else password())

    def connect(self, reactor: Any) -> Coordinator:
        """Return a coordinator for it; raise `InvalidInput` if an option is invalid."""
        import coord

        to_sentinels = _SENTINELS.match(self.url) and "sentinel_password=" not in self.url
        return coord.connect(
            self.url,
            namespace=self.namespace,
            node=self.node,
            password=None if _PASSWORD_IN_URL.match(self.url) else password(),
            sentinel_password=password("COORD_SENTINEL_PASSWORD") if to_sentinels else None,
            reactor=reactor,
            **self._times(),
        )

    def _times(self) -> SettingOptions:
        """Return the lease's times, and a heartbeat that fits them."""
        times: SettingOptions = {}
        if self.lease is not None:
            times["lease"] = self.lease
        if self.grace is not None:
            times["grace"] = self.grace
        if times:
            times["heartbeat"] = max(0.1, min(5.0, (self.lease or 20.0) / 4, (self.grace or 10.0) / 2))
        return times


def password(variable: str = "COORD_PASSWORD") -> str | PasswordFile | None:
    """Return the password from the environment or the file it names. No option: other users can see those."""
    if given := os.environ.get(variable):
        return given
    if path := os.environ.get(f"{variable}_FILE"):
        return PasswordFile(f"{variable}_FILE", Path(path))
    return None


class PasswordFile:
    """The password in the file that a variable names, read at each login."""

    def __init__(self, variable: str, path: Path) -> None:
        self._variable = variable
        self._path = path
        text = self._read()
        # A pipe, such as a shell's <(...), can be read only once.
        self._kept = None if path.is_file() else text

    def __call__(self) -> str:
        """Return the password; raise `click.UsageError` if the file has none."""
        return self._kept or self._read()

    def _read(self) -> str:
        try:
            text = self._path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise click.UsageError(f"{self._variable}: cannot read {self._path}: {reason}") from None
        if not text:
            raise click.UsageError(f"{self._variable}: {self._path} is empty")
        return text


_OPTIONS: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("--url", "COORD_URL", {"metavar": "URL", "help": f"{_DEFAULT_URL} by default"}),
    ("--namespace", "COORD_NAMESPACE", {"metavar": "NAME", "help": "Separates clusters"}),
    ("--node", "COORD_NODE", {"metavar": "NAME", "help": "This node; the host name by default"}),
    (
        "--connect-timeout",
        None,
        {"type": DURATION, "help": "10s; wait, watch, on, mounts, lock, elect: no limit"},
    ),
)

SERVER_OPTIONS: Final = frozenset(name.removeprefix("--").replace("-", "_") for name, _, _ in _OPTIONS)
"""The names of the server parameters."""


def _remember(ctx: click.Context, option: click.Parameter, value: object) -> None:
    """Keep an option for the command, whether given before or after the command's name."""
    if value is not None:
        ctx.ensure_object(dict)[option.name] = value


def server_options(*, environment: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add the server options; with ``environment``, environment variables are their defaults.

    Only the outermost group reads the environment: an option given before the command's name must
    win over a variable.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        for name, variable, more in reversed(_OPTIONS):
            shown = f"{more['help']} [{variable}]" if variable else more["help"]
            words = {**more, "help": shown, "envvar": variable if environment else None}
            function = click.option(name, **words, expose_value=False, callback=_remember)(function)
        return function

    return decorate


def takes_server(function: Callable[Concatenate[Server, P], R]) -> Callable[P, R]:
    """Add the server's options to a command, whose function gets a `Server` first."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen = click.get_current_context().ensure_object(dict)
        return function(Server(**chosen), *args, **kwargs)

    return server_options()(command)
