//! From a router's logits to the experts of each token.

use sli_core::{RouterSpec, Scoring};

/// Which experts each token of a batch chose, and with which weight their results are added.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    num_experts: usize,
    top_k: usize,
    experts: Vec<u32>,
    weights: Vec<f32>,
}

/// The tokens that chose one expert.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertRows {
    /// The expert.
    pub expert: u32,
    /// The tokens, in ascending order.
    pub tokens: Vec<u32>,
    /// The weight of the expert's result for each of them.
    pub weights: Vec<f32>,
}

/// Chooses the experts of each token from `logits` [tokens, num_experts]: scores in f32, the `top_k` best in falling
/// order (of equal scores the expert with the lower index first), their weights divided by their sum where the spec
/// says so.
///
/// A token whose scores are NaN chooses the first experts with weights that are NaN, so that what is wrong shows in
/// the output.
///
/// # Panics
/// When the logits are no whole rows, or `top_k` is not within 1..=num_experts;
/// [`MoeHandler::from_spec`](crate::MoeHandler::from_spec) refuses such specs.
pub fn route(logits: &[f32], spec: &RouterSpec, num_experts: usize) -> Routing {
    let top_k = spec.top_k;
    assert!((1..=num_experts).contains(&top_k), "{top_k} of {num_experts} experts per token");
    assert!(logits.len().is_multiple_of(num_experts), "{} logits for {num_experts} experts", logits.len());
    let tokens = logits.len() / num_experts;
    let mut experts = vec![0; tokens * top_k];
    let mut weights = vec![0.0; tokens * top_k];
    let mut scores = vec![0.0; num_experts];
    for ((logits, experts), weights) in logits
        .chunks_exact(num_experts)
        .zip(experts.chunks_exact_mut(top_k))
        .zip(weights.chunks_exact_mut(top_k))
    {
        match spec.scoring {
            Scoring::Softmax => softmax(logits, &mut scores),
        }
        select_best(&scores, experts, weights);
        if spec.normalize {
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
    }
    Routing { num_experts, top_k, experts, weights }
}

/// e^(x - max) / sum.
fn softmax(logits: &[f32], scores: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (score, logit) in scores.iter_mut().zip(logits) {
        *score = (logit - max).exp();
    }
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The best of `scores` in falling order, as many as there is room for. Each score is inserted among the best so far,
/// which for the few experts of a token is quicker than sorting.
fn select_best(scores: &[f32], experts: &mut [u32], best: &mut [f32]) {
    let room = best.len();
    for (expert, &score) in scores.iter().enumerate() {
        let filled = expert.min(room);
        // An equal score of an earlier expert stays in front; so does everything when `score` is NaN.
        let place = best[..filled].iter().position(|other| score > *other).unwrap_or(filled);
        if place < room {
            let last = filled.min(room - 1);
            best.copy_within(place..last, place + 1);
            experts.copy_within(place..last, place + 1);
            best[place] = score;
            experts[place] = expert as u32;
        }
    }
}

impl Routing {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.experts.len() / self.top_k
    }

    /// Number of experts to choose from.
    pub fn num_experts(&self) -> usize {
        self.num_experts
    }

    /// Experts per token.
    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// The chosen experts, [tokens, top_k], each token's best first.
    pub fn experts(&self) -> &[u32] {
        &self.experts
    }

    /// The weights of the chosen experts, [tokens, top_k].
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Every choice as (token, expert, weight), token by token.
    pub fn choices(&self) -> impl Iterator<Item = (u32, u32, f32)> {
        let choices = self.experts.iter().zip(&self.weights).enumerate();
        choices.map(|(i, (expert, weight))| ((i / self.top_k) as u32, *expert, *weight))
    }

    /// The choices turned round: the tokens of each expert that was chosen at all, in ascending order of experts.
    pub fn by_expert(&self) -> Vec<ExpertRows> {
        let mut counts = vec![0; self.num_experts];
        self.experts.iter().for_each(|expert| counts[*expert as usize] += 1);
        let rows = |(expert, &count): (usize, &usize)| ExpertRows {
            expert: expert as u32,
            tokens: Vec::with_capacity(count),
            weights: Vec::with_capacity(count),
        };
        let mut by_expert: Vec<_> = counts.iter().enumerate().map(rows).collect();
        for (token, expert, weight) in self.choices() {
            let rows = &mut by_expert[expert as usize];
            rows.tokens.push(token);
            rows.weights.push(weight);
        }
        by_expert.retain(|rows| !rows.tokens.is_empty());
        by_expert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(top_k: usize, normalize: bool) -> RouterSpec {
        RouterSpec { top_k, scoring: Scoring::Softmax, normalize }
    }

    /// Logits from a small linear congruential generator, coarse enough that equal ones occur.
    fn logits(count: usize) -> Vec<f32> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 60) as f32 - 8.0) / 2.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition, in f64: all scores, sorted stably.
    fn naive(logits: &[f32], router: &RouterSpec) -> Vec<(u32, f64)> {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let score = |(expert, logit): (usize, &f32)| (expert as u32, f64::from(*logit).exp() / sum);
        let mut scores: Vec<_> = logits.iter().enumerate().map(score).collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        scores.truncate(router.top_k);
        let chosen: f64 = scores.iter().map(|(_, score)| score).sum();
        if router.normalize {
            scores.iter_mut().for_each(|(_, score)| *score /= chosen);
        }
        scores
    }

    #[test]
    fn agrees_with_a_computation_by_hand() {
        // e^ln(1), e^ln(2), e^ln(5): scores 1/8, 2/8, 5/8.
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        let plain = route(&logits, &router(2, false), 3);
        assert_eq!(plain.experts(), [2, 1]);
        assert!((plain.weights()[0] - 0.625).abs() < 1e-6 && (plain.weights()[1] - 0.25).abs() < 1e-6);
        let normalized = route(&logits, &router(2, true), 3);
        assert!((normalized.weights()[0] - 5.0 / 7.0).abs() < 1e-6);
        assert!((normalized.weights()[1] - 2.0 / 7.0).abs() < 1e-6);
    }

    #[test]
    fn agrees_with_the_definition() {
        for (num_experts, top_k) in [(1, 1), (4, 1), (8, 2), (60, 4), (128, 8), (5, 5)] {
            for normalize in [false, true] {
                let router = router(top_k, normalize);
                let logits = logits(40 * num_experts);
                let routing = route(&logits, &router, num_experts);
                assert_eq!(routing.tokens(), 40);
                let expected = logits.chunks(num_experts).flat_map(|logits| naive(logits, &router));
                for ((_, expert, weight), (naive_expert, naive_weight)) in routing.choices().zip(expected) {
                    assert_eq!(expert, naive_expert, "{top_k} of {num_experts}");
                    assert!((f64::from(weight) - naive_weight).abs() < 1e-6, "{weight} {naive_weight}");
                }
            }
        }
    }

    #[test]
    fn of_equal_scores_the_lower_index_comes_first() {
        assert_eq!(route(&[1.0; 6], &router(4, true), 6).experts(), [0, 1, 2, 3]);
        assert_eq!(route(&[0.0, 2.0, 1.0, 2.0, 1.0], &router(3, true), 5).experts(), [1, 3, 2]);
    }

    #[test]
    fn far_apart_logits_neither_overflow_nor_vanish() {
        let routing = route(&[-1e30, 3e38, 2e38], &router(2, true), 3);
        assert_eq!((routing.experts(), routing.weights()), (&[1, 0][..], &[1.0, 0.0][..]));
    }

    #[test]
    fn nan_shows_in_the_weights_and_each_expert_is_chosen_once() {
        let routing = route(&[0.0, f32::NAN, 1.0, 0.0, 1.0, 2.0], &router(2, true), 3);
        assert_eq!(routing.experts(), [0, 1, 2, 1]);
        assert!(routing.weights()[..2].iter().all(|weight| weight.is_nan()));
        assert!(routing.weights()[2..].iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn by_expert_is_the_same_choices_turned_round() {
        let routing = route(&logits(50 * 16), &router(3, true), 16);
        let by_expert = routing.by_expert();
        assert!(by_expert.is_sorted_by_key(|rows| rows.expert));
        assert!(by_expert.iter().all(|rows| rows.tokens.is_sorted() && !rows.tokens.is_empty()));
        let mut turned: Vec<_> = by_expert
            .iter()
            .flat_map(|rows| rows.tokens.iter().zip(&rows.weights).map(|(t, w)| (*t, rows.expert, *w)))
            .collect();
        let mut choices: Vec<_> = routing.choices().collect();
        turned.sort_by_key(|(token, expert, _)| (*token, *expert));
        choices.sort_by_key(|(token, expert, _)| (*token, *expert));
        assert_eq!(turned, choices);
    }

    #[test]
    fn experts_that_nobody_chose_are_left_out() {
        let routing = route(&[9.0, 0.0, 0.0, 8.0, 0.0, 0.0], &router(1, false), 3);
        let by_expert = routing.by_expert();
        assert_eq!(by_expert.len(), 1);
        assert_eq!((by_expert[0].expert, &by_expert[0].tokens[..]), (0, &[0, 1][..]));
    }

    #[test]
    fn no_tokens_are_no_choices() {
        let routing = route(&[], &router(2, true), 8);
        assert_eq!((routing.tokens(), routing.by_expert().len()), (0, 0));
    }
}
