//! The time mixing of RWKV-7 (Peng et al. 2025).

use burn::tensor::Tensor;
use sli_core::{MixShare, Result, TensorRole, Wkv7Spec};
use sli_kernels::{Activation, StateRule};

use crate::backend::{SliBackend, StateInputs};
use crate::carried::Carried;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::token_shift::TokenShift;
use crate::wkv::{Narrowed, own_values, unit_heads};

/// Under which the values of the first layer are kept for the others: [tokens, channels].
const FIRST_VALUES: &str = "first_values";

/// What is left of a state at most is e^-(this): e^(-1/2).
const FASTEST: f64 = 0.606_530_659_712_633_4;

/// out((norm(read) + (r . bonus k) v) * g).
#[derive(Clone, Debug)]
pub(crate) struct Wkv7Layer<B: SliBackend> {
    spec: Wkv7Spec,
    /// For r, decay, k, v, what is erased and g.
    shifts: [TokenShift<B>; 6],
    read: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    decay: Narrowed<B>,
    erase: Narrowed<B>,
    gate: Narrowed<B>,
    /// How much of the first layer's values is taken.
    first_values: Option<Narrowed<B>>,
    /// What a key is multiplied by where it says what is erased.
    erased_key: Tensor<B, 1>,
    /// How much less of a key is written where less is erased.
    kept_key: Tensor<B, 1>,
    unit: Norm<B>,
    bonus: Tensor<B, 1>,
    norm: Norm<B>,
    output: Linear<B>,
}

impl<B: SliBackend> Wkv7Layer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &Wkv7Spec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::*;
        let linear = |role| Linear::new(loader, role, false);
        let shift = |role| TokenShift::load(role, MixShare::Previous, loader);
        let narrowed = |roles, activation, bias| Narrowed::load(roles, activation, bias, loader);
        let first_values = match spec.value_rank {
            Some(_) => Some(narrowed([WkvFirstDown, WkvFirstUp], Activation::Identity, true)?),
            None => None,
        };
        Ok(Self {
            shifts: [
                shift(ShiftR)?,
                shift(ShiftW)?,
                shift(ShiftK)?,
                shift(ShiftV)?,
                shift(ShiftA)?,
                shift(ShiftG)?,
            ],
            read: linear(WkvR)?,
            key: linear(WkvK)?,
            value: linear(WkvV)?,
            decay: narrowed([WkvDecayDown, WkvDecayUp], Activation::Tanh, true)?,
            erase: narrowed([WkvEraseDown, WkvEraseUp], Activation::Identity, true)?,
            gate: narrowed([WkvGateDown, WkvGateUp], Activation::Sigmoid, false)?,
            first_values,
            erased_key: loader.vector(WkvErasedKey)?,
            kept_key: loader.vector(WkvKeptKey)?,
            unit: unit_heads(spec.head_dim, loader.device),
            bonus: loader.vector(WkvBonus)?,
            norm: Norm::load(spec.norm, loader, WkvNorm)?.over(spec.head_dim),
            output: linear(WkvOut)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the states starting at zero in each sample.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let Wkv7Spec { num_heads, head_dim, .. } = self.spec;
        let mixed = self.shifts.each_ref().map(|shift| shift.forward(x.clone(), context.offsets));
        let [for_read, for_decay, for_key, for_value, for_erase, for_gate] = mixed;
        let sigmoid = |x| B::nonlinearity(Activation::Sigmoid, x);

        let value = self.values(for_value, carried);
        let decay = (sigmoid(self.decay.forward(for_decay)) * -FASTEST).exp();
        let erase = sigmoid(self.erase.forward(for_erase));
        let key = self.key.forward(for_key);
        let erased = self.unit.forward(key.clone() * self.erased_key.clone().unsqueeze());
        let kept = (erase.clone() - 1.0) * self.kept_key.clone().unsqueeze() + 1.0;
        let key = key * kept;

        let read = self.read.forward(for_read);
        let own = own_values(&read, &key, &self.bonus, &value, num_heads);
        let moved = Some([erased.clone().neg(), erased * erase]);
        let rule = StateRule { num_heads, head_dim, reads_first: false };
        let found = B::state_rule(&rule, StateInputs { read, decay, key, value, moved }, context.offsets);
        let y = B::join(self.norm.forward(found), own);
        self.output.forward(y * self.gate.forward(for_gate))
    }

    /// The values, mixed with those of the first layer, which keeps its own for the others.
    fn values(&self, mixed: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let own = self.value.forward(mixed.clone());
        match &self.first_values {
            Some(share) => {
                let share = B::nonlinearity(Activation::Sigmoid, share.forward(mixed));
                own.clone() + (carried.get(FIRST_VALUES) - own) * share
            }
            None => {
                carried.put(FIRST_VALUES, own.clone());
                own
            }
        }
    }
}
