"""A real Prometheus scrapes a real server and real workers: every panel's query has data.

    live.py SOURCE BIN PROMETHEUS ISSUE_CERTIFICATES
"""
import contextlib
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from dashboards import panels
from monitoring import documented

PATIENCE_S = 240
VARIABLES = {"$__rate_interval": "60s", "$job": ".+", "$instance": ".+"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """Server, workers and Prometheus, until the end of the block."""

    def __init__(self, source, programs, prometheus, issue, folder):
        self.source, self.programs, self.prometheus = source, programs, prometheus
        self.folder, self.processes, self.workers = folder, {}, set()
        subprocess.run([issue, folder], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()

    def start(self, name, *command):
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)
        return self.processes[name]

    def await_file(self, name, process):
        path = self.folder / name
        end = time.monotonic() + PATIENCE_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"no {name}:\n{self.logs()}")
            time.sleep(0.05)
        return json.loads(path.read_text())

    def serve(self):
        spill = self.folder / "spill"
        spill.mkdir()
        # Less RAM than two workers fill, so that rows go to the disk and come back; and a disk
        # that is slower than they, so that appends wait for it.
        server = self.start(
            "server", self.programs / "passband-server", "--ram", "24MiB", "--control-port", "0",
            "--data-port", "0", "--http-port", "0", "--spill-dir", spill, "--spill-rate", "1MiB",
            "--tenant-bytes", "1GiB", "--tenant-sequences", "100",
            "--tls-client-ca", self.folder / "authority.crt",
            "--tls-cert", self.folder / "server.crt", "--tls-key", self.folder / "server.key",
            "--ready-file", self.folder / "ready.json")
        return self.await_file("ready.json", server)

    def decode(self, name, address, letters):
        model = self.source / "models/books-13m"
        prompt = self.folder / f"{name}.txt"
        prompt.write_bytes((model / "held-out.txt").read_bytes()[:letters])
        port = free_port()
        self.workers.add(name)
        self.start(name, self.programs / "passband-worker", "generate", "--model", model,
                   "--server", address, "--tls-ca", self.folder / "authority.crt",
                   "--tls-cert", self.folder / "tenant-a.crt",
                   "--tls-key", self.folder / "tenant-a.key", "--data-plane", "ucx",
                   "--prompt-file", prompt, "--max-tokens", "7000",
                   "--threads", "1", "--metrics", f"127.0.0.1:{port}")
        return port

    def scrape(self, jobs):
        config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "450ms"},
                  "scrape_configs": [
                      {"job_name": job,
                       "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in ports]}]}
                      for job, ports in jobs.items()]}
        path = self.folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        port = free_port()
        self.start("prometheus", self.prometheus, f"--config.file={path}",
                   f"--storage.tsdb.path={self.folder / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}")
        return port

    def keep_running(self):
        """Starts a worker again that has written its text; what else ends is a failure."""
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                continue
            if process.returncode != 0 or name not in self.workers:
                sys.exit(f"{name} ended with {process.returncode}:\n{self.logs()}")
            self.start(name, *process.args)

    def logs(self):
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-2000:]}"
                         for p in sorted(self.folder.glob("*.log")))


def values(port, query):
    """The finite values of an instant query; raises on what Prometheus refuses."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise ValueError(f"{query}: {error.read().decode()}") from error
    except OSError:  # not up yet
        return []
    numbers = [float(series["value"][1]) for series in result]
    return [n for n in numbers if math.isfinite(n)]


def queries(source):
    for path in sorted((source / "dashboards").glob("*.json")):
        for panel in panels(json.loads(path.read_text())):
            for target in panel["targets"]:
                expr = target["expr"]
                for name, value in VARIABLES.items():
                    expr = expr.replace(name, value)
                yield f"{path.name}: {panel['title']}", expr


def undocumented(source, port):
    """The worker's metrics and docs/metrics.md, both ways: names and types."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError as error:
        return [f"a worker's exposition: {error}"]
    exposed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    page = {n: t for n, t in documented(source).items() if n.startswith("passband_worker_")}
    return [f"{name} {kind}: only in one of docs/metrics.md and a worker's exposition"
            for name, kind in set(exposed.items()) ^ set(page.items())]


def main(source, programs, prometheus, issue):
    source = pathlib.Path(source)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="passband-")))
        world = stack.enter_context(World(
            source, pathlib.Path(programs), prometheus, issue, folder))
        ready = world.serve()
        first = world.decode("first", ready["control_address"], 3000)
        port = world.scrape({"passband": [ready["http_port"]], "worker": [first]})
        time.sleep(5)  # so that the second finds the first's prefix stored
        second = world.decode("second", ready["control_address"], 3500)
        missing = dict((expr, where) for where, expr in queries(source))
        total, end = len(missing), time.monotonic() + PATIENCE_S
        while missing and time.monotonic() < end:
            world.keep_running()
            for expr in [e for e in missing if values(port, e)]:
                del missing[expr]
            time.sleep(1)
        found = [f"{where}: no data: {expr}" for expr, where in missing.items()]
        # One that has just started again shows nothing yet.
        wrong = undocumented(source, second)
        while wrong and time.monotonic() < end:
            world.keep_running()
            time.sleep(0.5)
            wrong = undocumented(source, second)
        found += wrong
        saved = values(port, "1 - sum(passband_fetched_bytes_total) / "
                             "sum(passband_full_attention_bytes_total)")
        if not saved or not 0.5 < saved[0] < 1:
            found.append(f"bandwidth saved is {saved}")
        print("\n".join(found) or f"{total} queries have data; bandwidth saved {saved[0]:.3f}")
        if found:
            print(world.logs())
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
