"""What web.toml may say, and the words for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from coord import InvalidInput
from coord.web.addresses import Address, check_addresses
from coord.web.config import Config, load, parse

DIGEST = "a" * 64
TOKEN = f'[[token]]\nname = "ci"\nsha256 = "{DIGEST}"\nrights = ["read:*"]\n'


def test_what_is_said_is_taken() -> None:
    """Each setting is read; what is not said has its default."""
    config = parse(
        f"""
        listen = ["127.0.0.1:80", "unix:/run/coord.sock"]
        behind_proxy = ["10.0.0.0/8", "unix:"]
        hosts = ["coord.example.com"]
        cors = ["https://app.example.com"]
        limits = {{ rate = 5 }}
        [[token]]
        name = "ci"
        sha256 = ["{DIGEST}", "{"B" * 64}"]
        rights = ["read:*", "fire:deploy/build-*"]
        expires = 2027-01-01T00:00:00Z
        """
    )
    assert config.limits.rate == 5
    assert config.limits.burst == 400
    assert config.anonymous is None
    (token,) = config.tokens
    assert token.digests == (DIGEST, "b" * 64)
    assert token.expires_at == 1_798_761_600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits = { rates = 5 }", "limits: no such setting: rates"),
        ('anonymous = "read:*"', "anonymous: a list is needed, not a string"),
        ("listen = 5", "listen: a list is needed, not a number"),
        ("listen = []", "length >= 1"),
        ("liste = []", "no such setting: liste"),
        ("x", "'='"),
        ('behind_proxy = ["0.0.0.0/0"]', "is everybody"),
        ('behind_proxy = ["::/0"]', "is everybody"),
        ('behind_proxy = ["10.0.0.1/8"]', "has host bits set"),
        ('hosts = ["https://a"]', "hosts: https://a is not a name"),
        ('cors = ["*"]', "is not an origin"),
        ('cors = ["https://a/"]', "is not an origin"),
        ('maps = ["a b"]', "map 'a b'"),
        ('anonymous = ["reed:*"]', "no such verb"),
        (TOKEN + TOKEN, "token ci: there are two of it"),
        (TOKEN + TOKEN.replace("ci", "cj"), "sha256 a"),
        (TOKEN.replace("ci", "anonymous"), "whoever shows no token"),
        (TOKEN.replace(DIGEST, "coord_secret"), "64 hexadecimal digits"),
        (TOKEN.replace("read:*", "read"), "a right is"),
        (TOKEN + "expires = 2027-01-01T00:00:00\n", "no time zone"),
        ("limits = { rate = 0 }", ">= 1"),
        ("limits = { wait = 301 }", "<= 300"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    """The error names the file and what is wrong in it, and shows no secret that was put in the wrong place."""
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert str(caught.value).startswith("web.toml: ")
    assert words in str(caught.value)
    assert "coord_secret" not in str(caught.value)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write the file can write himself a token."""
    path = tmp_path / "web.toml"
    path.write_text(TOKEN)
    path.chmod(0o644)
    assert load(path).tokens[0].name == "ci"
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(InvalidInput, match="others may write it"):
            load(path)
    with pytest.raises(InvalidInput, match="No such file"):
        load(tmp_path / "none.toml")


PLAIN = parse("plain = true\n" + TOKEN)
PROXIED = parse('behind_proxy = ["10.0.0.1"]\n' + TOKEN)


@pytest.mark.parametrize(
    ("place", "config", "words"),
    [
        ("127.0.0.1:80", Config(), None),
        ("[::1]:80", Config(), None),
        ("localhost:80", Config(), None),
        ("unix:/run/x", Config(), None),
        ("0.0.0.0:80", Config(), "there must be tokens"),
        ("[::]:80", Config(), "there must be tokens"),
        ("192.0.2.1:80", Config(plain=True), "there must be tokens"),
        ("0.0.0.0:80", parse(TOKEN), "in plain text"),
        ("0.0.0.0:80", PLAIN, None),
        ("0.0.0.0:80", PROXIED, None),
    ],
)
def test_beyond_this_machine_only_with_tokens_that_nobody_reads(place: str, config: Config, words: str | None) -> None:
    """Without tokens the gateway stays on its machine, and tokens travel in plain text only if somebody said so."""
    address = Address.parse(place)
    if words is None:
        check_addresses([address], config)
        return
    with pytest.raises(InvalidInput, match=words):
        check_addresses([Address("127.0.0.1", 1), address], config)


@pytest.mark.parametrize("text", ["", ":80", "host:80", "127.0.0.1", "127.0.0.1:65536", "unix:run", "1.2.3.4:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A name, a missing port and a relative path are errors."""
    with pytest.raises(InvalidInput, match="listen"):
        Address.parse(text)


def test_an_inherited_socket_is_judged_by_its_own_address() -> None:
    """What systemd listens at counts, not what the settings say."""
    assert Address.of_socket(("0.0.0.0", 80)).beyond
    assert Address.of_socket(("::", 80, 0, 0)).beyond
    assert not Address.of_socket(("::1", 80, 0, 0)).beyond
    assert not Address.of_socket("/run/coord/web.sock").beyond
    assert str(Address.of_socket(("::1", 80, 0, 0))) == "[::1]:80"
