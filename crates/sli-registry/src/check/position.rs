//! Do the sizes of what tells positions apart fit together?

use sli_core::{AttentionSpec, DisentangledSpec, PositionSpec, RopeScaling, RopeSpec};

use super::check_norm;
use crate::config::MAX_SIZE;

/// How positions come into attention.
pub(super) fn check_position(spec: &AttentionSpec) -> Result<(), String> {
    match &spec.position {
        PositionSpec::None | PositionSpec::Alibi(_) => Ok(()),
        PositionSpec::Rope(rope) => check_rope(rope, spec.head_dim),
        PositionSpec::RotationTable { positions } => {
            if *positions == 0 || !spec.head_dim.is_multiple_of(2) {
                return Err(format!("heads of {} and rotations of {positions} positions", spec.head_dim));
            }
            Ok(())
        }
        PositionSpec::RopeInBlocks { rope, .. } if 2 * rope.rotary_dim == spec.head_dim => {
            check_rope(rope, spec.head_dim)
        }
        PositionSpec::Disentangled(terms) => check_disentangled(terms, spec),
        PositionSpec::RopeInBlocks { .. } => {
            Err(format!("heads of {} cannot be rotated in two halves", spec.head_dim))
        }
        PositionSpec::RelativeBias { num_buckets, max_distance, bidirectional } => {
            // Half of the buckets of a direction are for single distances, the rest for growing ranges of them.
            let single = num_buckets / if *bidirectional { 4 } else { 2 };
            if single == 0 || single >= *max_distance {
                return Err(format!("{num_buckets} buckets do not divide distances up to {max_distance}"));
            }
            Ok(())
        }
    }
}

fn check_disentangled(terms: &DisentangledSpec, spec: &AttentionSpec) -> Result<(), String> {
    let reach = terms.reach;
    if !(1..=MAX_SIZE / 2).contains(&reach) {
        return Err(format!("{reach} buckets of distances to either side"));
    }
    if let Some(max_distance) = terms.max_distance
        && (reach < 2 || max_distance <= reach / 2 + 1)
    {
        return Err(format!("{reach} buckets do not divide distances up to {max_distance}"));
    }
    if spec.num_heads != spec.num_kv_heads {
        return Err("distances are told apart by heads, but query heads share key heads".into());
    }
    terms.norm.as_ref().map_or(Ok(()), check_norm)
}

/// A rotation of heads of `head_dim`.
pub(super) fn check_rope(rope: &RopeSpec, head_dim: usize) -> Result<(), String> {
    let rotary_dim = rope.rotary_dim;
    if rotary_dim == 0 || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
        return Err(format!("{rotary_dim} dimensions of a head of {head_dim} cannot be rotated in pairs"));
    }
    if rope.theta <= 0.0 {
        return Err(format!("a rotary base of {} is not positive", rope.theta));
    }
    let factor = match &rope.scaling {
        RopeScaling::None => 1.0,
        RopeScaling::Linear { factor } | RopeScaling::Proportional { factor, .. } => *factor,
        // The new base is the old one to the power of d / (d - 2).
        RopeScaling::Dynamic { .. } | RopeScaling::DynamicSteps { .. } if rotary_dim == 2 => {
            return Err("dynamic rotary scaling needs more than 2 rotated dimensions".into());
        }
        RopeScaling::Dynamic { factor, .. } => *factor,
        RopeScaling::DynamicSteps { .. } => 1.0,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
            // Equal ones leave no mixture between the two (Llama 4).
            if *low_freq_factor <= 0.0 || high_freq_factor < low_freq_factor {
                return Err(format!(
                    "rotary factors of low ({low_freq_factor}) and high ({high_freq_factor}) frequencies must be \
                     positive and not falling"
                ));
            }
            *factor
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, .. } => {
            if *beta_slow <= 0.0 || beta_fast < beta_slow || rope.theta <= 1.0 {
                return Err(format!(
                    "yarn cannot make a ramp from {beta_fast} to {beta_slow} turns with a rotary base of {}",
                    rope.theta
                ));
            }
            *factor
        }
        RopeScaling::LongRope { short, long, .. } => {
            for divisors in [short, long] {
                if divisors.len() != rotary_dim / 2 || divisors.iter().any(|divisor| *divisor <= 0.0) {
                    return Err(format!(
                        "{} rotary divisors for {} rotated pairs, expected as many and all positive",
                        divisors.len(),
                        rotary_dim / 2
                    ));
                }
            }
            1.0
        }
    };
    if factor < 1.0 {
        return Err(format!("a rotary scaling factor of {factor} is less than 1"));
    }
    Ok(())
}
