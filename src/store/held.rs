//! What is said of queues that are held, and of what was lost with them.

use super::disk::Disk;
use super::gap::Found;
use super::replay::Replay;
use super::segment::file_name;
use super::touches::Touches;
use crate::command;

/// What an operator can do.
fn way_out(vhost: &str, name: &str) -> String {
    let release = command::ctl("release_queue", vhost, name);
    format!(
        "stop the broker and restore the file from a copy before the next checkpoint, or serve \
         what is there with `{release}`"
    )
}

/// Logs each gap, and each queue that is held, be it since an earlier start.
pub(super) fn log(disk: &dyn Disk, replay: &Replay) {
    for Found { gap, why, .. } in &replay.gaps {
        let path = disk.path(&file_name(gap.segment));
        tracing::error!(
            "{} is damaged at byte {}: {why}; {}. The queues that these may name are held, all \
             others are served",
            path.display(),
            gap.damaged_at,
            gap.loss()
        );
    }
    forgetful(replay).for_each(|(_, what)| tracing::error!("{what}"));
    for (_, queue, gap) in replay.definitions.held() {
        let (name, vhost, file, offset) = (&queue.name, &queue.vhost, gap.file(), gap.damaged_at);
        tracing::error!(
            "queue '{name}' in vhost '{vhost}' is held: {file} is damaged at byte {offset}, and \
             messages of it may be missing or come again; {}",
            way_out(vhost, name)
        );
    }
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

/// Of one queue, for a check.
pub(super) fn sentence(vhost: &str, name: &str) -> String {
    format!(
        "queue '{name}' in vhost '{vhost}' is held, since messages of it may be missing or come \
         again; {}",
        way_out(vhost, name)
    )
}
