//! One bit of one file is another one when the broker starts: it refuses and names the file, or
//! has what it had, or says of the one message that was hit that it cannot be read, or holds some
//! queues, and has what it had of all others.

use super::ops::{Message, Op, QUEUES};
use super::rng::Rng;
use super::world::World;
use super::{OPERATIONS, Run, is_long};
use leveret::id::{QueueId, Seq};
use leveret::store::{self, Disk, Durability, MemoryDisk, OnDisk, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// All that a start finds.
#[derive(Debug, PartialEq)]
pub(crate) struct View {
    last_lsn: u64,
    definitions: BTreeSet<String>,
    declared: BTreeSet<QueueId>,
    /// Queues, with the file and the offset for which each is held.
    held: BTreeSet<(QueueId, String, u64)>,
    /// The message and whether it is redelivered; nothing if it cannot be read.
    pub(crate) messages: BTreeMap<(QueueId, Seq), Option<(u32, bool)>>,
}

/// How often which outcome was seen.
#[derive(Debug, Default)]
struct Outcomes {
    same: u32,
    refused: u32,
    reported: u32,
    cut: u32,
    /// Nothing is lost, but who had been given what.
    redelivered: u32,
    /// Starts that held queues, and queues that such a start held, and that it did not.
    starts_held: u32,
    held: usize,
    spared: usize,
    /// Held queues that differ from what they were, and those that do not.
    differing: u32,
    alike: u32,
}

pub(crate) fn look(disk: &MemoryDisk, published: &[Message]) -> Result<View, StoreError> {
    let options = store::Options { page_len: 4, ..store::Options::new(Durability::Fsync, 77) };
    let (store, recovered) = store::open(disk, &options)?;
    let mut messages = BTreeMap::new();
    for (id, queue) in &recovered.queues {
        for page in &queue.pages {
            let wanted: BTreeMap<_, _> = page.messages().collect();
            let runs: Vec<_> = wanted.keys().map(|seq| (*seq, *seq)).collect();
            let loaded = store.load(disk, *id, &runs, usize::MAX, u64::MAX)?;
            messages.extend(loaded.lost.iter().map(|seq| ((*id, *seq), None)));
            for OnDisk { seq, message, .. } in loaded.messages {
                let number = Message::id_of(message.header());
                let known = &published[number as usize];
                assert_eq!(message.header(), known.header(number), "another header");
                assert!(message.body_to_vec() == known.body(number), "another body");
                messages.insert((*id, seq), Some((number, wanted[&seq])));
            }
            let there = |seq: &&Seq| messages.contains_key(&(*id, **seq));
            assert_eq!(wanted.keys().filter(there).count(), wanted.len(), "silently missing");
        }
    }
    let definitions = &recovered.definitions;
    let declared = definitions.queues().map(|(id, _)| id).collect();
    let held = definitions.held().map(|(id, _, gap)| (id, gap.file(), gap.damaged_at)).collect();
    let queues = definitions.queues().map(|(id, queue)| format!("{id:?} {queue:?}"));
    let vhost = definitions.vhost("/");
    let exchanges = vhost.into_iter().flat_map(|vhost| vhost.exchanges());
    let bindings = vhost.into_iter().flat_map(|vhost| vhost.bindings());
    let exchanges = exchanges.map(|exchange| format!("{exchange:?}"));
    let bindings = bindings.map(|binding| format!("{binding:?}"));
    let definitions = queues.chain(exchanges).chain(bindings).collect();
    let last_lsn = recovered.last_lsn.0;
    Ok(View { last_lsn, definitions, declared, held, messages })
}

/// The disk as it is, all of it safe.
pub(crate) fn image(disk: &MemoryDisk) -> MemoryDisk {
    let image = disk.crash(0);
    let files = disk.list().expect("it has power");
    for file in image.list().expect("it has power") {
        if !files.contains(&file) {
            image.remove(&file).expect("it is there");
        }
    }
    for file in &files {
        image.overwrite(file, disk.contents(file).expect("it is there"));
    }
    image
}

/// Segments at the journal's end, most of which a start replays.
const NEWEST: usize = 6;

/// What a frame begins with, and the length of its header.
const FRAME: (&[u8], usize) = (b"LVfr", 72);

/// Where the records of some frame lie, if there is a frame: most of a short one is its header.
fn records(bytes: &[u8], rng: &Rng) -> Option<Range<usize>> {
    let (magic, header_len) = FRAME;
    let windows = bytes.windows(magic.len()).enumerate();
    let begins: Vec<_> = windows.filter(|(_, it)| *it == magic).map(|(at, _)| at).collect();
    let nth = (!begins.is_empty()).then(|| rng.below(begins.len()))?;
    let end = begins.get(nth + 1).copied().unwrap_or(bytes.len());
    let records = begins[nth] + header_len..end;
    (!records.is_empty()).then_some(records)
}

/// Flips a bit, mostly in what a start replays; says in which file and where.
fn flip(disk: &MemoryDisk, rng: &Rng) -> (String, usize) {
    let files = disk.list().expect("it has power");
    let is_segment = |file: &&String| file.starts_with("segment-") && !file.ends_with(".idx");
    let mut segments: Vec<_> = files.iter().filter(is_segment).cloned().collect();
    segments.sort_unstable();
    segments.drain(..segments.len().saturating_sub(NEWEST));
    loop {
        let file = rng.pick(if rng.percent(70) { &segments } else { &files });
        let mut bytes = disk.contents(file).expect("it is there");
        if bytes.is_empty() {
            continue;
        }
        // Most of a segment may be padding.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let within = if rng.percent(95) { used } else { bytes.len() };
        let at = match records(&bytes[..used], rng) {
            Some(records) if rng.percent(50) => records.start + rng.below(records.len()),
            _ => rng.below(within),
        };
        bytes[at] ^= 1 << rng.below(8);
        disk.overwrite(file, bytes);
        return (file.clone(), at);
    }
}

impl View {
    /// A queue's messages, or whether some cannot be read; what was redelivered is no part of it.
    fn of(&self, queue: QueueId) -> BTreeMap<Seq, Option<u32>> {
        let messages = self.messages.iter().filter(|(key, _)| key.0 == queue);
        messages.map(|(key, message)| (key.1, message.map(|(number, _)| number))).collect()
    }

    fn queues(&self) -> BTreeSet<QueueId> {
        self.messages.keys().map(|(queue, _)| *queue).collect()
    }

    fn is_all_redelivered(&self) -> bool {
        self.messages.values().flatten().all(|(_, redelivered)| *redelivered)
    }
}

/// Judges a start that passed over something: only what it holds may be other than it was.
fn judge_held(found: &View, whole: &View, file: &str, outcomes: &mut Outcomes) {
    assert_eq!(found.last_lsn, whole.last_lsn);
    assert!(found.is_all_redelivered(), "nobody knows what was delivered");
    let held: BTreeSet<_> = found.held.iter().map(|it| it.0).collect();
    assert!(found.held.iter().all(|it| it.1 == file), "{file} was hit: {:?}", found.held);
    let queues: BTreeSet<_> = found.queues().union(&whole.queues()).copied().collect();
    for queue in queues {
        let is_alike = found.of(queue) == whole.of(queue);
        if held.contains(&queue) {
            *if is_alike { &mut outcomes.alike } else { &mut outcomes.differing } += 1;
        } else {
            assert!(is_alike, "{queue:?} is served, and is not what it was");
        }
    }
    if held.is_empty() {
        outcomes.redelivered += 1;
        return;
    }
    outcomes.starts_held += 1;
    outcomes.held += held.len();
    outcomes.spared += whole.declared.difference(&held).count();
}

/// Judges what a start found after a flip; `before` is what it may be cut to.
fn judge(
    found: &Result<View, StoreError>,
    whole: &View,
    before: Option<&View>,
    file: &str,
    outcomes: &mut Outcomes,
) {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            assert!(error.to_string().contains(file), "{file} was hit: {error}");
            outcomes.refused += 1;
            return;
        }
    };
    if found == whole {
        outcomes.same += 1;
        return;
    }
    if found.last_lsn < whole.last_lsn {
        assert_eq!(Some(found), before, "what was safe is cut");
        outcomes.cut += 1;
        return;
    }
    assert_eq!(found.definitions, whole.definitions);
    let only_redelivered = || whole.queues().iter().all(|it| found.of(*it) == whole.of(*it));
    if !found.held.is_empty() || found.is_all_redelivered() && only_redelivered() {
        return judge_held(found, whole, file, outcomes);
    }
    let keys = |view: &View| view.messages.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(whole), "messages are missing or new");
    let mut hit = BTreeSet::new();
    for (key, message) in &found.messages {
        let was = whole.messages[key];
        if message.is_none() {
            hit.insert(was.map(|(number, _)| number));
        } else {
            assert_eq!(*message, was, "another message at {key:?}");
        }
    }
    assert_eq!(hit.len(), 1, "one bit in {file} hit {hit:?}");
    assert!(file.starts_with("segment-") && !file.ends_with(".idx"), "{file} has no messages");
    outcomes.reported += 1;
}

