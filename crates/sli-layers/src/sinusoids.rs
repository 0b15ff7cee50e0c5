//! Sinusoidal positions (Vaswani et al. 2017).

/// Sines of (position + first) * 10000^(-k / steps) for k up to half of `width`, and then the cosines: rows of
/// [positions, width]. In f32 throughout, as the models that were trained with them do it.
pub(crate) fn sinusoids(positions: &[u32], first: usize, steps: usize, width: usize) -> Vec<f32> {
    const BASE: f64 = 10_000.0;
    let step = (BASE.ln() / steps as f64) as f32;
    let frequencies: Vec<f32> = (0..width / 2).map(|k| (k as f32 * -step).exp()).collect();
    let mut rows = Vec::with_capacity(positions.len() * width);
    for position in positions {
        let angles = || frequencies.iter().map(|frequency| (*position as usize + first) as f32 * frequency);
        rows.extend(angles().map(f32::sin));
        rows.extend(angles().map(f32::cos));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_to_the_ten_thousandth() {
        let rows = sinusoids(&[0, 5], 2, 3, 8);
        let expected = |p: f32| {
            let angles = [1.0, 10_000f32.powf(-1.0 / 3.0), 10_000f32.powf(-2.0 / 3.0), 1e-4].map(|f| p * f);
            angles.map(f32::sin).into_iter().chain(angles.map(f32::cos)).collect::<Vec<_>>()
        };
        let all = [expected(2.0), expected(7.0)].concat();
        assert!(rows.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-6), "{rows:?}, expected {all:?}");
    }
}
