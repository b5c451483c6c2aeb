"""Renders the part of kustomize that deploy/kubernetes uses.

Machines without kubectl render with this; where kubectl is found, both must agree
(manifests.py), so that it stays true. Not supported: raises.
"""
import copy
import pathlib

import yaml

# Lists whose elements strategic merge patches find by a key.
MERGE_KEYS = {"containers": "name", "volumes": "name", "ports": "containerPort",
              "volumeMounts": "mountPath", "env": "name"}
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches",
         "configMapGenerator"}
CLUSTER_KINDS = {"Namespace"}


def load(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def identity(manifest):
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def merge_list(key, base, patch):
    field = MERGE_KEYS.get(key)
    if field is None or not all(isinstance(p, dict) for p in patch):
        return copy.deepcopy(patch)
    out = copy.deepcopy(base)
    for element in patch:
        index = next((i for i, b in enumerate(out) if b[field] == element[field]), None)
        if element.get("$patch") == "delete":
            del out[index]
        elif index is None:
            out.insert(0, copy.deepcopy(element))
        else:
            out[index] = merge(out[index], element)
    return out


def merge(base, patch):
    out = copy.deepcopy(base)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        elif isinstance(value, list) and isinstance(out.get(key), list):
            out[key] = merge_list(key, out[key], value)
        else:
            out[key] = copy.deepcopy(value)
    return out


def apply_patch(manifests, patch):
    index = next((i for i, m in enumerate(manifests) if identity(m) == identity(patch)), None)
    if index is None:
        raise ValueError(f"nothing to patch: {identity(patch)}")
    if patch.get("$patch") == "delete":
        del manifests[index]
    else:
        manifests[index] = merge(manifests[index], patch)


def generated(folder, generator):
    options = generator["options"]
    if not options.get("disableNameSuffixHash"):
        raise ValueError("name suffixes are not supported")
    return {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": generator["name"], "labels": options["labels"]},
            "data": {name: (folder / name).read_text() for name in generator["files"]}}


def build(folder, into=None):
    """The manifests of a kustomization; `into`: what a component changes."""
    folder = pathlib.Path(folder).resolve()
    kustomization = load(folder / "kustomization.yaml")[0]
    if not kustomization.keys() <= KNOWN:
        raise ValueError(f"{folder}: {kustomization.keys() - KNOWN} is not supported")
    manifests = into if into is not None else []
    for name in kustomization.get("resources", []):
        path = folder / name
        manifests += build(path) if path.is_dir() else load(path)
    manifests += [generated(folder, g) for g in kustomization.get("configMapGenerator", [])]
    for name in kustomization.get("components", []):
        build(folder / name, manifests)
    for entry in kustomization.get("patches", []):
        for patch in load(folder / entry["path"]):
            apply_patch(manifests, patch)
    namespace = kustomization.get("namespace")
    for manifest in manifests if namespace else []:
        if manifest["kind"] not in CLUSTER_KINDS:
            manifest["metadata"]["namespace"] = namespace
    names = [identity(m) for m in manifests]
    if len(set(names)) != len(names):
        raise ValueError(f"{folder}: the same object twice")
    return manifests
