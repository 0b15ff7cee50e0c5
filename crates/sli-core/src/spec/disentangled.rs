use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// Disentangled attention (He et al. 2021, DeBERTa): scores are sums of q_i . k_j and of what depends on the distance
/// i - j and on one of the two. A table has a row for each bucket of distances, which is projected to a key K(d) that
/// queries meet and to a query Q(d) that meets keys. The scale is that of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DisentangledSpec {
    /// Buckets to either side: distances share a row from the last of them on. Half of the rows of the table.
    pub reach: usize,
    /// Where each distance has a bucket of its own up to half of `reach`, and the others are shared out evenly by their
    /// logarithms: the distance at which buckets end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<usize>,
    /// Norm of the table's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormSpec>,
    /// Is q_i . K(i - j) added?
    pub content_to_position: bool,
    /// Is Q(i - j) . k_j added?
    pub position_to_content: bool,
    /// What projects the table.
    pub projections: PositionProjections,
}

/// What projects rows of distances to keys and queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionProjections {
    /// What projects tokens.
    Shared,
    /// Projections of their own.
    Own {
        /// Has the one to keys a bias? The one to queries has.
        key_bias: bool,
    },
}

impl DisentangledSpec {
    /// Rows of the table.
    pub fn rows(&self) -> usize {
        2 * self.reach
    }

    /// Terms by distance.
    pub fn terms(&self) -> usize {
        usize::from(self.content_to_position) + usize::from(self.position_to_content)
    }

    /// The row of the distance i - j.
    pub fn row(&self, distance: isize) -> usize {
        let reach = self.reach as isize;
        (self.bucket(distance) + reach).clamp(0, 2 * reach - 1) as usize
    }

    /// In f32, as the models were trained.
    fn bucket(&self, distance: isize) -> isize {
        let middle = self.reach / 2;
        let Some(max_distance) = self.max_distance.filter(|_| distance.unsigned_abs() > middle) else {
            return distance;
        };
        let times = |n: usize| n as f32 / middle as f32;
        let share = times(distance.unsigned_abs()).ln() / times(max_distance - 1).ln();
        distance.signum() * ((share * (middle - 1) as f32).ceil() as isize + middle as isize)
    }
}

/// A convolution over as many tokens before as after, across all channels, and what its outputs go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentredConvolution {
    /// Tokens that it sees, an odd number.
    pub width: usize,
    /// The nonlinearity.
    pub activation: Activation,
}

impl CentredConvolution {
    /// Tokens that it sees to either side.
    pub fn reach(self) -> usize {
        self.width / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(reach: usize, max_distance: Option<usize>) -> DisentangledSpec {
        DisentangledSpec {
            reach,
            max_distance,
            norm: None,
            content_to_position: true,
            position_to_content: true,
            projections: PositionProjections::Shared,
        }
    }

    #[test]
    fn distances_beyond_the_table_share_its_ends() {
        let rows = [-9, -3, -2, -1, 0, 1, 2, 9].map(|distance| spec(2, None).row(distance));
        assert_eq!(rows, [0, 0, 0, 1, 2, 3, 3, 3]);
    }

    /// Values printed by the released code.
    #[test]
    fn buckets_match_the_released_code() {
        let large = [
            (1, 1),
            (128, 128),
            (129, 129),
            (150, 143),
            (200, 169),
            (255, 192),
            (256, 192),
            (300, 207),
            (400, 233),
            (511, 255),
        ];
        let small = [(4, 4), (5, 5), (8, 5), (9, 6), (18, 6), (19, 7), (39, 7)];
        for (spec, expected) in [(spec(256, Some(512)), &large[..]), (spec(8, Some(40)), &small[..])] {
            for (distance, bucket) in expected {
                assert_eq!(spec.row(*distance), spec.reach + bucket, "distance {distance}");
                assert_eq!(spec.row(-distance), spec.reach - bucket, "distance -{distance}");
            }
            assert_eq!([spec.row(5000), spec.row(-5000)], [spec.rows() - 1, 0]);
        }
    }
}
