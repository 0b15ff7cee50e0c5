//! Matrices that are stored as codes, or become codes when they are loaded.

mod common;

use common::{checkpoint, f32s, map, mlp, raw, spec, tensors};
use safetensors::tensor::Dtype as FileDtype;
use sli_core::{Ffn, LoadOp, Place, Result, SliError, TensorRole, WeightError, WeightFormat, WeightMap};
use sli_weights::Layout;

const LAYER: Place = Place::Layer { stack: 0, layer: 0 };
const CODES: [u8; 4] = [0b10_01_00_10, 0b00_01_10_01, 0b01_01_01_01, 0b10_10_00_00];

/// A model of one layer whose queries' weights come from these tensors after this step.
fn layout(queries: &[common::Stored], step: LoadOp) -> Result<Layout> {
    let mut tensors = tensors("", 1);
    tensors.retain(|tensor| tensor.name != "0.q.weight");
    let all: Vec<_> = tensors.iter().chain(queries).cloned().collect();
    let (_directory, checkpoint) = checkpoint(&all);
    let mut map: WeightMap = map();
    map.stacks[0].then(TensorRole::AttnQ.weight(), step);
    Layout::new(&checkpoint, &spec(1, &Ffn::GatedMlp(mlp())), &map)
}

fn packed(dtype: FileDtype, shape: &[usize], bytes: &[u8]) -> [common::Stored; 2] {
    [raw("0.q.weight", dtype, shape, bytes.to_vec()), f32s("0.q.weight_scale", &[1], &[4.0])]
}

#[test]
fn ternary_codes_stay_packed() {
    for (divided, scale) in [(false, 4.0), (true, 0.25)] {
        let queries = packed(FileDtype::U8, &[1, 4], &CODES);
        let layout = layout(&queries, LoadOp::TernaryCodes { divided }).unwrap();
        let slot = layout.slot(LAYER, TensorRole::AttnQ.weight()).unwrap();
        assert_eq!((slot.format(), slot.bytes(), slot.stored_weights()), (WeightFormat::Ternary, 4, 16));
        let loaded = layout.load_tensor(LAYER, TensorRole::AttnQ.weight()).unwrap();
        assert_eq!((loaded.matrix_shape(), &loaded.bytes()[..]), ([4, 4], &CODES[..]));
        let signs = [1, 0, 0, -1, -1, 1, 0, -1, 0, 0, 0, 1, 1, -1, 0, 1];
        let values: Vec<_> = signs.iter().map(|sign| *sign as f32 * scale).collect();
        assert_eq!(*loaded.to_f32(), values);
        let error = slot.rows(0..1).unwrap_err();
        assert!(error.to_string().contains("loaded as a whole"), "{error}");
    }
}

#[test]
fn floats_become_ternary_when_they_are_loaded() {
    let values: Vec<_> = (0..16).map(|i| if i % 3 == 0 { 0.25 } else { -1.0 }).collect();
    let layout = layout(&[f32s("0.q.weight", &[4, 4], &values)], LoadOp::Ternary).unwrap();
    let slot = layout.slot(LAYER, TensorRole::AttnQ.weight()).unwrap();
    assert_eq!((slot.format(), slot.bytes()), (WeightFormat::Ternary, 4));
    let loaded = layout.load_tensor(LAYER, TensorRole::AttnQ.weight()).unwrap();
    let mean = (6.0 * 0.25 + 10.0) / 16.0;
    for (found, value) in loaded.to_f32().iter().zip(values) {
        assert!((found - if value < 0.0 { -mean } else { 0.0 }).abs() < 1e-6, "{found}");
    }
}

#[test]
fn codes_that_are_none_are_refused() {
    let refused = |queries: &[common::Stored]| match layout(queries, LoadOp::TernaryCodes { divided: false })
    {
        Err(SliError::WeightLoading(error)) => error,
        other => panic!("{other:?}"),
    };
    let floats = packed(FileDtype::F32, &[4, 4], &[0; 64]);
    assert!(matches!(refused(&floats), WeightError::Dtype { .. }));
    let too_many = packed(FileDtype::U8, &[4, 4], &[0; 16]);
    assert!(matches!(refused(&too_many), WeightError::Shape { .. }));
    let [codes, _] = packed(FileDtype::U8, &[1, 4], &CODES);
    assert!(matches!(refused(&[codes]), WeightError::Dtype { .. }));
}
