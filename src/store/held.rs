//! What is said of queues that are held, and of what was lost with them.

use super::disk::Disk;
use super::error::StoreError;
use super::gap::Found;
use super::replay::Replay;
use super::restorable::{Restorable, length};
use super::segment::file_name;
use super::touches::Touches;
use crate::command;
use crate::id::SegmentNo;

/// Logs each gap, and each queue that is held, be it since an earlier start.
pub(super) fn log(disk: &dyn Disk, replay: &Replay, restorable: &Restorable) {
    for Found { gap, why, .. } in &replay.gaps {
        let are_held = match replay.definitions.held().any(|(_, _, held)| held == gap) {
            true => "The queues that these may name are held, all others are served",
            false => "No queue is held for it",
        };
        let path = disk.path(&file_name(gap.segment));
        tracing::error!(
            "{} is damaged at byte {}: {why}; {}. {are_held}",
            path.display(),
            gap.damaged_at,
            gap.loss()
        );
    }
    forgetful(replay).for_each(|(_, what)| tracing::error!("{what}"));
    for (_, queue, gap) in replay.definitions.held() {
        let (name, vhost, file, offset) = (&queue.name, &queue.vhost, gap.file(), gap.damaged_at);
        let serve = serve(vhost, name);
        let way_out = match restorable.spare_bytes(gap) {
            Some(bytes) => format!(
                "stop the broker and restore the file from a copy, which counts until the journal \
                 has grown by another {}, or {serve}",
                length(bytes)
            ),
            None => format!("a copy of the file brings nothing back any more; {serve}"),
        };
        tracing::error!(
            "queue '{name}' in vhost '{vhost}' is held: {file} is damaged at byte {offset}, and \
             messages of it may be missing or come again; {way_out}"
        );
    }
}

/// Says of a segment that a start does not read if its file is shorter than it was.
pub(super) fn log_if_short(disk: &dyn Disk, number: SegmentNo, end: u64) -> Result<(), StoreError> {
    let file = file_name(number);
    let len = disk.len(&file)?;
    if len < end {
        tracing::error!(
            "{} ends at byte {len}, and was {end} bytes long: messages that lay behind cannot be \
             read, and are set aside when their turn comes; stop the broker and restore the file \
             from a copy, or go on without them: `leveret ctl list_held_queues` names their queues \
             then",
            disk.path(&file).display()
        );
    }
    Ok(())
}

/// The exchanges that may have forgotten keys, each with the gap and a sentence: nothing can hold
/// them.
pub(super) fn forgetful(replay: &Replay) -> impl Iterator<Item = (&Found, String)> {
    replay.gaps.iter().flat_map(|found| {
        let caches = replay.definitions.exchange_caches();
        let met = caches.filter(|(id, ..)| found.touches.meets(Touches::cache(*id)));
        met.map(move |(_, vhost, name)| {
            let what = format!(
                "exchange '{name}' in vhost '{vhost}' may have forgotten keys of messages: it may \
                 accept them again"
            );
            (found, what)
        })
    })
}

/// Of one queue, for a check: `is_replayed` if a start still reads where the damage is.
pub(super) fn sentence(vhost: &str, name: &str, is_replayed: bool) -> String {
    let restore = match is_replayed {
        true => "restore the file from a copy, or ",
        false => "a copy of the file brings nothing back any more; ",
    };
    format!(
        "queue '{name}' in vhost '{vhost}' is held, since messages of it may be missing or come \
         again; {restore}start the broker and {}",
        serve(vhost, name)
    )
}

/// What an operator can do of a running broker.
fn serve(vhost: &str, name: &str) -> String {
    format!("serve what is there with `{}`", command::ctl("release_queue", vhost, name))
}