/// Publishes to each durable queue and takes some of it, all in frames that name one queue only.
fn go_on_apart(world: &mut World) {
    let durable = || (0..QUEUES.len()).filter(|nth| QUEUES[*nth].1);
    durable().for_each(|queue| world.say(0, 1, Op::DeclareQueue(queue)));
    world.calm_down();
    for queue in durable().cycle().take(9) {
        let (exchange, key) = (0, QUEUES[queue].0);
        let message = Message { exchange, key, persistent: true, mandatory: false, body_len: 20 };
        world.oracle.messages.push(message);
        world.say(0, 1, Op::Publish(world.oracle.messages.len() as u32 - 1));
        world.calm_down();
    }
    for queue in durable().cycle().take(6) {
        world.say(0, 1, Op::Get { queue, no_ack: true });
        world.calm_down();
    }
}

/// A history's end: what is on the disk, and what it may be cut to if its last write is damaged.
fn end(world: &mut World, clean: bool) -> (MemoryDisk, Option<View>) {
    world.workload.options.catalogue = 0;
    world.run(OPERATIONS);
    world.crash();
    world.run(OPERATIONS / 2);
    world.disarm();
    world.calm_down();
    world.cut(0);
    world.calm_down();
    world.say(0, 1, Op::OpenChannel);
    go_on_apart(world);
    if clean {
        for at in 0..world.seats.len() {
            world.cut(at);
        }
        world.broker.close(&world.disk).expect("the disk is well");
        return (image(&world.disk), None);
    }
    // What an `os` queue wrote is safe, and said to be, so that only the last write is in doubt.
    let journal = world.broker.journal();
    let safe = journal.flush(&world.disk).and_then(|()| journal.seal(&world.disk));
    safe.expect("the disk is well");
    let before = look(&image(&world.disk), &world.oracle.messages).expect("an image opens");
    let (exchange, key) = (0, QUEUES[0].0);
    let message = Message { exchange, key, persistent: true, mandatory: false, body_len: 700 };
    world.oracle.messages.push(message);
    world.say(0, 1, Op::Publish(world.oracle.messages.len() as u32 - 1));
    world.round();
    (image(&world.disk), Some(before))
}

