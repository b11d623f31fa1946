"""`coord systemd`: the units, and the names of those that stand for an event."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.processes import Shell
from coord.cli._main import status_of
from coord.cli._units import event_of, instance, units

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")

# They give a unit a mount namespace of its own: systemd.exec(5).
_OWN_NAMESPACE = re.compile(
    r"^(Private(Tmp|Devices|Mounts|IPC|Users)|Protect(System|Home|Kernel\w+|ControlGroups|Proc)|ProcSubset|DynamicUser|"
    r"(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|TemporaryFileSystem|Root\w+|MountFlags)=",
    re.MULTILINE,
)
KEYS = ["ready", "/srv/db-1", "node1:/mnt/a b", "größe", "%h $HOME", ".hidden", "a\\b", "-", "'\"", "x" * 200]


def verify(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Let systemd read all units of a folder, and an instance of each template."""
    for template in folder.glob("*@.service"):
        shutil.copy(template, template.with_name(template.name.replace("@", "@deploy-ready")))
    paths = sorted(str(path) for path in folder.glob("*.s*"))
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *words, *paths],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        check=False,
    )


@needs_systemd
@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_units(user: bool, tmp_path: Path) -> None:
    """`systemd-analyze verify` has no word on any, as written for this machine."""
    assert status_of(["systemd", "install", "--to", str(tmp_path), *["--user"][:user]]) == 0
    done = verify(tmp_path, *["--user"][:user])
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_would_find_what_is_wrong(tmp_path: Path) -> None:
    """A program that is not there, and an option that does not exist, are noticed."""
    assert status_of(["systemd", "install", "--to", str(tmp_path)]) == 0
    path = tmp_path / "coord-mounts.service"
    path.write_text(re.sub("ExecStart=.*", "ExecStart=/nowhere/coord\nHardening=yes", path.read_text()))
    said = verify(tmp_path).stderr
    assert "/nowhere/coord is not executable" in said
    assert "Hardening" in said


def test_no_unit_has_a_mount_namespace_of_its_own() -> None:
    """The mount agent sees the mounts of the host, as they are."""
    for name, text in units(user=False).items():
        assert _OWN_NAMESPACE.findall(text) == [], name
        assert name.endswith(".socket") or "NoNewPrivileges=yes" in text


def test_a_users_manager_is_asked_for_nothing_it_may_not_do() -> None:
    """Its units change no user and no capabilities, and wait for no unit of the system."""
    for text in units(user=True).values():
        assert not re.search("^(User|CapabilityBoundingSet)=|network-online|multi-user", text, re.MULTILINE)
    assert "coord-server.service" not in units(user=False)


def test_whatever_runs_long_is_supervised() -> None:
    """Such units say when they are ready, and are restarted if the reactor hangs."""
    for name, text in units(user=True).items():
        assert (
            "coord-event@" in name or name.endswith(".socket") or ("Type=notify" in text and "WatchdogSec=" in text)
        ), name


def test_what_was_changed_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To install again changes nothing; a changed unit is named and kept, until --force."""
    words = ["systemd", "install", "--to", str(tmp_path / "new")]
    assert status_of(words) == 0
    written = capsys.readouterr().out
    assert written.count("wrote ") == len(units(user=False))
    assert "daemon-reload" in written
    assert status_of(words) == 0
    assert "wrote" not in capsys.readouterr().out
    changed = tmp_path / "new" / "coord-mounts.service"
    changed.write_text("mine")
    assert status_of(words) == 74
    said = capsys.readouterr()
    assert "wrote" not in said.out
    assert said.err == "coord: kept, as they were changed (--force replaces them): coord-mounts.service\n"
    assert changed.read_text() == "mine"
    assert status_of([*words, "--force"]) == 0
    assert changed.read_text() == units(user=False)["coord-mounts.service"]


def test_a_folder_that_cannot_be_written_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, with the reason."""
    assert status_of(["systemd", "install", "--to", "/dev/null/units"]) in (2, 74)
    assert "/dev/null" in capsys.readouterr().err


def test_units_of_a_user_go_where_its_manager_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """XDG_CONFIG_HOME counts; by default it is ~/.config."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert status_of(["systemd", "install", "--user"]) == 0
    assert (tmp_path / ".config" / "systemd" / "user" / "coord-mounts.service").exists()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert status_of(["systemd", "install", "--user"]) == 0
    assert (tmp_path / "xdg" / "systemd" / "user" / "coord-server.service").exists()
    assert "systemctl --user" in capsys.readouterr().out


@pytest.mark.parametrize("key", KEYS)
def test_a_key_and_its_unit_lead_to_each_other(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The name is that of systemd-escape, which finds map and key again in it."""
    assert status_of(["systemd", "unit", "mount", "--", key]) == 0
    name = capsys.readouterr().out.removesuffix("\n")
    assert name == f"coord-event@{instance('mount', key)}.service"
    if escape := shutil.which("systemd-escape"):
        ours = name.removeprefix("coord-event@").removesuffix(".service")
        theirs = subprocess.run([escape, "--", f"mount/{key}"], capture_output=True, text=True, check=True).stdout
        assert theirs == f"{ours}\n"
        back = subprocess.run([escape, "-u", "--", ours], capture_output=True, text=True, check=True).stdout
        assert event_of(back.removesuffix("\n")) == ("mount", key)


def test_a_key_that_fits_no_unit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Units have names of 255 characters; and what an instance names must be a map and a key."""
    assert status_of(["systemd", "unit", "mount", "x" * 300]) == 2
    assert "longer than 255" in capsys.readouterr().err
    assert status_of(["systemd", "wait", "deploy"]) == 2
    assert "'deploy' is not MAP/KEY" in capsys.readouterr().err


def test_the_unit_of_an_event_waits_for_it(shell: Shell) -> None:
    """What coord-event@ runs ends with 0 once the key was fired, and with 1 if it failed."""
    wait = shell.start("systemd", "wait", "--", "mount//srv/db")
    shell.do("fire", "mount", "/srv/db")
    shell.do("fail", "mount", "/srv/www", "no disk")
    assert wait.end() == (0, "", "")
    assert shell.run("systemd", "wait", "--", "mount//srv/www") == (1, "", "coord: /srv/www failed: no disk\n")
