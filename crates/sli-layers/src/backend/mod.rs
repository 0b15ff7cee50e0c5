//! The operations that blocks are made of, and who runs them.

mod flex;
mod ndarray;
mod plain;
mod recurrences;
mod recycle;

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt::Debug;

use burn::tensor::backend::Backend;
use burn::tensor::{Device, Tensor, TensorData};
use sli_core::{HostTensor, NormSpec};
use sli_kernels::{Activation, Attention, ChosenKeys, DeltaRule, Precision, StateRule};

use crate::linear::Linear;
use crate::mlp::Inner;
use crate::rope::RopeTable;

#[cfg(feature = "cuda")]
pub use cuda::cuda_devices;

/// A Burn backend that can run blocks. Activations are [tokens, width] in f32.
///
/// Each operation has a default in plain Burn operations, which any backend can run; a backend overrides what pays.
pub trait SliBackend: Backend {
    /// A weight matrix as this backend keeps it, with the precision of its products. Cheap to clone.
    type Matrix: Clone + Debug + Send + Sync;

    /// Takes a matrix [out, in] over from host memory.
    fn load_matrix(weight: &HostTensor, precision: Precision, device: &Device<Self>) -> Self::Matrix;

    /// y = x W^T + b: [tokens, in] -> [tokens, out].
    fn matrix_product(
        x: Tensor<Self, 2>,
        weight: &Self::Matrix,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2>;

    /// Attention within each sample: query [query tokens, heads * head_dim], key and value
    /// [key tokens, kv heads * dim]; the offsets say where each sample starts in them.
    fn packed_attention(
        attention: &Attention<'_>,
        query: Tensor<Self, 2>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        query_offsets: &[usize],
        key_offsets: &[usize],
        precision: Precision,
    ) -> Tensor<Self, 2> {
        plain::packed_attention(attention, query, key, value, query_offsets, key_offsets, precision)
    }

    /// Causal attention of each sample over itself, in which a query sees chosen keys only. In f32.
    fn chosen_attention(
        attention: &Attention<'_>,
        query: Tensor<Self, 2>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        offsets: &[usize],
        chosen: &ChosenKeys,
    ) -> Tensor<Self, 2> {
        plain::chosen_attention(attention, query, key, value, offsets, chosen)
    }

    /// A norm over pieces of `width` of each row, with weight and bias `[width]`.
    fn normalize(
        x: Tensor<Self, 2>,
        spec: NormSpec,
        width: usize,
        weight: Option<&Tensor<Self, 1>>,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        plain::normalize(x, spec, width, weight, bias)
    }

    /// Each row times a number that makes its largest magnitude 127, rounded to whole numbers, and these numbers,
    /// [tokens, 1].
    fn round_rows(x: Tensor<Self, 2>) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        plain::round_rows(x)
    }

    /// x + y.
    fn join(x: Tensor<Self, 2>, y: Tensor<Self, 2>) -> Tensor<Self, 2> {
        x + y
    }

    /// act(x).
    fn nonlinearity(activation: Activation, x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::nonlinearity(activation, x)
    }

    /// act(gate) * up.
    fn gated_nonlinearity(
        activation: Activation,
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        Self::nonlinearity(activation, gate) * up
    }

    /// down(inner(x)): [tokens, in] -> [tokens, out].
    fn perceptron(
        x: Tensor<Self, 2>,
        inner: &Inner<Self>,
        up: &Linear<Self>,
        down: &Linear<Self>,
    ) -> Tensor<Self, 2> {
        down.forward(inner.forward(x, up))
    }

    /// Rows of all heads side by side, `shared` [tokens, s] at the start of each head of `own` [tokens, heads * o]:
    /// [tokens, heads * (s + o)].
    fn lead_heads(shared: Tensor<Self, 2>, own: Tensor<Self, 2>, heads: usize) -> Tensor<Self, 2> {
        let ([tokens, lead], [_, width]) = (shared.dims(), own.dims());
        let shared = shared.reshape([tokens, 1, lead]).repeat_dim(1, heads);
        let own = own.reshape([tokens, heads, width / heads]);
        Tensor::cat(vec![shared, own], 2).reshape([tokens, heads * lead + width])
    }

    /// Rotates the first dimensions of each of `heads` heads by the angles of its token.
    fn rotate(x: Tensor<Self, 2>, heads: usize, table: &RopeTable) -> Tensor<Self, 2> {
        plain::rotate(x, heads, table)
    }

    /// A causal convolution along the tokens of each sample, channel by channel: x [tokens, channels],
    /// weight [channels, width].
    fn causal_convolution(
        x: Tensor<Self, 2>,
        weight: &Tensor<Self, 2>,
        bias: Option<&Tensor<Self, 1>>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        plain::causal_convolution(x, weight, bias, offsets)
    }

    /// Mamba's selective scan over each sample.
    fn selective_scan(
        scan: Scan<Self>,
        a: &Tensor<Self, 2>,
        d: &Tensor<Self, 1>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        recurrences::selective_scan(scan, a, d, offsets)
    }

