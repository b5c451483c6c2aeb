"""The same calls for asyncio, and that they leave the loop free."""

import asyncio
import os
import signal

import numpy as np
import pytest

import passband
import passband.aio
from passband import errors

MODEL = passband.Model("aio:1", layers=1, kv_heads=2, head_dim=8, dtype="f32")
KEYS = np.arange(2 * 70 * 8, dtype=np.float32).reshape(2, 70, 8)


def test_rows_and_life(server):
    async def work():
        async with await passband.aio.connect(server.address, threads=2) as client:
            async with await client.open(MODEL, range(70)) as sequence:
                assert await sequence.append(0, KEYS, -KEYS) == 70
                await sequence.flush()
                many = await asyncio.gather(*(sequence.fetch(0, [i]) for i in range(70)))
                for i, rows in enumerate(many):
                    np.testing.assert_array_equal(rows.keys[:, 0], KEYS[:, i])
                async with await sequence.fork(64) as child:
                    assert child.length() == 64
                    np.testing.assert_array_equal((await child.read(0, 0, 64)).values, -KEYS[:, :64])
                await sequence.truncate(65)
                assert (await sequence.stat()).committed_tokens == 65
                rows = await client.fetch([(sequence, 0, 1, [64])])
                np.testing.assert_array_equal(rows.keys[0], KEYS[1, 64])
                assert await client.lookup(MODEL, range(70)) == 64
                with pytest.raises(errors.OutOfRange):
                    await sequence.fetch(0, [65])
            await client.close()
        with pytest.raises(errors.Closed):
            await client.open(MODEL)

    asyncio.run(work())


def test_embedded_and_a_failed_connect():
    async def work():
        async with await passband.aio.embedded("16MiB") as client:
            sequence = await client.open(MODEL)
            await sequence.close()
            await sequence.close()
        with pytest.raises(errors.Error):
            await passband.aio.connect("127.0.0.1:1", connect_timeout=0.3)

    asyncio.run(work())


def test_the_loop_goes_on_while_a_call_waits(new_server):
    """A server that stands still holds up the call, for its timeout, and nothing else."""
    server = new_server()

    async def work():
        async with await passband.aio.connect(server.address, timeout=1) as client:
            sequence = await client.open(MODEL)
            await sequence.append(0, KEYS, KEYS)
            await sequence.flush()
            server.process.send_signal(signal.SIGSTOP)
            os.waitpid(server.process.pid, os.WUNTRACED)  # It stands.
            waiting = asyncio.create_task(sequence.fetch(0, [1]))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.001)
                turns += 1
            server.process.send_signal(signal.SIGCONT)
            with pytest.raises(errors.Error):
                waiting.result()
            assert turns > 50

    asyncio.run(work())
