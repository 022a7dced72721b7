//! Latencies in fixed memory: log-linear buckets, each at most 1/128 wide of its value.
//! Knows numbers only; what they measure is the caller's.

/// Sub-buckets of one power of two, as a power of two.
const SUB_BITS: u32 = 7;
const SUBS: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUBS;

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The smallest recorded value that at least `share` (0 to 1) of all values do not exceed,
    /// rounded up to its bucket's end. Zero if nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_value(index).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    octave as usize * SUBS + (value >> octave) as usize
}

/// The largest value that falls into the bucket.
fn last_value(index: usize) -> u64 {
    let octave = (index / SUBS).saturating_sub(1);
    let first = ((index - octave * SUBS) as u64) << octave;
    first + ((1 << octave) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_lies_in_a_bucket_that_is_narrow_and_ends_at_or_after_it() {
        let values = (0..2000).chain((11..64).flat_map(|bit| {
            let power = 1u64 << bit;
            [power - 1, power, power + power / 3]
        }));
        for value in values.chain([u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            let last = last_value(index);
            assert!(last >= value && last - value <= value / 128, "{value} {last}");
            assert_eq!(bucket(last), index);
            assert!(last == u64::MAX || bucket(last + 1) == index + 1);
        }
    }

    #[test]
    fn quantiles_are_within_one_percent_and_the_maximum_is_exact() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|value| histogram.record(value));
        for (share, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let got = histogram.quantile(share) as f64;
            assert!(got >= exact && got <= exact * 1.01, "{share} {got}");
        }
        assert_eq!((histogram.quantile(1.0), histogram.max()), (100_000, 100_000));
    }

    #[test]
    fn adding_is_recording_in_one() {
        let (mut left, mut right) = (Histogram::new(), Histogram::new());
        left.record(5);
        right.record(900);
        left.add(&right);
        assert_eq!((left.count(), left.quantile(0.5), left.max()), (2, 5, 900));
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }
}
