//! Rotary position embedding: the angles of each token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sli_core::{HostTensor, RopeScaling, RopeSpec};

/// Cosines and sines, a row of `rotary_dim / 2` per token or per position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RopeTable {
    /// Dimensions rotated at the start of each head.
    pub rotary_dim: usize,
    /// [rows, rotary_dim / 2].
    pub cos: Vec<f32>,
    /// [rows, rotary_dim / 2].
    pub sin: Vec<f32>,
}

/// Tables by position, computed once per spec and length class and shared by all layers and chunks.
#[derive(Debug, Default)]
pub struct RopeCache {
    tables: Mutex<HashMap<String, Arc<RopeTable>>>,
}

impl RopeCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The angles of each token of packed samples. Positions count from zero in each sample unless they are given.
    pub fn for_tokens(&self, spec: &RopeSpec, offsets: &[usize], positions: Option<&[u32]>) -> RopeTable {
        let mut out = RopeTable::with_capacity(spec.rotary_dim, offsets.last().copied().unwrap_or(0));
        for sample in offsets.windows(2) {
            let length = match positions {
                Some(positions) => {
                    positions[sample[0]..sample[1]].iter().max().map_or(0, |last| *last as usize + 1)
                }
                None => sample[1] - sample[0],
            };
            let positions = positions.map(|positions| &positions[sample[0]..sample[1]]);
            out.extend_by_sample(&self.table(spec, length), length, positions);
        }
        out
    }

    /// A table of at least `length` positions for samples of this length.
    fn table(&self, spec: &RopeSpec, length: usize) -> Arc<RopeTable> {
        // Few scalings look at the length; the others share one table that grows.
        let class = match spec.scaling {
            RopeScaling::Dynamic { original_max_positions, .. } => length.max(original_max_positions),
            RopeScaling::DynamicSteps { original_max_positions } => steps(length, original_max_positions),
            RopeScaling::LongRope { original_max_positions, .. } => {
                usize::from(length > original_max_positions)
            }
            _ => 0,
        };
        let key = format!("{spec:?} {class}");
        let mut tables = self.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let half = spec.rotary_dim / 2;
        match tables.get(&key) {
            Some(table) if table.cos.len() >= length * half => table.clone(),
            _ => {
                let table = Arc::new(RopeTable::new(spec, length, length.next_power_of_two()));
                tables.insert(key, table.clone());
                table
            }
        }
    }
}

impl RopeTable {
    /// The angles of positions `0..positions`, for samples of `length` tokens.
    fn new(spec: &RopeSpec, length: usize, positions: usize) -> Self {
        let frequencies = inverse_frequencies(spec, length);
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let factor = attention_factor(&spec.scaling);
        let (sin, cos) = angles.map(f32::sin_cos).map(|(sin, cos)| (sin * factor, cos * factor)).unzip();
        Self { rotary_dim: spec.rotary_dim, cos, sin }
    }

    /// A table as checkpoints store it, [positions, 2 * pairs]: in each row first the sines.
    pub(crate) fn stored(table: &HostTensor) -> Self {
        let (rotary_dim, values) = (table.shape()[1], table.to_f32());
        let half =
            |first| values.chunks_exact(rotary_dim / 2).skip(first).step_by(2).flatten().copied().collect();
        Self { rotary_dim, sin: half(0), cos: half(1) }
    }

    /// The angles of each token of packed samples, out of those of all positions. Positions count from zero in each
    /// sample unless they are given.
    pub(crate) fn for_tokens(&self, offsets: &[usize], positions: Option<&[u32]>) -> Self {
        let mut out = Self::with_capacity(self.rotary_dim, offsets.last().copied().unwrap_or(0));
        for sample in offsets.windows(2) {
            let positions = positions.map(|positions| &positions[sample[0]..sample[1]]);
            out.extend_by_sample(self, sample[1] - sample[0], positions);
        }
        out
    }

    fn with_capacity(rotary_dim: usize, tokens: usize) -> Self {
        let values = || Vec::with_capacity(tokens * (rotary_dim / 2));
        Self { rotary_dim, cos: values(), sin: values() }
    }

    /// The angles that turn back.
    pub(crate) fn reversed(&self) -> Self {
        Self { sin: self.sin.iter().map(|sin| -sin).collect(), ..self.clone() }
    }