    /// The scan by heads of Mamba-2 over each sample: input [tokens, heads * head_dim + 2 * groups * state], step
    /// [tokens, heads], giving [tokens, heads * head_dim].
    fn head_scan(
        shape: HeadScanShape,
        input: Tensor<Self, 2>,
        step: Tensor<Self, 2>,
        a: &Tensor<Self, 1>,
        d: &Tensor<Self, 1>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        recurrences::head_scan(shape, input, step, a, d, offsets)
    }

    /// A state of keys and values that fades row by row, over each sample: [tokens, heads * head_dim].
    fn state_rule(rule: &StateRule, inputs: StateInputs<Self>, offsets: &[usize]) -> Tensor<Self, 2> {
        recurrences::state_rule(rule, inputs, offsets)
    }

    /// The weighted means of RWKV-4 over each sample, with decay and bonus `[channels]`: [tokens, channels].
    fn wkv(
        decay: &Tensor<Self, 1>,
        bonus: &Tensor<Self, 1>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        recurrences::wkv(decay, bonus, key, value, offsets)
    }

    /// The gated delta rule over each sample: [tokens, heads * value_dim].
    fn delta_rule(rule: &DeltaRule, inputs: DeltaInputs<Self>, offsets: &[usize]) -> Tensor<Self, 2> {
        recurrences::delta_rule(rule, inputs, offsets)
    }

    /// The rows of x at these indices.
    fn gather(x: &Tensor<Self, 2>, rows: &[u32]) -> Tensor<Self, 2> {
        plain::gather(x, rows)
    }

    /// `sum[rows[i]] += scale[i] * x[i]`; no row occurs twice.
    fn scatter_add(sum: Tensor<Self, 2>, x: Tensor<Self, 2>, rows: &[u32], scale: &[f32]) -> Tensor<Self, 2> {
        plain::scatter_add(sum, x, rows, scale)
    }

    /// Rows of `width` from host memory, without a copy where the backend can.
    fn from_host(values: Vec<f32>, width: usize, device: &Device<Self>) -> Tensor<Self, 2> {
        let rows = values.len() / width;
        Tensor::from_data(TensorData::new(values, [rows, width]), device)
    }

    /// Takes back values from [`Self::to_host`] that are not needed again, whose memory may be used for others.
    fn recycle(values: Vec<f32>) {
        drop(values);
    }

    /// The values in host memory, without a copy where the backend can.
    fn to_host(x: Tensor<Self, 2>) -> Vec<f32> {
        into_f32(x.into_data())
    }
}

/// What changes from token to token in a selective scan.
#[derive(Clone, Debug)]
pub struct Scan<B: Backend> {
    /// The input, [tokens, channels].
    pub x: Tensor<B, 2>,
    /// The step sizes, positive, [tokens, channels].
    pub delta: Tensor<B, 2>,
    /// How the input enters the state, [tokens, state].
    pub b: Tensor<B, 2>,
    /// How the state is read, [tokens, state].
    pub c: Tensor<B, 2>,
}

/// The sizes of a scan by heads, of which there are as many as numbers A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadScanShape {
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that share what writes and reads their states.
    pub num_groups: usize,
    /// Rows of a head's state.
    pub state: usize,
}

/// What changes from token to token in a delta rule.
#[derive(Clone, Debug)]
pub struct DeltaInputs<B: Backend> {
    /// With what the states are read, [tokens, key heads * key_dim].
    pub query: Tensor<B, 2>,
    /// Where in the states it is written, [tokens, key heads * key_dim].
    pub key: Tensor<B, 2>,
    /// What is written, [tokens, heads * value_dim].
    pub value: Tensor<B, 2>,
    /// What the states are multiplied by, [tokens, heads * decays].
    pub decay: Tensor<B, 2>,
    /// How much of what was there is replaced, [tokens, heads].
    pub write: Tensor<B, 2>,
}

/// What changes from token to token in a state of keys and values, all [tokens, heads * head_dim].
#[derive(Clone, Debug)]
pub struct StateInputs<B: Backend> {
    /// With what the states are read.
    pub read: Tensor<B, 2>,
    /// What each row of the states is multiplied by.
    pub decay: Tensor<B, 2>,
    /// Where in the states it is written.
    pub key: Tensor<B, 2>,
    /// What is written.
    pub value: Tensor<B, 2>,
    /// Where the states are looked at before, and where what is found there is added.
    pub moved: Option<[Tensor<B, 2>; 2]>,
}

/// A vector of weights on the device, in f32.
pub(crate) fn vector<B: Backend>(host: &HostTensor, device: &Device<B>) -> Tensor<B, 1> {
    Tensor::from_data(TensorData::new(host.to_f32().into_owned(), [host.len()]), device)
}

/// A small table of weights on the device, in f32.
pub(crate) fn table<B: Backend>(host: &HostTensor, device: &Device<B>) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(host.to_f32().into_owned(), host.matrix_shape()), device)
}

/// Tensor data that is f32 by construction, as a vector.
pub(crate) fn into_f32(data: TensorData) -> Vec<f32> {
    data.into_vec().unwrap_or_else(|error| unreachable!("activations are f32: {error:?}"))
}
