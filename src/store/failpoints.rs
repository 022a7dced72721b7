//! The places between two steps on the disk: a test loses the power at each of them.
//!
//! `Disk::reach` is told of each. On a real disk nothing happens there.

macro_rules! failpoints {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A place between two steps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failpoint {
            $($(#[$doc])* $name,)*
        }

        impl Failpoint {
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

failpoints! {
    /// A round has records and has written none.
    RoundBegun,
    /// A frame is written, and its record goes on in the next.
    PartWritten,
    /// They are written, and not synced.
    RoundWritten,
    /// They are synced, and nobody knows.
    RoundSynced,
    /// Everybody knows.
    RoundOver,
    /// All of the segment that is left is safe, if anyone wants it to be.
    SegmentLeft,
    /// The next segment's file is new, and its name is not safe.
    SegmentCreated,
    /// It has a file that can be written to.
    SegmentBegun,
    /// The next segment's file is created, or a dead one's has its name.
    PrepareCreated,
    /// It holds no header any more.
    PrepareCleared,
    /// It is as long as a segment.
    PrepareFilled,
    PrepareSynced,
    PrepareRenamed,
    Prepared,
    CheckpointBegun,
    GatePassed,
    /// Definitions and standings are taken.
    StandingsTaken,
    JournalFlushed,
    CatalogueOpened,
    /// A slice is in the catalogue.
    SliceWritten,
    /// And all of them, and then how far they go.
    MetaWritten,
    CatalogueFlushed,
    /// The CHECKPOINT record is appended.
    CheckpointAppended,
    /// And safe.
    CheckpointSafe,
    SnapshotCreated,
    SnapshotWritten,
    SnapshotSynced,
    SnapshotRenamed,
    SnapshotSafe,
    /// A dead segment has its files.
    FreeBegun,
    FreeIndexRemoved,
    /// Its file is to become a spare one.
    FreeRenames,
    FreeRenamed,
    /// Or is no more.
    FreeRemoved,
    /// All dead segments are given up.
    FreeOver,
    /// A catalogue of no use is to be put aside.
    CatalogueDiscards,
    CatalogueDiscarded,
    IndexCreated,
    IndexWritten,
    IndexSynced,
    IndexRenamed,
    IndexSafe,
    /// A start knows what the journal says, and has changed nothing.
    Replayed,
    /// It removed a segment that is no part of the journal.
    SettleRemoved,
    SettleTruncated,
    SettleSynced,
    Settled,
    /// It removed what preparing files left.
    SparesCleared,
    OpenedAppends,
    /// The mark of a start is safe.
    OpenedSafe,
}
