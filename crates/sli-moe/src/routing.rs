//! From a router's logits to the experts of each token.

use sli_core::{ExpertGroups, RouterSpec, Scoring};

use crate::choices::Routing;

/// Chooses the experts of each token from `logits` [tokens, experts], where the experts that return a token as it is
/// follow the `num_experts` others. Scores are f32. The best ones are chosen, in falling order (of equal scores the
/// expert with the lower index first), and the weights of those that add nothing are zero; `correction`, one number per expert, counts for the choice only.
///
/// A token whose scores are NaN chooses the first experts with weights that are NaN, so that what is wrong shows in
/// the output.
///
/// # Panics
/// When the logits are no whole rows, `correction` is not one number per expert, or the numbers of experts and groups
/// do not fit together; [`MoeHandler::from_spec`](crate::MoeHandler::from_spec) refuses such specs.
pub fn route(logits: &[f32], spec: &RouterSpec, correction: Option<&[f32]>, num_experts: usize) -> Routing {
    let (top_k, choices) = (spec.top_k, num_experts + spec.idle_experts());
    assert!((1..=choices).contains(&top_k), "{top_k} of {choices} experts per token");
    assert!(logits.len().is_multiple_of(choices), "{} logits for {choices} experts", logits.len());
    assert!(correction.is_none_or(|correction| correction.len() == choices), "a correction per expert");
    let tokens = logits.len() / choices;
    let mut experts = vec![0; tokens * top_k];
    let mut weights = vec![0.0; tokens * top_k];
    let groups = spec.groups.map(|groups| GroupChoice::new(groups, choices));
    let mut router =
        Router { spec, correction, groups, scores: vec![0.0; choices], merits: vec![0.0; choices] };
    let rows = experts.chunks_exact_mut(top_k).zip(weights.chunks_exact_mut(top_k));
    for (logits, (experts, weights)) in logits.chunks_exact(choices).zip(rows) {
        router.choose(logits, experts, weights);
    }
    let first_null = (num_experts + spec.identity_experts) as u32;
    if spec.null_experts > 0 {
        let chosen = experts.iter().zip(&mut weights);
        chosen.filter(|(expert, _)| **expert >= first_null).for_each(|(_, weight)| *weight = 0.0);
    }
    Routing { num_experts, choices, top_k, experts, weights }
}

/// The same where it is known which experts each token goes to, `top_k` of them for each: only their weights are made of
/// the logits.
///
/// # Panics
/// When the logits are no whole rows, there are not `top_k` experts for each, or one of them does not exist.
pub fn route_to(logits: &[f32], spec: &RouterSpec, experts: Vec<u32>, num_experts: usize) -> Routing {
    let (top_k, choices) = (spec.top_k, num_experts + spec.idle_experts());
    assert_eq!(logits.len() * top_k, experts.len() * choices, "{top_k} experts for each row of logits");
    let mut weights = vec![0.0; experts.len()];
    let mut router =
        Router { spec, correction: None, groups: None, scores: vec![0.0; choices], merits: Vec::new() };
    let rows = experts.chunks_exact(top_k).zip(weights.chunks_exact_mut(top_k));
    for (logits, (experts, weights)) in logits.chunks_exact(choices).zip(rows) {
        router.score(logits);
        router.weigh(experts, weights);
    }
    Routing { num_experts, choices, top_k, experts, weights }
}

/// A router at work, with room for one token.
struct Router<'a> {
    spec: &'a RouterSpec,
    correction: Option<&'a [f32]>,
    groups: Option<GroupChoice>,
    /// What weights are made of.
    scores: Vec<f32>,
    /// What experts are chosen by.
    merits: Vec<f32>,
}

