"""Runs the Dockerfile's steps without Docker: in separate directories, as the image's user.

    make rehearse-image

Each stage is an overlay over this machine's root file system (Linux, root), which stays unchanged.
The machine stands in for the base images, with its Node.js and the Python that runs this script.
The result is started as the image would be, read-only and unprivileged, with its own PostgreSQL.
"""

import asyncio
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml
from dockerfile_parse import DockerfileParser

from infrawatch.embedded.endpoint import choose_port
from infrawatch.embedded.postgres import postgres_running

ROOT = Path(__file__).resolve().parent.parent
SETUP = runpy.run_path(str(ROOT / ".ci" / "setup.py"))
APART = "INFRAWATCH_REHEARSES"
PATH = f"/usr/local/bin:{sys.base_prefix}/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
HEALTHY_WITHIN_S = 60


@dataclass(slots=True)
class Stage:
    """A directory that looks like the root of a container."""

    root: Path
    environment: dict[str, str]
    directory: str = "/"
    user: str = "0"
    said: dict[str, str] = field(default_factory=dict)

    def command(self, words: Sequence[str], **variables: str) -> tuple[list[str], dict[str, str]]:
        """The command line and environment that run `words` in this stage."""
        inside = 'cd "$0" && exec "$@"'
        chroot = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root)]
        return (
            [*chroot, "/bin/sh", "-c", inside, self.directory, *words],
            self.environment | variables,
        )

    def run(self, words: Sequence[str], **variables: str) -> None:
        command, environment = self.command(words, **variables)
        subprocess.run(command, env=environment, check=True)


def main() -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        sys.exit("NOT REHEARSED: this needs Linux, and root for mounts that nobody else sees.")
    if APART not in os.environ:
        again = ["unshare", "--mount", sys.executable, __file__]
        os.execvpe("unshare", again, os.environ | {APART: "1"})
    home = Path(tempfile.mkdtemp(prefix="infrawatch-image-"))
    home.chmod(0o711)
    mount("-t", "tmpfs", "tmpfs", home)
    try:
        last = build(home, context_in(home / "context"))
        asyncio.run(serve(last, home / "postgres"))
    finally:
        mount("--lazy", home, program="umount")
        home.rmdir()
    print("The image's steps work, and what they make serves.")


