//! T5's relative position bias: a learned value per head and bucket of the distance.

use sli_core::HostTensor;

/// The bias by distance, ready for attention: `values[head * span + (j - i - first)]`.
#[derive(Clone, Debug)]
pub(crate) struct DistanceTable {
    pub(crate) values: Vec<f32>,
    pub(crate) span: usize,
    pub(crate) first: isize,
}

/// A learned table [buckets, heads] and the rule from distances to buckets.
#[derive(Clone, Debug)]
pub(crate) struct RelativeBias {
    table: Vec<f32>,
    num_buckets: usize,
    num_heads: usize,
    max_distance: usize,
    bidirectional: bool,
}

impl RelativeBias {
    pub(crate) fn new(table: &HostTensor, max_distance: usize, bidirectional: bool) -> Self {
        let (num_buckets, num_heads) = (table.shape()[0], table.shape()[1]);
        Self { table: table.to_f32().into_owned(), num_buckets, num_heads, max_distance, bidirectional }
    }

    /// The bias of all distances that occur in samples of up to `longest` tokens.
    pub(crate) fn by_distance(&self, longest: usize) -> DistanceTable {
        let first = 1 - longest.max(1) as isize;
        let buckets: Vec<usize> = (first..=-first).map(|distance| self.bucket(distance)).collect();
        let values = (0..self.num_heads)
            .flat_map(|head| buckets.iter().map(move |bucket| self.table[bucket * self.num_heads + head]))
            .collect();
        DistanceTable { values, span: buckets.len(), first }
    }

    /// The bucket of the distance j - i: exact for near keys, logarithmic up to `max_distance` for far ones
    /// (Raffel et al. 2020; `_relative_position_bucket` of the released code).
    fn bucket(&self, distance: isize) -> usize {
        let (buckets, base) = match (self.bidirectional, distance > 0) {
            (true, true) => (self.num_buckets / 2, self.num_buckets / 2),
            (true, false) => (self.num_buckets / 2, 0),
            (false, _) => (self.num_buckets, 0),
        };
        let distance = if self.bidirectional { distance.unsigned_abs() } else { (-distance).max(0) as usize };
        let exact = buckets / 2;
        if distance < exact {
            return base + distance;
        }
        let far = (distance as f32 / exact as f32).ln() / (self.max_distance as f32 / exact as f32).ln();
        base + (exact + (far * (buckets - exact) as f32) as usize).min(buckets - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by the released code for 32 buckets and a maximal distance of 128.
    #[test]
    fn buckets_match_the_released_code() {
        let table = HostTensor::from_f32(&[0.0; 32], &[32, 1]);
        let both = RelativeBias::new(&table, 128, true);
        let expected =
            [(-200, 15), (-64, 14), (-9, 8), (-7, 7), (0, 0), (1, 17), (7, 23), (8, 24), (30, 27), (500, 31)];
        for (distance, bucket) in expected {
            assert_eq!(both.bucket(distance), bucket, "distance {distance}");
        }
        let backwards = RelativeBias::new(&table, 128, false);
        for (distance, bucket) in [(5, 0), (0, 0), (-1, 1), (-15, 15), (-16, 16), (-40, 23), (-1000, 31)] {
            assert_eq!(backwards.bucket(distance), bucket, "distance {distance}");
        }
    }

    #[test]
    fn the_table_covers_all_distances() {
        let table = HostTensor::from_f32(&(0..16).map(|v| v as f32).collect::<Vec<_>>(), &[8, 2]);
        let by_distance = RelativeBias::new(&table, 10, false).by_distance(3);
        assert_eq!((by_distance.span, by_distance.first), (5, -2));
        // head 1: distances -2, -1, 0, 1, 2 in buckets 2, 1, 0, 0, 0
        assert_eq!(by_distance.values[5..], [5.0, 3.0, 1.0, 1.0, 1.0]);
    }
}
