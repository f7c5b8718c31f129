//! The last client, which looks at everything that is left.

use std::collections::BTreeSet;

use super::client::{Client, Protocol, SHARED_KEYS, command};
use super::replies::{Expect, Told};
use super::world::World;

impl World {
    /// Asks for all that clients have stored, and for all keys.
    pub(crate) fn ask_at_the_end(&mut self) -> Result<(), String> {
        let core = self.prng.below(self.cores.len());
        let peer = self.cores[core].core.transport().connect(0);
        let mut last = Client::new(usize::MAX, Protocol::Resp, (core, peer), 0);
        for db in 0..3_u8 {
            self.talk(&mut last, &[b"SELECT", db.to_string().as_bytes()], &Expect::Line("+OK"))?;
            let is_known = |client: &&Client| !client.lost;
            let held: Vec<(Vec<u8>, Vec<u8>)> = (self.clients.iter().filter(is_known))
                .flat_map(|client| &client.model)
                .filter(|((of_db, _), _)| *of_db == db)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            let found = self.scan(&mut last)?;
            for (key, value) in held {
                if !found.contains(&key) {
                    let key = String::from_utf8_lossy(&key).into_owned();
                    return Err(format!("SCAN does not find {key} in database {db}"));
                }
                let mut reply = format!("${}\r\n", value.len()).into_bytes();
                reply.extend_from_slice(&value);
                reply.extend_from_slice(b"\r\n");
                self.talk(&mut last, &[b"GET", &key], &Expect::Exact(reply))?;
            }
        }
        self.talk(&mut last, &[b"SELECT", b"0"], &Expect::Line("+OK"))?;
        self.count_all(&mut last)
    }

    /// Each command on a counter was executed once, if its client was there to the end.
    fn count_all(&mut self, last: &mut Client) -> Result<(), String> {
        for counter in 0..SHARED_KEYS {
            let key = format!("n:{counter}");
            self.shared.asked[counter] += 1;
            let args: [&[u8]; 2] = [b"INCR", key.as_bytes()];
            let told = self.talk(last, &args, &Expect::Counter(counter))?;
            let Told::Counter(_, count) = told else { continue };
            let is_exact = self.clients.iter().all(|client| !client.lost);
            let asked = self.shared.asked[counter];
            if is_exact && count as u64 != asked {
                return Err(format!("counter {counter} is {count}, and was asked {asked} times"));
            }
        }
        Ok(())
    }

    fn scan(&mut self, last: &mut Client) -> Result<BTreeSet<Vec<u8>>, String> {
        let (mut found, mut cursor) = (BTreeSet::new(), b"0".to_vec());
        loop {
            let told = self.talk(last, &[b"SCAN", &cursor], &Expect::Page)?;
            let Told::Page(next, keys) = told else {
                return Err("SCAN tells no page".to_owned());
            };
            found.extend(keys);
            if next == b"0" {
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// Asks, and lets cores take turns until the reply is there.
    fn talk(
        &mut self,
        last: &mut Client,
        args: &[&[u8]],
        expected: &Expect,
    ) -> Result<Told, String> {
        self.bring_back();
        let mut out = Vec::new();
        command(args, &mut out);
        self.cores[last.core].core.transport().write(last.peer, &out);
        loop {
            self.step += 1;
            let went_on = self.act_core()? || self.pass_time();
            last.got.extend(self.cores[last.core].core.transport().read(last.peer));
            if !last.got.is_empty()
                && let Some(told) = expected.take(&mut last.got)?
            {
                return Ok(told);
            }
            if !went_on && !self.is_anybody_away() {
                let name = String::from_utf8_lossy(args[0]).into_owned();
                return Err(format!("no reply to {name} at the end: {}", self.what_is_missing()));
            }
        }
    }
}
