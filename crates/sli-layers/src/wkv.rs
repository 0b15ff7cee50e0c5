//! The time mixing of RWKV: of its fourth version, and of its fifth and sixth.

use burn::tensor::{Device, Tensor, s};
use sli_core::{DynamicMixSpec, MixShare, Result, TensorRole, Wkv4Spec, Wkv5Spec};
use sli_kernels::{Activation, StateRule};

use crate::backend::{SliBackend, StateInputs};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::token_shift::TokenShift;

/// out(sigmoid(r) * wkv(k, v)).
#[derive(Clone, Debug)]
pub(crate) struct Wkv4Layer<B: SliBackend> {
    read: Shifted<B>,
    key: Shifted<B>,
    value: Shifted<B>,
    /// e^w, what an exponent loses from token to token.
    decay: Tensor<B, 1>,
    bonus: Tensor<B, 1>,
    output: Linear<B>,
}

/// A projection of the token mixed with the one before it.
#[derive(Clone, Debug)]
struct Shifted<B: SliBackend> {
    shift: TokenShift<B>,
    linear: Linear<B>,
}

impl<B: SliBackend> Shifted<B> {
    fn load([shift, linear]: [TensorRole; 2], loader: &Loader<B>) -> Result<Self> {
        Ok(Self {
            shift: TokenShift::load(shift, MixShare::Own, loader)?,
            linear: Linear::new(loader, linear, false)?,
        })
    }

    fn forward(&self, x: &Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        self.linear.forward(self.shift.forward(x.clone(), offsets))
    }
}

