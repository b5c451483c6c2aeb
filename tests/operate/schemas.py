"""What Kubernetes takes, for the kinds and fields that deploy/kubernetes uses.

A field that is not here is refused: a misspelled one, or a new one that belongs here. Written
after the API reference of Kubernetes 1.32 and of the Prometheus operator. "!": required.
"""
import re

STR, INT, BOOL = str, int, bool
MAP = {"*": STR}
QUANTITY = re.compile(r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")
DURATION = re.compile(r"^(\d+(ms|s|m|h))+$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
PORT = (INT, NAME)

METADATA = {"name!": NAME, "namespace": NAME, "labels": MAP, "annotations": MAP}
SELECTOR = {"matchLabels!": MAP}
PROBE = {"httpGet!": {"path!": STR, "port!": PORT}, "periodSeconds": INT, "timeoutSeconds": INT,
         "failureThreshold": INT, "initialDelaySeconds": INT}
CONTAINER = {
    "name!": NAME, "image!": STR, "command": [STR], "args": [STR],
    "ports": [{"name!": NAME, "containerPort!": INT, "hostPort": INT,
               "protocol": re.compile("^(TCP|UDP)$")}],
    "envFrom": [{"configMapRef!": {"name!": NAME}}],
    "resources!": {"requests!": {"*": QUANTITY}, "limits!": {"*": QUANTITY}},
    "startupProbe": PROBE, "readinessProbe": PROBE, "livenessProbe!": PROBE,
    "lifecycle": {"preStop!": {"exec!": {"command!": [STR]}}},
    "securityContext!": {"allowPrivilegeEscalation!": BOOL, "readOnlyRootFilesystem!": BOOL,
                         "capabilities!": {"drop!": [STR], "add": [STR]}},
    "volumeMounts": [{"name!": NAME, "mountPath!": STR, "subPath": STR, "readOnly": BOOL}],
}
VOLUME = {"name!": NAME, "configMap": {"name!": NAME},
          "emptyDir": {"medium": re.compile("^Memory$"), "sizeLimit!": QUANTITY},
          "persistentVolumeClaim": {"claimName!": NAME, "readOnly": BOOL}}
POD = {
    "serviceAccountName": NAME, "automountServiceAccountToken!": BOOL,
    "enableServiceLinks!": BOOL, "terminationGracePeriodSeconds": INT, "nodeSelector": MAP,
    "tolerations": [{"key!": STR, "operator!": STR, "effect!": STR}],
    "hostNetwork": BOOL, "hostIPC": BOOL, "hostPID": BOOL, "dnsPolicy": STR,
    "topologySpreadConstraints": [
        {"maxSkew!": INT, "topologyKey!": STR, "labelSelector!": SELECTOR,
         "whenUnsatisfiable!": re.compile("^(DoNotSchedule|ScheduleAnyway)$")}],
    "securityContext!": {"runAsNonRoot!": BOOL, "runAsUser!": INT, "runAsGroup!": INT,
                         "fsGroup": INT,
                         "fsGroupChangePolicy": re.compile("^(OnRootMismatch|Always)$"),
                         "seccompProfile!": {"type!": re.compile("^RuntimeDefault$")}},
    "containers!": [CONTAINER], "volumes": [VOLUME],
}
# What runs to its end is not probed.
TASK = {name: field for name, field in CONTAINER.items() if not name.startswith("liveness")}
TASK_POD = {**POD, "restartPolicy!": re.compile("^(Never|OnFailure)$"), "containers!": [TASK]}
TEMPLATE = {"metadata!": {"labels!": MAP}, "spec!": POD}
CLAIM = {"metadata!": {"name!": NAME},
         "spec!": {"accessModes!": [re.compile("^ReadWrite(Once|OncePod)$")],
                   "resources!": {"requests!": {"storage!": QUANTITY}}}}
PEERS = [{"namespaceSelector": SELECTOR, "podSelector": SELECTOR}]
MONITOR = {"port!": NAME, "path!": STR, "interval!": DURATION}
RULE = {"record": STR, "alert": STR, "expr!": STR, "for": DURATION, "labels": MAP,
        "annotations": MAP}

KINDS = {
    ("v1", "Namespace"): {},
    ("v1", "ServiceAccount"): {"automountServiceAccountToken!": BOOL},
    ("v1", "ConfigMap"): {"data!": MAP},
    ("v1", "Service"): {"spec!": {
        "clusterIP": re.compile("^None$"), "selector!": MAP,
        "ports!": [{"name!": NAME, "port!": INT, "targetPort!": PORT, "appProtocol": STR}]}},
    ("apps/v1", "StatefulSet"): {"spec!": {
        "replicas!": INT, "serviceName!": NAME, "minReadySeconds": INT,
        "podManagementPolicy": re.compile("^(Parallel|OrderedReady)$"), "selector!": SELECTOR,
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted!": re.compile("^(Retain|Delete)$"),
            "whenScaled!": re.compile("^(Retain|Delete)$")},
        "template!": TEMPLATE, "volumeClaimTemplates": [CLAIM]}},
    ("apps/v1", "DaemonSet"): {"spec!": {
        "selector!": SELECTOR, "template!": TEMPLATE,
        "updateStrategy": {"type!": re.compile("^(RollingUpdate|OnDelete)$"),
                           "rollingUpdate": {"maxUnavailable!": INT}}}},
    ("apps/v1", "Deployment"): {"spec!": {
        "replicas!": INT, "selector!": SELECTOR, "template!": TEMPLATE}},
    ("batch/v1", "Job"): {"spec!": {
        "backoffLimit!": INT, "ttlSecondsAfterFinished!": INT,
        "template!": {"metadata!": {"labels!": MAP}, "spec!": TASK_POD}}},
    ("policy/v1", "PodDisruptionBudget"): {"spec!": {
        "maxUnavailable!": INT, "selector!": SELECTOR,
        "unhealthyPodEvictionPolicy": re.compile("^(AlwaysAllow|IfHealthyBudget)$")}},
    ("networking.k8s.io/v1", "NetworkPolicy"): {"spec!": {
        "podSelector!": SELECTOR, "policyTypes!": [re.compile("^(Ingress|Egress)$")],
        "ingress!": [{"from!": PEERS, "ports!": [
            {"protocol!": re.compile("^TCP$"), "port!": PORT, "endPort": INT}]}]}},
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {"spec!": {
        "jobLabel": STR, "selector!": SELECTOR, "endpoints!": [MONITOR]}},
    ("monitoring.coreos.com/v1", "PodMonitor"): {"spec!": {
        "namespaceSelector": {"any!": BOOL}, "selector!": SELECTOR,
        "podMetricsEndpoints!": [MONITOR]}},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"spec!": {"groups!": [
        {"name!": STR, "interval": DURATION, "rules!": [RULE]}]}},
}


