//! How evenly a layer's experts are used.

use serde::{Deserialize, Serialize};

use crate::choices::Routing;

/// How often each expert of a layer was chosen, and with which weight, summed over tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouterLoad {
    /// Tokens that chose the expert, one per expert.
    pub tokens: Vec<u64>,
    /// Sum of their weights, one per expert.
    pub weight: Vec<f64>,
}

impl RouterLoad {
    /// No tokens yet.
    pub fn new(num_experts: usize) -> Self {
        Self { tokens: vec![0; num_experts], weight: vec![0.0; num_experts] }
    }

    /// Adds the tokens of a routing over as many experts.
    ///
    /// # Panics
    /// When the routing is over more experts.
    pub fn add(&mut self, routing: &Routing) {
        for (_, expert, weight) in routing.choices() {
            self.tokens[expert as usize] += 1;
            self.weight[expert as usize] += f64::from(weight);
        }
    }

    /// Adds what another counted for the same layer.
    ///
    /// # Panics
    /// When it counted other numbers of experts.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.tokens.len(), other.tokens.len(), "loads of different layers");
        self.tokens.iter_mut().zip(&other.tokens).for_each(|(sum, tokens)| *sum += tokens);
        self.weight.iter_mut().zip(&other.weight).for_each(|(sum, weight)| *sum += weight);
    }

    /// The part of all choices that fell on each expert; zeros when there were none.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.tokens.iter().sum::<u64>().max(1) as f64;
        self.tokens.iter().map(|tokens| *tokens as f64 / total).collect()
    }

    /// Shannon entropy of the shares in nats: 0 when one expert does all the work, ln(num_experts) when all do alike.
    pub fn entropy(&self) -> f64 {
        // The sum of -p ln p, where p ln p is 0 at 0. From zero, so that nothing counted is not -0.
        self.shares()
            .into_iter()
            .filter(|share| *share > 0.0)
            .fold(0.0, |sum, share| sum - share * share.ln())
    }

    /// The share of the expert that was chosen most; 0 when nothing was counted.
    pub fn busiest_share(&self) -> f64 {
        self.shares().into_iter().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use sli_core::RouterSpec;

    use super::*;
    use crate::routing::route;

    #[test]
    fn counts_tokens_and_weights() {
        let router = RouterSpec::softmax(2, true);
        // Both tokens choose expert 1 first; then 0 and 2, with equal logits and so half the weight.
        let routing = route(&[5.0, 5.0, -9.0, -9.0, 5.0, 5.0], &router, None, 3);
        let mut load = RouterLoad::new(3);
        load.add(&routing);
        assert_eq!(load, RouterLoad { tokens: vec![1, 2, 1], weight: vec![0.5, 1.0, 0.5] });
        load.merge(&load.clone());
        assert_eq!(load, RouterLoad { tokens: vec![2, 4, 2], weight: vec![1.0, 2.0, 1.0] });
        assert_eq!(load.busiest_share(), 0.5);
        // -(1/4 ln 1/4) * 2 - 1/2 ln 1/2 = 1.5 ln 2.
        assert!((load.entropy() - 1.5 * 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_entropy_lies_between_one_expert_and_all() {
        let load = |tokens: &[u64]| RouterLoad { tokens: tokens.to_vec(), weight: vec![0.0; tokens.len()] };
        assert_eq!(load(&[0, 7, 0]).entropy(), 0.0);
        assert!((load(&[3, 3, 3, 3]).entropy() - 4f64.ln()).abs() < 1e-12);
        assert_eq!((load(&[0, 0]).entropy(), load(&[0, 0]).busiest_share()), (0.0, 0.0));
    }
}
