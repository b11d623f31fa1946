"""Debian's nginx in front of a gateway."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

__all__ = ["needs_nginx", "nginx"]

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None, reason="nginx is not installed (Debian package nginx-light)"
)

_LOCATION: Final = "location / { proxy_pass URL; proxy_set_header Host localhost; MORE }"

_NGINX: Final = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, url: str, more: str = "", location: str = _LOCATION) -> Iterator[str]:
    """Run nginx in front of a gateway, with more settings or another ``location``; give its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "nginx.conf"
    location = location.replace("URL", url).replace("MORE", more)
    settings.write_text(_NGINX.format(folder=folder, port=port, location=location))
    words = ["nginx", "-p", str(folder), "-c", str(settings), "-e", str(folder / "log")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
