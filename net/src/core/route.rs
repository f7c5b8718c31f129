//! Which core a command goes to, when that takes a second look: its keys are several, or behind a
//! subcommand, it concerns all cores, or a transaction is being collected.
//!
//! A command whose keys are all on one core is executed there. Of those with keys on several, the
//! ones that are as good in parts are split; the others are refused with an error that says how
//! keys are brought together. A transaction belongs to the core of its keys.

use pinion_ring::Key;
use pinion_router::core_of_key;

use super::batch::{Command, OWNER_ROUTED, ParseLimits, Source, Work};
use super::foreign::{Errand, kind};
use super::gather::Part;
use super::join::Join;
use super::joint::Joint;
use super::{Core, Transport, node};
use crate::command::{self, Arguments, Reach, Spec, Spread};
use crate::connection::Session;
use crate::protocol::memcached::{self, binary};
use crate::protocol::resp::Writer;

/// What is done about a command.
pub(super) enum Way {
    /// It is executed here.
    Here,
    /// Another core executes it.
    Cross(usize),
    /// Several cores execute it.
    Scatter(Vec<Part>, Join, Vec<u16>),
    /// It is executed here, and asks all cores.
    Survey,
    /// It is executed in steps over several cores.
    Joint(Box<Joint>),
    /// It waits for what other cores owe its connection.
    Await,
    /// It is refused.
    Refuse(String),
    /// The transaction goes to a core.
    Exec(usize),
    /// Keys of a core are watched there.
    Watch(usize, Vec<u8>),
}

const CROSS: &str = "CROSSSLOT Keys of this command are on several cores of this server, which \
                     cannot execute it in parts: bring them together by a hash tag, such as \
                     {user1}:a and {user1}:b";
const CROSS_EXEC: &str = "CROSSSLOT Keys of this transaction are on several cores of this server: \
                          bring them together by a hash tag, such as {user1}:a and {user1}:b, or \
                          send the commands without MULTI";
const ALL_EXEC: &str = "ERR this command concerns all cores of this server, and a transaction is \
                        executed by one: send it without MULTI";

/// Writes a RESP command.
fn frame_of<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut writer = Writer::new(&mut frame, crate::protocol::resp::Version::Resp2);
    writer.array(args.len());
    args.for_each(|arg| writer.bulk(arg));
    frame
}

impl<T: Transport> Core<T> {
    /// Sees to a command of the batch whose core is not plain to see. Whether it was dealt with; if
    /// not, it is executed here.
    #[cold]
    pub(super) fn route(&mut self, number: usize) -> bool {
        let Command { connection: key, source, from, to, work, owner, .. } =
            self.batch.commands[number];
        let Some(lanes) = &self.lanes else { return false };
        let (me, cores) = (lanes.me, lanes.cores);
        let Some(connection) = self.connections.find(key) else { return true };
        let bytes = match source {
            Source::Loan(loan) => self.transport.bytes(&self.batch.loans[loan as usize]),
            Source::Input | Source::Lane(_) => &connection.input,
        };
        let frame = &bytes[from as usize..to as usize];
        let settings = &self.options.settings;
        let way = match work {
            Work::Resp(Some(spec)) => {
                let args = Arguments::new(frame, &self.batch.args[number]);
                let is_locked = settings.has_password() && !connection.session.authenticated;
                if is_locked || !spec.accepts(args.len()) {
                    return false;
                }
                if spec.name == "client"
                    && let Some(to) = lanes.full_lane()
                {
                    // It may be about the connections of all cores, which it asks once it runs.
                    self.await_room(number, to);
                    return true;
                }
                let place = |key: &[u8]| core_of_key(key, cores).index();
                let way = match settings.cluster.as_deref() {
                    Some(view) if connection.session.core_port => node::way_of(view, spec, &args),
                    _ => way_of(spec, &args, me, usize::from(cores.count()), place),
                };
                within_session(way, spec, &args, &mut connection.session, connection.crossed, me)
            }
            Work::Memcached => {
                if !command::memcached::is_authenticated(settings, &connection.session) {
                    return false;
                }
                let limits = &self.limits.memcached;
                let place = |key: &[u8]| core_of_key(key, cores).index();
                let way = memcached_way(frame, limits, me, usize::from(cores.count()), place);
                if let (Way::Survey, 1..) = (&way, connection.crossed) { Way::Await } else { way }
            }
            Work::Binary => {
                if !command::memcached::is_authenticated(settings, &connection.session) {
                    return false;
                }
                match owner {
                    OWNER_ROUTED if is_binary_of_all_cores(frame, &self.limits) => {
                        all_cores(frame, usize::from(cores.count()), Join::First)
                    }
                    OWNER_ROUTED if connection.crossed > 0 => Way::Await,
                    OWNER_ROUTED => Way::Here,
                    to => Way::Cross(usize::from(to)),
                }
            }
            _ => Way::Here,
        };
        let kind = match work {
            Work::Memcached => kind::MEMCACHED,
            Work::Binary => kind::BINARY,
            _ => kind::RESP,
        };
        self.go(number, key, way, kind, me)
    }

