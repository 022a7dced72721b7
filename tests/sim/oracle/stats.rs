//! How often what happened: a run that reaches nothing proves nothing.

macro_rules! stats {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            $(pub(crate) $name: u64,)*
        }

        impl Stats {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// A hundred seeds come to every place that a checker stands at.
            pub(crate) fn check_reach(&self) {
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
    checkpoints
);