def faults(value, schema, where):
    if isinstance(schema, tuple):
        if all(list(faults(value, option, where)) for option in schema):
            yield f"{where}: {value!r}"
    elif isinstance(schema, re.Pattern):
        if not isinstance(value, str) or not schema.match(value):
            yield f"{where}: {value!r} is not like {schema.pattern}"
    elif isinstance(schema, type):
        if type(value) is not schema:
            yield f"{where}: {value!r} is no {schema.__name__}"
    elif isinstance(schema, list):
        if not isinstance(value, list) or not value:
            yield f"{where}: no list, or an empty one"
            return
        for i, element in enumerate(value):
            yield from faults(element, schema[0], f"{where}[{i}]")
    elif not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
    elif "*" in schema:
        for key, element in value.items():
            yield from faults(element, schema["*"], f"{where}.{key}")
    else:
        fields = {name.rstrip("!"): inner for name, inner in schema.items()}
        for key in value.keys() - fields.keys():
            yield f"{where}.{key}: no such field"
        for name in schema:
            if name.endswith("!") and name[:-1] not in value:
                yield f"{where}.{name[:-1]}: missing"
        for key in value.keys() & fields.keys():
            yield from faults(value[key], fields[key], f"{where}.{key}")


def check(manifest):
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind not in KINDS:
        return [f"{kind}: no schema"]
    schema = {"apiVersion!": STR, "kind!": STR, "metadata!": METADATA, **KINDS[kind]}
    return list(faults(manifest, schema, f"{kind[1]} {manifest['metadata'].get('name')}"))
