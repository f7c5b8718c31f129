//! Cores, clients, and who of them does something next.
//!
//! One thread takes turns of all cores, in an order that the seed gives. A core takes one only if
//! it has been told that there is more, something has come for it, or its time has come: what it
//! forgets is not found by accident. Time goes on by a few microseconds a step, and to the next
//! timer when nobody has anything to do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use pinion_engine::{Limits, Shard, ShardConfig};
use pinion_net::clock::Clock;
use pinion_net::command::Settings;
use pinion_net::connection::Protocol as ListenerProtocol;
use pinion_net::core::limits::{BATCH_COMMANDS_MAX, JOINTS_MAX, LANE_BUNDLES, LANE_COPY_BYTES_MAX};
use pinion_net::core::{
    Core, CoreOptions, Inbox, LaneSizes, ListenerKind, Request, Transport, join_cores_by,
};
use pinion_net::memory::{Division, Memory, Wanted};
use pinion_ring::Wait;
use pinion_router::CoreCount;

use super::client::{Client, Mix, Protocol, Shared};
use super::prng::{Prng, Trace};
use super::replies::Told;
use super::transport::{Half, SimTransport};

/// The time at which a simulation begins.
const START_NS: u64 = 1_000_000_000;
/// Steps after which one that has not ended never will.
const STEPS_MAX: usize = 400_000;
/// Memory of the process, of which cores have their shares.
const MEMORY_BYTES: u64 = 256 << 20;
const CONNECTIONS_MAX: usize = 64;
/// Commands that a client has on their way at the most.
const PIPELINE_MAX: usize = 64;

/// A simulated core.
pub(super) struct SimCore {
    pub(super) core: Core<SimTransport>,
    /// Whether its last turn has left something.
    more: bool,
    /// The step until which nobody lets it take a turn.
    stalled_until: usize,
    /// What it asks of the control thread, which is not there.
    _requests: Receiver<(usize, Request)>,
}

/// See the module's page.
pub(crate) struct World {
    pub(super) prng: Prng,
    now_ns: &'static AtomicU64,
    pub(super) cores: Vec<SimCore>,
    pub(super) clients: Vec<Client>,
    pub(super) shared: Shared,
    mix: Mix,
    sizes: LaneSizes,
    /// Clients that will come yet.
    to_come: usize,
    /// Whether cores stall, clients end early, and clients do not read.
    is_rough: bool,
    pub(super) step: usize,
    trace: Trace,
}

fn core_options(core: usize, cores: CoreCount) -> CoreOptions {
    let count = usize::from(cores.count());
    let wanted = Wanted { cores: count, ..Wanted::connections(CONNECTIONS_MAX) };
    let division = Division::of(MEMORY_BYTES, wanted).expect("it is enough");
    CoreOptions {
        connections_max: CONNECTIONS_MAX,
        flush_after: 64,
        settings: Settings { core: core as u16, cores: cores.count(), ..Settings::default() },
        memory: Memory::new(division, wanted, MEMORY_BYTES),
        drain_ms: 1_000,
        listeners: vec![
            ListenerKind::plain(ListenerProtocol::Resp),
            ListenerKind::plain(ListenerProtocol::Memcached),
        ],
    }
}

