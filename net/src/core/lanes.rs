//! A core's ends of the lanes to all others: what is collected for them, what has come from them,
//! and the connections that wait for room.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use pinion_engine::DATABASES;
use pinion_ring::{Key, Waker};
use pinion_router::{CoreCount, CoreIndex};

use super::accept::Rate;
use super::foreign::{Errand, Outcome};
use super::limits::{
    BUNDLE_BYTES_MAX, BUNDLE_BYTES_MIN, JOINTS_MAX, LANE_BUNDLES, LANE_PLACES, LANE_REQUESTS_MAX,
    LANE_REQUESTS_MIN, LANES_BYTES,
};
use super::{Core, Transport};
use crate::lane::{self, Bundle, Mailbox};

/// What cores share: how each is told that something was posted, and woken.
#[derive(Debug)]
pub struct Crew {
    seats: Vec<Seat>,
    /// Connections of all cores.
    connections: std::sync::atomic::AtomicUsize,
    /// Cores that have nothing left to do for their clients, once all were told to end.
    done: std::sync::atomic::AtomicUsize,
    /// The number of the next slow command.
    slow_numbers: Arc<AtomicU64>,
    /// How fast connections may come.
    accept_rate: Arc<Rate>,
}

#[derive(Debug)]
struct Seat {
    mailbox: Mailbox,
    /// Set before the core takes its first turn.
    waker: std::sync::OnceLock<Waker>,
    /// Items in each database, as of the last tenths of a second.
    items: [AtomicU64; DATABASES],
}

impl Crew {
    fn new(cores: usize) -> Crew {
        let seat = || Seat {
            mailbox: Mailbox::new(cores),
            waker: std::sync::OnceLock::new(),
            items: Default::default(),
        };
        Crew {
            seats: (0..cores).map(|_| seat()).collect(),
            connections: 0.into(),
            done: 0.into(),
            slow_numbers: Arc::default(),
            accept_rate: Arc::default(),
        }
    }

    fn post(&self, from: usize, to: usize) -> bool {
        let seat = &self.seats[to];
        let wakes = seat.mailbox.post(from);
        if wakes && let Some(waker) = seat.waker.get() {
            waker.wake();
        }
        wakes
    }
}

/// The lane to one other core, and that from it.
#[derive(Debug)]
pub(super) struct Peer {
    /// Requests for it.
    requests: lane::Sender<Bundle<Errand>>,
    pub(super) asked: Bundle<Errand>,
    /// Requests that it has not answered.
    pub(super) outstanding: usize,
    /// Its replies.
    pub(super) replies_in: lane::Receiver<Bundle<Outcome>>,
    /// Its requests,
    pub(super) requests_in: lane::Receiver<Bundle<Errand>>,
    /// those that are being executed, and how far.
    pub(super) taken: Bundle<Errand>,
    pub(super) taken_at: usize,
    /// Replies to it.
    replies: lane::Sender<Bundle<Outcome>>,
    pub(super) answered: Bundle<Outcome>,
    /// Whether it is in the list of peers for which there is something to post.
    is_noted: bool,
    /// Connections whose commands wait for room.
    pub(super) waiting: Vec<Key>,
    /// Emptied bundles.
    pub(super) spare_asked: Vec<Bundle<Errand>>,
    pub(super) spare_answered: Vec<Bundle<Outcome>>,
}

/// See the module's page.
#[derive(Debug)]
pub struct Lanes {
    pub(super) me: usize,
    pub(super) cores: CoreCount,
    /// By core; there is none to oneself.
    pub(super) peers: Vec<Option<Peer>>,
    crew: Arc<Crew>,
    /// Peers for which there may be something to post.
    noted: Vec<usize>,
    /// Peers of which requests are left.
    pub(super) unfinished: Vec<usize>,
    pub(super) bundle_bytes_max: usize,
    pub(super) requests_max: usize,
    /// Whether this core has told that it is done.
    is_done: bool,
}

/// How much a lane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSizes {
    /// Bytes of a bundle beyond which nothing more is added to it.
    pub bundle_bytes_max: usize,
    /// Requests whose replies are outstanding; more than [`JOINTS_MAX`], whose places are among them.
    pub requests_max: usize,
}

