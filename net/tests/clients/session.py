"""Sessions of Python clients: session.py PART RESP_PORT MEMCACHED_PORT.

Prints "passed" at the end, or fails with a traceback. PART is redis, redis-commands,
redis-transactions, redis-locks, redis-asyncio, redis-asyncio-transactions or pymemcache.
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


def redis_commands_session(port):
    """Commands that change strings in place, and those on keys and databases."""
    import redis

    for protocol in (2, 3):
        client = redis.Redis(port=port, protocol=protocol)
        client.flushall()
        expect(client.append("a", "hello"), 5)
        expect(client.strlen("a"), 5)
        expect(client.getrange("a", 1, -2), b"ell")
        expect(client.setrange("a", 6, "world"), 11)
        expect(client.get("a"), b"hello\x00world")
        expect(client.getex("a", ex=100), b"hello\x00world")
        expect(client.ttl("a"), 100)
        expect(client.getset("a", "b"), b"hello\x00world")
        expect(client.ttl("a"), -1)
        expect(client.getdel("a"), b"b")
        expect(client.incrbyfloat("f", 10.5), 10.5)
        expect(client.incrbyfloat("f", 0.1), 10.6)
        expect(client.msetnx({"a": 1, "f": 2}), False)
        expect(client.mset({"s": "ohmytext", "t": "mynewtext"}), True)
        expect(client.lcs("s", "t"), b"mytext")
        expect(client.lcs("s", "t", len=True), 6)
        expect(client.setbit("bits", 7, 1), 0)
        expect(client.getbit("bits", 7), 1)
        expect(client.bitcount("bits", 0, 7, "BIT"), 1)
        expect(client.bitpos("bits", 1), 7)
        expect(client.bitop("NOT", "inverse", "bits"), 1)
        expect(client.get("inverse"), b"\xfe")
        counters = client.bitfield("counters", default_overflow="SAT")
        expect(counters.incrby("u8", 0, 250).incrby("u8", 0, 10).execute(), [250, 255])

        expect(client.expireat("s", int(time.time()) + 100), True)
        assert abs(client.expiretime("s") - time.time() - 100) <= 2
        expect(client.expire("s", 10, gt=True), False)
        expect(client.rename("s", "u"), True)
        assert 90 <= client.ttl("u") <= 100
        expect(client.renamenx("u", "t"), False)
        expect(client.copy("t", "u", replace=True), True)
        expect(client.copy("t", "t", destination_db=1), True)
        expect(client.move("u", 2), 1)
        expect(client.type("t"), b"string")
        expect(client.object("encoding", "t"), b"embstr")
        expect(client.touch("t", "none"), 1)
        payload = client.dump("t")
        expect(client.restore("restored", 0, payload), b"OK")
        expect(client.get("restored"), b"mynewtext")
        for number in range(300):
            client.set(f"scan:{number}", number)
        found = sorted(client.scan_iter(match="scan:1*", count=7))
        expect(len(set(found)), 111)
        expect(sorted(client.keys("scan:1*")), sorted(set(found)))
        assert client.randomkey() is not None
        second = redis.Redis(port=port, protocol=protocol, db=1)
        expect(second.keys(), [b"t"])
        expect(client.swapdb(0, 1), True)
        expect(client.keys(), [b"t"])
        expect(second.dbsize(), 306)
        expect(second.flushdb(), True)
        expect(client.dbsize(), 1)
        assert client.memory_usage("t") > 0
        # redis-py decodes them in RESP2 alone.
        keys = client.command_getkeys("MSET", "a", 1, "b", 2)
        expect([redis.utils.str_if_bytes(key) for key in keys], ["a", "b"])
        expect(client.command()["get"]["arity"], 2)
        assert client.client_info()["db"] == 0
        assert client.time()[0] > 1_600_000_000
        second.close()
        client.close()


def redis_transactions_session(port):
    import redis

    for protocol in (2, 3):
        client = redis.Redis(port=port, protocol=protocol)
        client.flushall()
        with client.pipeline() as pipe:
            pipe.set("a", 1).incr("a").get("a").get("none")
            expect(pipe.execute(), [True, 2, b"2", None])
        # A failing command does not undo the others.
        pipe = client.pipeline().set("s", "x").incr("s").get("s")
        replies = pipe.execute(raise_on_error=False)
        expect([replies[0], replies[2]], [True, b"x"])
        assert isinstance(replies[1], redis.ResponseError), replies
        # A command that is refused when it is queued ends the transaction.
        pipe = client.pipeline().set("a", 5)
        pipe.execute_command("NOPE")
        refused = expect_error(redis.ResponseError, pipe.execute)
        assert "unknown command" in refused, refused
        expect(client.get("a"), b"2")
        with client.pipeline() as pipe:
            pipe.watch("a")
            value = int(pipe.get("a"))
            client.set("a", 10)
            pipe.multi()
            pipe.set("a", value + 1)
            expect_error(redis.WatchError, pipe.execute)
        tries = []

        def double(pipe):
            tries.append(1)
            value = int(pipe.get("a"))
            if len(tries) == 1:
                client.incr("a")
            pipe.multi()
            pipe.set("a", value * 2)

        expect(client.transaction(double, "a"), [True])
        expect((client.get("a"), len(tries)), (b"22", 2))
        # A key that expires between WATCH and EXEC, and one that appears.
        with client.pipeline() as pipe:
            pipe.watch("new")
            client.set("new", 1)
            pipe.multi()
            pipe.get("a")
            expect_error(redis.WatchError, pipe.execute)
            pipe.watch("new")
            pipe.unwatch()
            client.set("new", 2)
            pipe.multi()
            pipe.get("new")
            expect(pipe.execute(), [b"2"])
        # Large values within a transaction.
        value = bytes(range(256)) * 2_000
        pipe = client.pipeline().set("big", value).get("big").strlen("big")
        replies = pipe.execute()
        assert replies == [True, value, len(value)], "the value came back changed"
        client.close()


def redis_locks_session(port):
    """Locks of redis-py: SET NX PX, and a release within WATCH and MULTI instead of a script."""
    import redis

    client = redis.Redis(port=port, protocol=3)
    client.flushall()

    def release(name, token):
        def body(pipe):
            is_ours = pipe.get(name) == token
            pipe.multi()
            if is_ours:
                pipe.delete(name)

        return client.transaction(body, name)

    lock = client.lock("lock", timeout=100, blocking=False)
    expect(lock.acquire(), True)
    expect(lock.owned(), True)
    expect(lock.locked(), True)
    expect(client.lock("lock", timeout=100, blocking=False).acquire(), False)
    assert 90 <= client.ttl("lock") <= 100
    expect(release("lock", b"another's"), [])
    expect(lock.locked(), True)
    expect(release("lock", lock.local.token), [1])
    expect(lock.locked(), False)
    # Its own release, and the other scripts by which it changes a lock that it holds.
    expect(lock.acquire(), True)
    expect(lock.extend(50), True)
    assert 140 <= client.ttl("lock") <= 150
    expect(lock.extend(30, replace_ttl=True), True)
    expect(lock.reacquire(), True)
    assert 90 <= client.ttl("lock") <= 100
    expect(lock.release(), None)
    expect(lock.locked(), False)
    expect(lock.acquire(), True)
    client.set("lock", "another's")
    expect_error(redis.exceptions.LockNotOwnedError, lock.release)
    refused = expect_error(redis.ResponseError, lambda: client.eval("return 1", 0))
    assert "no Lua" in refused, refused
    client.delete("lock")
    short = client.lock("short", timeout=0.05)
    expect(short.acquire(), True)
    expect(client.lock("short", timeout=100, blocking_timeout=20, sleep=0.01).acquire(), True)
    client.close()


async def redis_asyncio_transactions_session(port):
    import redis
    import redis.asyncio

    for protocol in (2, 3):
        client = redis.asyncio.Redis(port=port, protocol=protocol, decode_responses=True)
        await client.flushall()

        # Many tasks add to one number, each in a transaction that others may spoil.
        async def add(times):
            for _ in range(times):
                async with client.pipeline() as pipe:
                    while True:
                        try:
                            await pipe.watch("n")
                            value = int(await pipe.get("n") or 0)
                            pipe.multi()
                            pipe.set("n", value + 1)
                            await pipe.execute()
                            break
                        except redis.WatchError:
                            continue

        await asyncio.gather(*(add(10) for _ in range(10)))
        expect(await client.get("n"), "100")
        await client.mset({f"k:{number}": number for number in range(200)})
        found = {key async for key in client.scan_iter(match="k:*", count=11)}
        expect(len(found), 200)
        await client.aclose()


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
    sessions = {
        "redis": redis_session,
        "redis-commands": redis_commands_session,
        "redis-transactions": redis_transactions_session,
        "redis-locks": redis_locks_session,
        "redis-asyncio": lambda port: asyncio.run(redis_asyncio_session(port)),
        "redis-asyncio-transactions": lambda port: asyncio.run(
            redis_asyncio_transactions_session(port)
        ),
    }
    if part in sessions:
        sessions[part](resp_port)
    elif part == "pymemcache":
        pymemcache_session(memcached_port)
    else:
        sys.exit(f"there is no part {part}")
    print("passed")


main()