impl World {
    /// The simulation of a seed. `now_ns` is the time that its cores read.
    pub(crate) fn new(seed: u64, now_ns: &'static AtomicU64) -> World {
        let mut prng = Prng::new(seed);
        now_ns.store(START_NS, Ordering::Relaxed);
        let cores = CoreCount::new(prng.pick(&[2, 2, 2, 3, 4, 8])).expect("there are some");
        let sizes = LaneSizes {
            bundle_bytes_max: prng.pick(&[64, 512, 8 * 1024, 64 * 1024]),
            requests_max: JOINTS_MAX + prng.pick(&[1, 2, 8, 32, 256, 1024]),
        };
        let piece_bytes_max = prng.pick(&[24, 300, 4096, 16 * 1024]);
        // Large values in small pieces take too many steps.
        let value_bytes_max = match piece_bytes_max {
            24 => 100,
            300 => 5_000,
            _ => prng.pick(&[200, 20_000, 70_000, 300_000]),
        };
        let is_alone = prng.one_in(4);
        let lanes = join_cores_by(cores, sizes);
        let make = |(number, lanes)| {
            let (requests_in, requests) = channel();
            let (inbox, _) = Inbox::new(requests_in, number);
            let limits = Limits { total_bytes: 64 << 20, data: None };
            let config = ShardConfig { hash_seed: seed, limits, ..ShardConfig::default() };
            let shard = Shard::new(&config).expect("memory for a shard");
            let transport = SimTransport::new(prng.next(), piece_bytes_max);
            let options = core_options(number, cores);
            let mut core = Core::new(transport, shard, Clock::by_hand(now_ns), options, inbox);
            core.join(lanes);
            SimCore { core, more: true, stalled_until: 0, _requests: requests }
        };
        let cores_made = lanes.into_iter().enumerate().map(make).collect();
        World {
            now_ns,
            cores: cores_made,
            clients: Vec::new(),
            shared: Shared::default(),
            mix: Mix { cores, is_alone, value_bytes_max },
            sizes,
            to_come: if is_alone { 1 } else { prng.between(1, 12) },
            is_rough: !is_alone && prng.one_in(2),
            prng,
            step: 0,
            trace: Trace::default(),
        }
    }

    /// Runs until nobody has anything left to do, and checks what is left. Returns a number that
    /// stands for all that has happened.
    ///
    /// # Errors
    /// What was wrong first.
    pub(crate) fn run(&mut self) -> Result<Trace, String> {
        let described = |world: &World, error: String| {
            let (step, mix, sizes) = (world.step, world.mix, world.sizes);
            format!("at step {step} of {mix:?} with {sizes:?}: {error}")
        };
        self.run_clients().map_err(|error| described(self, error))?;
        self.check_end().map_err(|error| described(self, error))?;
        Ok(self.trace)
    }

