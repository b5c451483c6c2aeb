"""What the package is made of, and what importing it brings along."""

import importlib.resources
import subprocess
import sys


def test_importing_brings_no_torch():
    script = (
        "import sys, passband, passband.aio; "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'tqdm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_types_are_shipped():
    files = importlib.resources.files("passband")
    assert (files / "py.typed").is_file()
    stub = (files / "_core.pyi").read_text()
    for name in ("class Service", "class Landing", "def append", "def parse_bytes"):
        assert name in stub