impl Router<'_> {
    fn choose(&mut self, logits: &[f32], experts: &mut [u32], weights: &mut [f32]) {
        if let Scoring::Sparsemixer { jitter } = self.spec.scoring {
            return sparsemixer(logits, jitter as f32, &mut self.merits, experts, weights);
        }
        self.score(logits);
        self.merits.copy_from_slice(&self.scores);
        if let Some(correction) = self.correction {
            self.merits.iter_mut().zip(correction).for_each(|(merit, correction)| *merit += correction);
        }
        if let Some(groups) = &mut self.groups {
            groups.close_others(&mut self.merits);
        }
        select_best(&self.merits, experts, weights);
        self.weigh(experts, weights);
    }

    fn score(&mut self, logits: &[f32]) {
        let mut each = |score: fn(f32) -> f32| {
            self.scores.iter_mut().zip(logits).for_each(|(of_expert, logit)| *of_expert = score(*logit));
        };
        match self.spec.scoring {
            Scoring::Softmax => softmax(logits, &mut self.scores),
            Scoring::Sigmoid => each(|logit| 1.0 / (1.0 + (-logit).exp())),
            Scoring::SqrtSoftplus => each(|logit| (logit.max(0.0) + (-logit.abs()).exp().ln_1p()).sqrt()),
            Scoring::SoftmaxOfChosen | Scoring::Sparsemixer { .. } => self.scores.copy_from_slice(logits),
        }
    }

    /// The weights of the chosen experts.
    fn weigh(&self, experts: &[u32], weights: &mut [f32]) {
        for (weight, expert) in weights.iter_mut().zip(experts) {
            *weight = self.scores[*expert as usize];
        }
        if self.spec.scoring == Scoring::SoftmaxOfChosen {
            softmax_in_place(weights);
        }
        if let Some(more) = self.spec.normalize {
            let sum = weights.iter().sum::<f32>() + more as f32;
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        if self.spec.scale != 1.0 {
            weights.iter_mut().for_each(|weight| *weight *= self.spec.scale as f32);
        }
    }
}

/// e^(x - max) / sum.
fn softmax(logits: &[f32], scores: &mut [f32]) {
    scores.copy_from_slice(logits);
    softmax_in_place(scores);
}

fn softmax_in_place(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - max).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

/// The choice of groups, with room for one token.
struct GroupChoice {
    size: usize,
    /// The best merits within a group, and whose they are.
    best: (Vec<u32>, Vec<f32>),
    /// What each group is worth.
    worth: Vec<f32>,
    /// The best groups, and what they are worth.
    chosen: (Vec<u32>, Vec<f32>),
}

impl GroupChoice {
    fn new(groups: ExpertGroups, choices: usize) -> Self {
        let room = |count| (vec![0; count], vec![0.0; count]);
        Self {
            size: choices / groups.count,
            best: room(groups.best_of),
            worth: vec![0.0; groups.count],
            chosen: room(groups.chosen),
        }
    }

