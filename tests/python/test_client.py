"""Rows, prefixes and the life of sequences, over a store in the process and over a server."""

import threading

import numpy as np
import pytest

import passband
from conftest import BOOKS
from passband import errors

MODEL = passband.Model("test:f32", layers=2, kv_heads=3, head_dim=8, dtype="f32", name="small")


def filled(tokens, seed=0, model=MODEL):
    """Keys and values [kv_heads, tokens, head_dim] of their own."""
    random = np.random.default_rng(seed)
    shape = (model.kv_heads, tokens, model.head_dim)
    return (
        random.standard_normal(shape, dtype=np.float32),
        random.standard_normal(shape, dtype=np.float32),
    )


def write(sequence, tokens, seed=0):
    """The same tokens in every layer; returns what was written, by layer."""
    layers = [filled(tokens, seed * 10 + layer) for layer in range(MODEL.layers)]
    for layer, (keys, values) in enumerate(layers):
        assert sequence.append(layer, keys, values) == tokens
    sequence.flush()
    return layers


def test_fetched_rows_are_those_appended(client):
    with client.open(MODEL) as sequence:
        layers = write(sequence, 150)
        for layer, (keys, values) in enumerate(layers):
            tokens = [0, 149, 63, 64, 64]
            rows = sequence.fetch(layer, tokens)
            assert rows.shape == (3, 5, 2, 8)
            np.testing.assert_array_equal(rows.keys, keys[:, tokens])
            np.testing.assert_array_equal(rows.values, values[:, tokens])
            np.testing.assert_array_equal(rows.float32()[..., 0, :], keys[:, tokens])


def test_one_head_and_other_tokens_for_each_head(client):
    with client.open(MODEL) as sequence:
        keys, _ = write(sequence, 70)[1]
        np.testing.assert_array_equal(sequence.fetch(1, [5, 1], kv_head=2).keys, keys[2, [5, 1]])
        tokens = np.array([[0, 1], [2, 3], [69, 4]])
        rows = sequence.fetch(1, tokens)
        for head in range(3):
            np.testing.assert_array_equal(rows.keys[head], keys[head, tokens[head]])


def test_read_gives_ranges_and_copies_into_given_memory(client):
    with client.open(MODEL) as sequence:
        keys, values = write(sequence, 130)[0]
        rows = sequence.read(0, 60, 130)
        np.testing.assert_array_equal(rows.keys, keys[:, 60:])
        out = np.empty((3, 70, 2, 8), np.float32)
        rows.copy_to(out)
        np.testing.assert_array_equal(out[:, :, 1], values[:, 60:])
        with pytest.raises(errors.InvalidArray, match="13440 bytes"):
            rows.copy_to(np.empty((3, 70, 2, 7), np.float32))
        with pytest.raises(errors.InvalidArray):
            rows.copy_to(np.empty((3, 140, 2, 8), np.float32)[:, ::2])


def test_many_sequences_in_one_fetch(client):
    with client.open(MODEL) as one, client.open(MODEL) as two:
        first, second = write(one, 64, 1), write(two, 64, 2)
        rows = client.fetch([(one, 0, 1, [9, 8]), (two, 1, 2, np.array([63], np.uint32))])
        assert rows.shape == (3, 2, 8)
        np.testing.assert_array_equal(rows.keys[:2], first[0][0][1, [9, 8]])
        np.testing.assert_array_equal(rows.values[2], second[1][1][2, 63])


def test_layouts_strides_and_pieces(client):
    """Tokens first, views with strides, and pieces that do not fit blocks."""
    keys, values = filled(100)
    with client.open(MODEL) as sequence:
        for start, stop in [(0, 1), (1, 65), (65, 100)]:
            piece = keys[:, start:stop].transpose(1, 0, 2), values[:, start:stop].transpose(1, 0, 2)
            sequence.append(0, *piece, layout="tokens_first")
        wide = np.zeros((3, 200, 16), np.float32)
        wide[:, ::2, 4:12] = keys
        sequence.append(1, wide[:, ::2, 4:12], np.ascontiguousarray(values))
        sequence.flush()
        for layer in range(2):
            np.testing.assert_array_equal(sequence.read(layer, 0, 100).keys, keys)
            np.testing.assert_array_equal(sequence.read(layer, 0, 100).values, values)


def test_bf16_is_passed_as_bits(client):
    model = passband.Model("test:bf16", layers=1, kv_heads=1, head_dim=8, dtype="bf16")
    keys = np.array([[[0x3F80, 0x4000, 0xBF80, 0, 0, 0, 0, 0]]], np.uint16)
    with client.open(model) as sequence:
        sequence.append(0, keys, keys)
        sequence.flush()
        rows = sequence.read(0, 0, 1)
        np.testing.assert_array_equal(rows.keys, keys)
        np.testing.assert_array_equal(rows.float32()[0, 0, 0], [1, 2, -1, 0, 0, 0, 0, 0])


def test_prefixes_are_shared(client):
    """A second opening finds the first one's whole blocks, and only for equal tokens."""
    model = passband.Model("test:prefix", layers=2, kv_heads=3, head_dim=8, dtype="f32")
    prompt = np.random.default_rng(5).integers(0, 1000, 200)
    client.register(model)
    assert client.lookup(model, prompt) == 0
    with client.open(model, prompt) as first:
        assert first.matched == 0
        for layer in range(2):
            first.append(layer, *filled(200, layer))
        first.flush()
        assert client.lookup(model, prompt) == 192
        with client.open(model, prompt) as second:
            assert second.matched == 192 and second.length(1) == 192
            np.testing.assert_array_equal(second.read(1, 0, 192).keys, filled(200, 1)[0][:, :192])
        with client.open(model, prompt, share_prefix=False) as alone:
            assert alone.matched == 0
        other = prompt.copy()
        other[70] += 1
        with client.open(model, list(other)) as third:
            assert third.matched == 64


