//! The gated delta rule (Yang et al. 2024) over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::packed::{Part, check_offsets, for_each_part_of_heads};
use crate::scratch::{Scratch, SharedMut};
use crate::simd::Simd;

/// The shape of a delta rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaRule {
    /// Heads of queries and keys; each serves `num_heads / num_key_heads` heads that lie side by side.
    pub num_key_heads: usize,
    /// Heads of values, each with a state `[key_dim, value_dim]`.
    pub num_heads: usize,
    /// Width of a query or a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Factors by which a token fades a head's state: one for all of it, or one for each of its `key_dim` rows.
    pub decays: usize,
}

/// What changes from token to token.
#[derive(Clone, Copy, Debug)]
pub struct DeltaTokens<'a> {
    /// `[tokens, num_key_heads * key_dim]`.
    pub query: &'a [f32],
    /// `[tokens, num_key_heads * key_dim]`.
    pub key: &'a [f32],
    /// `[tokens, num_heads * value_dim]`.
    pub value: &'a [f32],
    /// `[tokens, num_heads * decays]`.
    pub decay: &'a [f32],
    /// `[tokens, num_heads]`.
    pub write: &'a [f32],
}

/// For each token in turn `S = decay S`, `S = S + write k (v - S^T k)^T`, `y = S^T q`, with S zero at the start of each
/// sample. y is `[tokens, num_heads * value_dim]`.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn delta_rule(rule: &DeltaRule, x: &DeltaTokens, offsets: &[usize], y: &mut [f32]) {
    let DeltaRule { num_key_heads, num_heads, key_dim, value_dim, decays } = *rule;
    assert!(
        num_key_heads > 0 && num_heads.is_multiple_of(num_key_heads),
        "delta_rule: {num_heads} heads of {num_key_heads}"
    );
    assert!(decays == 1 || decays == key_dim, "delta_rule: {decays} factors for {key_dim} rows");
    if y.is_empty() {
        return;
    }
    let width = num_heads * value_dim;
    assert!(width > 0 && y.len().is_multiple_of(width), "delta_rule: y is not rows of {width}");
    let tokens = y.len() / width;
    let keys = tokens * num_key_heads * key_dim;
    assert!(
        x.query.len() == keys && x.key.len() == keys,
        "delta_rule: query or key is not [{tokens}, {num_key_heads} * {key_dim}]"
    );
    assert_eq!(x.value.len(), y.len(), "delta_rule: lengths differ");
    assert_eq!(x.decay.len(), tokens * num_heads * decays, "delta_rule: decay");
    assert_eq!(x.write.len(), tokens * num_heads, "delta_rule: write");
    check_offsets("delta_rule", offsets, tokens);
    let (isa, y) = (isa(), SharedMut::new(y));
    // The columns of a state do not see each other.
    for_each_part_of_heads(offsets, num_heads, value_dim, COLUMNS, |part| {
        dispatch(isa, Columns { rule, x, part, y });
    });
}

/// Columns of a task: a state of 128 rows fits in the first cache with room to spare.
const COLUMNS: usize = 32;

/// Some columns of a head's state, through the tokens of a sample.
struct Columns<'a> {
    rule: &'a DeltaRule,
    x: &'a DeltaTokens<'a>,
    part: Part,
    y: SharedMut,
}

