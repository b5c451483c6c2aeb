"""What is wrong is refused with a class of its own, and a message that ends with the next step."""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

import passband
from passband import errors

MODEL = passband.Model("bad:f32", layers=2, kv_heads=2, head_dim=8, dtype="f32")
GOOD = np.zeros((2, 3, 8), np.float32)


@pytest.fixture
def sequence(embedded):
    with embedded.open(MODEL) as opened:
        yield opened


@pytest.mark.parametrize(
    "keys, says",
    [
        (np.zeros((2, 3, 16), np.float32)[:, :, ::2], "contiguous"),
        (np.zeros((2, 3, 8), np.float64), "float64"),
        (np.zeros((2, 3, 8), np.float16), "float16"),
        (np.zeros((2, 3, 8), np.int32), "int32"),
        (np.zeros((3, 3, 8), np.float32), r"\[3, 3, 8\]"),
        (np.zeros((2, 3, 5), np.float32), r"\[2, 3, 5\]"),
        (np.zeros((2, 8), np.float32), r"\[2, 8\]"),
        (np.zeros((1, 2, 3, 8), np.float32), r"\[1, 2, 3, 8\]"),
        (np.zeros((2, 5, 8), np.float32), "keys of 5 tokens, values of 3"),
        ([[1.0]], "is a list"),
        (None, "is a NoneType"),
        ("rows", "is a str"),
    ],
)
def test_arrays_that_are_no_keys(sequence, keys, says):
    with pytest.raises(errors.InvalidArray, match=says) as caught:
        sequence.append(0, keys, GOOD)
    assert "Next: " in str(caught.value) and isinstance(caught.value, ValueError)
    assert sequence.length() == 0
    assert sequence.append(0, GOOD, GOOD) == 3


class OnGpu:
    """What a GPU library's array shows of itself."""

    __cuda_array_interface__ = {"shape": (2, 3, 8), "typestr": "<f4", "data": (0, True), "version": 3}


class OnGpuByDlpack:
    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **options):
        raise AssertionError("nobody may ask for the memory")


@pytest.mark.parametrize("array", [OnGpu(), OnGpuByDlpack()])
def test_arrays_on_a_gpu_are_named_as_such(sequence, array):
    with pytest.raises(errors.NoCuda, match=r"on a GPU.*\.cpu\(\)"):
        sequence.append(0, array, GOOD)
    with pytest.raises(errors.NoCuda):
        sequence.extend(0, array)


@pytest.mark.parametrize(
    "tokens, kind, says",
    [
        ([-1], errors.InvalidArray, "negative"),
        (np.array([1 << 32]), errors.InvalidArray, "past 2"),
        ([1.5], errors.InvalidArray, "float64"),
        (np.array([True]), errors.InvalidArray, "bool"),
        (np.zeros((1, 1, 1), np.int64), errors.InvalidArray, "token indices"),
        (np.zeros((5, 1), np.int64), errors.InvalidArray, r"\[5, 1\]"),
        ("01", errors.InvalidArray, "tokens"),
        ([3], errors.OutOfRange, "3"),
    ],
)
def test_tokens_that_are_none(sequence, tokens, kind, says):
    for layer in range(2):
        sequence.append(layer, GOOD, GOOD)
    sequence.flush()
    with pytest.raises(kind, match=says):
        sequence.fetch(0, tokens)


def test_layers_heads_and_ranges_past_the_end(sequence):
    sequence.append(0, GOOD, GOOD)
    sequence.append(1, GOOD, GOOD)
    for call in (
        lambda: sequence.append(2, GOOD, GOOD),
        lambda: sequence.read(0, 0, 4),
        lambda: sequence.read(0, 2, 1),
        lambda: sequence.slices(0, 3, 1, None),
    ):
        with pytest.raises(errors.OutOfRange):
            call()
    with pytest.raises(errors.Error):
        sequence.fetch(0, [0], kv_head=2)
    with pytest.raises(errors.InvalidArgument):
        sequence.append(0, GOOD, GOOD, layout="columns")
    with pytest.raises(errors.Error):
        sequence.append(0, GOOD, GOOD, first=64)
        sequence.flush()


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "no colon"},
        {"layers": 0},
        {"layers": -1},
        {"kv_heads": 1.5},
        {"query_heads": 3},
        {"rotary_dim": 3},
        {"rotary_dim": 10},
        {"dtype": "int8"},
        {"rope_layout": "diagonal"},
    ],
)
def test_models_that_are_none(change):
    with pytest.raises(errors.InvalidArgument):
        passband.Model(**{"fingerprint": "a:b", "layers": 1, "kv_heads": 2, "head_dim": 8, **change})


def test_the_same_fingerprint_with_another_shape(client):
    client.register(passband.Model("twice:1", layers=1, kv_heads=1, head_dim=8))
    with pytest.raises(errors.Error, match="Next: "):
        client.register(passband.Model("twice:1", layers=2, kv_heads=1, head_dim=8))


