//! Flex, the default on CPUs: every operation is a kernel of `sli-kernels` over the tensors' slices.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Device, Shape, Tensor, TensorData, TensorPrimitive};
use burn_flex::FlexTensor;
use half::{bf16, f16};
use sli_core::{Dtype, HostTensor, NormSpec, Scales};
use sli_kernels::{
    Activation, Attention, ChosenKeys, DeltaRule, DeltaTokens, Format, HeadScan, Matrix, Precision,
    SelectiveScan, StateRule, StateTokens,
};

use crate::backend::{DeltaInputs, HeadScanShape, Scan, SliBackend, StateInputs, into_f32, recycle};
use crate::linear::Linear;
use crate::mlp::Inner;
use crate::rope::RopeTable;

/// A weight in its stored dtype, shared with the buffer that it was read into.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    weight: HostTensor,
    precision: Precision,
}

impl StoredMatrix {
    fn view(&self) -> Matrix<'_> {
        let weight = &self.weight;
        let [rows, columns] = weight.matrix_shape();
        let format = match (weight.scales(), weight.dtype()) {
            (Some(Scales::Blocks { values, rows, columns }), _) => Format::Fp8E4m3 {
                codes: weight.bytes(),
                scales: values.elements::<f32>(),
                block_rows: *rows,
                block_columns: *columns,
            },
            (Some(Scales::Mxfp4 { exponents }), _) => {
                Format::Mxfp4 { codes: weight.bytes(), scales: exponents.bytes() }
            }
            (Some(Scales::Ternary { scale, .. }), _) => {
                Format::Ternary { codes: weight.bytes(), scale: *scale }
            }
            (None, Dtype::Bf16) => Format::Bf16(weight.elements::<bf16>()),
            (None, Dtype::F16) => Format::F16(weight.elements::<f16>()),
            (None, Dtype::F32) => Format::F32(weight.elements::<f32>()),
            (None, Dtype::F8E4m3) => Format::Fp8E4m3 {
                codes: weight.bytes(),
                scales: &[1.0],
                block_rows: rows,
                block_columns: columns,
            },
            (None, other) => unreachable!("load_matrix keeps no {other} matrix"),
        };
        Matrix { rows, columns, format }
    }
}

/// A tensor's values, contiguous. Free unless the tensor is a view with gaps. When it was the last tensor over them,
/// their memory is used again.
struct Values(Option<FlexTensor>); // `None` only while it is dropped

impl Values {
    fn of<const D: usize>(x: Tensor<Flex, D>) -> Self {
        let x = x.into_primitive().tensor();
        Self(Some(if x.is_contiguous() { x } else { x.to_contiguous() }))
    }

    fn slice(&self) -> &[f32] {
        let values = self.0.as_ref().and_then(FlexTensor::as_slice);
        values.unwrap_or_else(|| unreachable!("contiguous f32 by construction"))
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Some(tensor) = self.0.take().filter(FlexTensor::is_unique) {
            recycle::recycle(into_f32(tensor.into_data()));
        }
    }
}

/// A projection's matrix, and its bias as a slice.
struct Projection<'a> {
    matrix: &'a StoredMatrix,
    bias: Option<Values>,
}

impl<'a> Projection<'a> {
    fn of(linear: &'a Linear<Flex>) -> Self {
        Self { matrix: &linear.weight, bias: linear.bias.clone().map(Values::of) }
    }

    fn view(&self) -> sli_kernels::Projection<'_> {
        sli_kernels::Projection { matrix: self.matrix.view(), bias: self.bias.as_ref().map(Values::slice) }
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    let data = TensorData::from_bytes(Bytes::from_elems(values), Shape::from(shape), DType::F32);
    Tensor::from_primitive(TensorPrimitive::Float(FlexTensor::from_data(data)))
}

/// The tensor's own vector when nothing else shares it, a copy otherwise.
fn owned<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    into_f32(x.into_primitive().tensor().into_data())
}

