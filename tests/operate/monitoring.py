"""What monitoring ships with, held together: rules, their tests, the runbook, docs/metrics.md.

    monitoring.py SOURCE PROMTOOL
"""
import pathlib
import re
import subprocess
import sys

METRIC = re.compile(r"\b(?:passband|process)_[a-z0-9_]+\b")
RECORD = re.compile(r"\b[a-z_]+:passband_[a-z_]+:[a-z0-9_]+\b")
SUFFIXES = ("_bucket", "_count", "_sum")


def documented(root):
    page = (root / "docs/metrics.md").read_text()
    return dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram)", page, re.M))


def unknown_metrics(text, known, records):
    """Names in a query that no server exposes and no rule records."""
    names = set(METRIC.findall(RECORD.sub(" ", text)))
    for suffix in SUFFIXES:
        names = {
            n.removesuffix(suffix) if known.get(n.removesuffix(suffix)) == "histogram" else n
            for n in names
        }
    return (names - known.keys()) | (set(RECORD.findall(text)) - records)


def expressions(text):
    """The expr of every rule: a block of indented lines, or one line."""
    for match in re.finditer(r"^( *)(?:- )?expr: (\|\n((?:\1 {2,}.*\n)+)|.*\n)", text, re.M):
        yield match.group(3) or match.group(2)


def promtool(tool, *arguments, cwd):
    done = subprocess.run([tool, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        yield f"promtool {' '.join(arguments)}: {done.stdout}{done.stderr}"


def problems(root, tool):
    folder = root / "deploy/prometheus"
    rules = sorted(folder.glob("*.rules.yaml"))
    text = "".join(path.read_text() for path in rules)
    tests = (folder / "rules.test.yaml").read_text()
    known = documented(root)
    records = set(re.findall(r"- record: (\S+)", text))
    if len(known) < 50 or len(rules) != 2 or not records:
        yield f"found {len(known)} metrics, {len(rules)} files of rules, {len(records)} records"
    yield from promtool(tool, "check", "rules", *(p.name for p in rules), cwd=folder)
    yield from promtool(tool, "test", "rules", "rules.test.yaml", cwd=folder)
    found = list(expressions(text))
    if len(found) != text.count("expr:"):
        yield f"{text.count('expr:')} rules, {len(found)} expressions"
    for expression in found:
        for name in sorted(unknown_metrics(expression, known, records)):
            yield f"{name} is in a rule, and nothing exposes or records it"
    for name in records:
        if f"expr: {name}" not in tests and text.count(name) == 1:
            yield f"{name}: no test, and no alert that has one, reads it"

    alerts = re.findall(r"- alert: (\S+)", text)
    sections = re.findall(r"^## (\S+)$", (root / "docs/runbook.md").read_text(), re.M)
    for name in sorted(set(alerts) ^ set(sections)):
        yield f"{name}: in only one of the alerts and docs/runbook.md"
    for block in text.split("- alert: ")[1:]:
        name = block.split()[0]
        if f'runbook_url: "docs/runbook.md#{name.lower()}"' not in block:
            yield f"{name}: its runbook_url is not docs/runbook.md#{name.lower()}"
        if not re.search(r"severity: (critical|warning|info)$", block, re.M):
            yield f"{name}: severity is not critical, warning or info"
    for name in alerts:
        for story in ("fires", "stays quiet"):
            if f"- name: {name} {story}\n" not in tests:
                yield f"{name}: rules.test.yaml has no story in which it {story}"


def main(root, tool):
    found = list(problems(pathlib.Path(root), tool))
    print("\n".join(found) or "whole")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