    /// For each token the angles of this table and then those of another one.
    pub(crate) fn beside(&self, other: &Self) -> Self {
        let (here, there) = (self.rotary_dim / 2, other.rotary_dim / 2);
        let rows = |a: &[f32], b: &[f32]| {
            let pairs = a.chunks_exact(here).zip(b.chunks_exact(there));
            pairs.flat_map(|(a, b)| a.iter().chain(b).copied()).collect()
        };
        Self {
            rotary_dim: self.rotary_dim + other.rotary_dim,
            cos: rows(&self.cos, &other.cos),
            sin: rows(&self.sin, &other.sin),
        }
    }

    /// Adds the rows of a sample's positions; those of its first `length` where none are given.
    fn extend_by_sample(&mut self, table: &Self, length: usize, positions: Option<&[u32]>) {
        match positions {
            None => self.extend(table, 0, length),
            Some(positions) => positions.iter().for_each(|p| self.extend(table, *p as usize, 1)),
        }
    }

    fn extend(&mut self, table: &Self, position: usize, rows: usize) {
        let half = self.rotary_dim / 2;
        let range = position * half..(position + rows) * half;
        self.cos.extend_from_slice(&table.cos[range.clone()]);
        self.sin.extend_from_slice(&table.sin[range]);
    }
}

/// How many times the original length a sample has, rounded up to a power of two.
fn steps(length: usize, original: usize) -> usize {
    length.div_ceil(original).next_power_of_two()
}

/// theta^(-2d / rotary_dim), stretched as the spec says. In f32, as the models were trained.
fn inverse_frequencies(spec: &RopeSpec, length: usize) -> Vec<f32> {
    let dim = spec.rotary_dim as f32;
    let powers =
        |theta: f64| (0..spec.rotary_dim / 2).map(move |d| 1.0 / (theta as f32).powf(2.0 * d as f32 / dim));
    match &spec.scaling {
        RopeScaling::None => powers(spec.theta).collect(),
        RopeScaling::Linear { factor } => powers(spec.theta).map(|f| f / *factor as f32).collect(),
        RopeScaling::Proportional { pairs, factor } => {
            let rotated = powers(spec.theta).map(|f| f / *factor as f32).take(*pairs);
            rotated.chain(std::iter::repeat(0.0)).take(spec.rotary_dim / 2).collect()
        }
        RopeScaling::Dynamic { factor, original_max_positions } => {
            let original = *original_max_positions as f64;
            let stretch = (factor * (length as f64).max(original) / original) - (factor - 1.0);
            let dim = f64::from(dim);
            powers(spec.theta * stretch.powf(dim / (dim - 2.0))).collect()
        }
        RopeScaling::DynamicSteps { original_max_positions } => {
            let stretch = (2 * steps(length, *original_max_positions) - 1) as f64;
            let dim = f64::from(dim);
            powers(spec.theta * stretch.powf(dim / (dim - 2.0))).collect()
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
            powers(spec.theta)
                .map(|f| {
                    let wavelength = std::f64::consts::TAU / f64::from(f);
                    let ratio = *original_max_positions as f64 / wavelength;
                    // Kept above `high`, divided below `low`, between the two a mixture.
                    let smooth = ((ratio - low_freq_factor) / (high_freq_factor - low_freq_factor))
                        .clamp(0.0, 1.0) as f32;
                    (1.0 - smooth) * f / *factor as f32 + smooth * f
                })
                .collect()
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, truncate, .. } => {
            // The dimension, as a fraction of pairs, that turns `turns` times within the original length.
            let dimension = |turns: f64| {
                let length = *original_max_positions as f64;
                f64::from(dim) * (length / (turns * std::f64::consts::TAU)).ln() / (2.0 * spec.theta.ln())
            };
            let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(f64::from(dim) - 1.0));
            // The released code keeps the ramp from having no length.
            let width = if low == high { 0.001 } else { high - low };
            let ramp = |d: usize| ((d as f64 - low) / width).clamp(0.0, 1.0) as f32;
            let stretched = |(d, f): (usize, f32)| f / *factor as f32 * ramp(d) + f * (1.0 - ramp(d));
            powers(spec.theta).enumerate().map(stretched).collect()
        }
        RopeScaling::LongRope { short, long, original_max_positions, .. } => {
            let divisors = if length > *original_max_positions { long } else { short };
            powers(spec.theta).zip(divisors).map(|(f, divisor)| f / *divisor as f32).collect()
        }
    }
}