    fn go(&mut self, number: usize, key: Key, way: Way, kind: u8, me: usize) -> bool {
        match way {
            Way::Here | Way::Survey => return false,
            Way::Cross(to) if to == me => return false,
            Way::Cross(to) => self.cross(number, to),
            Way::Scatter(parts, join, order) => self.scatter(number, kind, parts, join, order),
            Way::Joint(joint) => self.begin_joint(number, *joint),
            Way::Await => self.await_crossed(number),
            Way::Refuse(text) => self.refuse(number, &text),
            Way::Exec(to) | Way::Watch(to, _)
                if self.lanes.as_ref().is_some_and(|lanes| !lanes.has_room(to)) =>
            {
                self.await_room(number, to);
            }
            Way::Exec(to) => {
                let Some(connection) = self.connections.find(key) else { return true };
                let Some(transaction) = connection.session.transaction.take() else { return false };
                let watches = std::mem::take(&mut connection.session.watches);
                connection.session.recount();
                self.send_errand(key, to, Errand::Transaction(transaction, watches), 0);
                // What follows may depend on the database that it selects.
                self.put_back(number + 1, key);
                self.hold_for_crossed(key);
            }
            Way::Watch(to, frame) => {
                self.send_errand(key, to, Errand::Watch(frame), 0);
                // EXEC may follow, and needs to know what was seen.
                self.put_back(number + 1, key);
                self.hold_for_crossed(key);
            }
        }
        true
    }

    /// Lets a connection execute nothing until other cores owe it nothing.
    pub(super) fn hold_for_crossed(&mut self, key: Key) {
        if let Some(connection) = self.connections.find(key) {
            connection.lane_wait = connection.crossed > 0;
            connection.settle_wait = connection.lane_wait;
        }
    }

    /// Answers a command with an error; a transaction that is being collected will be refused.
    fn refuse(&mut self, number: usize, text: &str) {
        let Command { connection: key, work, .. } = self.batch.commands[number];
        let Some(connection) = self.connections.find(key) else { return };
        self.counters.commands += 1;
        self.counters.errors += 1;
        self.server.statistics.count_error(text);
        if let Work::Resp(Some(spec)) = work {
            self.server.statistics.of(spec.number).rejected += 1;
        }
        if let Some(transaction) = &mut connection.session.transaction {
            transaction.spoil();
        }
        let version = connection.session.version();
        let start = connection.replies.writer().len();
        Writer::new(connection.replies.writer(), version).error(text);
        connection.end_reply(start, &mut self.pins, &mut self.shard, false);
        self.budget.recount(connection);
        self.mark_dirty(key.index);
    }
}