def test_extend_names_tokens_behind_the_prompt(client):
    model = passband.Model("test:extend", layers=2, kv_heads=3, head_dim=8, dtype="f32")
    with client.open(model, range(10)) as sequence:
        for layer in range(2):
            sequence.append(layer, *filled(64, layer))
        sequence.extend(10, range(10, 64))
        sequence.flush()
        assert client.lookup(model, range(64)) == 64


def test_fork_and_truncate(client):
    with client.open(MODEL) as parent:
        keys, _ = write(parent, 100)[0]
        with parent.fork(90) as child:
            assert child.length() == 90
            more, values = filled(10, 99)
            for layer in range(2):
                child.append(layer, more, values)
            child.flush()
            np.testing.assert_array_equal(child.read(0, 90, 100).keys, more)
            np.testing.assert_array_equal(parent.read(0, 90, 100).keys, keys[:, 90:])
        parent.truncate(70)
        assert parent.length() == 70
        with pytest.raises(errors.OutOfRange):
            parent.fetch(0, [70])
        parent.append(0, *filled(1))


def test_sealed_sequences_outlive_the_client(server):
    with passband.connect(server.address) as first, first.open(MODEL) as sequence:
        keys, _ = write(sequence, 80)[0]
        sequence.seal()
        with pytest.raises(errors.FailedPrecondition):
            sequence.append(0, *filled(1))
            sequence.flush()
    with passband.connect(server.address) as second:
        again = second.sequence(sequence.id, MODEL)
        assert again.sealed and again.stat().committed_tokens == 80
        np.testing.assert_array_equal(again.read(0, 0, 80).keys, keys)
        wrong = passband.Model("test:wrong", layers=2, kv_heads=3, head_dim=8, dtype="f32")
        with pytest.raises(errors.FailedPrecondition, match="is of model test:f32"):
            second.sequence(sequence.id, wrong)
        again.close()
        with pytest.raises(errors.NotFound):
            second.sequence(sequence.id, MODEL)


def test_stat_and_list(client):
    with client.open(MODEL, [1, 2, 3]) as sequence:
        write(sequence, 3)
        stat = sequence.stat()
        assert (stat.id, stat.model, stat.known_tokens) == (sequence.id, "test:f32", 3)
        assert stat.committed_tokens == 3 and not stat.sealed and stat.ttl == 0
        assert sequence.id in [listed.id for listed in client.list()]
    assert sequence.id not in [listed.id for listed in client.list()]


def test_slices_are_those_of_the_profile(client):
    profile = passband.Profile.load(BOOKS / "profiles/greedy-24-int2.json")
    assert (profile.layers, profile.kv_heads, profile.dtype) == (6, 2, "bf16")
    model = passband.Model(
        profile.fingerprint, layers=6, kv_heads=2, query_heads=8, head_dim=128, name="books"
    )
    keys = np.random.default_rng(1).integers(0x3C00, 0x4000, (2, 65, 128)).astype(np.uint16)
    with client.open(model) as sequence:
        for layer in range(6):
            sequence.append(layer, keys, keys)
        sequence.flush()
        cut = sequence.slices(3, 10, 65, profile)
        assert cut.shape == (2, 55, profile.slice_bytes) and cut.dtype == np.uint8
        np.testing.assert_array_equal(cut[:, 1:], sequence.slices(3, 11, 65, profile))
        assert len(np.unique(cut)) > 10


def test_rows_outlive_sequence_and_client():
    client = passband.embedded(ram="16MiB")
    sequence = client.open(MODEL)
    keys, _ = write(sequence, 64)[0]
    rows = sequence.read(0, 0, 64)
    array = rows.keys
    sequence.close()
    client.close()
    del rows, sequence, client
    np.testing.assert_array_equal(array, keys)


def test_dlpack_shares_the_memory(client):
    with client.open(MODEL) as sequence:
        keys, _ = write(sequence, 3)[0]
        rows = sequence.read(0, 0, 3)
        shared = np.from_dlpack(rows)
        np.testing.assert_array_equal(shared[:, :, 0], keys)
        assert np.shares_memory(shared, rows.numpy())


def test_calls_of_many_threads(client):
    """The GIL is released: threads of one client wait for each other's answers nowhere."""
    with client.open(MODEL) as sequence:
        keys, _ = write(sequence, 500)[0]
        failures = []

        def look(seed):
            random = np.random.default_rng(seed)
            for _ in range(50):
                tokens = random.integers(0, 500, 20)
                if not np.array_equal(sequence.fetch(0, tokens).keys, keys[:, tokens]):
                    failures.append(tokens)

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_traffic_counts_bytes(client):
    with client.open(MODEL) as sequence:
        before = client.traffic()
        write(sequence, 64)
        sequence.fetch(0, [1, 2])
        after = client.traffic()
        assert after.appended_bytes - before.appended_bytes == 64 * MODEL.token_bytes
        assert after.fetched_bytes - before.fetched_bytes == 2 * 3 * MODEL.row_bytes
    assert client.transport in ("embedded", "shm", "tcp")
