"""The rules of style that no compiler checks: sizes, contracts, banned words."""
import pathlib
import re
import sys

FOLDERS = ("base", "kernels", "profile", "kvstore", "transport", "llama", "sdk", "services", "python")
LIMIT = {".h": 260, ".cuh": 400, ".cc": 420, ".cu": 420}
# A file that must be longer says why in its opening comment, and stands here.
# The codec: one parser and one builder a message, read side by side.
LONGER = {"transport/codec.cc": 440}
CONTRACT = re.compile(r"Threads|Contract|Stream")
EXEMPT_FROM_CONTRACT = {"base", "reference"}
PRIVATE_HEADER = re.compile(r"-inl\.h$")
BANNED = {
    r"\b(TODO|FIXME|XXX)\b": "finish it, or file an issue",
    r"\bsleep_for\b|\busleep\b": "wait on a condition, or take a Clock",
    r"\busing namespace\b": "name what you use",
    r"std::thread\b(?!::)": "base/thread.h starts threads",
    r"\.detach\(\)": "every thread has an owner",
}
ALLOWED = {
    ("base/thread.cc", r"std::thread\b(?!::)"),
}
README_LINES = 40


def exempt(path):
    return EXEMPT_FROM_CONTRACT & set(path.parts) or PRIVATE_HEADER.search(path.name)


def problems(root, path):
    name = str(path.relative_to(root))
    lines = path.read_text().splitlines()
    limit = LONGER.get(name, LIMIT[path.suffix])
    if len(lines) > limit:
        yield 1, f"{len(lines)} lines, the limit is {limit}"
    if path.suffix == ".h":
        head = "\n".join(lines[:60]).split("#pragma once")[0]
        if not head.startswith("// "):
            yield 1, "a header opens with a sentence that says what it is"
        elif not exempt(path) and not CONTRACT.search(head):
            yield 1, "the opening comment says nothing of threads (or Contract)"
    for number, line in enumerate(lines, 1):
        for pattern, instead in BANNED.items():
            if re.search(pattern, line) and (name, pattern) not in ALLOWED:
                yield number, f"{line.strip()!r}: {instead}"


def unbuilt_tests(root):
    for path in sorted((root / "tests").rglob("*_test.cc")):
        lists = "".join(p.read_text() for p in path.parent.glob("*.txt"))
        lists += "".join(p.read_text() for p in path.parent.glob("*.cmake"))
        if not re.search(rf"\b{path.stem.removesuffix('_test')}(_test)?\b", lists):
            yield f"{path.relative_to(root)}:1: nothing builds this test"


def readmes(root):
    for folder in FOLDERS:
        readme = root / folder / "README.md"
        if not readme.exists():
            yield f"{folder}/README.md:1: missing"
        elif len(readme.read_text().splitlines()) > README_LINES:
            yield f"{folder}/README.md:1: longer than a screen"


def main(root):
    found = [
        f"{path.relative_to(root)}:{number}: {text}"
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in LIMIT
        for number, text in problems(root, path)
    ]
    found += unbuilt_tests(root)
    found += readmes(root)
    print("\n".join(found) or "tidy")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