#[test]
fn one_flipped_bit_changes_nothing_silently() {
    let (seeds, flips) = if is_long() { (50, 100) } else { (8, 40) };
    let mut outcomes = Outcomes::default();
    for (seed, clean) in (0..seeds).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut run = Run { seed, world: World::exact(seed) };
        let world = &mut run.world;
        let (disk, before) = end(world, clean);
        for with_catalogue in [true, false] {
            let image = disk.crash(0);
            if !with_catalogue {
                image.lose_catalogue();
            }
            let whole = look(&image.crash(0), &world.oracle.messages).expect("an image opens");
            for _ in 0..flips / if with_catalogue { 1 } else { 4 } {
                let flipped = image.crash(0);
                let (file, at) = flip(&flipped, &world.rng);
                world.note(|| format!("{file} is hit at {at}, catalogue: {with_catalogue}"));
                let found = look(&flipped, &world.oracle.messages);
                judge(&found, &whole, before.as_ref(), &file, &mut outcomes);
                if let Ok(found) = found
                    && !found.held.is_empty()
                {
                    // The next start finds the same.
                    let again = look(&flipped, &world.oracle.messages).expect("it went on before");
                    assert_eq!((&again.held, &again.messages), (&found.held, &found.messages));
                }
            }
        }
    }
    println!("{outcomes:?}");
    let Outcomes { same, refused, reported, cut, redelivered, .. } = outcomes;
    assert!(same > 0 && refused > 0 && reported > 0 && cut > 0 && redelivered > 0, "{outcomes:?}");
    // Most frames name all of the few queues, but not all do.
    let Outcomes { starts_held, spared, differing, .. } = outcomes;
    assert!(starts_held > 50 && differing > 50, "{outcomes:?}");
    assert!(spared > 10, "masks say everything: {outcomes:?}");
}