impl LaneSizes {
    /// What lanes of so many cores take, so that all of a core's stay within their memory.
    pub fn of(cores: CoreCount) -> LaneSizes {
        let others = usize::from(cores.count()).saturating_sub(1).max(1);
        let bundle_bytes_max = LANES_BYTES / (2 * others) / LANE_BUNDLES;
        let requests_max = LANE_PLACES / others;
        LaneSizes {
            bundle_bytes_max: bundle_bytes_max.clamp(BUNDLE_BYTES_MIN, BUNDLE_BYTES_MAX),
            requests_max: requests_max
                .clamp(LANE_REQUESTS_MIN, LANE_REQUESTS_MAX)
                .next_power_of_two()
                - JOINTS_MAX,
        }
    }
}

/// Makes the lanes of all cores, joined with each other.
pub fn join_cores(cores: CoreCount) -> Vec<Lanes> {
    join_cores_by(cores, LaneSizes::of(cores))
}

/// The same with lanes of other sizes, each at least 1, for simulations.
pub fn join_cores_by(cores: CoreCount, sizes: LaneSizes) -> Vec<Lanes> {
    let count = usize::from(cores.count());
    let crew = Arc::new(Crew::new(count));
    let LaneSizes { bundle_bytes_max, requests_max } = sizes;
    let places = requests_max + JOINTS_MAX;
    let mut all: Vec<Lanes> = (0..count)
        .map(|me| Lanes {
            me,
            cores,
            peers: (0..count).map(|_| None).collect(),
            crew: Arc::clone(&crew),
            noted: Vec::new(),
            unfinished: Vec::new(),
            bundle_bytes_max,
            requests_max,
            is_done: false,
        })
        .collect();
    for a in 0..count {
        for b in a + 1..count {
            let (a_asks, b_is_asked) = lane::channel(LANE_BUNDLES);
            let (b_answers, a_is_answered) = lane::channel(places);
            let (b_asks, a_is_asked) = lane::channel(LANE_BUNDLES);
            let (a_answers, b_is_answered) = lane::channel(places);
            all[a].peers[b] = Some(Peer::new(a_asks, a_is_answered, a_is_asked, a_answers));
            all[b].peers[a] = Some(Peer::new(b_asks, b_is_answered, b_is_asked, b_answers));
        }
    }
    all
}

impl Peer {
    fn new(
        requests: lane::Sender<Bundle<Errand>>,
        replies_in: lane::Receiver<Bundle<Outcome>>,
        requests_in: lane::Receiver<Bundle<Errand>>,
        replies: lane::Sender<Bundle<Outcome>>,
    ) -> Peer {
        Peer {
            requests,
            asked: Bundle::default(),
            outstanding: 0,
            replies_in,
            requests_in,
            taken: Bundle::default(),
            taken_at: 0,
            replies,
            answered: Bundle::default(),
            is_noted: false,
            waiting: Vec::new(),
            spare_asked: Vec::new(),
            spare_answered: Vec::new(),
        }
    }
}

impl Lanes {
    /// The core whose lanes these are.
    pub fn core(&self) -> CoreIndex {
        CoreIndex::new(self.me as u16)
    }

    /// How many cores there are.
    pub fn cores(&self) -> CoreCount {
        self.cores
    }

    /// Lets others know how many items a database has here.
    pub(super) fn tell_items(&self, db: usize, items: u64) {
        self.crew.seats[self.me].items[db].store(items, Relaxed);
    }

    /// How many items a database has on each core, about.
    pub(super) fn items(&self, db: u8) -> Vec<u64> {
        let items = |seat: &Seat| seat.items[usize::from(db)].load(Relaxed);
        self.crew.seats.iter().map(items).collect()
    }

