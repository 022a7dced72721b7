//! A queue's pages at a start: what is stored of it and lives.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::page::PageHead;
use super::{BadIndex, Index};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::store::disk::Disk;
use crate::store::entries::Standing;
use crate::store::recovered::{StoredMessage, StoredPage};
use std::collections::BTreeMap;

impl Index {
    /// The queue's messages that live, in order. Reads a page only if a part of it has ended or
    /// waits, seqs are missing or it meets another segment's.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub(in crate::store) fn restore(
        &self,
        queue: QueueId,
        standing: &Standing,
        page_len: usize,
        disk: &dyn Disk,
    ) -> Result<Vec<StoredPage>, BadIndex> {
        let views: Vec<_> = self.views(queue, disk).collect();
        let mut heads: Vec<(usize, &PageHead)> = Vec::new();
        for (at, (_, view)) in views.iter().enumerate() {
            let living = view.pages.iter().filter(|head| lives(standing, head));
            heads.extend(living.map(|head| (at, head)));
        }
        heads.sort_by_key(|(_, head)| head.first);
        let mut pages = Vec::new();
        let mut rest = heads.as_slice();
        while let Some((_, first)) = rest.first() {
            let mut last = first.last;
            let meets = rest.iter().skip(1).take_while(|(_, head)| {
                let meets = head.first <= last;
                last = last.max(head.last);
                meets
            });
            let (cluster, later) = rest.split_at(1 + meets.count());
            rest = later;
            if let [(_, head)] = cluster
                && let Some(page) = whole(standing, head)
            {
                pages.push(page);
                continue;
            }
            let mut messages = BTreeMap::new();
            for (at, head) in cluster {
                let Some((segment, view)) = views.get(*at) else { continue };
                for entry in read(*segment, view.entries(head))? {
                    if standing.live.contains(entry.seq) {
                        messages.insert(entry.seq, entry.body_len);
                    }
                }
            }
            let message = |(seq, body_len): (&Seq, &u32)| StoredMessage {
                seq: *seq,
                body_len: *body_len,
                redelivered: standing.redelivered.contains(*seq),
            };
            let messages: Vec<_> = messages.iter().map(message).collect();
            pages.extend(messages.chunks(page_len).map(|page| StoredPage::List(page.to_vec())));
        }
        Ok(pages)
    }
}

fn read<T>(
    segment: SegmentNo,
    entries: Result<T, crate::store::error::StoreError>,
) -> Result<T, BadIndex> {
    entries.map_err(|error| BadIndex { segment, error })
}

fn lives(standing: &Standing, head: &PageHead) -> bool {
    standing.live.within(head.first, head.last).next().is_some()
}

/// The page if nothing of it ended or waits, and all of it is marked alike.
fn whole(standing: &Standing, head: &PageHead) -> Option<StoredPage> {
    let all = Some((head.first, head.last));
    let dense = head.is_dense() && standing.live.within(head.first, head.last).next() == all;
    let waits = standing.returns.range(head.first..=head.last).any(|(_, it)| it.waits());
    let marked = standing.redelivered.within(head.first, head.last).next();
    (dense && !waits && (marked.is_none() || marked == all)).then_some(StoredPage::Dense {
        first: head.first,
        last: head.last,
        bytes: head.body_bytes,
        redelivered: marked.is_some(),
    })
}