def context_in(directory: Path) -> Path:
    """The build context that a fresh clone would send to Docker."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    return directory


def build(home: Path, context: Path) -> Stage:
    """Run every step and return the last stage."""
    stages: dict[str, Stage] = {}
    for name, rest in instructions():
        print(f"==> {name} {rest[:100]}", flush=True)
        if name == "FROM":
            stages[rest.rpartition(" AS ")[2]] = make_stage(home / str(len(stages)))
        elif name == "COPY":
            copy(rest, [*stages.values()][-1], stages, context)
        else:
            step([*stages.values()][-1], name, rest)
    return [*stages.values()][-1]


def step(stage: Stage, name: str, rest: str) -> None:
    match name:
        case "ARG":  # as --build-arg
            given = SETUP["package_index"](os.environ)
            stage.environment |= {one: given[one] for one in rest.split() if one in given}
        case "ENV":
            stage.environment |= dict(variables_of(rest, stage.environment))
        case "WORKDIR":
            stage.directory = rest
            in_root(stage, rest).mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = rest
        case "RUN":
            stage.run(["/bin/sh", "-c", rest])
        case _:
            stage.said[name] = rest


def instructions() -> Iterator[tuple[str, str]]:
    with (ROOT / "Dockerfile").open("rb") as file:
        for one in DockerfileParser(fileobj=file).structure:
            if one["instruction"] != "COMMENT":
                yield one["instruction"], one["value"]


def make_stage(home: Path) -> Stage:
    root = home / "root"
    for directory in (root, home / "upper", home / "work"):
        directory.mkdir(parents=True)
    layers = f"lowerdir=/,upperdir={home / 'upper'},workdir={home / 'work'}"
    mount("-t", "overlay", "overlay", "-o", layers, root)
    for name in ("dev", "proc", "sys"):
        mount("--rbind", f"/{name}", root / name)
    add_python(root)
    environment = {"PATH": PATH, "HOME": "/root", "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    return Stage(root, environment)


def add_python(root: Path) -> None:
    """Make the Python that runs this available as in the base image: on PATH, for every user."""
    python = Path(sys.executable).resolve()
    for parent in python.parents:
        inside = root / str(parent)[1:]
        inside.chmod(inside.stat().st_mode | 0o111)
    programs = {"python": f'exec {python} "$@"', "pip": f'exec {python} -m pip "$@"'}
    for name, text in programs.items():
        path = root / "usr" / "local" / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


def variables_of(text: str, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for pair in shlex.split(text):
        name, _, value = pair.partition("=")
        yield name, re.sub(r"\$(\w+)", lambda found: known.get(found[1], ""), value)


def copy(rest: str, stage: Stage, stages: Mapping[str, Stage], context: Path) -> None:
    words = rest.split()
    base = context
    if words[0].startswith("--from="):
        base = stages[words.pop(0).partition("=")[2]].root
    *sources, target = words
    for source in sources:
        found = base / source.lstrip("/")
        into = in_root(stage, target)
        if found.is_dir():
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True)
        else:
            into = into / found.name if target.endswith("/") else into
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into)


def in_root(stage: Stage, path: str) -> Path:
    if path.startswith("/"):
        return stage.root / os.path.normpath(path)[1:]
    return stage.root / os.path.normpath(f"{stage.directory}/{path}")[1:]


async def serve(stage: Stage, data_dir: Path) -> None:
    """Start the image's command, run its health check, and request the dashboard and the docs."""
    mount("-o", "remount,ro", stage.root)
    mount("-t", "tmpfs", "tmpfs", stage.root / "tmp")
    entry = json.loads(stage.said["ENTRYPOINT"])
    healthcheck = json.loads(stage.said["HEALTHCHECK"].rpartition("CMD ")[2])
    async with postgres_running(data_dir) as postgres:
        url, port = postgres.endpoint.url(), str(choose_port())
        # On loopback, so that no other machine can reach the rehearsal.
        variables = {"DATABASE_URL": url, "HOST": "127.0.0.1", "PORT": port}
        variables = {f"INFRAWATCH_{name}": value for name, value in variables.items()}
        initialise(stage, variables)
        command, environment = stage.command([*entry, *json.loads(stage.said["CMD"])], **variables)
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        await until_healthy(stage, healthcheck, variables)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for path in ("/", "/docs"):
                page = await client.get(path)
                assert page.status_code == 200, page
                assert "<html" in page.text, path
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


def initialise(stage: Stage, variables: Mapping[str, str]) -> None:
    """Run the compose file's `init` with its volume; twice, because it runs at every start."""
    init = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["init"]
    volume = in_root(stage, init["volumes"][0].partition(":")[2])
    owner = volume.stat()
    mount("-t", "tmpfs", "-o", f"mode=755,uid={owner.st_uid}", "tmpfs", volume)
    keys = []
    for _ in range(2):
        stage.run([*init["entrypoint"], *init["command"]], **variables)
        [file] = volume.iterdir()
        keys.append(file.read_text("utf-8"))
    assert keys[0] == keys[1]


async def until_healthy(
    stage: Stage, healthcheck: Sequence[str], variables: Mapping[str, str]
) -> None:
    command, environment = stage.command(healthcheck, **variables)
    async with asyncio.timeout(HEALTHY_WITHIN_S):
        while True:
            asking = await asyncio.create_subprocess_exec(*command, env=environment)
            if await asking.wait() == 0:
                return
            await asyncio.sleep(0.2)


def mount(*words: str | Path, program: str = "mount") -> None:
    subprocess.run([program, *words], check=True)


if __name__ == "__main__":
    main()
