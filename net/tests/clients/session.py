"""Sessions of Python clients: session.py PART RESP_PORT MEMCACHED_PORT.

Prints "passed" at the end, or fails with a traceback. PART is redis, redis-asyncio or pymemcache.
"""

import asyncio
import sys
import time


def expect(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r} instead of {expected!r}")


def expect_error(kind, call):
    try:
        result = call()
    except kind as error:
        return str(error)
    raise AssertionError(f"{result!r} instead of {kind.__name__}")


def redis_session(port):
    import redis

    for protocol in (2, 3):
        client = redis.Redis(port=port, protocol=protocol)
        client.flushall()
        expect(client.ping(), True)
        expect(client.set("a", "1"), True)
        expect(client.get("a"), b"1")
        expect(client.get("none"), None)
        expect(client.incr("a", 41), 42)
        expect(client.decrby("a", 2), 40)
        expect(client.set("a", "2", nx=True), None)
        expect(client.set("a", "2", xx=True, get=True), b"40")
        expect(client.mset({"x": 1, "y": b"\x00\r\n\xff"}), True)
        expect(client.mget("x", "none", "y"), [b"1", None, b"\x00\r\n\xff"])
        expect(client.exists("x", "y", "none"), 2)
        expect(client.delete("x", "y", "none"), 2)
        expect(client.setex("b", 100, "v"), True)
        expect(client.ttl("b"), 100)
        expect(client.persist("b"), True)
        expect(client.ttl("b"), -1)
        expect(client.expire("b", 50), True)
        expect(client.ttl("none"), -2)
        expect(client.psetex("short", 30, "v"), True)
        deadline = time.time() + 20
        while client.get("short") is not None:
            assert time.time() < deadline, "a deadline of 30 ms does not pass"
            time.sleep(0.01)
        expect(client.dbsize(), 2)
        expect(client.config_get("maxmemory"), {"maxmemory": "268435456"})
        expect(client.info("clients")["connected_clients"], 1)
        expect(client.info()["db0"]["keys"], 2)
        expect(client.echo("hello"), b"hello")
        expect(client.client_setname("me"), True)
        assert client.client_getname() in ("me", b"me")
        assert client.client_id() > 0
        assert "not an integer" in expect_error(
            redis.ResponseError, lambda: client.set("s", "x") and client.incr("s")
        )
        assert "unknown command" in expect_error(
            redis.ResponseError, lambda: client.execute_command("NOPE")
        )
        value = bytes(range(256)) * 8_000
        expect(client.set("big", value), True)
        assert client.get("big") == value, "the value came back changed"

        pipe = client.pipeline(transaction=False)
        for number in range(1_000):
            pipe.set(f"p:{number}", number)
            pipe.incr(f"p:{number}")
            pipe.get("none")
        expected = [part for number in range(1_000) for part in (True, number + 1, None)]
        expect(pipe.execute(), expected)
        # An error in the middle leaves the others as they are.
        pipe = client.pipeline(transaction=False)
        pipe.get("a").incr("s").get("a")
        replies = pipe.execute(raise_on_error=False)
        assert replies[0] == replies[2] == b"2", replies
        assert isinstance(replies[1], redis.ResponseError), replies
        client.close()

        text = redis.Redis(port=port, protocol=protocol, decode_responses=True)
        text.set("u", "h\u00e9llo")
        expect(text.get("u"), "h\u00e9llo")
        expect(text.mget("u", "none"), ["h\u00e9llo", None])
        text.close()


