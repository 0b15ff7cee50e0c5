//! From the normalised hidden state to a logit for each expert.

use burn::tensor::Tensor;
use sli_core::{Result, RouterInput, RouterNetwork, RouterSpec, TensorRole};
use sli_kernels::Activation;

use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// Under which the state of a router is carried to the next layer's.
const STATE: &str = "router";

/// A router with its weights: a matrix, and perhaps a norm or a network before it.
#[derive(Clone, Debug)]
pub(crate) struct Router<B: SliBackend> {
    /// Of the residual stream, where the router sees that.
    stream_norm: Option<Norm<B>>,
    network: Option<Network<B>>,
    output: Linear<B>,
    softcap: Option<f64>,
}

#[derive(Clone, Debug)]
struct Network<B: SliBackend> {
    down: Linear<B>,
    /// What the state of the layer before is multiplied by.
    previous: Option<Tensor<B, 1>>,
    norm: Norm<B>,
    hidden: [Linear<B>; 2],
}

impl<B: SliBackend> Router<B> {
    /// Takes the router's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &RouterSpec, loader: &Loader<B>) -> Result<Self> {
        // Routing is f32 always: a rounded logit could choose another expert.
        let output = Linear::new(&loader.wide(), TensorRole::Router, spec.bias)?;
        let network = spec.network.map(|network| Network::new(&network, loader)).transpose()?;
        let stream_norm = match spec.input {
            RouterInput::Experts => None,
            RouterInput::Stream { norm } => Some(Norm::load(norm, loader, TensorRole::RouterInputNorm)?),
        };
        Ok(Self { stream_norm, network, output, softcap: spec.softcap })
    }

    /// From what goes into the experts and from the residual stream, [tokens, hidden], to [tokens, choices].
    pub(crate) fn forward(
        &self,
        input: &Tensor<B, 2>,
        stream: &Tensor<B, 2>,
        carried: &mut Carried<B>,
    ) -> Tensor<B, 2> {
        let x = match &self.stream_norm {
            Some(norm) => norm.forward(stream.clone()) * (stream.dims()[1] as f64).powf(-0.5),
            None => input.clone(),
        };
        let logits = self.output.forward(match &self.network {
            Some(network) => network.forward(x, carried),
            None => x,
        });
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

impl<B: SliBackend> Network<B> {
    fn new(spec: &RouterNetwork, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{RouterDown, RouterFirst, RouterNorm, RouterPrevious, RouterSecond};
        let wide = loader.wide();
        let linear = |role| Linear::new(&wide, role, true);
        Ok(Self {
            down: linear(RouterDown)?,
            previous: spec.adds_previous.then(|| loader.vector(RouterPrevious)).transpose()?,
            norm: Norm::load(spec.norm, loader, RouterNorm)?,
            hidden: [linear(RouterFirst)?, linear(RouterSecond)?],
        })
    }

    fn forward(&self, x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let mut state = self.down.forward(x);
        if let Some(weight) = &self.previous {
            state = state + carried.get(STATE) * weight.clone().unsqueeze();
        }
        carried.put(STATE, state.clone());
        let activated =
            |x: Tensor<B, 2>, linear: &Linear<B>| B::nonlinearity(Activation::Gelu, linear.forward(x));
        self.hidden.iter().fold(self.norm.forward(state), activated)
    }
}
