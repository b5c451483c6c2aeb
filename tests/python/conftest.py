"""What the Python tests share: servers of their own, and clients of both kinds."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import passband

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PASSBAND_BIN", ROOT / "build/release/bin"))
BOOKS = ROOT / "models/books-13m"


class Server:
    """A passband-server on free ports, and its end."""

    def __init__(self, folder, *flags):
        ready = folder / "ready.json"
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    BIN / "passband-server", "--ram", "256MiB", "--ready-file", ready,
                    "--control-port", "0", "--data-port", "0", "--http-port", "0", *flags,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                self.ports = json.loads(ready.read_text())
                break
            except (FileNotFoundError, json.JSONDecodeError):
                assert self.process.poll() is None and time.monotonic() < until, (
                    self.log.read_text()
                )
                time.sleep(0.02)
        self.address = f"127.0.0.1:{self.ports['control_port']}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def new_server(tmp_path):
    """Starts servers that end with the test."""
    servers = []

    def start(*flags):
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        servers.append(Server(folder, *flags))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One for all tests that leave it as it was."""
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    assert started.process.poll() is None, started.log.read_text()
    started.kill()


@pytest.fixture(params=["embedded", "server"])
def client(request):
    """Every test that takes it runs over a store in the process and over a server."""
    if request.param == "embedded":
        made = passband.embedded(ram="64MiB")
    else:
        made = passband.connect(request.getfixturevalue("server").address)
    with made:
        yield made


@pytest.fixture
def embedded():
    with passband.embedded(ram="64MiB") as made:
        yield made
