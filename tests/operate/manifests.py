"""deploy/ against what it names: Kubernetes' schemas, the programs' flags, each other.

    manifests.py SOURCE BIN
"""
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import yaml

import kustomize
import schemas

WORKLOADS = {"StatefulSet", "DaemonSet", "Deployment", "Job"}
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SPILL_BYTES = 640 * 2**20  # RocksDB's write buffers and indexes
SPARE_BYTES = 512 * 2**20


def size(text):
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", str(text)).groups()
    return int(number) * UNITS[unit]


def of_kind(manifests, *kinds):
    return [m for m in manifests if m["kind"] in kinds]


def selects(selector, labels):
    return selector["matchLabels"].items() <= labels.items()


def settings(manifests):
    for config in of_kind(manifests, "ConfigMap"):
        if config["metadata"]["name"] == "passband-config":
            return yaml.safe_load(config["data"]["server.yaml"])
    return None


def help_flags(program, *command):
    text = subprocess.run([program, *command, "--help"], capture_output=True, text=True,
                          check=True).stdout
    return set(re.findall(r"--[a-z][a-z-]+", text))


def unknown_flags(words, program, *command):
    flags = help_flags(program, *command)
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    return [f"{pathlib.Path(program).name} has no {flag}" for flag in sorted(used - flags)]


