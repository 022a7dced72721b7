//! A queue's messages: that each one can be read, and is what the index says.

use super::{Check, Severity};
use crate::id::{QueueId, Seq};
use crate::store::contents::Contents;
use crate::store::entries::Standing;
use crate::store::error::StoreError;
use crate::store::recovered::StoredPage;

/// Messages and bytes that are in memory at once, but for one message that is longer.
const MESSAGES_MAX: usize = 1024;
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Messages of a queue that cannot be read, and why the first cannot.
#[derive(Default)]
struct Lost {
    len: usize,
    first: Option<(Seq, Option<StoreError>)>,
}

impl Check<'_> {
    /// Reads what lives of a queue, a little at a time.
    pub(super) fn queue(
        &mut self,
        contents: &Contents,
        (queue, title): (QueueId, &str),
        standing: &Standing,
    ) {
        let pages = match contents.restore(self.disk, queue, standing) {
            Ok(pages) => pages,
            Err(error) => return self.damage(&error),
        };
        let mut lost = Lost::default();
        for page in &pages {
            let bytes = self.report.totals.bytes;
            let lost_before = lost.len;
            self.page(contents, queue, &runs(page), &mut lost);
            let read = self.report.totals.bytes - bytes;
            let listed = listed_bytes(page);
            if lost.len == lost_before && read != listed {
                let what =
                    format!("a page of {title} lists {listed} bytes, and its messages have {read}");
                self.find(Severity::Damage, "", None, &what);
            }
        }
        if let Some((first, why)) = lost.first {
            let mut what = format!(
                "{} messages of {title} cannot be read, the first is number {first}",
                lost.len
            );
            let file = why.as_ref().and_then(|why| why.path().file_name());
            let file = file.map_or_else(String::new, |file| file.display().to_string());
            if let Some(why) = &why {
                what = format!("{what}: {}", why.reason());
            }
            let at = why.and_then(|why| why.damaged_at());
            self.find(Severity::Damage, &file, at, &what);
        }
    }

    fn page(&mut self, contents: &Contents, queue: QueueId, runs: &[(Seq, Seq)], lost: &mut Lost) {
        let mut wanted = runs.to_vec();
        while !wanted.is_empty() {
            let loaded = contents.read(self.disk, queue, &wanted, MESSAGES_MAX, BYTES_MAX);
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(error) => return self.damage(&error),
            };
            let totals = &mut self.report.totals;
            totals.messages += loaded.messages.len() as u64;
            let bytes = loaded.messages.iter().map(|it| it.message.body_len() as u64);
            totals.bytes += bytes.sum::<u64>();
            let seqs = loaded.messages.iter().map(|it| it.seq).chain(loaded.lost.iter().copied());
            let Some(through) = seqs.max() else { return };
            lost.len += loaded.lost.len();
            if let Some(first) = loaded.lost.first() {
                lost.first.get_or_insert((*first, loaded.why));
            }
            wanted.retain_mut(|run| {
                run.0 = run.0.max(Seq(through.0.saturating_add(1)));
                run.0 <= run.1
            });
        }
    }
}

fn runs(page: &StoredPage) -> Vec<(Seq, Seq)> {
    match page {
        StoredPage::Dense { first, last, .. } => vec![(*first, *last)],
        StoredPage::List(list) => list.iter().map(|message| (message.seq, message.seq)).collect(),
    }
}

fn listed_bytes(page: &StoredPage) -> u64 {
    match page {
        StoredPage::Dense { bytes, .. } => *bytes,
        StoredPage::List(list) => list.iter().map(|message| u64::from(message.body_len)).sum(),
    }
}