/// What cosines and sines are multiplied by, so that the softmax stays as sharp over a longer context.
fn attention_factor(scaling: &RopeScaling) -> f32 {
    match scaling {
        RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
            *attention_factor as f32
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scaling: RopeScaling) -> RopeSpec {
        RopeSpec { theta: 10000.0, rotary_dim: 8, scaling }
    }

    #[test]
    fn positions_start_anew_in_each_sample() {
        let cache = RopeCache::new();
        let packed = cache.for_tokens(&spec(RopeScaling::None), &[0, 3, 5], None);
        assert_eq!(packed.cos.len(), 5 * 4);
        assert_eq!(packed.cos[..4], [1.0; 4]);
        assert_eq!(packed.sin[3 * 4..4 * 4], [0.0; 4]);
        assert_eq!(packed.sin[4..8], packed.sin[4 * 4..5 * 4]);
        let explicit = cache.for_tokens(&spec(RopeScaling::None), &[0, 3, 5], Some(&[0, 1, 2, 0, 1]));
        assert_eq!(explicit, packed);
    }

    #[test]
    fn linear_scaling_divides_positions() {
        let plain = inverse_frequencies(&spec(RopeScaling::None), 4);
        let stretched = inverse_frequencies(&spec(RopeScaling::Linear { factor: 4.0 }), 4);
        assert!(plain.iter().zip(&stretched).all(|(a, b)| (a / 4.0 - b).abs() < 1e-7));
    }

    #[test]
    fn dynamic_steps_double() {
        let frequencies = |length| {
            inverse_frequencies(&spec(RopeScaling::DynamicSteps { original_max_positions: 8 }), length)
        };
        assert_eq!(frequencies(8), inverse_frequencies(&spec(RopeScaling::None), 8));
        assert_eq!(frequencies(9), frequencies(16));
        assert_eq!(frequencies(17), frequencies(32));
        // Between two and four times the length: a factor of 7, to the power of 8 / 6.
        let stretched = RopeSpec { theta: 1e4 * 7f64.powf(8.0 / 6.0), ..spec(RopeScaling::None) };
        assert_eq!(frequencies(30), inverse_frequencies(&stretched, 30));
    }

    #[test]
    fn proportional_scaling_leaves_the_last_pairs_alone() {
        let scaling = RopeScaling::Proportional { pairs: 1, factor: 2.0 };
        assert_eq!(inverse_frequencies(&spec(scaling), 4), [0.5, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn yarn_keeps_high_frequencies_and_divides_low_ones() {
        let yarn = |truncate| RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 2.0,
            beta_slow: 0.25,
            original_max_positions: 64,
            truncate,
            attention_factor: 1.25,
        };
        let plain = inverse_frequencies(&spec(RopeScaling::None), 4);
        // 64 / (2 * 2 pi) turns are those of dimension 0.71, 64 / (pi / 2) those of dimension 1.61.
        let truncated = inverse_frequencies(&spec(yarn(true)), 4);
        assert_eq!(truncated[0], plain[0]);
        assert!((truncated[1] / plain[1] - 0.625).abs() < 1e-6, "half way along the ramp from 0 to 2");
        assert!((truncated[3] / plain[3] - 0.25).abs() < 1e-6);
        let exact = inverse_frequencies(&spec(yarn(false)), 4);
        assert!(exact[1] > truncated[1]);
        assert_eq!(RopeTable::new(&spec(yarn(true)), 4, 1).cos, [1.25; 4]);
    }

    #[test]
    fn longrope_chooses_its_divisors_by_the_length_of_the_sample() {
        let scaling = RopeScaling::LongRope {
            short: vec![1.0; 4],
            long: vec![1.0, 2.0, 4.0, 8.0],
            original_max_positions: 8,
            attention_factor: 1.0,
        };
        let plain = inverse_frequencies(&spec(RopeScaling::None), 8);
        assert_eq!(inverse_frequencies(&spec(scaling.clone()), 8), plain);
        assert_eq!(inverse_frequencies(&spec(scaling.clone()), 9)[3], plain[3] / 8.0);
        let cache = RopeCache::new();
        let packed = cache.for_tokens(&spec(scaling), &[0, 9, 11], None);
        assert_eq!(packed.sin[(9 + 1) * 4 + 3], plain[3].sin(), "the short sample keeps its own divisors");
    }

    #[test]
    fn dynamic_scaling_starts_beyond_the_original_length() {
        let scaling = RopeScaling::Dynamic { factor: 2.0, original_max_positions: 8 };
        assert_eq!(
            inverse_frequencies(&spec(scaling.clone()), 8),
            inverse_frequencies(&spec(RopeScaling::None), 8)
        );
        assert!(
            inverse_frequencies(&spec(scaling), 12)[1] < inverse_frequencies(&spec(RopeScaling::None), 12)[1]
        );
    }
}
