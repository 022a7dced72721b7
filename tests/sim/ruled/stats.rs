//! How often what happened to queues with rules.

macro_rules! stats {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct RuledStats {
            $(pub(crate) $name: u64,)*
        }

        impl RuledStats {
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
    publishes,
    deliveries,
    confirms,
    nacks,
    exact_refusals,
    exact_admissions,
    rejected,
    expired,
    maxlen,
    delivery_limit,
    counted,
    single_active,
    exact_purges,
    exact_ranks,
    must_have_expired,
    ended_by_themselves,
    policies,
    ticks,
    recovered,
    recovered_letters,
    recovered_counts,
    held,
    recovered_held,
    cancelled,
    rescheduled,
    late_in_order,
    retries,
    retrying,
    attempts,
    recovered_retries,
    duplicates,
    duplicates_confirmed,
    keys_recovered,
    one_record,
    grouped,
    groups_held,
    expired_amid,
    held_back,
    drained,
    urgent_left_memory,
    must_be_there
);
