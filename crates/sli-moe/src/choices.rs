//! Which experts the tokens of a batch chose, and the same turned round.

/// Which experts each token of a batch chose, and with which weight their results are added.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub(crate) num_experts: usize,
    /// Experts and, after them, those that return a token as it is.
    pub(crate) choices: usize,
    pub(crate) top_k: usize,
    pub(crate) experts: Vec<u32>,
    pub(crate) weights: Vec<f32>,
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

impl Routing {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.experts.len() / self.top_k
    }

    /// Number of experts to choose from, without those that return a token as it is.
    pub fn num_experts(&self) -> usize {
        self.num_experts
    }

    /// Number of all choices.
    pub fn num_choices(&self) -> usize {
        self.choices
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

    /// Multiplies the weight of each choice by what belongs to it.
    pub fn scale(&mut self, by_choice: &[f32]) {
        for (expert, weight) in self.experts.iter().zip(&mut self.weights) {
            *weight *= by_choice[*expert as usize];
        }
    }

    /// Takes the weight of choices for which the expert has no place left: of each sample, which owns the tokens between
    /// two neighbours of `offsets`, it takes the first `capacity` tokens.
    pub fn limit(&mut self, capacity: usize, offsets: &[usize]) {
        let mut taken = vec![0; self.choices];
        for sample in offsets.windows(2) {
            taken.fill(0);
            let rows = sample[0] * self.top_k..sample[1] * self.top_k;
            for (expert, weight) in self.experts[rows.clone()].iter().zip(&mut self.weights[rows]) {
                taken[*expert as usize] += 1;
                if taken[*expert as usize] > capacity {
                    *weight = 0.0;
                }
            }
        }
    }

    /// The choices turned round: the tokens of each expert that was chosen at all, in ascending order of experts.
    /// Those that return a token as it is are left out, and so are choices without any weight.
    pub fn by_expert(&self) -> Vec<ExpertRows> {
        let mut counts = vec![0; self.choices];
        self.experts.iter().for_each(|expert| counts[*expert as usize] += 1);
        let rows = |(expert, &count): (usize, &usize)| ExpertRows {
            expert: expert as u32,
            tokens: Vec::with_capacity(count),
            weights: Vec::with_capacity(count),
        };
        let mut by_expert: Vec<_> = counts.iter().take(self.num_experts).enumerate().map(rows).collect();
        for (token, expert, weight) in self.choices().filter(|(.., weight)| *weight != 0.0) {
            if let Some(rows) = by_expert.get_mut(expert as usize) {
                rows.tokens.push(token);
                rows.weights.push(weight);
            }
        }
        by_expert.retain(|rows| !rows.tokens.is_empty());
        by_expert
    }

    /// The same for the best choice of each token, then for the second best, ...: within one of these every token occurs
    /// once at most.
    pub fn by_choice(&self) -> impl Iterator<Item = Vec<ExpertRows>> {
        (0..self.top_k).map(|rank| {
            let experts = self.experts.iter().skip(rank).step_by(self.top_k).copied().collect();
            let weights = self.weights.iter().skip(rank).step_by(self.top_k).copied().collect();
            Self { experts, weights, top_k: 1, ..*self }.by_expert()
        })
    }

    /// For each token the weight with which it is itself part of the result, `[tokens]`: the sum over the choices that
    /// return it as it is. `None` where there are no such choices.
    pub fn identity_weights(&self) -> Option<Vec<f32>> {
        (self.choices > self.num_experts).then(|| {
            let mut sums = vec![0.0; self.tokens()];
            let identities = self.choices().filter(|(_, expert, _)| *expert as usize >= self.num_experts);
            identities.for_each(|(token, _, weight)| sums[token as usize] += weight);
            sums
        })
    }
}
