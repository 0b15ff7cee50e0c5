//! Vectors per token and layer: made before the first layer, used by one after the other.

use burn::tensor::{Tensor, s};
use sli_core::{LayerInputSpec, LayerInputs, NormSpec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// The vectors of the layers to come, one layer's after another's: [tokens, layers * width].
const CARRIED: &str = "layer_inputs";

/// Makes the vectors of all layers.
#[derive(Clone, Debug)]
pub(crate) struct LayerInputMaker<B: SliBackend> {
    spec: LayerInputs,
    projection: Linear<B>,
    norm: Norm<B>,
}

impl<B: SliBackend> LayerInputMaker<B> {
    /// Takes the projection and its norm. Products are f32: they run once, on the embedding.
    pub(crate) fn load(spec: LayerInputs, loader: &Loader<B>) -> Result<Self> {
        let projection = Linear::new(&loader.wide(), TensorRole::LayerInputProjection, false)?;
        let norm = Norm::load(spec.norm, loader, TensorRole::LayerInputNorm)?;
        Ok(Self { spec, projection, norm })
    }

    /// From the embedding [tokens, hidden] and the second table's rows [tokens, layers * width].
    pub(crate) fn carry(&self, embedding: Tensor<B, 2>, rows: Tensor<B, 2>, carried: &mut Carried<B>) {
        let hidden = embedding.dims()[1] as f64;
        let projected = self.norm.forward(self.projection.forward(embedding) * hidden.powf(-0.5));
        let rows = rows * (self.spec.width as f64).sqrt();
        carried.put(CARRIED, B::join(projected, rows) * std::f64::consts::FRAC_1_SQRT_2);
    }
}

/// What a layer does with its vector.
#[derive(Clone, Debug)]
pub(crate) struct LayerInput<B: SliBackend> {
    width: usize,
    activation: Activation,
    down: Linear<B>,
    up: Linear<B>,
    norm: Norm<B>,
}

impl<B: SliBackend> LayerInput<B> {
    /// Takes the projections and the norm.
    pub(crate) fn load(spec: LayerInputSpec, norm: NormSpec, loader: &Loader<B>) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            width: spec.width,
            activation: kernel_activation(spec.activation),
            down: linear(TensorRole::LayerInputDown)?,
            up: linear(TensorRole::LayerInputUp)?,
            norm: Norm::load(norm, loader, TensorRole::LayerInputOutNorm)?,
        })
    }

    /// norm(up(act(down(x)) * vector)). Uses up this layer's vector.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let all = carried.get(CARRIED);
        let vector = all.clone().slice(s![.., ..self.width]);
        match all.dims()[1] > self.width {
            true => carried.put(CARRIED, all.slice(s![.., self.width..])),
            false => drop(carried.take(CARRIED)),
        }
        let gated = B::gated_nonlinearity(self.activation, self.down.forward(x), vector);
        self.norm.forward(self.up.forward(gated))
    }
}