/// Which way a command takes by its keys.
fn way_of(
    spec: &'static Spec,
    args: &Arguments<'_>,
    me: usize,
    cores: usize,
    place: impl Fn(&[u8]) -> usize,
) -> Way {
    let mut reach = spec.reach;
    let mut keys = spec;
    if reach == Reach::Subcommand {
        let Some(subcommand) = (args.len() > 1).then(|| spec.subcommand(args.at(1))).flatten()
        else {
            return Way::Here;
        };
        if !subcommand.accepts(args.len()) {
            return Way::Here;
        }
        (reach, keys) = (subcommand.find_reach(), subcommand);
    }
    match reach {
        Reach::Here | Reach::Subcommand => Way::Here,
        Reach::Key(index) => {
            let index = usize::from(index);
            if index < args.len() { Way::Cross(place(args.at(index))) } else { Way::Here }
        }
        Reach::All(join) => all_cores(args.frame(), cores, join),
        Reach::Survey => Way::Survey,
        Reach::Debug if args.len() == 3 && args.is(1, "SET-ACTIVE-EXPIRE") => {
            all_cores(args.frame(), cores, Join::First)
        }
        Reach::Debug if args.len() > 2 && args.is(1, "OBJECT") => Way::Cross(place(args.at(2))),
        Reach::Debug => Way::Here,
        Reach::Keys(Spread::Together) => {
            let indices = command::key_indices(spec, *args);
            together(indices.map(|index| place(args.at(index))), me)
        }
        Reach::Keys(Spread::Jointly) => {
            let indices = command::key_indices(spec, *args);
            match together(indices.map(|index| place(args.at(index))), me) {
                Way::Refuse(_) => Joint::of(spec, args, place)
                    .map_or(Way::Here, |joint| Way::Joint(Box::new(joint))),
                way => way,
            }
        }
        Reach::Keys(Spread::Apart(join)) => {
            let Some(keys) = keys.keys.first() else { return Way::Here };
            let (step, count) = (usize::from(keys.step), args.len());
            if (count - usize::from(keys.first)) % step != 0 {
                return Way::Here;
            }
            split(args, keys.indices(count).collect(), step, join, place)
        }
        Reach::Cursor => {
            let core = args.at(1);
            let number = std::str::from_utf8(core).ok().and_then(|text| text.parse::<u64>().ok());
            // What is no cursor gets its error here.
            number.map_or(Way::Here, |number| Way::Cross((number % cores as u64) as usize))
        }
    }
}

fn together(mut places: impl Iterator<Item = usize>, me: usize) -> Way {
    let first = places.next().unwrap_or(me);
    if places.all(|place| place == first) {
        Way::Cross(first)
    } else {
        Way::Refuse(CROSS.to_owned())
    }
}

/// Whether a request of memcached's binary protocol changes something on each core.
fn is_binary_of_all_cores(frame: &[u8], limits: &ParseLimits) -> bool {
    let limits = limits.binary(false);
    match binary::parse(frame, &mut binary::Progress::default(), &limits) {
        binary::Parse::Complete { request, .. } => {
            command::memcached::is_binary_of_all_cores(&request)
        }
        _ => false,
    }
}

/// The same request for all cores.
pub(super) fn all_cores(frame: &[u8], cores: usize, join: Join) -> Way {
    let parts = (0..cores).map(|core| Part { core, frame: frame.to_vec() }).collect();
    Way::Scatter(parts, join, Vec::new())
}

/// A command in parts, one for each core that has some of its keys, each of which stands at an
/// index and takes `step` arguments.
fn split(
    args: &Arguments<'_>,
    indices: Vec<usize>,
    step: usize,
    join: Join,
    place: impl Fn(&[u8]) -> usize,
) -> Way {
    let mut groups: Vec<(usize, Vec<&[u8]>)> = Vec::new();
    let mut order = Vec::with_capacity(indices.len());
    for index in indices {
        let core = place(args.at(index));
        let group = groups.iter().position(|&(other, _)| other == core).unwrap_or_else(|| {
            groups.push((core, vec![args.at(0)]));
            groups.len() - 1
        });
        groups[group].1.extend((index..index + step).map(|index| args.at(index)));
        order.push(group as u16);
    }
    if let [(core, _)] = groups[..] {
        return Way::Cross(core);
    }
    let parts = groups.into_iter();
    let part = |(core, args): (usize, Vec<&[u8]>)| Part { core, frame: frame_of(args.into_iter()) };
    Way::Scatter(parts.map(part).collect(), join, order)
}

