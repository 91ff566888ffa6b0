"""Debian's nginx on loopback, with the configuration in deploy/nginx."""

import asyncio
import os
import re
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from scripted_server import eventually

from infrawatch.embedded.endpoint import choose_port, is_free

DEPLOYED = Path(__file__).parents[1] / "deploy" / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
ABSENT = "NOT TESTED: no nginx here; `make peers` installs it, or apt-get install nginx-light"

MAIN = """
{user} worker_processes 1; pid {directory}/pid; daemon off; error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/1; scgi_temp_path {directory}/2; uwsgi_temp_path {directory}/3;
    include {directory}/upstream.conf;
    include {directory}/infrawatch.conf;
}}
"""


@asynccontextmanager
async def nginx_before(servers: Sequence[str], directory: Path) -> AsyncGenerator[str, None]:
    """nginx as deployed, but for its port and those of the servers; gives its URL."""
    assert NGINX is not None
    port = choose_port()
    _write(directory, "infrawatch.conf", r"listen 8080;", f"listen 127.0.0.1:{port};")
    addresses = iter(one.removeprefix("http://") for one in servers)
    _write(directory, "upstream.conf", r"127\.0\.0\.1:\d+", lambda _: next(addresses))
    user = "user root;" if os.geteuid() == 0 else ""
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(directory=directory, user=user))
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-e", directory / "error.log", "-c", main), stdout=DEVNULL
    )
    try:
        await eventually(lambda: process.returncode is not None or not is_free(port))
        assert process.returncode is None, (directory / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _write(directory: Path, name: str, pattern: str, replacement: object) -> None:
    text, replaced = re.subn(pattern, replacement, (DEPLOYED / name).read_text("utf-8"))  # type: ignore[call-overload]  # text or a function
    assert replaced
    (directory / name).write_text(text)
