"""Sessions of Python clients of memcached: memcached_session.py PART PORT [USER PASSWORD].

Prints "passed" at the end, or fails with a traceback. PART is pylibmc or bmemcached, which speak
the binary protocol, or meta_memcache, which speaks the meta commands.
"""

import sys
import time


def expect(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def pylibmc_session(port, credentials):
    import pylibmc

    login = dict(zip(("username", "password"), credentials))
    client = pylibmc.Client([f"127.0.0.1:{port}"], binary=True, **login)
    client.behaviors = {"cas": True, "tcp_nodelay": True}
    expect(client.flush_all(), True)
    expect(client.set("a", "1"), True)
    expect(client.get("a"), "1")
    expect(client.get("none"), None)
    expect(client.add("a", "2"), False)
    expect(client.replace("a", "2"), True)
    expect(client.append("a", "3"), True)
    expect(client.prepend("a", "1"), True)
    expect(client.get("a"), "123")
    expect(client.set("n", 41), True)
    expect(client.incr("n"), 42)
    expect(client.decr("n", 50), 0)
    value, version = client.gets("a")
    expect(client.cas("a", "new", version), True)
    expect(client.cas("a", "newer", version), False)
    expect(client.set_multi({f"m:{i}": i for i in range(300)}), [])
    found = client.get_multi([f"m:{i}" for i in range(0, 600, 2)])
    expect(found, {f"m:{i}": i for i in range(0, 300, 2)})
    expect(client.touch("a", 100), True)
    expect(client.delete("a"), True)
    expect(client.delete("a"), False)
    expect(client.delete_multi(["m:1", "m:2"]), True)
    big = b"b" * 3_000_000
    expect(client.set("big", big), True)
    assert client.get("big") == big, "the value came back changed"
    client.behaviors = {"no_block": True}
    for number in range(1_000):
        client.set(f"q:{number}", number)
    expect(client.get("q:999"), 999)
    (_, stats), = client.get_stats()
    assert int(stats["curr_items"]) > 1_000, stats
    client.disconnect_all()


def bmemcached_session(port, credentials):
    import bmemcached

    client = bmemcached.Client((f"127.0.0.1:{port}",), *credentials)
    expect(client.flush_all(), True)
    expect(client.set("a", "1"), True)
    expect(client.get("a"), "1")
    expect(client.get("none"), None)
    expect(client.add("a", "2"), False)
    expect(client.replace("a", "2"), True)
    expect(client.replace("none", "2"), False)
    value, version = client.gets("a")
    expect(client.cas("a", "new", version), True)
    expect(client.cas("a", "newer", version), False)
    expect(client.set("n", "41"), True)
    expect(client.incr("n", 1), 42)
    expect(client.decr("n", 50), 0)
    expect(client.incr("begun", 1, default=7), 7)
    expect(client.set_multi({f"m:{i}": i for i in range(300)}), [])
    found = client.get_multi([f"m:{i}" for i in range(0, 600, 2)])
    expect(found, {f"m:{i}": i for i in range(0, 300, 2)})
    expect(client.set("c", "v", time=1), True)
    deadline = time.time() + 20
    while client.get("c") is not None:
        assert time.time() < deadline, "a deadline of 1 s does not pass"
        time.sleep(0.05)
    expect(client.delete("a"), True)
    expect(client.get("a"), None)
    expect(client.delete_multi(["m:1", "m:2"]), True)
    big = b"b" * 3_000_000
    expect(client.set("big", big), True)
    assert client.get("big") == big, "the value came back changed"
    (stats,) = client.stats().values()
    assert int(stats["cmd_set"]) > 300, stats
    if credentials:
        wrong = bmemcached.Client((f"127.0.0.1:{port}",), credentials[0], "wrong")
        try:
            wrong.get("big")
        except bmemcached.exceptions.MemcachedException as error:
            # It has a class for wrong passwords, and looks for another status than memcached's.
            expect(error.code, 0x20)
        else:
            raise AssertionError("a wrong password was good enough")
    client.disconnect_all()


def meta_memcache_session(port, credentials):
    from meta_memcache import CacheClient, LeasePolicy, RecachePolicy, ServerAddress, StalePolicy
    from meta_memcache.configuration import connection_pool_factory_builder

    client = CacheClient.cache_client_from_servers(
        servers=[ServerAddress("127.0.0.1", port)],
        connection_pool_factory_fn=connection_pool_factory_builder(recv_timeout=20),
    )
    expect(client.set("a", {"x": 1}, ttl=100), True)
    expect(client.get("a"), {"x": 1})
    expect(client.get("none"), None)
    value, version = client.get_cas("a")
    expect(client.set("a", "new", ttl=100, cas_token=version), True)
    expect(client.set("a", "newer", ttl=100, cas_token=version), False)
    expect(client.get("a", touch_ttl=200), "new")
    expect(client.touch("a", ttl=300), True)
    expect(client.refill("a", "refilled", ttl=100), False)
    expect(client.delta_initialize_and_get("n", 5, initial_value=10, initial_ttl=60), 10)
    expect(client.delta_and_get("n", 5), 15)
    expect(client.delta_and_get("n", -6), 9)
    expect(client.set("kept", "x", ttl=100, no_reply=True), True)
    expect(client.get("kept"), "x")
    # Keys that the text cannot carry travel in base64.
    expect(client.set("k\u00e9y with spaces", 7, ttl=100), True)
    expect(client.get("k\u00e9y with spaces"), 7)
    for number in range(300):
        client.set(f"m:{number}", number, ttl=100)
    found = client.multi_get([f"m:{number}" for number in range(0, 600, 2)])
    values = {key.key: value for key, value in found.items()}
    expect(values, {f"m:{n}": n if n < 300 else None for n in range(0, 600, 2)})

    # A miss gives the lease to one; who asks then waits for what that one stores.
    lease = LeasePolicy(ttl=30, miss_retries=3)
    expect(client.get_or_lease("leased", lease), None)
    waits = []

    def fill(seconds):
        waits.append(seconds)
        client.set("leased", "filled", ttl=100)

    expect(client.get_or_lease("leased", lease, lease_wait_fn=fill), "filled")
    expect(len(waits), 1)

    # What is nearly due is fetched again by one, while others get what is there.
    client.set("due", "old", ttl=10)
    recache = RecachePolicy(ttl=30)
    expect(client.get("due", recache_policy=recache), None)
    expect(client.get("due", recache_policy=recache), "old")

    # What is marked as stale likewise.
    client.set("stale", "old", ttl=100)
    policy = StalePolicy(mark_stale_on_deletion_ttl=30)
    expect(client.invalidate("stale", stale_policy=policy), True)
    expect(client.get("stale"), None)
    expect(client.get("stale"), "old")
    client.set("stale", "new", ttl=100)
    expect(client.get("stale"), "new")
    expect(client.delete("a"), True)
    expect(client.delete("a"), False)
    expect(client.get("a"), None)
    big = b"b" * 3_000_000
    expect(client.set("big", big, ttl=100), True)
    assert client.get("big") == big, "the value came back changed"


def main():
    part, port, credentials = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    sessions = {
        "pylibmc": pylibmc_session,
        "bmemcached": bmemcached_session,
        "meta_memcache": meta_memcache_session,
    }
    if part not in sessions:
        sys.exit(f"there is no part {part}")
    sessions[part](port, credentials)
    print("passed")


main()