def test_closing_twice_is_harmless_and_using_after_is_not():
    client = passband.embedded(ram="16MiB")
    sequence = client.open(MODEL)
    sequence.close()
    sequence.close()
    with pytest.raises(errors.Closed, match="is closed"):
        sequence.append(0, GOOD, GOOD)
    with pytest.raises(errors.Closed):
        client.fetch([(sequence, 0, 0, [0])])
    left = client.open(MODEL)
    client.close()
    client.close()
    assert client.closed
    for call in (left.flush, left.stat, client.traffic, lambda: client.open(MODEL)):
        with pytest.raises(errors.Closed, match="Next: make a new one"):
            call()
    left.close()


def test_an_unclosed_client_is_told_of():
    with pytest.warns(ResourceWarning, match="unclosed <passband.Client of embedded, open>"):
        passband.embedded(ram="16MiB")


def test_ram_that_is_full():
    with passband.embedded(ram="1MiB") as client:
        with pytest.raises(errors.ResourceExhausted, match="--spill-dir"):
            for _ in range(64):
                sequence = client.open(MODEL)
                block = np.zeros((2, 640, 8), np.float32)
                for layer in range(2):
                    sequence.append(layer, block, block)


def test_nobody_listens():
    with pytest.raises(errors.Error) as caught:
        passband.connect("127.0.0.1:1", connect_timeout=0.5)
    assert isinstance(caught.value, (errors.Unavailable, errors.DeadlineExceeded))
    with pytest.raises(errors.Error):
        passband.connect("no such host.invalid:1", connect_timeout=0.5)
    with pytest.raises(errors.InvalidArgument, match="timeout=0"):
        passband.connect("127.0.0.1:1", timeout=0)
    with pytest.raises(errors.InvalidArgument, match="much"):
        passband.embedded(ram="much")


def test_the_server_is_gone(new_server):
    server = new_server()
    with passband.connect(server.address, timeout=1, control_timeout=1) as client:
        sequence = client.open(MODEL)
        sequence.append(0, GOOD, GOOD)
        sequence.append(1, GOOD, GOOD)
        sequence.flush()
        pending = sequence.fetch_async(0, [0, 1])
        server.kill()
        with pytest.raises((errors.Unavailable, errors.DeadlineExceeded, errors.Unauthenticated)):
            for _ in range(3):
                pending.wait()
                pending = sequence.fetch_async(0, [0, 1])
        with pytest.raises(errors.Error) as caught:
            client.open(MODEL)
        assert isinstance(caught.value, (errors.Unavailable, errors.DeadlineExceeded))
        assert isinstance(caught.value, OSError) and "Next: " in str(caught.value)


def in_child(work):
    """Runs work() in a fork; returns what it raised, pickled, and that the fork ended by itself."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        caught = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the parent
            caught = error
        os.write(write, pickle.dumps(caught))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pickle.loads(pipe.read())
    assert os.waitpid(child, 0) == (child, 0)
    return answer


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_refused_and_the_parent_goes_on(client):
    sequence = client.open(MODEL)
    for layer in range(2):
        sequence.append(layer, GOOD, GOOD)
    sequence.flush()
    pending = sequence.fetch_async(0, [0])
    for work in (sequence.flush, lambda: client.open(MODEL), client.traffic, pending.wait):
        error = in_child(work)
        assert type(error) is errors.ForkedProcess, error
        assert "spawn" in str(error)
    assert in_child(client.close) is None
    assert pending.wait().shape == (2, 1, 2, 8)
    sequence.append(0, GOOD, GOOD)
    sequence.flush()


def test_a_fork_that_ends_as_programs_do_leaves_the_parent_alone(server):
    """The child's interpreter ends in full: its copies of the connection are let go, not closed."""
    script = f"""
import os, numpy as np, passband
client = passband.connect({server.address!r})
model = passband.Model("fork:1", layers=1, kv_heads=1, head_dim=8, dtype="f32")
sequence = client.open(model)
rows = np.ones((1, 64, 8), np.float32)
sequence.append(0, rows, rows)
sequence.flush()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert sequence.fetch(0, [63]).keys.sum() == 8
    client.close()
    print("parent done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "parent done\n"), done.stderr


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(errors.ResourceExhausted("full", 0.01)))
    assert error.retry_after == 0.01 and error.retryable and "full" in str(error)


def test_every_class_says_what_to_do_next():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 20
    for kind in kinds:
        assert issubclass(kind, errors.Error)
        assert kind is errors.Error or kind("x").next_step in str(kind("x")) != "x"


def test_interrupts_reach_python(new_server):
    """Ctrl-C ends a program in the middle of calls."""
    server = new_server()
    script = f"""
import passband
client = passband.connect({server.address!r}, timeout=1, control_timeout=1)
model = passband.Model("int:1", layers=1, kv_heads=1, head_dim=8, dtype="f32")
try:
    print("ready", flush=True)
    while True:
        client.open(model).close()
except (KeyboardInterrupt, passband.Error) as error:
    print(type(error).__name__, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert out == "KeyboardInterrupt\n" and child.returncode == 0