    /// Puts experts outside of the best groups out of reach.
    fn close_others(&mut self, merits: &mut [f32]) {
        for (group, worth) in merits.chunks_exact(self.size).zip(&mut self.worth) {
            select_best(group, &mut self.best.0, &mut self.best.1);
            *worth = self.best.1.iter().sum();
        }
        select_best(&self.worth, &mut self.chosen.0, &mut self.chosen.1);
        for (group, merits) in merits.chunks_exact_mut(self.size).enumerate() {
            if !self.chosen.0.contains(&(group as u32)) {
                merits.fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// Each choice is the best logit that is left; its weight is its share in a softmax over what is left and near it.
fn sparsemixer(logits: &[f32], jitter: f32, left: &mut [f32], experts: &mut [u32], weights: &mut [f32]) {
    left.copy_from_slice(logits);
    for (expert, weight) in experts.iter_mut().zip(weights) {
        let mut best = [0.0];
        select_best(left, std::slice::from_mut(expert), &mut best);
        let best = best[0];
        let near = |(logit, left): (&f32, &f32)| {
            let distance = (best - logit) / logit.abs().max(best);
            // What was chosen before is minus infinity, and adds nothing.
            if distance > 2.0 * jitter { 0.0 } else { (left - best).exp() }
        };
        *weight = 1.0 / logits.iter().zip(&*left).map(near).sum::<f32>();
        left[*expert as usize] = f32::NEG_INFINITY;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn router(top_k: usize, normalize: bool) -> RouterSpec {
        RouterSpec::softmax(top_k, normalize)
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
        if router.normalize.is_some() {
            scores.iter_mut().for_each(|(_, score)| *score /= chosen);
        }
        scores
    }

    #[test]
    fn agrees_with_a_computation_by_hand() {
        // e^ln(1), e^ln(2), e^ln(5): scores 1/8, 2/8, 5/8.
        let logits = [1f32.ln(), 2f32.ln(), 5f32.ln()];
        let plain = route(&logits, &router(2, false), None, 3);
        assert_eq!(plain.experts(), [2, 1]);
        assert!((plain.weights()[0] - 0.625).abs() < 1e-6 && (plain.weights()[1] - 0.25).abs() < 1e-6);
        let normalized = route(&logits, &router(2, true), None, 3);
        assert!((normalized.weights()[0] - 5.0 / 7.0).abs() < 1e-6);
        assert!((normalized.weights()[1] - 2.0 / 7.0).abs() < 1e-6);
    }

    #[test]
    fn agrees_with_the_definition() {
        for (num_experts, top_k) in [(1, 1), (4, 1), (8, 2), (60, 4), (128, 8), (5, 5)] {
            for normalize in [false, true] {
                let router = router(top_k, normalize);
                let logits = logits(40 * num_experts);
                let routing = route(&logits, &router, None, num_experts);
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
        assert_eq!(route(&[1.0; 6], &router(4, true), None, 6).experts(), [0, 1, 2, 3]);
        assert_eq!(route(&[0.0, 2.0, 1.0, 2.0, 1.0], &router(3, true), None, 5).experts(), [1, 3, 2]);
    }

    #[test]
    fn far_apart_logits_neither_overflow_nor_vanish() {
        let routing = route(&[-1e30, 3e38, 2e38], &router(2, true), None, 3);
        assert_eq!((routing.experts(), routing.weights()), (&[1, 0][..], &[1.0, 0.0][..]));
    }

    #[test]
    fn nan_shows_in_the_weights_and_each_expert_is_chosen_once() {
        let routing = route(&[0.0, f32::NAN, 1.0, 0.0, 1.0, 2.0], &router(2, true), None, 3);
        assert_eq!(routing.experts(), [0, 1, 2, 1]);
        assert!(routing.weights()[..2].iter().all(|weight| weight.is_nan()));
        assert!(routing.weights()[2..].iter().all(|weight| weight.is_finite()));
    }

    #[test]
    fn by_expert_is_the_same_choices_turned_round() {
        let routing = route(&logits(50 * 16), &router(3, true), None, 16);
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
        let routing = route(&[9.0, 0.0, 0.0, 8.0, 0.0, 0.0], &router(1, false), None, 3);
        let by_expert = routing.by_expert();
        assert_eq!(by_expert.len(), 1);
        assert_eq!((by_expert[0].expert, &by_expert[0].tokens[..]), (0, &[0, 1][..]));
    }

    #[test]
    fn no_tokens_are_no_choices() {
        let routing = route(&[], &router(2, true), None, 8);
        assert_eq!((routing.tokens(), routing.by_expert().len()), (0, 0));
    }

    #[test]
    fn a_correction_counts_for_the_choice_only() {
        let spec = RouterSpec {
            scoring: Scoring::Sigmoid,
            correction: true,
            normalize: Some(1e-20),
            scale: 2.5,
            ..router(2, true)
        };
        // Sigmoids 1/2, 2/3, 3/4, 4/5; the correction lifts the first above all.
        let logits = [0.0, 2f32.ln(), 3f32.ln(), 4f32.ln()];
        let routing = route(&logits, &spec, Some(&[1.0, 0.0, 0.0, 0.0]), 4);
        assert_eq!(routing.experts(), [0, 3]);
        assert!((routing.weights()[0] - 2.5 * 0.5 / 1.3).abs() < 1e-6);
        assert!((routing.weights()[1] - 2.5 * 0.8 / 1.3).abs() < 1e-6);
    }

    #[test]
    fn only_the_best_groups_are_open() {
        let groups = |best_of| Some(ExpertGroups { count: 3, chosen: 1, best_of });
        let spec = |best_of| RouterSpec { groups: groups(best_of), ..router(2, false) };
        // The first group has the best expert, the second the best pair.
        let logits = [5.0, 0.0, 4.6, 4.5, 1.0, 1.0];
        assert_eq!(route(&logits, &spec(1), None, 6).experts(), [0, 1]);
        assert_eq!(route(&logits, &spec(2), None, 6).experts(), [2, 3]);
    }

    #[test]
    fn a_softmax_of_the_chosen_is_a_normalised_softmax() {
        let logits = logits(20 * 8);
        let chosen = RouterSpec { scoring: Scoring::SoftmaxOfChosen, ..router(3, false) };
        let (a, b) = (route(&logits, &chosen, None, 8), route(&logits, &router(3, true), None, 8));
        assert_eq!(a.experts(), b.experts());
        assert!(a.weights().iter().zip(b.weights()).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn sparsemixer_looks_at_what_is_near() {
        let spec = RouterSpec { scoring: Scoring::Sparsemixer { jitter: 0.01 }, ..router(2, false) };
        // 2.0 and 1.99 are within 2 %; 1.9 is near neither, and 1.0 far.
        let routing = route(&[1.0, 2.0, 1.9, 1.99], &spec, None, 4);
        assert_eq!(routing.experts(), [1, 3]);
        let first = 1.0 / (1.0 + (-0.01f32).exp());
        assert!((routing.weights()[0] - first).abs() < 1e-5, "{:?}", routing.weights());
        assert_eq!(routing.weights()[1], 1.0);
    }

    #[test]
    fn scales_belong_to_experts() {
        // The second token's best expert is the first one's second.
        let mut routing = route(&[2.0, 1.0, 0.0, 0.0, 3.0, 2.0], &router(2, false), None, 3);
        let before = routing.weights().to_vec();
        routing.scale(&[2.0, 10.0, 0.5]);
        assert_eq!(routing.experts(), [0, 1, 1, 2]);
        assert_eq!(routing.weights(), [before[0] * 2.0, before[1] * 10.0, before[2] * 10.0, before[3] * 0.5]);
    }

    #[test]
    fn what_finds_no_place_in_its_sample_has_no_weight() {
        let mut routing = route(&[9.0, 0.0, 9.0, 0.0, 0.0, 9.0, 9.0, 0.0], &router(1, true), None, 2);
        routing.limit(1, &[0, 3, 4]);
        assert_eq!((routing.experts(), routing.weights()), (&[0, 0, 1, 0][..], &[1.0, 0.0, 1.0, 1.0][..]));
        let tokens: Vec<_> = routing.by_expert().into_iter().map(|rows| rows.tokens).collect();
        assert_eq!(tokens, [vec![0, 3], vec![2]]);
    }

    #[test]
    fn experts_that_do_nothing_return_the_token() {
        let spec = RouterSpec { identity_experts: 2, ..router(2, true) };
        let routing = route(&[9.0, 0.0, 9.0, 0.0, 0.0, 9.0, 0.0, 9.0], &spec, None, 2);
        assert_eq!((routing.num_experts(), routing.num_choices()), (2, 4));
        let by_expert: Vec<_> = routing.by_expert().iter().map(|rows| rows.expert).collect();
        assert_eq!(by_expert, [0, 1]);
        assert_eq!(routing.identity_weights(), Some(vec![0.5, 0.5]));
        assert_eq!(route(&[0.0; 4], &router(1, true), None, 4).identity_weights(), None);
    }
    #[test]
    fn experts_that_add_nothing_weigh_nothing() {
        let spec = RouterSpec { identity_experts: 1, null_experts: 1, ..router(1, false) };
        let routing = route(&[0.0, 9.0, 0.0, 0.0, 0.0, 9.0], &spec, None, 1);
        assert_eq!((routing.experts(), routing.weights()[1]), (&[1, 2][..], 0.0));
        assert!(routing.by_expert().is_empty());
        assert_eq!(routing.identity_weights(), Some(vec![routing.weights()[0], 0.0]));
    }

    #[test]
    fn given_experts_have_the_weights_of_their_scores() {
        // softplus of 0 and ln(e - 1) is ln 2 and 1.
        let logits = [0.0, (std::f32::consts::E - 1.0).ln(), 50.0];
        let spec = RouterSpec { scoring: Scoring::SqrtSoftplus, scale: 2.0, ..router(2, true) };
        let routing = route_to(&logits, &spec, vec![1, 0], 3);
        let scores = [1.0, std::f32::consts::LN_2.sqrt()];
        let sum: f32 = scores.iter().sum();
        assert_eq!(routing.experts(), [1, 0]);
        for (weight, score) in routing.weights().iter().zip(scores) {
            assert!((weight - 2.0 * score / sum).abs() < 1e-6, "{weight}");
        }
    }
}