    /// Where all cores take the numbers of slow commands.
    pub(super) fn slow_numbers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.crew.slow_numbers)
    }

    /// How fast connections may come to all cores together.
    pub(super) fn accept_rate(&self) -> Arc<Rate> {
        Arc::clone(&self.crew.accept_rate)
    }

    /// Tells others how to wake this core.
    pub fn set_waker(&self, waker: Waker) {
        // A core has one waker; a second call would be about the same.
        let _ = self.crew.seats[self.me].waker.set(waker);
    }

    /// Whether another request to a core may be sent now. Steps of commands over several cores need
    /// not ask: [`JOINTS_MAX`] places beyond these are theirs.
    #[inline]
    pub(super) fn has_room(&self, to: usize) -> bool {
        self.peers[to].as_ref().is_some_and(|peer| {
            peer.outstanding < self.requests_max && peer.asked.len() < self.bundle_bytes_max
        })
    }

    /// A core to which no request may be sent now, if there is one.
    pub(super) fn full_lane(&self) -> Option<usize> {
        (0..self.peers.len()).find(|&to| to != self.me && !self.has_room(to))
    }

    /// The bundle for requests to a core, to which one is about to be added.
    #[inline]
    pub(super) fn ask(&mut self, to: usize) -> Option<&mut Bundle<Errand>> {
        let peer = self.peers[to].as_mut()?;
        peer.outstanding += 1;
        note(&mut self.noted, peer, to);
        Some(&mut peer.asked)
    }

    /// The bundle for replies to a core, to which one is about to be added.
    #[inline]
    pub(super) fn answer(&mut self, to: usize) -> Option<&mut Bundle<Outcome>> {
        let peer = self.peers[to].as_mut()?;
        note(&mut self.noted, peer, to);
        Some(&mut peer.answered)
    }

    /// The requests of a core that are being executed, and the bundle for the replies to them, to
    /// which one is about to be added.
    #[inline]
    pub(super) fn guest_bundles(
        &mut self,
        from: usize,
    ) -> Option<(&Bundle<Errand>, &mut Bundle<Outcome>)> {
        let peer = self.peers[from].as_mut()?;
        note(&mut self.noted, peer, from);
        Some((&peer.taken, &mut peer.answered))
    }

    /// Lets a connection wait for room in the lane to a core.
    pub(super) fn wait_for_room(&mut self, to: usize, key: Key) {
        if let Some(peer) = &mut self.peers[to] {
            peer.waiting.push(key);
            note(&mut self.noted, peer, to);
        }
    }

    /// Whether there is something that could not be posted, or requests are left.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Whether another core has posted something that was not taken yet.
    pub(super) fn has_post(&self) -> bool {
        self.crew.seats[self.me].mailbox.has_any()
    }

    /// Whether the core may sleep: see [`Mailbox::fall_asleep`].
    #[inline]
    pub(super) fn fall_asleep(&self) -> bool {
        self.crew.seats[self.me].mailbox.fall_asleep()
    }

    /// See [`Mailbox::wake_up`].
    #[inline]
    pub(super) fn wake_up(&self) {
        self.crew.seats[self.me].mailbox.wake_up();
    }

    /// Counts a connection that has come; how many there were before, on all cores.
    pub(super) fn count_connection(&self) -> usize {
        self.crew.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// Counts a connection that has gone.
    pub(super) fn count_end(&self) {
        self.crew.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// Tells, once, that this core has done all that it owes to clients. Whether all have.
    pub(super) fn all_done(&mut self) -> bool {
        use std::sync::atomic::Ordering;
        let done = &self.crew.done;
        if !std::mem::replace(&mut self.is_done, true)
            && done.fetch_add(1, Ordering::AcqRel) + 1 == self.peers.len()
        {
            // They sleep until they hear of it.
            for to in (0..self.peers.len()).filter(|&to| to != self.me) {
                self.crew.post(self.me, to);
            }
        }
        done.load(Ordering::Acquire) == self.peers.len()
    }
}

#[inline]
fn note(noted: &mut Vec<usize>, peer: &mut Peer, to: usize) {
    if !std::mem::replace(&mut peer.is_noted, true) {
        noted.push(to);
    }
}

impl<T: Transport> Core<T> {
    /// Takes what others have posted: their replies, and as many of their requests as a turn has
    /// room for. Returns how many messages there were.
    pub(super) fn take_post(&mut self) -> u32 {
        let Some(lanes) = &mut self.lanes else { return 0 };
        let mut left = std::mem::take(&mut lanes.unfinished);
        let seat = &lanes.crew.seats[lanes.me];
        for word in 0..seat.mailbox.words() {
            let mut bits = seat.mailbox.take(word);
            while bits != 0 {
                let from = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if !left.contains(&from) {
                    left.push(from);
                }
            }
        }
        let mut count = 0;
        for &from in &left {
            count += self.take_replies(from);
        }
        for from in left.drain(..) {
            count += self.take_requests(from);
        }
        if let Some(lanes) = &mut self.lanes
            && lanes.unfinished.is_empty()
        {
            // Its memory is of use again.
            lanes.unfinished = left;
        }
        count
    }

    fn take_replies(&mut self, from: usize) -> u32 {
        let mut count = 0;
        loop {
            let Some(peer) = self.lanes.as_mut().and_then(|lanes| lanes.peers[from].as_mut())
            else {
                return count;
            };
            let Some(mut bundle) = peer.replies_in.pop() else { return count };
            peer.outstanding -= bundle.count();
            count += bundle.count() as u32;
            self.settle(&mut bundle);
            let wants_receipt = bundle.wants_receipt;
            let Some(lanes) = &mut self.lanes else { return count };
            if wants_receipt {
                lanes.crew.post(lanes.me, from);
            }
            let bytes_max = lanes.bundle_bytes_max;
            let Some(peer) = &mut lanes.peers[from] else { return count };
            bundle.clear(2 * bytes_max);
            if peer.spare_answered.len() < LANE_BUNDLES {
                peer.spare_answered.push(bundle);
            }
            if !peer.waiting.is_empty() {
                note(&mut lanes.noted, peer, from);
            }
        }
    }

    /// Whether the replies to a core that were not posted yet fill a bundle.
    pub(super) fn has_answered_much(&self, from: usize) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| {
            let peer = lanes.peers[from].as_ref();
            peer.is_some_and(|peer| peer.answered.len() >= lanes.bundle_bytes_max)
        })
    }

    /// The next request bundle of a core, if the one before it is done with and its replies are
    /// being taken. If they are not, the core will be told when they have been.
    pub(super) fn next_requests(&mut self, from: usize) -> bool {
        let Some(lanes) = &mut self.lanes else { return false };
        let bytes_max = lanes.bundle_bytes_max;
        let Some(peer) = &mut lanes.peers[from] else { return false };
        if peer.replies.untaken() >= LANE_BUNDLES {
            return false;
        }
        if peer.taken_at < peer.taken.len() {
            return true;
        }
        let Some(bundle) = peer.requests_in.pop() else { return false };
        let mut done = std::mem::replace(&mut peer.taken, bundle);
        peer.taken_at = 0;
        done.clear(2 * bytes_max);
        if peer.spare_asked.len() < LANE_BUNDLES {
            peer.spare_asked.push(done);
        }
        true
    }

    /// Posts what was collected for others, and wakes those who sleep. Lets connections go on that
    /// have waited for room.
    pub(super) fn post(&mut self) {
        let Some(lanes) = &mut self.lanes else { return };
        if lanes.noted.is_empty() {
            return;
        }
        let mut noted = std::mem::take(&mut lanes.noted);
        let mut freed = Vec::new();
        noted.retain(|&to| {
            let Some(peer) = &mut lanes.peers[to] else { return false };
            let mut posted = false;
            if !peer.asked.is_empty() && peer.requests.has_room() {
                let empty = peer.spare_asked.pop().unwrap_or_default();
                let bundle = std::mem::replace(&mut peer.asked, empty);
                self.counters.lanes.asked_peak =
                    self.counters.lanes.asked_peak.max(peer.outstanding as u64);
                posted |= peer.requests.push(bundle).is_ok();
            }
            if !peer.answered.is_empty() {
                let empty = peer.spare_answered.pop().unwrap_or_default();
                let mut bundle = std::mem::replace(&mut peer.answered, empty);
                bundle.wants_receipt = peer.replies.untaken() + 1 >= LANE_BUNDLES;
                let outcome = peer.replies.push(bundle);
                debug_assert!(outcome.is_ok(), "L1: there is a place for each reply");
                posted = true;
            }
            if posted {
                self.counters.lanes.posts += 1;
                self.counters.lanes.wakes += u64::from(lanes.crew.post(lanes.me, to));
            }
            let has_room =
                peer.outstanding < lanes.requests_max && peer.asked.len() < lanes.bundle_bytes_max;
            if has_room {
                freed.append(&mut peer.waiting);
            }
            peer.is_noted = !peer.asked.is_empty() || !peer.waiting.is_empty();
            peer.is_noted
        });
        if let Some(lanes) = &mut self.lanes {
            noted.append(&mut lanes.noted);
            lanes.noted = noted;
        }
        for key in freed {
            self.go_on(key);
        }
    }
}