async def redis_asyncio_session(port):
    import redis.asyncio

    for protocol in (2, 3):
        client = redis.asyncio.Redis(port=port, protocol=protocol, decode_responses=True)
        await client.flushall()
        expect(await client.set("a", "1", ex=100), True)
        expect(await client.get("a"), "1")
        expect(await client.ttl("a"), 100)

        # A pool of connections at once.
        async def count(times):
            for _ in range(times):
                await client.incr("n")

        await asyncio.gather(*(count(20) for _ in range(50)))
        expect(await client.get("n"), "1000")
        async with client.pipeline(transaction=False) as pipe:
            for number in range(500):
                pipe.set(f"k:{number}", "v" * number)
                pipe.get(f"k:{number}")
            replies = await pipe.execute()
        expect(replies[1::2], ["v" * number for number in range(500)])
        expect(await client.mget("k:1", "none", "k:3"), ["v", None, "vvv"])
        expect(await client.delete("k:1", "none"), 1)
        await client.aclose()


def pymemcache_session(port):
    from pymemcache.client.base import Client, PooledClient
    from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

    client = Client(("127.0.0.1", port), timeout=20, default_noreply=False)
    expect(client.flush_all(), True)
    expect(client.set("a", "1", flags=7), True)
    expect(client.get("a"), b"1")
    expect(client.get("none"), None)
    expect(client.add("a", "2"), False)
    expect(client.add("b", "2"), True)
    expect(client.replace("none", "2"), False)
    expect(client.replace("b", "20"), True)
    expect(client.append("b", "!"), True)
    expect(client.prepend("b", "<"), True)
    expect(client.get("b"), b"<20!")
    expect(client.incr("a", 41), 42)
    expect(client.decr("a", 100), 0)
    expect(client.incr("none", 1), None)
    value, version = client.gets("b")
    expect(value, b"<20!")
    expect(client.cas("b", "new", version), True)
    expect(client.cas("b", "newer", version), False)
    expect(client.cas("none", "new", version), None)
    expect(client.gets("none"), (None, None))
    expect(client.set_many({f"m:{i}": str(i) for i in range(200)}), [])
    found = client.get_many([f"m:{i}" for i in range(0, 400, 2)])
    expect(found, {f"m:{i}": str(i).encode() for i in range(0, 200, 2)})
    expect(sorted(client.gets_many(["m:1", "none", "m:2"])), ["m:1", "m:2"])
    expect(client.touch("b", 100), True)
    expect(client.touch("none", 100), False)
    expect(client.delete("b"), True)
    expect(client.delete("b"), False)
    expect(client.delete_many(["m:1", "m:2"]), True)
    expect(client.set("c", "v", expire=1), True)
    deadline = time.time() + 20
    while client.get("c") is not None:
        assert time.time() < deadline, "a deadline of 1 s does not pass"
        time.sleep(0.05)
    big = b"b" * 3_000_000
    expect(client.set("big", big), True)
    assert client.get("big") == big, "the value came back changed"
    expect_error(MemcacheServerError, lambda: client.set("huge", b"h" * 9_000_000))
    expect(client.get("a"), b"0 ")
    expect_error(MemcacheClientError, lambda: client.set("t", "x") and client.incr("t", 1))
    assert client.version().startswith(b"1.6."), client.version()
    stats = client.stats()
    assert stats[b"curr_connections"] == 1, stats
    assert stats[b"get_hits"] > 0 and stats[b"curr_items"] > 0, stats
    assert b"maxbytes" in client.stats("settings")
    # Without replies; the next reply belongs to the next request.
    for number in range(1_000):
        client.set(f"n:{number}", str(number), noreply=True)
    client.incr("n:1", 9, noreply=True)
    client.delete("n:2", noreply=True)
    client.append("n:3", "x", noreply=True)
    expect(client.get_many(["n:1", "n:2", "n:3"]), {"n:1": b"10", "n:3": b"3x"})
    client.quit()

    pool = PooledClient(("127.0.0.1", port), max_pool_size=4, timeout=20)
    pool.set("p", "1")
    expect(pool.get("p"), b"1")
    pool.close()


def main():
    part, resp_port, memcached_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if part == "redis":
        redis_session(resp_port)
    elif part == "redis-asyncio":
        asyncio.run(redis_asyncio_session(resp_port))
    elif part == "pymemcache":
        pymemcache_session(memcached_port)
    else:
        sys.exit(f"there is no part {part}")
    print("passed")


main()