def pod_problems(workload, manifests):
    spec = workload["spec"]["template"]["spec"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    if workload["kind"] != "Job" and not selects(workload["spec"]["selector"], labels):
        yield "the selector misses its own pods"
    if spec["automountServiceAccountToken"] or spec["enableServiceLinks"]:
        yield "service account token or service links"
    accounts = {m["metadata"]["name"] for m in of_kind(manifests, "ServiceAccount")}
    if spec.get("serviceAccountName", next(iter(accounts), "")) not in accounts | {""}:
        yield "no such service account"
    volumes = {v["name"]: v for v in spec.get("volumes", [])}
    claims = {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
    for container in spec["containers"]:
        used = {m["name"] for m in container.get("volumeMounts", [])}
        if used != volumes.keys() | claims:
            yield f"volumes and mounts differ: {sorted(used ^ (volumes.keys() | claims))}"
        names = [p["name"] for p in container.get("ports", [])]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in names:
                yield f"{probe}: no such port"
        if container["image"].endswith(":latest") or ":" not in container["image"]:
            yield f"image {container['image']} has no version"
        if container["resources"]["requests"] != container["resources"]["limits"]:
            yield "requests are not the limits"
        context = container["securityContext"]
        if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"] or \
                context["capabilities"]["drop"] != ["ALL"]:
            yield "its security context allows more than it needs"
        root = not spec["securityContext"]["runAsNonRoot"]
        if root != (context["capabilities"].get("add") == ["IPC_LOCK"]):
            yield "IPC_LOCK works for root alone, and root is for it alone"


def server_problems(workload, manifests, programs):
    """The server's pod against its settings."""
    config = settings(manifests)
    for fault in unknown_flags([f"--{key}" for key in config], programs / "passband-server"):
        yield fault
    spec = workload["spec"]["template"]["spec"]
    container = spec["containers"][0]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for name, key, usual in (("grpc", "control-port", 50061), ("data", "data-port", 50062),
                             ("http", "http-port", 9461)):
        if ports[name] != config.get(key, usual):
            yield f"port {name} is {ports[name]}, the server's is {config.get(key, usual)}"
    limits = container["resources"]["limits"]
    has = size(limits["memory"]) + size(limits.get("hugepages-2Mi", "0"))
    needs = size(config["ram"]) + size(config["staging"]) * config["data-threads"] + SPARE_BYTES
    needs += SPILL_BYTES if "spill-dir" in config else 0
    if has < needs:
        yield f"memory: {has >> 20} MiB, it takes {needs >> 20}"
    drain = container["lifecycle"]["preStop"]["exec"]["command"]
    if drain[:2] != ["/usr/local/bin/passband", "drain"]:
        yield "preStop does not drain"
    yield from unknown_flags(drain, programs / "passband", "drain")
    minutes = int(re.fullmatch(r"(\d+)m", drain[-1]).group(1))
    stop = int(re.fullmatch(r"(\d+)s", config["stop-timeout"]).group(1))
    if 60 * minutes + stop >= spec["terminationGracePeriodSeconds"]:
        yield "the grace period ends before drain and stop do"
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    if "spill-dir" in config and config["spill-dir"] not in mounts:
        yield "the spill folder is on no volume"
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        if size(claim["spec"]["resources"]["requests"]["storage"]) < size(config.get("spill-limit", "64GiB")):
            yield "the volume is smaller than spill-limit"


def network_problems(manifests):
    servers = [w["spec"]["template"] for w in of_kind(manifests, "StatefulSet", "DaemonSet")]
    for service in of_kind(manifests, "Service"):
        matched = [t for t in servers
                   if service["spec"]["selector"].items() <= t["metadata"]["labels"].items()]
        if not matched:
            yield f"Service {service['metadata']['name']} selects nothing"
        for template in matched:
            names = {p["name"] for p in template["spec"]["containers"][0]["ports"]}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in names:
                    yield f"Service port {port['name']} leads nowhere"
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        if not any(selects(budget["spec"]["selector"], t["metadata"]["labels"]) for t in servers):
            yield "the disruption budget selects nothing"
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(manifests, "NetworkPolicy")}
    config = settings(manifests)
    if policies and config:
        last = config.get("data-port", 50062) + config["data-threads"] - 1
        opened = policies["passband"]["ingress"][0]["ports"][1]
        if not opened["port"] <= last <= opened["endPort"]:
            yield "the NetworkPolicy does not open every data port"
        connection = next(m for m in of_kind(manifests, "ConfigMap")
                          if m["metadata"]["name"] == "passband-connection")["data"]
        back = policies["passband-to-workers"]["ingress"][0]["ports"][0]
        if connection["UCX_TCP_PORT_RANGE"] != f"{back['port']}-{back['endPort']}":
            yield "workers' UCX ports are not those of the NetworkPolicy"
    for monitor in of_kind(manifests, "ServiceMonitor"):
        found = [s for s in of_kind(manifests, "Service")
                 if selects(monitor["spec"]["selector"], s["metadata"]["labels"])]
        names = {p["name"] for s in found for p in s["spec"]["ports"]}
        if not {e["port"] for e in monitor["spec"]["endpoints"]} <= names:
            yield "the ServiceMonitor selects no such port"


def overlay_problems(folder, programs):
    manifests = kustomize.build(folder)
    for manifest in manifests:
        yield from schemas.check(manifest)
        if manifest["kind"] == "PrometheusRule":
            yield from rule_problems(manifest, folder.parents[2] / "prometheus")
        if manifest["kind"] == "Namespace":
            privileged = any(w["spec"]["template"]["spec"].get("hostNetwork")
                             or not w["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
                             for w in of_kind(manifests, *WORKLOADS))
            level = manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            if level != ("privileged" if privileged else "restricted"):
                yield f"Pod Security {level}"
    for workload in of_kind(manifests, *WORKLOADS):
        yield from pod_problems(workload, manifests)
        container = workload["spec"]["template"]["spec"]["containers"][0]
        if container["name"] == "doctor":
            yield from unknown_flags(container["args"], programs / "passband", "doctor")
        elif container["name"] == "worker":
            yield from unknown_flags(container["args"], programs / "passband-worker", "generate")
        else:
            yield from server_problems(workload, manifests, programs)
            yield from unknown_flags(container["args"], programs / "passband-server")
    yield from network_problems(manifests)
    yield from kubectl_problems(folder, manifests)
    if settings(manifests):
        yield from start_problems(settings(manifests), programs)


def rule_problems(manifest, folder):
    groups = [g for name in ("recording", "alerts")
              for g in yaml.safe_load((folder / f"{name}.rules.yaml").read_text())["groups"]]
    if manifest["spec"]["groups"] != groups:
        yield "the PrometheusRule is not deploy/prometheus/*.rules.yaml"


def kubectl_problems(folder, manifests):
    if shutil.which("kubectl") is None:
        return
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    theirs = {kustomize.identity(m): m for m in yaml.safe_load_all(done.stdout)}
    ours = {kustomize.identity(m): m for m in manifests}
    if done.returncode != 0 or theirs != ours:
        yield f"kubectl renders something else: {done.stderr[-500:]}"


def start_problems(config, programs):
    """The very settings, but for what this machine has not: the real server takes them."""
    with tempfile.TemporaryDirectory(prefix="passband-") as folder:
        path = pathlib.Path(folder)
        (path / "spill").mkdir()
        (path / "server.yaml").write_text(yaml.safe_dump(config))
        command = [programs / "passband-server", "--config", path / "server.yaml",
                   "--ram", "16MiB", "--host", "127.0.0.1", "--net-devices", "lo",
                   "--control-port", "0", "--data-port", "0", "--http-port", "0",
                   "--ready-file", path / "ready.json"]
        if "spill-dir" in config:
            command += ["--spill-dir", path / "spill", "--spill-limit", "1GiB"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while not (path / "ready.json").exists() and server.poll() is None:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        ready = (path / "ready.json").exists()
        server.send_signal(signal.SIGTERM)
        try:
            output, code = server.communicate(timeout=60)[0].decode(), server.returncode
        except subprocess.TimeoutExpired:
            server.kill()
            output, code = server.communicate()[0].decode(), "none"
        if not ready or code != 0:
            yield f"the server does not run with these settings (exit {code}): {output[-800:]}"


def libraries(programs):
    """Debian packages of what programs load."""
    files = set()
    for program in programs:
        text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for file in re.findall(r"=> (/\S+)", text):
            files |= {file, str(pathlib.Path(file).resolve())}
    # dpkg knows some by their name before /lib became /usr/lib.
    files |= {file.removeprefix("/usr") for file in files}
    done = subprocess.run(["dpkg", "-S", *sorted(files)], capture_output=True, text=True)
    return set(re.findall(r"^([a-z0-9.+-]+)(?::\w+)?: ", done.stdout, re.M))


def dependencies(named):
    """What comes with packages."""
    closed, todo = set(), set(named)
    while todo:
        closed |= todo
        shown = subprocess.run(["dpkg-query", "-W", "-f=${Depends}, ${Pre-Depends}\n", *todo],
                               capture_output=True, text=True).stdout
        first = re.sub(r"\|[^,\n]*", "", shown)
        todo = set(re.findall(r"(?:^|, )([a-z0-9.+-]+)", first, re.M)) - closed
    return closed


def dockerfile_problems(root, programs):
    text = (root / "deploy/docker/Dockerfile").read_text()
    named = set(re.findall(r"^      ([a-z0-9.+-]+) \\$", text, re.M))
    needed = libraries(programs / name
                       for name in ("passband", "passband-server", "passband-worker"))
    closed = dependencies(named)
    if len(needed) < 10:
        yield f"Dockerfile: dpkg knows only {sorted(needed)}"
    for package in sorted(needed - closed):
        yield f"Dockerfile: {package} is loaded and not installed"
    for package in sorted(named - needed - {"ibverbs-providers"}):
        yield f"Dockerfile: {package} is installed and not loaded"
    stages = re.split(r"^FROM ", text, flags=re.M)[1:]
    if len(stages) != 4 or sum("USER 65532:65532" in s for s in stages) != 2:
        yield "Dockerfile: stages, or their user"


def compose_problems(root, programs):
    folder = root / "deploy/compose"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    for fault in unknown_flags(compose["services"]["passband"]["command"],
                               programs / "passband-server"):
        yield f"compose: {fault}"
    for name, service in compose["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = source in compose["volumes"] or (folder / source).exists()
            if not known:
                yield f"compose: {name} mounts {source}, which is not there"
    health = compose["services"]["passband"]["healthcheck"]["test"]
    yield from unknown_flags(health, programs / "passband", "status")
    promtool = shutil.which("promtool")
    config = (folder / "prometheus.yaml").read_text().replace("/etc/prometheus/rules",
                                                              str(root / "deploy/prometheus"))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        done = subprocess.run([promtool, "check", "config", file.name], capture_output=True,
                              text=True)
        if done.returncode != 0 or "2 rule files" not in done.stdout:
            yield f"compose: promtool: {done.stdout}{done.stderr}"


def systemd_problems(root, programs):
    folder = root / "deploy/systemd"
    text = (folder / "passband-server.service").read_text()
    config = yaml.safe_load((folder / "server.yaml").read_text())
    for fault in unknown_flags([f"--{key}" for key in config], programs / "passband-server"):
        yield f"systemd: server.yaml: {fault}"
    for line, program, command in (("ExecStart", "passband-server", ()),
                                   ("ExecStop", "passband", ("drain",))):
        words = re.search(rf"^{line}=-?(.*)$", text, re.M).group(1).split()
        if words[0] != f"/usr/local/bin/{program}":
            yield f"systemd: {line} starts {words[0]}"
        yield from unknown_flags(words, programs / program, *command)
    if shutil.which("systemd-analyze"):
        with tempfile.TemporaryDirectory() as temporary:
            unit = pathlib.Path(temporary) / "passband-server.service"
            unit.write_text(text.replace("/usr/local/bin", str(programs)))
            done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True,
                                  text=True)
            if "passband-server.service" in done.stderr:
                yield f"systemd: {done.stderr}"


def main(source, binaries):
    root, programs = pathlib.Path(source).resolve(), pathlib.Path(binaries).resolve()
    folder = root / "deploy/kubernetes"
    overlays = sorted(folder.glob("overlays/*")) + sorted(folder.glob("examples/*"))
    found = [] if len(overlays) >= 8 else [f"only {len(overlays)} overlays"]
    for overlay in overlays:
        found += [f"{overlay.name}: {problem}" for problem in overlay_problems(overlay, programs)]
    generator = yaml.safe_load((root / "dashboards/kustomization.yaml").read_text())
    files = set(generator["configMapGenerator"][0]["files"])
    if files != {path.name for path in (root / "dashboards").glob("*.json")}:
        found.append("dashboards/kustomization.yaml does not list every dashboard")
    found += dockerfile_problems(root, programs)
    found += compose_problems(root, programs)
    found += systemd_problems(root, programs)
    tools = [t for t in ("kubectl", "systemd-analyze") if shutil.which(t) is None]
    print("\n".join(found) or f"{len(overlays)} overlays, whole" +
          (f"; not here, so not asked: {', '.join(tools)}" if tools else ""))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