    fn run_clients(&mut self) -> Result<(), String> {
        loop {
            self.step += 1;
            if self.step > STEPS_MAX {
                return Err("there is no end".to_owned());
            }
            let passed_ns = self.prng.below(4_000) as u64;
            self.now_ns.fetch_add(passed_ns, Ordering::Relaxed);
            let acted = if self.prng.one_in(3) { self.act_client()? } else { self.act_core()? };
            if !acted && !self.act_core()? && !self.act_client()? && !self.pass_time() {
                if self.is_anybody_away() {
                    self.bring_back();
                } else if self.is_done() {
                    return Ok(());
                } else {
                    return Err(self.what_is_missing());
                }
            }
            if self.step.is_multiple_of(64) {
                self.check_lanes()?;
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    /// When a core is to take a turn; `None` if nothing but something new makes it.
    fn is_due_ns(&mut self, number: usize) -> Option<u64> {
        let sim = &mut self.cores[number];
        if sim.more || sim.core.transport().ready() {
            return Some(0);
        }
        match sim.core.patience() {
            Wait::No => Some(0),
            Wait::For(time) => Some(sim.core.now_ns() + time.as_nanos() as u64),
            Wait::Forever => None,
        }
    }

    /// Takes a turn of a core that has something to do; whether there is one.
    pub(super) fn act_core(&mut self) -> Result<bool, String> {
        let (now_ns, step) = (self.now_ns(), self.step);
        let mut due = Vec::new();
        for number in 0..self.cores.len() {
            let is_due = self.is_due_ns(number).is_some_and(|at_ns| at_ns <= now_ns);
            if is_due && self.cores[number].stalled_until <= step {
                due.push(number);
            }
        }
        if due.is_empty() {
            return Ok(false);
        }
        let number = self.prng.pick(&due);
        if self.is_rough && self.prng.one_in(200) {
            self.cores[number].stalled_until = step + self.prng.between(1, 400);
            return Ok(true);
        }
        let sim = &mut self.cores[number];
        let turn = sim.core.turn(Wait::Forever).map_err(|error| format!("a turn: {error}"))?;
        sim.more = turn.more;
        self.trace.note(number as u64);
        self.trace.note(u64::from(turn.worked) << 1 | u64::from(turn.more));
        match sim.core.transport().loans_out() {
            0 => Ok(true),
            kept => Err(format!("core {number} keeps {kept} loans (I1)")),
        }
    }

    /// Lets time go on to the next timer; whether there is one.
    pub(super) fn pass_time(&mut self) -> bool {
        let now_ns = self.now_ns();
        let mut due =
            (0..self.cores.len()).filter_map(|number| self.is_due_ns(number)).collect::<Vec<_>>();
        due.retain(|&at_ns| at_ns > now_ns);
        let Some(&next_ns) = due.iter().min() else { return false };
        self.now_ns.store(next_ns, Ordering::Relaxed);
        true
    }

    /// Lets somebody come, speak, read or end; whether there was something to do.
    fn act_client(&mut self) -> Result<bool, String> {
        let is_empty = self.clients.iter().all(|client| client.gone);
        if self.to_come > 0 && (is_empty || self.prng.one_in(6)) {
            self.connect();
            return Ok(true);
        }
        let acts = |client: &Client| !client.gone;
        let present: Vec<usize> =
            (0..self.clients.len()).filter(|&number| acts(&self.clients[number])).collect();
        if present.is_empty() {
            return Ok(false);
        }
        let mut acted = false;
        let number = self.prng.pick(&present);
        acted |= self.hear(number)?;
        acted |= self.speak(number);
        if self.is_rough {
            acted |= self.misbehave(number);
        }
        if !acted {
            // Somebody else may have something.
            for number in present {
                acted |= self.hear(number)? || self.speak(number);
            }
        }
        if !acted && self.to_come > 0 {
            self.connect();
            acted = true;
        }
        Ok(acted)
    }

    fn connect(&mut self) {
        self.to_come -= 1;
        let (id, core) = (self.clients.len(), self.prng.below(self.cores.len()));
        let is_memcached = !self.mix.is_alone && self.prng.one_in(3);
        let protocol = if is_memcached { Protocol::Memcached } else { Protocol::Resp };
        let peer = self.cores[core].core.transport().connect(u32::from(is_memcached));
        let commands = self.prng.between(1, 120);
        self.clients.push(Client::new(id, protocol, (core, peer), commands));
    }

    /// A client reads what has come; whether something has.
    fn hear(&mut self, number: usize) -> Result<bool, String> {
        let client = &mut self.clients[number];
        let transport = self.cores[client.core].core.transport();
        let bytes = transport.read(client.peer);
        let is_closed = transport.is_closed(client.peer);
        if !bytes.is_empty() {
            self.trace.note_bytes(&bytes);
            client.got.extend_from_slice(&bytes);
        }
        while let Some(expected) = client.expected.front() {
            if client.got.is_empty() {
                break;
            }
            let told = expected.take(&mut client.got);
            let told = told.map_err(|error| format!("client {}: {error}", client.id))?;
            let Some(told) = told else { break };
            client.expected.pop_front();
            note(client, &mut self.shared, told)?;
        }
        if client.expected.is_empty() && !client.got.is_empty() {
            return Err(format!("client {} got {} bytes too many", client.id, client.got.len()));
        }
        if is_closed {
            let missing = client.expected.len();
            if !client.ended || missing > 0 {
                return Err(format!("client {} was closed, {missing} replies early", client.id));
            }
            client.gone = true;
            return Ok(true);
        }
        Ok(!bytes.is_empty())
    }

    /// A client writes a few commands; whether it had some to write.
    fn speak(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let transport = self.cores[client.core].core.transport();
        if client.left == 0 || client.ended || client.expected.len() >= PIPELINE_MAX {
            return false;
        }
        if transport.unread_bytes(client.peer) > 64 * 1024 {
            return false;
        }
        let mut out = Vec::new();
        for _ in 0..self.prng.between(1, client.left.min(20)) {
            client.speak(&self.mix, &mut self.shared, &mut self.prng, &mut out);
            client.left -= 1;
        }
        transport.write(client.peer, &out);
        true
    }

    /// A client stops reading or begins to, ends its half, or is gone; whether it did.
    fn misbehave(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let transport = self.cores[client.core].core.transport();
        match self.prng.below(400) {
            0..=3 => {
                client.reads = !client.reads;
                transport.set_reads(client.peer, client.reads);
            }
            4 => {
                client.ended = true;
                client.left = 0;
                transport.end(client.peer, Half::Ended);
            }
            5 => {
                (client.gone, client.lost, client.ended) = (true, true, true);
                client.left = 0;
                transport.end(client.peer, Half::Gone);
            }
            _ => return false,
        }
        true
    }

    fn is_done(&self) -> bool {
        self.to_come == 0
            && self.clients.iter().all(|client| {
                client.gone || (!client.ended && client.left == 0 && client.expected.is_empty())
            })
    }

    /// Whether a core stalls, or a client does not read.
    pub(super) fn is_anybody_away(&self) -> bool {
        self.cores.iter().any(|sim| sim.stalled_until > self.step)
            || self.clients.iter().any(|client| !client.gone && !client.reads)
    }

    pub(super) fn bring_back(&mut self) {
        self.cores.iter_mut().for_each(|sim| sim.stalled_until = 0);
        for client in self.clients.iter_mut().filter(|client| !client.gone && !client.reads) {
            client.reads = true;
            self.cores[client.core].core.transport().set_reads(client.peer, true);
        }
    }

    pub(super) fn what_is_missing(&mut self) -> String {
        let waits =
            |client: &&Client| !client.gone && (client.ended || !client.expected.is_empty());
        let waiting = self.clients.iter().find(waits);
        let text = waiting.map(|client| {
            let (id, core) = (client.id, client.core);
            format!("client {id} at core {core} waits for {:?}", client.expected.front())
        });
        let left: Vec<String> = (0..self.cores.len())
            .filter_map(|number| {
                let error = self.cores[number].core.check_at_rest().err()?;
                Some(format!("core {number}: {error}"))
            })
            .collect();
        format!("nobody goes on: {}; {left:?}", text.unwrap_or_default())
    }

    /// Compares what cores think of each other, and looks at the memory of lanes.
    fn check_lanes(&mut self) -> Result<(), String> {
        let count = self.cores.len();
        for a in 0..count {
            let mut bytes = 0;
            for b in (0..count).filter(|&b| b != a) {
                let of_a = self.cores[a].core.lane_census(b);
                let of_b = self.cores[b].core.lane_census(a);
                let on_the_way = of_a.asked
                    + of_b.requests_in
                    + of_b.taken
                    + of_b.working
                    + of_b.answered
                    + of_a.replies_in;
                if of_a.outstanding != on_the_way {
                    return Err(format!("core {a} waits for {of_a:?}, core {b} has {of_b:?}"));
                }
                bytes += of_a.kept_bytes + of_a.posted_bytes;
            }
            if bytes > self.lane_bytes_max() {
                return Err(format!("the lanes of core {a} take {bytes} bytes"));
            }
        }
        Ok(())
    }

    /// The most that a core's lanes may take: for each lane the bundles that are on their way, being
    /// filled and in store. A bundle may exceed its bound by what a batch adds, and its memory by
    /// as much as growing doubles.
    fn lane_bytes_max(&self) -> usize {
        let bundles = (self.cores.len() - 1) * 4 * (LANE_BUNDLES + 1);
        // What is longer moves as a whole.
        let value_bytes_max = self.mix.value_bytes_max.min(32 * 1024);
        let batch_bytes = BATCH_COMMANDS_MAX * (LANE_COPY_BYTES_MAX + 6 * value_bytes_max);
        bundles * 2 * (self.sizes.bundle_bytes_max + batch_bytes)
    }

    /// Checks all that must hold once everybody has been served.
    fn check_end(&mut self) -> Result<(), String> {
        self.check_lanes()?;
        for number in 0..self.cores.len() {
            let core = &mut self.cores[number].core;
            core.check_at_rest().map_err(|error| format!("core {number}: {error}"))?;
            core.validate().map_err(|error| format!("core {number}: {error}"))?;
        }
        self.ask_at_the_end()
    }
}

/// Notes what a reply has told, and checks it against what others were told.
fn note(client: &mut Client, shared: &mut Shared, told: Told) -> Result<(), String> {
    match told {
        Told::Counter(counter, count) => {
            let last = std::mem::replace(&mut client.last_counts[counter], count);
            let asked = shared.asked[counter];
            if count <= last || count as u64 > asked || !shared.counted[counter].insert(count) {
                return Err(format!("counter {counter} was told to be {count}, of {asked}"));
            }
        }
        Told::Shared(value) if !shared.written.contains(&value) => {
            return Err(format!("nobody has written {:?}", String::from_utf8_lossy(&value)));
        }
        _ => {}
    }
    Ok(())
}