/// What becomes of a way when the client has other commands outstanding, or collects a transaction.
fn within_session(
    way: Way,
    spec: &'static Spec,
    args: &Arguments<'_>,
    session: &mut Session,
    crossed: u32,
    me: usize,
) -> Way {
    let Some(transaction) = &mut session.transaction else {
        return match way {
            way if spec.name == "watch" => watch_way(way, session.watches.core(), args, me),
            Way::Scatter(_, Join::First, ref order) if order.is_empty() && crossed > 0 => {
                Way::Await
            }
            Way::Survey if crossed > 0 => Way::Await,
            way => way,
        };
    };
    match spec.name {
        "exec" => {
            if crossed > 0 {
                return Way::Await;
            }
            let (keys, watched) = (transaction.core(), session.watches.core());
            match (keys, watched) {
                // Keys of several slots on a core port: EXEC refuses them.
                _ if transaction.is_crossed() => Way::Here,
                (Some(keys), Some(watched)) if keys != watched => {
                    Way::Refuse(CROSS_EXEC.to_owned())
                }
                (Some(core), _) | (None, Some(core)) if core != me => Way::Exec(core),
                _ => Way::Here,
            }
        }
        "multi" | "discard" | "watch" | "quit" | "reset" => Way::Here,
        _ => match way {
            Way::Cross(core) => {
                if transaction.core().is_some_and(|other| other != core) {
                    return Way::Refuse(CROSS_EXEC.to_owned());
                }
                transaction.set_core(core);
                Way::Here
            }
            Way::Survey => Way::Refuse(ALL_EXEC.to_owned()),
            Way::Scatter(_, _, order) if order.is_empty() => Way::Refuse(ALL_EXEC.to_owned()),
            Way::Scatter(..) | Way::Joint(_) => Way::Refuse(CROSS_EXEC.to_owned()),
            way => way,
        },
    }
}

fn watch_way(way: Way, watched: Option<usize>, args: &Arguments<'_>, me: usize) -> Way {
    match way {
        Way::Cross(core) if watched.is_some_and(|other| other != core) => {
            Way::Refuse(CROSS.to_owned())
        }
        Way::Cross(core) if core != me => Way::Watch(core, args.frame().to_vec()),
        way => way,
    }
}

/// Which way a request of memcached's text protocol takes.
fn memcached_way(
    frame: &[u8],
    limits: &memcached::Limits,
    me: usize,
    cores: usize,
    place: impl Fn(&[u8]) -> usize,
) -> Way {
    let mut progress = memcached::Progress::default();
    let memcached::Parse::Complete { request, .. } = memcached::parse(frame, &mut progress, limits)
    else {
        return Way::Here;
    };
    let mut decoded = None;
    match request {
        memcached::Request::Get { keys, .. } | memcached::Request::GetAndTouch { keys, .. } => {
            let mut groups: Vec<(usize, Vec<u8>)> = Vec::new();
            let mut order = Vec::with_capacity(keys.len());
            // What precedes the keys is the same in each part.
            let keys_start = command::memcached::keys_start(frame);
            for key in keys {
                let core = place(key);
                let group = groups.iter().position(|&(other, _)| other == core);
                let group = group.unwrap_or_else(|| {
                    groups.push((core, frame[..keys_start].to_vec()));
                    groups.len() - 1
                });
                order.push(group as u16);
                groups[group].1.extend_from_slice(b" ");
                groups[group].1.extend_from_slice(key);
            }
            if let [(core, _)] = groups[..] {
                return Way::Cross(core);
            }
            if groups.is_empty() {
                return Way::Here;
            }
            let parts = groups.into_iter().map(|(core, mut frame)| {
                frame.extend_from_slice(b"\r\n");
                Part { core, frame }
            });
            Way::Scatter(parts.collect(), Join::Lines, order)
        }
        memcached::Request::FlushAll { .. } => all_cores(frame, cores, Join::First),
        request if command::memcached::is_of_all_cores(&request) => {
            all_cores(frame, cores, Join::First)
        }
        memcached::Request::Stats { .. } => Way::Survey,
        memcached::Request::Meta(meta) => {
            match command::memcached::plain_key(&meta, &mut decoded) {
                Some(key) => Way::Cross(place(key)),
                None => Way::Here,
            }
        }
        request => match command::memcached::first_key(&request) {
            Some(key) => Way::Cross(place(key)),
            None => Way::Cross(me),
        },
    }
}
