"""Dashboards are whole: variables, units, descriptions, and only metrics that exist.

    dashboards.py SOURCE
"""
import json
import pathlib
import re
import sys

from monitoring import documented, unknown_metrics

UNITS = {"bytes", "Bps", "s", "percentunit", "reqps", "ops", "cps", "short"}
VARIABLES = ["datasource", "job", "instance"]
# Metrics nobody needs to see on a dashboard.
UNSEEN = {"process_start_time_seconds", "process_virtual_memory_bytes", "process_threads",
          "passband_tenant_quota_sequences"}


def panels(board):
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel


def target_problems(expr):
    for selector in re.findall(r"\b(?:passband|process)_\w+(\{[^}]*\})?", expr):
        if 'job=~"$job"' not in selector or 'instance=~"$instance"' not in selector:
            yield f"a selector without job and instance in {expr}"
    for interval in re.findall(r"\[([^\]]*)\]", expr):
        if interval != "$__rate_interval":
            yield f"[{interval}] is not [$__rate_interval]"
    if expr.count("(") != expr.count(")"):
        yield f"parentheses of {expr}"


def panel_problems(panel):
    if not panel.get("description", "").endswith("."):
        yield "no description"
    if panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
        yield f"unit {panel['fieldConfig']['defaults'].get('unit')}"
    if not panel["targets"]:
        yield "no query"
    for source in [panel, *panel["targets"]]:
        if source["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield "a data source of its own"
    for target in panel["targets"]:
        yield from target_problems(target["expr"])
        if panel["type"] == "timeseries" and not target["legendFormat"]:
            yield "no legend"
    place = panel["gridPos"]
    if place["x"] + place["w"] > 24:
        yield "wider than the page"


def overlaps(board):
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    return [f"{panel['title']} lies over {other}"]
    return []


def board_problems(board):
    if [v["name"] for v in board["templating"]["list"]] != VARIABLES:
        yield f"variables are not {VARIABLES}"
    for variable in board["templating"]["list"][1:]:
        if variable["refresh"] != 2 or variable["allValue"] != ".+" or not variable["multi"]:
            yield f"variable {variable['name']}: refresh, allValue or multi"
    if board["editable"] or board["timezone"] != "utc" or board["tags"] != ["passband"]:
        yield "editable, timezone or tags"
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in panels(board)]
    if len(set(ids)) != len(ids) or len(set(titles)) != len(titles):
        yield "two panels with one id or title"
    yield from overlaps(board)
    for panel in panels(board):
        for problem in panel_problems(panel):
            yield f"{panel['title']}: {problem}"


def main(source):
    root = pathlib.Path(source)
    files = sorted((root / "dashboards").glob("*.json"))
    known = documented(root)
    found, shown, uids = [], "", set()
    for path in files:
        board = json.loads(path.read_text())
        uids.add(board["uid"])
        queries = " ".join(t["expr"] for p in panels(board) for t in p["targets"])
        shown += queries + json.dumps(board["templating"])
        found += [f"{path.name}: {problem}" for problem in board_problems(board)]
        found += [f"{path.name}: {n} is exposed by nobody"
                  for n in unknown_metrics(queries, known, set())]
    if len(uids) != len(files) or len(files) < 4:
        found.append(f"{len(files)} dashboards, {len(uids)} uids")
    first = json.loads((root / "dashboards/overview.json").read_text())
    if next(panels(first))["title"] != "Bandwidth saved":
        found.append("overview.json: bandwidth saved does not come first")
    found += [f"{name} is on no dashboard" for name in known
              if not re.search(rf"\b{name}(_bucket)?\b", shown) and name not in UNSEEN]
    print("\n".join(found) or f"{len(files)} dashboards, whole")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
