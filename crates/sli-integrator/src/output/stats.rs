//! Activation statistics: per channel in stats/, as a summary in profile.json.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sli_cache::write_atomically;
use sli_core::{Result, SliError};
use sli_kernels::ChannelMoments;
use sli_moe::RouterLoad;

/// The distribution of all values of a layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// Largest magnitude.
    pub abs_max: f64,
    /// Fourth central moment over squared variance; 3 for a normal distribution.
    pub kurtosis: f64,
}

impl Distribution {
    /// From the sums of powers of all channels.
    pub(crate) fn new(moments: &ChannelMoments) -> Self {
        let count = (moments.count as f64 * moments.sum.len() as f64).max(1.0);
        let raw = |sums: &[f64]| sums.iter().sum::<f64>() / count;
        let mean = raw(&moments.sum);
        let (second, third, fourth) =
            (raw(&moments.sum_squares), raw(&moments.sum_cubes), raw(&moments.sum_fourth));
        let variance = (second - mean * mean).max(0.0);
        let central = fourth - 4.0 * mean * third + 6.0 * mean * mean * second - 3.0 * mean.powi(4);
        Self {
            mean,
            std: variance.sqrt(),
            rms: second.sqrt(),
            abs_max: moments.abs_max.iter().copied().fold(0.0, f32::max).into(),
            kurtosis: if variance > 0.0 { central / (variance * variance) } else { 0.0 },
        }
    }
}

/// Writes `mean`, `var`, `abs_max`, `second_moment` [hidden], and for mixtures `expert_tokens`, `expert_weight`
/// [experts].
pub(crate) fn write_stats(path: &Path, moments: &ChannelMoments, load: Option<&RouterLoad>) -> Result<()> {
    let count = (moments.count as f64).max(1.0);
    let mean: Vec<f64> = moments.sum.iter().map(|sum| sum / count).collect();
    let second: Vec<f64> = moments.sum_squares.iter().map(|sum| sum / count).collect();
    let variance = second.iter().zip(&mean).map(|(second, mean)| (second - mean * mean).max(0.0) as f32);

    let mut tensors = vec![
        ("mean", Dtype::F32, bytes(mean.iter().map(|v| (*v as f32).to_le_bytes()))),
        ("var", Dtype::F32, bytes(variance.map(f32::to_le_bytes))),
        ("abs_max", Dtype::F32, bytes(moments.abs_max.iter().map(|v| v.to_le_bytes()))),
        ("second_moment", Dtype::F32, bytes(second.iter().map(|v| (*v as f32).to_le_bytes()))),
    ];
    if let Some(load) = load {
        tensors.push((
            "expert_tokens",
            Dtype::I64,
            bytes(load.tokens.iter().map(|v| (*v as i64).to_le_bytes())),
        ));
        tensors.push((
            "expert_weight",
            Dtype::F32,
            bytes(load.weight.iter().map(|v| (*v as f32).to_le_bytes())),
        ));
    }
    let unusable = |e: safetensors::SafeTensorError| SliError::Usage(format!("{}: {e}", path.display()));
    let views = tensors
        .iter()
        .map(|(name, dtype, data)| {
            let width = if *dtype == Dtype::I64 { 8 } else { 4 };
            TensorView::new(*dtype, vec![data.len() / width], data).map(|view| (*name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable)?;
    let file = safetensors::serialize(views, None).map_err(unusable)?;
    write_atomically(path, &file)
}

fn bytes<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    values.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_follow_from_the_moments() {
        let mut moments = ChannelMoments::new(2);
        let values = [1.0f32, -2.0, 3.0, 0.5, 4.0, -1.0];
        moments.add_rows(&values);
        let d = Distribution::new(&moments);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let central = |p: i32| values.iter().map(|v| (f64::from(*v) - mean).powi(p)).sum::<f64>() / n;
        assert!((d.mean - mean).abs() < 1e-12 && (d.std - central(2).sqrt()).abs() < 1e-12);
        assert!((d.kurtosis - central(4) / central(2).powi(2)).abs() < 1e-9);
        assert_eq!(d.abs_max, 4.0);
    }

    #[test]
    fn stats_are_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer_0000.safetensors");
        let mut moments = ChannelMoments::new(2);
        moments.add_rows(&[1.0, 10.0, 3.0, 10.0]);
        write_stats(&path, &moments, None).unwrap();
        let file = std::fs::read(path).unwrap();
        let read = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("mean").unwrap().data(), [2.0f32, 10.0].map(f32::to_le_bytes).concat());
        assert_eq!(read.tensor("var").unwrap().data(), [1.0f32, 0.0].map(f32::to_le_bytes).concat());
    }
}