impl Kernel for Columns<'_> {
    type Output = ();

    /// One pass over the state for each token: it adds what the token before wrote, fades, and reads with key and
    /// query. What the token itself writes reaches its output as (k . q) times the change.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rule, x, part: Part { tokens, head, first }, y } = self;
        let DeltaRule { num_key_heads, num_heads, key_dim, value_dim, decays } = *rule;
        let key_head = head / (num_heads / num_key_heads);
        let count = COLUMNS.min(value_dim - first);
        let mut scratch = Scratch::take(key_dim * COLUMNS);
        let state = &mut scratch.as_mut_slice()[..key_dim * COLUMNS];
        state.fill(0.0);
        let mut change = [0.0; COLUMNS];
        let mut before: &[f32] = &[];
        for token in tokens.0..tokens.1 {
            let of_head = |heads: usize, head: usize, width: usize| {
                (token * heads + head) * width..(token * heads + head + 1) * width
            };
            let query = &x.query[of_head(num_key_heads, key_head, key_dim)];
            let key = &x.key[of_head(num_key_heads, key_head, key_dim)];
            let decay = &x.decay[of_head(num_heads, head, decays)];
            let write = s.splat(x.write[token * num_heads + head]);
            let place = (token * num_heads + head) * value_dim + first;
            let mut values = [0.0; COLUMNS];
            values[..count].copy_from_slice(&x.value[place..place + count]);
            let overlap = s.splat(key.iter().zip(query).map(|(k, q)| k * q).sum());

            let mut outputs = [0.0; COLUMNS];
            for lane in (0..COLUMNS).step_by(S::LANES) {
                let written = s.load(&change[lane..]);
                let (mut stored, mut read) = (s.splat(0.0), s.splat(0.0));
                for row in 0..key_dim {
                    let at = row * COLUMNS + lane;
                    let mut value = s.load(&state[at..]);
                    if let Some(before) = before.get(row) {
                        value = s.mul_add(s.splat(*before), written, value);
                    }
                    value = s.mul(value, s.splat(decay[if decays == 1 { 0 } else { row }]));
                    s.store(&mut state[at..], value);
                    stored = s.mul_add(value, s.splat(key[row]), stored);
                    read = s.mul_add(value, s.splat(query[row]), read);
                }
                let new = s.mul(s.sub(s.load(&values[lane..]), stored), write);
                s.store(&mut change[lane..], new);
                s.store(&mut outputs[lane..], s.mul_add(overlap, new, read));
            }
            before = key;
            // SAFETY: no other task writes these columns of this head and sample.
            let y = unsafe { std::slice::from_raw_parts_mut(y.at(place), count) };
            y.copy_from_slice(&outputs[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    /// The definition, in f64.
    fn expected(rule: &DeltaRule, x: &DeltaTokens, offsets: &[usize]) -> Vec<f64> {
        let DeltaRule { num_key_heads, num_heads, key_dim, value_dim, decays } = *rule;
        let mut y = vec![0.0; x.value.len()];
        for sample in offsets.windows(2) {
            for head in 0..num_heads {
                let mut state = vec![0.0; key_dim * value_dim];
                for t in sample[0]..sample[1] {
                    let key_at = (t * num_key_heads + head * num_key_heads / num_heads) * key_dim;
                    let at = (t * num_heads + head) * value_dim;
                    for i in 0..key_dim {
                        let decay = x.decay[(t * num_heads + head) * decays + i % decays];
                        state[i * value_dim..][..value_dim].iter_mut().for_each(|v| *v *= f64::from(decay));
                    }
                    for j in 0..value_dim {
                        let column = |i: usize| i * value_dim + j;
                        let dot = |state: &[f64], with: &[f32]| -> f64 {
                            (0..key_dim).map(|i| state[column(i)] * f64::from(with[key_at + i])).sum()
                        };
                        let change = f64::from(x.value[at + j]) - dot(&state, x.key);
                        let change = change * f64::from(x.write[t * num_heads + head]);
                        (0..key_dim).for_each(|i| state[column(i)] += f64::from(x.key[key_at + i]) * change);
                        y[at + j] = dot(&state, x.query);
                    }
                }
            }
        }
        y
    }

    #[test]
    fn one_pass_is_the_rule() {
        let offsets = [0, 3, 3, 20, 21];
        let tokens = 21;
        for (num_key_heads, num_heads, key_dim, value_dim, per_row) in
            [(1, 1, 1, 1, false), (2, 6, 5, 7, false), (3, 3, 8, 33, true), (1, 2, 16, 64, true)]
        {
            let decays = if per_row { key_dim } else { 1 };
            let rule = DeltaRule { num_key_heads, num_heads, key_dim, value_dim, decays };
            let mut random = Random::new(key_dim as u64);
            let norm = 0.5 / (key_dim as f32).sqrt();
            let mut narrow = |count| random.values(count).iter().map(|x| x * norm).collect::<Vec<_>>();
            let (query, key) =
                (narrow(tokens * num_key_heads * key_dim), narrow(tokens * num_key_heads * key_dim));
            let value = random.values(tokens * num_heads * value_dim);
            let mut share = |count| random.values(count).iter().map(|x| x.abs().fract()).collect::<Vec<_>>();
            let (decay, write) = (share(tokens * num_heads * decays), share(tokens * num_heads));
            let x = DeltaTokens { query: &query, key: &key, value: &value, decay: &decay, write: &write };
            let expected = expected(&rule, &x, &offsets);
            for_each_isa(|isa| {
                let mut y = vec![f32::NAN; value.len()];
                delta_rule(&rule, &x, &offsets, &mut y);
                assert_close(&y, &expected, 1.0, 2e-6, &format!("{isa} {rule:?}"));
            });
        }
    }
}