impl<B: SliBackend> Wkv4Layer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(_: &Wkv4Spec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{ShiftK, ShiftR, ShiftV, WkvBonus, WkvDecay, WkvK, WkvOut, WkvR, WkvV};
        let shifted = |roles| Shifted::load(roles, loader);
        Ok(Self {
            read: shifted([ShiftR, WkvR])?,
            key: shifted([ShiftK, WkvK])?,
            value: shifted([ShiftV, WkvV])?,
            decay: loader.vector(WkvDecay)?.exp(),
            bonus: loader.vector(WkvBonus)?,
            output: Linear::new(loader, WkvOut, false)?,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let (key, value) = (self.key.forward(&x, context.offsets), self.value.forward(&x, context.offsets));
        let mean = B::wkv(&self.decay, &self.bonus, key, value, context.offsets);
        let read = self.read.forward(&x, context.offsets);
        self.output.forward(B::gated_nonlinearity(Activation::Sigmoid, read, mean))
    }
}

/// out(norm(read) * silu(g)).
#[derive(Clone, Debug)]
pub(crate) struct Wkv5Layer<B: SliBackend> {
    spec: Wkv5Spec,
    mixture: Mixture<B>,
    read: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    gate: Linear<B>,
    /// w, of which e^-e^w is left from token to token, [1, channels].
    decay: Tensor<B, 2>,
    bonus: Tensor<B, 1>,
    norm: Norm<B>,
    output: Linear<B>,
}

/// How a token is mixed with the one before it.
#[derive(Clone, Debug)]
enum Mixture<B: SliBackend> {
    /// In the same way everywhere: for r, k, v and g.
    Fixed([TokenShift<B>; 4]),
    Dynamic(Box<DynamicMixture<B>>),
}

/// x + (previous - x) * (share + up(tanh(down(x + (previous - x) * first)))), for each use.
#[derive(Clone, Debug)]
struct DynamicMixture<B: SliBackend> {
    spec: DynamicMixSpec,
    previous: TokenShift<B>,
    first: TokenShift<B>,
    down: Linear<B>,
    /// Of decay, k, v, r and g.
    uses: Vec<(Tensor<B, 1>, Linear<B>)>,
    decay_down: Linear<B>,
    decay_up: Linear<B>,
}

impl<B: SliBackend> Wkv5Layer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &Wkv5Spec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{ShiftG, ShiftK, ShiftR, ShiftV};
        use TensorRole::{WkvBonus, WkvDecay, WkvG, WkvK, WkvNorm, WkvOut, WkvR, WkvV};
        let linear = |role| Linear::new(loader, role, false);
        let mixture = match spec.dynamic {
            Some(dynamic) => Mixture::Dynamic(Box::new(DynamicMixture::load(dynamic, loader)?)),
            None => {
                let shift = |role| TokenShift::load(role, MixShare::Own, loader);
                Mixture::Fixed([shift(ShiftR)?, shift(ShiftK)?, shift(ShiftV)?, shift(ShiftG)?])
            }
        };
        let width = spec.width();
        Ok(Self {
            mixture,
            read: linear(WkvR)?,
            key: linear(WkvK)?,
            value: linear(WkvV)?,
            gate: linear(WkvG)?,
            decay: loader.vector(WkvDecay)?.reshape([1, width]),
            bonus: loader.vector(WkvBonus)?,
            norm: Norm::load(spec.norm, loader, WkvNorm)?.over(spec.head_dim),
            output: linear(WkvOut)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the states starting at zero in each sample.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let Wkv5Spec { num_heads, head_dim, .. } = self.spec;
        let tokens = x.dims()[0];
        let ([r, k, v, g], decay) = match &self.mixture {
            Mixture::Fixed(shifts) => {
                let mixed = shifts.each_ref().map(|shift| shift.forward(x.clone(), context.offsets));
                (mixed, self.decay.clone().repeat_dim(0, tokens))
            }
            Mixture::Dynamic(mixture) => {
                let (mixed, added) = mixture.forward(x, context.offsets);
                (mixed, self.decay.clone() + added)
            }
        };
        let (read, key, value) = (self.read.forward(r), self.key.forward(k), self.value.forward(v));
        let own = own_values(&read, &key, &self.bonus, &value, num_heads);
        let rule = StateRule { num_heads, head_dim, reads_first: true };
        let decay = decay.exp().neg().exp();
        let inputs = StateInputs { read, decay, key, value, moved: None };
        let y = B::join(B::state_rule(&rule, inputs, context.offsets), own);
        let gate = self.gate.forward(g);
        self.output.forward(B::gated_nonlinearity(Activation::Silu, gate, self.norm.forward(y)))
    }
}

impl<B: SliBackend> DynamicMixture<B> {
    fn load(spec: DynamicMixSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{MixDown, MixUp, ShiftFirst, ShiftG, ShiftK, ShiftR, ShiftV, ShiftW};
        use TensorRole::{WkvDecayDown, WkvDecayUp};
        let linear = |role| Linear::new(loader, role, false);
        let uses = [ShiftW, ShiftK, ShiftV, ShiftR, ShiftG].into_iter().zip(0..);
        let uses = uses.map(|(share, index)| Ok((loader.vector(share)?, linear(MixUp(index))?)));
        let first = TokenShift::load(ShiftFirst, MixShare::Previous, loader)?;
        Ok(Self {
            spec,
            previous: TokenShift::whole(loader.tensors.weight(ShiftFirst)?.len(), loader.device),
            first,
            down: linear(MixDown)?,
            uses: uses.collect::<Result<_>>()?,
            decay_down: linear(WkvDecayDown)?,
            decay_up: linear(WkvDecayUp)?,
        })
    }

    /// The mixtures for r, k, v and g, and what is added to the decay.
    fn forward(&self, x: Tensor<B, 2>, offsets: &[usize]) -> ([Tensor<B, 2>; 4], Tensor<B, 2>) {
        let rank = self.spec.mix_rank;
        let towards = self.previous.forward(x.clone(), offsets) - x.clone();
        let down = self.down.forward(self.first.forward(x.clone(), offsets));
        let down = B::nonlinearity(Activation::Tanh, down); // [tokens, uses * rank]
        let mixed = |at: usize| {
            let (share, up) = &self.uses[at];
            let added = up.forward(down.clone().slice(s![.., at * rank..(at + 1) * rank]));
            x.clone() + towards.clone() * (added + share.clone().unsqueeze())
        };
        let decay = B::nonlinearity(Activation::Tanh, self.decay_down.forward(mixed(0)));
        ([mixed(3), mixed(1), mixed(2), mixed(4)], self.decay_up.forward(decay))
    }
}

/// (r . bonus k) v of each head.
pub(crate) fn own_values<B: SliBackend>(
    read: &Tensor<B, 2>,
    key: &Tensor<B, 2>,
    bonus: &Tensor<B, 1>,
    value: &Tensor<B, 2>,
    num_heads: usize,
) -> Tensor<B, 2> {
    let [tokens, width] = read.dims();
    let by_head = |x: Tensor<B, 2>| x.reshape([tokens, num_heads, width / num_heads]);
    let weights = by_head(read.clone() * key.clone() * bonus.clone().unsqueeze()).sum_dim(2);
    (by_head(value.clone()) * weights).reshape([tokens, width])
}

/// x / |x| of each head of this width.
pub(crate) fn unit_heads<B: SliBackend>(width: usize, device: &Device<B>) -> Norm<B> {
    // Only keeps a head of zeros from dividing by zero.
    const EPS: f64 = 1e-24;
    Norm::of_length(1.0, width, EPS, device)
}

/// A low-rank projection: up(act(down(x))).
#[derive(Clone, Debug)]
pub(crate) struct Narrowed<B: SliBackend> {
    down: Linear<B>,
    activation: Activation,
    up: Linear<B>,
}

impl<B: SliBackend> Narrowed<B> {
    /// Takes both matrices, and the bias of the second.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(
        [down, up]: [TensorRole; 2],
        activation: Activation,
        bias: bool,
        loader: &Loader<B>,
    ) -> Result<Self> {
        Ok(Self { down: Linear::new(loader, down, false)?, activation, up: Linear::new(loader, up, bias)? })
    }

    /// [tokens, in] -> [tokens, out].
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.up.forward(B::nonlinearity(self.activation, self.down.forward(x)))
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::NdArray;
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn a_head_weighs_its_own_value() {
        let device = Default::default();
        let row = |values: &[f32]| NdArray::<f32>::from_host(values.to_vec(), 4, &device);
        let bonus = Tensor::from_data(TensorData::new(vec![1.0_f32, 0.5, 2.0, 1.0], [4]), &device);
        let (read, key, value) = (row(&[1.0, 2.0, 3.0, 4.0]), row(&[1.0; 4]), row(&[1.0, 2.0, 3.0, 4.0]));
        let own = own_values::<NdArray>(&read, &key, &bonus, &value, 2);
        assert_eq!(NdArray::<f32>::to_host(own), [2.0, 4.0, 30.0, 40.0]);
    }
}
