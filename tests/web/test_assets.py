"""The files of the page: what is sent, how it is kept, and what it weighs."""

from __future__ import annotations

import gzip
import re
import tomllib
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from coord.web.assets import POLICY, load
from coord.web.config import Config
from web.client import Make, Web

PAGE = Path(str(files("coord.web") / "page"))
PINS = tomllib.loads((PAGE / "vendor" / "VENDOR.toml").read_text())


def test_the_page_is_sent_with_its_policy(web: Web) -> None:
    """A browser lets the page do no more than the policy says, whatever is in a key or a value."""
    answer = web.get("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-cache"
    assert web.get("/", If_None_Match=answer.headers["etag"]).status == 304


def test_who_has_no_rights_gets_the_page(make_web: Make) -> None:
    """The page is what asks for a token, so it needs none."""
    web = make_web(Config(anonymous=()))
    assert web.get("/").status == 200
    assert web.get("/v1/maps").status == 401


def test_each_file_that_the_page_names_is_there_and_kept_for_ever(web: Web) -> None:
    """Every address in the first file is answered, and a browser need not ask for it again."""
    names = re.findall(r'(?:href|src)="(page/[^"]+)"', web.get("/").body.decode())
    assert len(names) > 20
    for name in names:
        answer = web.get(f"/{name}")
        assert answer.status == 200, name
        assert "immutable" in answer.headers["cache-control"]
        assert web.get(f"/{name}", If_None_Match=answer.headers["etag"]).status == 304


def test_a_file_is_sent_compressed_to_who_takes_that(web: Web) -> None:
    """The bytes are the same in both ways."""
    path = f"/page/{load().digest}/page.css"
    plain, zipped = web.get(path), web.get(path, Accept_Encoding="br, gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == plain.body == (PAGE / "page.css").read_bytes()


@pytest.mark.parametrize("path", ["page.css", "../page.css", "vendor/LICENSE", "vendor/..", "a/b/c"])
def test_what_is_no_file_of_the_page_is_404(web: Web, path: str) -> None:
    """Of the package only the page's files are sent, and only those of this version."""
    digest = load().digest if path != "page.css" else "0" * 16
    assert web.get(f"/page/{digest}/{path}").status in (400, 404)


def test_all_modules_are_fetched_at_once() -> None:
    """The first file names every module: else the browser learns of each when the one before has arrived."""
    text = (PAGE / "index.html").read_text()
    for path in PAGE.rglob("*.js"):
        assert f'"{{page}}{path.relative_to(PAGE)}"' in text, path
    assert text.count("{page}") == len(load().others)


def test_the_page_weighs_at_most_60_kb() -> None:
    """All that a browser fetches before the first row, as it is sent."""
    assets = load()
    assert len(assets.first.zipped) + sum(len(asset.zipped) for asset in assets.others.values()) <= 60_000


def test_nothing_in_the_page_leads_elsewhere() -> None:
    """No address of another host, and no style or script inside of the HTML, which the policy would refuse."""
    for path in [*PAGE.glob("*.*"), *PAGE.glob("screens/*")]:
        text = path.read_text()
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], path
        assert re.findall(r"""\sstyle=["$]|\son\w+="|<script>""", text) == [], path


@pytest.mark.parametrize("name", PINS["files"])
def test_what_is_from_others_is_as_pinned(name: str) -> None:
    """The library is the published one, to the byte, and its licence is beside it."""
    assert sha256((PAGE / "vendor" / name).read_bytes()).hexdigest() == PINS["files"][name]


def test_nothing_else_is_from_others() -> None:
    """Each file in the folder is pinned."""
    found = {str(path.relative_to(PAGE / "vendor")) for path in (PAGE / "vendor").rglob("*") if path.is_file()}
    assert found == {*PINS["files"], "VENDOR.toml"}
    assert "LICENSE" in found
