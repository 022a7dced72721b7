//! How often what happened: a run that reaches nothing proves nothing.

macro_rules! stats {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $(pub(crate) $name: u64,)*
            /// Power losses at a named place, and those of them in a start.
            pub(crate) cut_at_points: u64,
            pub(crate) cut_starts: u64,
            /// Starts behind some records of a turn, but not all.
            pub(crate) parts_of_turns: u64,
        }

        impl Stats {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.cut_at_points += other.cut_at_points;
                self.cut_starts += other.cut_starts;
                self.parts_of_turns += other.parts_of_turns;
            }

            /// A hundred seeds come to every place that a checker stands at.
            pub(crate) fn check_reach(&self) {
                assert!(self.cut_at_points > 0, "no seed lost the power within a step");
                $(assert!(self.$name > 0, "no seed came to {}", stringify!($name));)*
            }
        }
    };
}

stats!(
    operations,
    publishes,
    deliveries,
    redeliveries,
    gets,
    settled,
    confirms,
    returns,
    blocks,
    commits,
    refusals,
    cuts,
    crashes,
    clean_stops,
    recovered,
    lost_turns,
    exact_gets,
    exact_purges,
    single_records,
    drained,
    checkpoints,
    ahead_of_checkpoints,
    loads,
    pages_out,
    spills,
    spills_reclaimed,
    catalogue_faults,
    fan_outs,
    requeues,
    purges,
    deletes,
    redeclares,
    prepared,
    segments_begun,
    segments_freed,
    snapshots,
    indexes,
    catalogue_rebuilds,
    seeds_with_checkpoints,
    seeds_with_loads,
    seeds_with_freed_segments
);