impl SliBackend for Flex {
    type Matrix = StoredMatrix;

    fn load_matrix(weight: &HostTensor, precision: Precision, _: &Device<Self>) -> StoredMatrix {
        let weight = match weight.dtype() {
            Dtype::Bf16 | Dtype::F16 | Dtype::F32 | Dtype::F8E4m3 => weight.clone(),
            _ if weight.scales().is_some() => weight.clone(),
            _ => HostTensor::from_vec(weight.to_f32().into_owned(), weight.shape().to_vec()),
        };
        StoredMatrix { weight, precision }
    }

    fn matrix_product(
        x: Tensor<Self, 2>,
        weight: &StoredMatrix,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([tokens, _], matrix) = (x.dims(), weight.view());
        let (x, bias) = (Values::of(x), bias.cloned().map(Values::of));
        let mut y = recycle::vector(tokens * matrix.rows);
        sli_kernels::linear(
            x.slice().into(),
            &matrix,
            bias.as_ref().map(Values::slice),
            weight.precision,
            &mut y,
        );
        tensor(y, [tokens, matrix.rows])
    }

    fn packed_attention(
        attention: &Attention<'_>,
        query: Tensor<Self, 2>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        query_offsets: &[usize],
        key_offsets: &[usize],
        precision: Precision,
    ) -> Tensor<Self, 2> {
        let shape = [query.dims()[0], attention.num_heads * attention.value_dim];
        let (query, key, value) = (Values::of(query), Values::of(key), Values::of(value));
        let mut out = recycle::vector(shape[0] * shape[1]);
        sli_kernels::attention(
            attention,
            query.slice(),
            key.slice(),
            value.slice(),
            query_offsets,
            key_offsets,
            precision,
            &mut out,
        );
        tensor(out, shape)
    }

    fn chosen_attention(
        attention: &Attention<'_>,
        query: Tensor<Self, 2>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        offsets: &[usize],
        chosen: &ChosenKeys,
    ) -> Tensor<Self, 2> {
        let shape = [query.dims()[0], attention.num_heads * attention.value_dim];
        let (query, key, value) = (Values::of(query), Values::of(key), Values::of(value));
        let mut out = vec![0.0; shape[0] * shape[1]];
        let (query, key, value) = (query.slice(), key.slice(), value.slice());
        sli_kernels::chosen_attention(attention, query, key, value, offsets, chosen, &mut out);
        tensor(out, shape)
    }

    fn normalize(
        x: Tensor<Self, 2>,
        spec: NormSpec,
        width: usize,
        weight: Option<&Tensor<Self, 1>>,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let shape = x.dims();
        let values = |x: &Tensor<Self, 1>| Values::of(x.clone());
        let (x, weight, bias) = (Values::of(x), weight.map(values), bias.map(values));
        let (weight, bias) = (weight.as_ref().map(Values::slice), bias.as_ref().map(Values::slice));
        let mut y = recycle::vector(shape[0] * shape[1]);
        let eps = spec.eps as f32;
        if spec.is_centred() {
            sli_kernels::layer_norm(x.slice(), width, weight, bias, eps, &mut y);
        } else {
            sli_kernels::rms_norm(x.slice(), width, weight, eps, &mut y);
        }
        tensor(y, shape)
    }

