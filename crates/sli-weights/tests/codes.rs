//! Matrices that are stored as codes, or become codes when they are loaded.

mod common;

use common::{checkpoint, f32s, map, mlp, raw, spec, tensors};
use safetensors::tensor::Dtype as FileDtype;
use sli_core::{
    Ffn, HostTensor, LoadOp, Place, Result, SliError, TensorRole, WeightError, WeightFormat, WeightMap,
};
use sli_weights::Layout;

const LAYER: Place = Place::Layer { stack: 0, layer: 0 };
const CODES: [u8; 4] = [0b10_01_00_10, 0b00_01_10_01, 0b01_01_01_01, 0b10_10_00_00];

/// A model of one layer whose queries' weights come from these tensors after this step.
fn layout(queries: &[common::Stored], step: LoadOp) -> Result<Layout> {
    let (_directory, checkpoint) = checkpoint(&with_queries(queries));
    let mut map: WeightMap = map();
    map.stacks[0].then(TensorRole::AttnQ.weight(), step);
    Layout::new(&checkpoint, &spec(1, &Ffn::GatedMlp(mlp())), &map)
}

/// The tensors of a model of one layer, its queries' weights among them.
fn with_queries(queries: &[common::Stored]) -> Vec<common::Stored> {
    let mut tensors = tensors("", 1);
    tensors.retain(|tensor| tensor.name != "0.q.weight");
    tensors.extend_from_slice(queries);
    tensors
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

/// Codes of the floats 1, 2 and -1.5 in e4m3.
const E4M3: [u8; 3] = [0x38, 0x40, 0xbc];

#[test]
fn scales_may_be_powers_of_two_under_a_name_of_their_own() {
    let codes: Vec<_> = (0..16).map(|i| E4M3[i % 3]).collect();
    // A quarter of a matrix shares a scale: 1, 2, 8 and a half.
    let scales = raw("0.q.scale", FileDtype::F8_E8M0, &[2, 2], vec![127, 128, 130, 126]);
    let queries = [raw("0.q.weight", FileDtype::F8_E4M3, &[4, 4], codes), scales];
    let loaded = load(&queries, Some([2, 2])).unwrap();
    let value = |i: usize| [1.0, 2.0, -1.5][i % 3] * [[1.0, 2.0], [8.0, 0.5]][i / 8][i % 4 / 2];
    assert_eq!(*loaded.to_f32(), (0..16).map(value).collect::<Vec<f32>>());
}

#[test]
fn a_byte_may_hold_two_floats_of_four_bits() {
    let codes = [0x71, 0x0a, 0x21, 0x43, 0x65, 0x87, 0xcb, 0xfe];
    let scales = raw("0.q.scale", FileDtype::F8_E8M0, &[4, 1], vec![127, 128, 126, 127]);
    let queries = [raw("0.q.weight", FileDtype::I8, &[4, 2], codes.to_vec()), scales.clone()];
    let loaded = load(&queries, None).unwrap();
    assert_eq!(loaded.matrix_shape(), [4, 4]);
    let values = [0.5, 6.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 1.5, 2.0, 3.0, -0.0, -1.5, -2.0, -4.0, -6.0];
    assert_eq!(*loaded.to_f32(), values);
    // Integers are no floats.
    let [codes, _] = queries;
    assert!(matches!(load(&[codes], None), Err(SliError::WeightLoading(WeightError::Dtype { .. }))));
}

/// The queries' weights of a model of one layer, stored like this.
fn load(queries: &[common::Stored], fp8_block: Option<[usize; 2]>) -> Result<HostTensor> {
    let (_directory, checkpoint) = checkpoint(&with_queries(queries));
    let layout =
        Layout::new(&checkpoint, &spec(1, &Ffn::GatedMlp(mlp())), &WeightMap { fp8_block, ..map() })?;
    layout.load_tensor(LAYER, TensorRole::AttnQ.weight())
}
