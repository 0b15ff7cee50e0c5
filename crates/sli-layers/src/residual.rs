//! How a branch is joined to the residual stream.

use burn::tensor::Tensor;
use sli_core::{BlockSpec, Residual, Result, Shares, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::stretch::Stretch;

/// The norms around a branch f: x -> sum(past + scale * output(f(input(x)))), where each is the identity unless the
/// layer's [`Residual`] has it. What goes past the branch is x itself, or weighted, or a multiple of what goes into
/// it.
#[derive(Clone, Debug)]
pub(crate) struct Branch<B: SliBackend> {
    input: Option<Norm<B>>,
    output: Option<Norm<B>>,
    scale: Option<f64>,
    sum: Option<Norm<B>>,
    past: Past<B>,
    /// Of what comes out of the branch, and of what goes past it.
    stretches: Option<[Stretch<B>; 2]>,
}

/// What goes past a branch.
#[derive(Clone, Debug)]
enum Past<B: SliBackend> {
    Stream,
    /// Times a vector.
    Weighted(Tensor<B, 1>),
    ScaledInput(f64),
}

impl<B: SliBackend> Branch<B> {
    /// Takes the norms of a branch, which is stored under `norm` and, where its output is normed, `output_norm`.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(
        spec: &BlockSpec,
        [norm, output_norm]: [TensorRole; 2],
        loader: &Loader<B>,
    ) -> Result<Self> {
        let load = |present: bool, role| present.then(|| Norm::load(spec.norm, loader, role)).transpose();
        let residual = spec.residual;
        let unnormed = match norm {
            TensorRole::FfnNorm => residual.shares_norm(),
            TensorRole::MixerNorm => !residual.norms_mixer(),
            _ => false,
        };
        let is_mixer = norm == TensorRole::MixerNorm;
        let shares = match residual {
            Residual::FromNorm { mixer, ffn } => Some(if is_mixer { mixer } else { ffn }),
            _ => None,
        };
        let stretches = match is_mixer {
            true => [TensorRole::MixerStretch, TensorRole::MixerPastStretch],
            false => [TensorRole::FfnStretch, TensorRole::FfnPastStretch],
        };
        let stretch = |role| Stretch::load(role, loader);
        Ok(Self {
            input: load(residual.norms_input() && !unnormed, norm)?,
            output: load(residual.norms_output(), output_norm)?,
            scale: match (residual, shares) {
                (Residual::ScaledPreNorm { scale }, _) => Some(scale),
                (Residual::Rescaled { branch, .. }, _) => Some(branch),
                (_, Some(Shares { branch, .. })) if branch != 1.0 => Some(branch),
                _ => None,
            },
            sum: load(residual.norms_sum(), norm)?,
            past: match (residual, shares) {
                (Residual::WeightedPreNorm, _) => {
                    let skip = if is_mixer { TensorRole::MixerSkip } else { TensorRole::FfnSkip };
                    Past::Weighted(loader.vector(skip)?)
                }
                (_, Some(shares)) => Past::ScaledInput(shares.past),
                _ => Past::Stream,
            },
            stretches: match residual {
                Residual::StretchedPreNorm => Some([stretch(stretches[0])?, stretch(stretches[1])?]),
                _ => None,
            },
        })
    }

    /// What goes past the branch, and what goes into it.
    pub(crate) fn enter(&self, x: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let input = normed(self.input.as_ref(), x.clone());
        match &self.past {
            Past::Stream => (x, input),
            Past::Weighted(weight) => (x * weight.clone().unsqueeze(), input),
            Past::ScaledInput(scale) => (input.clone() * *scale, input),
        }
    }

    /// The stream after the branch gave `y`.
    pub(crate) fn join(&self, past: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = normed(self.output.as_ref(), y);
        let y = match self.scale {
            Some(scale) => y * scale,
            None => y,
        };
        let (past, y) = match &self.stretches {
            Some([of_branch, of_past]) => (of_past.forward(past), of_branch.forward(y)),
            None => (past, y),
        };
        normed(self.sum.as_ref(), B::join(past, y))
    }
}

fn normed<B: SliBackend>(norm: Option<&Norm<B>>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