    fn round_rows(x: Tensor<Self, 2>) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let [tokens, width] = x.dims();
        let (mut values, mut scales) = (owned(x), vec![0.0; tokens]);
        sli_kernels::round_rows(&mut values, width, &mut scales);
        (tensor(values, [tokens, width]), tensor(scales, [tokens, 1]))
    }

    fn join(x: Tensor<Self, 2>, y: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let shape = x.dims();
        let mut sum = owned(x);
        sli_kernels::add(&mut sum, Values::of(y).slice());
        tensor(sum, shape)
    }

    fn nonlinearity(activation: Activation, x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let shape = x.dims();
        let mut values = owned(x);
        sli_kernels::activate(activation, &mut values);
        tensor(values, shape)
    }

    fn gated_nonlinearity(
        activation: Activation,
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        let shape = gate.dims();
        let (mut gate, up) = (owned(gate), Values::of(up));
        sli_kernels::gated_activation(activation, &mut gate, up.slice());
        tensor(gate, shape)
    }

    fn perceptron(
        x: Tensor<Self, 2>,
        inner: &Inner<Self>,
        up: &Linear<Self>,
        down: &Linear<Self>,
    ) -> Tensor<Self, 2> {
        let (tokens, x, precision) = (x.dims()[0], Values::of(x), up.weight.precision);
        let (up, down) = (Projection::of(up), Projection::of(down));
        let run = |inner| {
            let mlp = sli_kernels::Mlp { inner, up: up.view(), down: down.view() };
            let mut y = recycle::vector(tokens * mlp.down.matrix.rows);
            sli_kernels::mlp(x.slice().into(), &mlp, precision, &mut y);
            tensor(y, [tokens, mlp.down.matrix.rows])
        };
        match inner {
            Inner::Activated(activation) => run(sli_kernels::Inner::Activated(*activation)),
            Inner::Gated(activation, gate) => {
                run(sli_kernels::Inner::Gated(Projection::of(gate).view(), *activation))
            }
            Inner::Clamped { gate, limit, alpha } => {
                let gate = Projection::of(gate);
                run(sli_kernels::Inner::Clamped { gate: gate.view(), limit: *limit, alpha: *alpha })
            }
        }
    }

    fn lead_heads(shared: Tensor<Self, 2>, own: Tensor<Self, 2>, heads: usize) -> Tensor<Self, 2> {
        let ([tokens, lead], [_, width]) = (shared.dims(), own.dims());
        let (shared, own) = (Values::of(shared), Values::of(own));
        let mut out = recycle::vector(tokens * (heads * lead + width));
        sli_kernels::lead_heads(shared.slice(), lead, own.slice(), width / heads, heads, &mut out);
        tensor(out, [tokens, heads * lead + width])
    }

    fn rotate(x: Tensor<Self, 2>, heads: usize, table: &RopeTable) -> Tensor<Self, 2> {
        let shape = x.dims();
        let mut values = owned(x);
        sli_kernels::rope(&mut values, heads, shape[1] / heads, table.rotary_dim, &table.cos, &table.sin);
        tensor(values, shape)
    }

    fn causal_convolution(
        x: Tensor<Self, 2>,
        weight: &Tensor<Self, 2>,
        bias: Option<&Tensor<Self, 1>>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        let ([tokens, channels], [_, width]) = (x.dims(), weight.dims());
        let (x, weight, bias) = (Values::of(x), Values::of(weight.clone()), bias.cloned().map(Values::of));
        let mut y = recycle::vector(tokens * channels);
        let bias = bias.as_ref().map(Values::slice);
        sli_kernels::causal_conv1d(x.slice(), channels, weight.slice(), width, bias, offsets, &mut y);
        tensor(y, [tokens, channels])
    }

    fn selective_scan(
        scan: Scan<Self>,
        a: &Tensor<Self, 2>,
        d: &Tensor<Self, 1>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        let (shape, [channels, state]) = (scan.x.dims(), a.dims());
        let (a, d) = (Values::of(a.clone()), Values::of(d.clone()));
        let (x, delta) = (Values::of(scan.x), Values::of(scan.delta));
        let (b, c) = (Values::of(scan.b), Values::of(scan.c));
        let parameters = SelectiveScan { channels, state, a: a.slice(), d: d.slice() };
        let mut y = recycle::vector(shape[0] * shape[1]);
        sli_kernels::selective_scan(
            &parameters,
            x.slice(),
            delta.slice(),
            b.slice(),
            c.slice(),
            offsets,
            &mut y,
        );
        tensor(y, shape)
    }

    fn head_scan(
        shape: HeadScanShape,
        input: Tensor<Self, 2>,
        step: Tensor<Self, 2>,
        a: &Tensor<Self, 1>,
        d: &Tensor<Self, 1>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        let HeadScanShape { head_dim, num_groups, state } = shape;
        let ([tokens, _], [heads]) = (input.dims(), a.dims());
        let (a, d) = (Values::of(a.clone()), Values::of(d.clone()));
        let (input, step) = (Values::of(input), Values::of(step));
        let scan = HeadScan { head_dim, num_groups, state, a: a.slice(), d: d.slice() };
        let mut y = recycle::vector(tokens * heads * head_dim);
        sli_kernels::head_scan(&scan, input.slice(), step.slice(), offsets, &mut y);
        tensor(y, [tokens, heads * head_dim])
    }

    fn state_rule(rule: &StateRule, inputs: StateInputs<Self>, offsets: &[usize]) -> Tensor<Self, 2> {
        let shape = inputs.value.dims();
        let (read, decay) = (Values::of(inputs.read), Values::of(inputs.decay));
        let (key, value) = (Values::of(inputs.key), Values::of(inputs.value));
        let moved = inputs.moved.map(|moved| moved.map(Values::of));
        let tokens = StateTokens {
            read: read.slice(),
            decay: decay.slice(),
            key: key.slice(),
            value: value.slice(),
            moved: moved.as_ref().map(|moved| moved.each_ref().map(Values::slice)),
        };
        let mut y = recycle::vector(shape[0] * shape[1]);
        sli_kernels::state_rule(rule, &tokens, offsets, &mut y);
        tensor(y, shape)
    }

    fn wkv(
        decay: &Tensor<Self, 1>,
        bonus: &Tensor<Self, 1>,
        key: Tensor<Self, 2>,
        value: Tensor<Self, 2>,
        offsets: &[usize],
    ) -> Tensor<Self, 2> {
        let shape = value.dims();
        let (decay, bonus) = (Values::of(decay.clone()), Values::of(bonus.clone()));
        let (key, value) = (Values::of(key), Values::of(value));
        let mut y = recycle::vector(shape[0] * shape[1]);
        sli_kernels::wkv(decay.slice(), bonus.slice(), key.slice(), value.slice(), offsets, &mut y);
        tensor(y, shape)
    }

    fn delta_rule(rule: &DeltaRule, inputs: DeltaInputs<Self>, offsets: &[usize]) -> Tensor<Self, 2> {
        let shape = inputs.value.dims();
        let (query, key, value) =
            (Values::of(inputs.query), Values::of(inputs.key), Values::of(inputs.value));
        let (decay, write) = (Values::of(inputs.decay), Values::of(inputs.write));
        let mut y = recycle::vector(shape[0] * shape[1]);
        let tokens = DeltaTokens {
            query: query.slice(),
            key: key.slice(),
            value: value.slice(),
            decay: decay.slice(),
            write: write.slice(),
        };
        sli_kernels::delta_rule(rule, &tokens, offsets, &mut y);
        tensor(y, shape)
    }

    fn gather(x: &Tensor<Self, 2>, rows: &[u32]) -> Tensor<Self, 2> {
        let width = x.dims()[1];
        let mut out = recycle::vector(rows.len() * width);
        sli_kernels::gather_rows(Values::of(x.clone()).slice(), width, rows, &mut out);
        tensor(out, [rows.len(), width])
    }

    fn scatter_add(sum: Tensor<Self, 2>, x: Tensor<Self, 2>, rows: &[u32], scale: &[f32]) -> Tensor<Self, 2> {
        let shape = sum.dims();
        let mut values = owned(sum);
        sli_kernels::scatter_add_rows(Values::of(x).slice(), shape[1], rows, scale, &mut values);
        tensor(values, shape)
    }

    fn recycle(values: Vec<f32>) {
        recycle::recycle(values);
    }

    fn from_host(values: Vec<f32>, width: usize, _: &Device<Self>) -> Tensor<Self, 2> {
        let rows = values.len() / width;
        tensor(values, [rows, width])
    }
}
