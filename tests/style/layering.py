"""Fails when a file includes a folder that the layering does not let it see.

The arrows are DESIGN's, and docs/architecture.md explains them: who may include
whom, longest prefix first.
"""
import pathlib
import re
import sys

MAY_INCLUDE = {
    "base": set(),
    "kernels": set(),
    "profile": {"base", "kernels"},
    "kvstore": {"base"},
    "transport": {"base"},
    "proto": set(),
    "llama": {"base", "kernels"},
    "sdk": {"base", "proto", "transport", "kernels", "profile"},
    "sdk/embedded": {"base", "kernels", "profile", "kvstore", "sdk"},
    "services/console": {"base"},
    "services/server": {"base", "proto", "kvstore", "transport", "kernels", "profile", "services"},
    "services/worker": {
        "base", "kernels", "profile", "llama", "sdk", "sdk/embedded", "services/console"
    },
    "services/cli": {
        "base", "kernels", "profile", "llama", "kvstore", "sdk", "proto", "services/console"
    },
    "services": {"base", "proto"},
    "python": {"base", "kernels", "profile", "sdk", "sdk/embedded"},
}
# Foreign libraries stay behind one folder each.
FOREIGN = {
    r"<ucp/|<ucs/|<uct/": {"transport"},
    r"<rocksdb/": {"kvstore"},
    r"<grpc": {"services/server", "services", "sdk", "proto"},
    r"<cuda|<cooperative_groups": {"kernels"},
    r"<hwy/": {"kernels", "profile", "llama"},
    r"<httplib|<prometheus/": {"services/server", "services/worker"},
    r"<cblas": {"llama", "services/worker"},
}
SOURCES = {".h", ".cc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#include\s+([<"])([^>"]+)[>"]')


def room_of(path):
    """The longest key of MAY_INCLUDE that `path` lies in, or None."""
    best = None
    for room in MAY_INCLUDE:
        if path.startswith(room + "/") and (best is None or len(room) > len(best)):
            best = room
    return best


def target_room(include):
    if include.startswith("passband/v1/"):
        return "proto"
    if include.startswith("passband/"):
        return "sdk"
    return room_of(include)


def violations(root):
    for path in sorted(p for room in MAY_INCLUDE for p in (root / room).rglob("*")):
        if path.suffix not in SOURCES:
            continue
        name = str(path.relative_to(root))
        room = room_of(name)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            bracket, include = match.groups()
            if bracket == '"':
                seen = target_room(include)
                if seen and seen != room and seen not in MAY_INCLUDE[room]:
                    yield f"{name}:{number}: {room}/ may not include {seen}/"
            for pattern, rooms in FOREIGN.items():
                if re.match(pattern, "<" + include) and room not in rooms:
                    yield f"{name}:{number}: {include} belongs to {', '.join(sorted(rooms))}"


if __name__ == "__main__":
    found = sorted(set(violations(pathlib.Path(sys.argv[1]))))
    print("\n".join(found) or "layering holds")
    sys.exit(bool(found))
