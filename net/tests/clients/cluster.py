"""Sessions of redis-py's cluster clients: cluster.py redis|redis-asyncio PORT.

PORT is a core port. Prints "restart" when the server is to be started again with another number of
cores, and "settled" when it has found the new cores, and each time goes on when a line comes to its
standard input. Prints "passed" at the end, or fails with a traceback.
"""

import asyncio
import sys
import time

import redis
import redis.asyncio

KEYS = 1_500
# Unless it is told which nodes, the library asks one.
PRIMARIES = redis.RedisCluster.PRIMARIES
ERRORS = (redis.exceptions.RedisError, OSError)


def expect(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def say(word):
    print(word, flush=True)
    sys.stdin.readline()


def session(port):
    client = redis.RedisCluster(host="127.0.0.1", port=port)
    client.flushall()
    for i in range(KEYS):
        expect(client.set(f"key:{i}", i), True)
    for i in range(KEYS):
        expect(client.get(f"key:{i}"), b"%d" % i)
    expect(client.dbsize(target_nodes=PRIMARIES), KEYS)
    names = sorted(b"key:%d" % i for i in range(KEYS))
    expect(sorted(client.keys("*", target_nodes=PRIMARIES)), names)
    expect(sorted(set(client.scan_iter(count=50))), names)
    assert client.randomkey() in names
    expect(client.mget_nonatomic([f"key:{i}" for i in range(300)]), [b"%d" % i for i in range(300)])
    expect(client.mset_nonatomic({f"many:{i}": "m" for i in range(300)}), [True] * 300)
    expect(client.dbsize(target_nodes=PRIMARIES), KEYS + 300)
    expect(client.mget("{tag}1", "{tag}2"), [None, None])
    try:
        client.execute_command("MGET", "key:1", "key:2", target_nodes=client.get_random_node())
        raise AssertionError("keys of several slots were served")
    except redis.exceptions.ResponseError as error:
        assert "same slot" in str(error), error
    pipeline = client.pipeline()
    for i in range(500):
        pipeline.incr(f"count:{i}")
    expect(pipeline.execute(), [1] * 500)
    with client.lock("lock:a", timeout=20):
        assert client.get("lock:a") is not None
    expect(client.get("lock:a"), None)
    with client.pipeline(transaction=True) as transaction:
        transaction.set("{t}a", 1).incr("{t}a").get("{t}a")
        expect(transaction.execute(), [b"OK", 2, b"2"])
    big = b"b" * 2_000_000
    client.set("big", big)
    assert client.get("big") == big, "the value came back changed"
    client.flushall()
    expect(client.dbsize(target_nodes=PRIMARIES), 0)
    say("restart")
    deadline = time.time() + 40
    done = 0
    while done < KEYS:
        try:
            client.set(f"again:{done}", done)
            done += 1
        except ERRORS:
            assert time.time() < deadline, "the client does not find the new cores"
            time.sleep(0.05)
    say("settled")
    for i in range(KEYS):
        expect(client.get(f"again:{i}"), b"%d" % i)
    expect(client.dbsize(target_nodes=PRIMARIES), KEYS)
    client.close()


async def asyncio_session(port):
    client = redis.asyncio.RedisCluster(host="127.0.0.1", port=port)
    await client.flushall()

    async def write(i):
        expect(await client.set(f"key:{i}", i), True)
        expect(await client.get(f"key:{i}"), b"%d" % i)

    for first in range(0, KEYS, 50):
        await asyncio.gather(*(write(i) for i in range(first, first + 50)))
    expect(await client.dbsize(target_nodes=PRIMARIES), KEYS)
    names = sorted(b"key:%d" % i for i in range(KEYS))
    expect(sorted(await client.keys("*", target_nodes=PRIMARIES)), names)
    found = [name async for name in client.scan_iter(count=50)]
    expect(sorted(set(found)), names)
    say("restart")
    deadline = time.time() + 40
    done = 0
    while done < KEYS:
        try:
            await client.set(f"again:{done}", done)
            done += 1
        except ERRORS:
            assert time.time() < deadline, "the client does not find the new cores"
            await asyncio.sleep(0.05)
    say("settled")
    for i in range(KEYS):
        expect(await client.get(f"again:{i}"), b"%d" % i)
    expect(await client.dbsize(target_nodes=PRIMARIES), KEYS)
    await client.aclose()


part, port = sys.argv[1], int(sys.argv[2])
if part == "redis":
    session(port)
elif part == "redis-asyncio":
    asyncio.run(asyncio_session(port))
else:
    raise SystemExit(f"unknown part {part}")
print("passed")
