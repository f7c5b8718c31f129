//! Expiry over a socket: items go by themselves, an idle core wakes for them, INFO tells.

mod support;

use std::thread::sleep;
use std::time::Duration;

use support::{Reply, Server, encode, info_number, ok};

const DRIVERS: [&str; 2] = ["glommio", "bare"];

/// The items that nobody reads have gone while the core slept: asking late finds them gone on
/// time. The bound is an order of magnitude above what is promised and a third of the sleep.
#[test]
fn a_sleeping_core_wakes_for_its_items() {
    for driver in DRIVERS {
        for idle in ["auto", "park"] {
            let server = Server::start(&["--driver", driver, "--idle", idle]);
            let mut client = server.client();
            assert_eq!(client.call(&["SET", "stays", "1"]), ok());
            assert_eq!(client.call(&["SET", "later", "1", "EX", "1000"]), ok());
            let mut batch = Vec::new();
            for number in 0..500u32 {
                let key = format!("key:{number}");
                batch.extend(encode(&[b"SET", key.as_bytes(), b"v", b"PX", b"900"]));
            }
            client.send(&batch);
            for _ in 0..500 {
                assert_eq!(client.reply(), ok());
            }
            let info = client.call(&["INFO"]).text();
            // (All of this has to happen within the 900 ms, or this says that it did not.)
            assert!(info.contains("db0:keys=502,expires=501,avg_ttl="), "{info}");
            assert_eq!(info_number(&info, "expiry_entries"), 501);
            sleep(Duration::from_millis(3_900));
            let info = client.call(&["INFO"]).text();
            assert!(info.contains("db0:keys=2,expires=1,avg_ttl="), "{info}");
            assert_eq!(info_number(&info, "expired_keys"), 500);
            assert_eq!(info_number(&info, "expiry_lag_count"), 500);
            let lag_ms = info_number(&info, "expiry_lag_max_ms");
            assert!(lag_ms < 1_000, "{driver} {idle}: {lag_ms} ms late");
            assert!(info_number(&info, "expiry_lag_p50_ms") <= lag_ms);
            assert_eq!(info_number(&info, "expiry_clock_flushes"), 0);
        }
    }
}

#[test]
fn absolute_times_and_memcached_times_expire_alike() {
    let server = Server::start(&[]);
    let (mut client, mut text) = (server.client(), server.memcached());
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at_ms = (unix + Duration::from_millis(1_500)).as_millis().to_string();
    let at_s = (unix + Duration::from_secs(2)).as_secs().to_string();
    assert_eq!(client.call(&["SET", "pxat", "1", "PXAT", &at_ms]), ok());
    assert_eq!(client.call(&["SET", "exat", "1", "EXAT", &at_s]), ok());
    assert_eq!(client.call(&["SET", "past", "1", "EXAT", "1000000000"]), ok());
    assert_eq!(client.call(&["GET", "past"]), Reply::Null);
    for (key, time) in [("relative", "2"), ("absolute", at_s.as_str())] {
        text.send(format!("set {key} 0 {time} 1\r\nv\r\n"));
        assert_eq!(text.line(), "STORED");
    }
    let mut items = || info_number(&client.call(&["INFO"]).text(), "items");
    assert_eq!(items(), 4);
    for _ in 0..100 {
        if items() == 0 {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    assert_eq!(items(), 0, "no key was read meanwhile");
    text.send("stats\r\n");
    let mut expired = None;
    loop {
        let line = text.line();
        if line == "END" {
            break;
        }
        expired = expired.or(line.strip_prefix("STAT expired ").map(str::to_owned));
    }
    assert_eq!(expired.as_deref(), Some("4"));
}
