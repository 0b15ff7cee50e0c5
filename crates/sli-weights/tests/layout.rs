//! From a spec and a map to loaded tensors: names, shapes, steps, and what goes wrong.

mod common;

use common::{checkpoint, counted, f32s, map, mlp, raw, spec, tensors, write};
use half::{bf16, f16};
use safetensors::Dtype as FileDtype;
use sli_core::{
    Dtype, ExpertSpec, Ffn, Group, LoadOp, MoeSpec, Place, Result, RouterSpec, SliError, TensorRole,
    WeightError, WeightMap,
};
use sli_weights::{Checkpoint, Layout, ReadRequest};
use tempfile::tempdir;

const LAYER: Place = Place::Layer { stack: 0, layer: 1 };
/// The groups of a layer without experts.
const WHOLE: &[Group] = &[Group::Dense, Group::FeedForward];
const EMBEDDING: Place = Place::Embedding { stack: 0 };

fn weight_error(result: Result<Layout>) -> WeightError {
    match result {
        Err(SliError::WeightLoading(error)) => error,
        other => panic!("expected an error about weights, got {other:?}"),
    }
}

#[test]
fn a_plain_model_loads_as_it_is_stored() {
    for prefix in ["model.", ""] {
        let (_directory, checkpoint) = checkpoint(&tensors(prefix, 2));
        let layout = Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map()).unwrap();
        assert_eq!(layout.places().len(), 5);
        assert_eq!(layout.groups(LAYER).collect::<Vec<_>>(), WHOLE);
        let loaded = layout.load_groups(LAYER, WHOLE).unwrap();
        let gate = loaded.require(TensorRole::MlpGate.weight()).unwrap();
        assert_eq!(gate.shape(), [3, 4]);
        assert_eq!(gate.elements::<f32>()[..2], [1700.0, 1701.0]);
        assert_eq!(loaded.iter().count(), 9);
        assert!(loaded.require(TensorRole::Router.weight()).is_err());
        // The tied head is the embedding, and counts once.
        let head = layout.load_tensor(Place::Head, TensorRole::LmHead.weight()).unwrap();
        assert_eq!(head.elements::<f32>()[..3], [0.0, 1.0, 2.0]);
        assert_eq!(layout.total_bytes(), checkpoint.bytes());
        assert_eq!(layout.group_bytes(LAYER, Group::Dense), 4 * (4 + 4 * 16));
        assert_eq!(layout.group_bytes(LAYER, Group::FeedForward), 4 * (4 + 3 * 12));
        assert_eq!(layout.pinned_bytes(), 0);
    }
}

#[test]
fn renamed_endings_are_understood() {
    let mut tensors = tensors("", 2);
    for tensor in &mut tensors {
        tensor.name = tensor.name.replace("norm1.weight", "norm1.gamma");
    }
    let (_directory, checkpoint) = checkpoint(&tensors);
    let map = WeightMap { renamed_endings: vec![(".gamma", ".weight")], ..map() };
    let layout = Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map).unwrap();
    assert_eq!(layout.slot(LAYER, TensorRole::MixerNorm.weight()).unwrap().stored.name, "1.norm1.gamma");
}

#[test]
fn tensors_that_are_stored_apart_are_joined() {
    // What is wanted begins in the first tensor and ends in the third.
    let mut tensors = tensors("", 2);
    tensors.retain(|tensor| tensor.name != "1.gate.weight");
    let parts = [("1.first", 2, 0.0), ("1.second", 1, 8.0), ("1.third", 3, 12.0)];
    tensors.extend(parts.map(|(name, rows, start)| counted(name, &[rows, 4], start)));
    let (_directory, checkpoint) = checkpoint(&tensors);
    let mut map = map();
    let rows = LoadOp::TakeRows { groups: 1, block: 6, start: 1 };
    let names = ["{layer}.first", "{layer}.second", "{layer}.third"];
    map.stacks[0].joined(TensorRole::MlpGate.weight(), &names, &[rows]);
    let spec = spec(2, &Ffn::GatedMlp(mlp()));
    let error = weight_error(Layout::new(&checkpoint, &spec, &map));
    assert!(error.to_string().contains("'0.first' is missing"), "{error}");

    tensors.extend(parts.map(|(name, rows, start)| counted(&name.replace('1', "0"), &[rows, 4], start)));
    tensors.retain(|tensor| tensor.name != "0.gate.weight");
    let (_directory, checkpoint) = common::checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec, &map).unwrap();
    let slot = layout.slot(LAYER, TensorRole::MlpGate.weight()).unwrap();
    assert_eq!(slot.stored_names().collect::<Vec<_>>(), ["1.first", "1.second", "1.third"]);
    let loaded = layout.load_groups(LAYER, WHOLE).unwrap();
    let gate = loaded.require(TensorRole::MlpGate.weight()).unwrap();
    assert_eq!(gate.elements::<f32>(), (4..16).map(|value| value as f32).collect::<Vec<_>>());

    tensors.retain(|tensor| tensor.name != "1.second");
    tensors.push(counted("1.second", &[1, 3], 0.0));
    let (_directory, checkpoint) = common::checkpoint(&tensors);
    let error = weight_error(Layout::new(&checkpoint, &spec, &map));
    assert!(error.to_string().contains("'1.second' has shape [1, 3]"), "{error}");
}

#[test]
fn tensors_that_were_cut_for_several_machines_are_whole_again() {
    let directory = tempdir().unwrap();
    let mut common = tensors("", 1);
    common.retain(|tensor| !["0.gate.weight", "0.down.weight"].contains(&&*tensor.name));
    write(&directory.path().join("model-00000-TP-common.safetensors"), &common);
    // One row of the gate each, and one column of the last matrix.
    let part = |part: usize| {
        let column: Vec<_> = (0..4).map(|row| (row * 3 + part) as f32).collect();
        let tensors =
            [counted("0.gate.weight", &[1, 4], 4.0 * part as f32), f32s("0.down.weight", &[4, 1], &column)];
        write(&directory.path().join(format!("model-00001-TP-{part:03}.safetensors")), &tensors);
    };
    (0..3).for_each(part);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let layout = Layout::new(&checkpoint, &spec(1, &Ffn::GatedMlp(mlp())), &map()).unwrap();
    assert_eq!(layout.total_bytes(), checkpoint.bytes());
    for role in [TensorRole::MlpGate, TensorRole::MlpDown] {
        let loaded = layout.load_tensor(Place::Layer { stack: 0, layer: 0 }, role.weight()).unwrap();
        assert_eq!(
            loaded.elements::<f32>(),
            (0..12).map(|value| value as f32).collect::<Vec<_>>(),
            "{role:?}"
        );
    }

    std::fs::remove_file(directory.path().join("model-00001-TP-001.safetensors")).unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("part 1 of tensor '0.down.weight' is in no file"), "{error}");
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_read() {
    let spec = spec(2, &Ffn::GatedMlp(mlp()));
    let layout = |tensors: &[common::Stored], map: &WeightMap| {
        let (_directory, checkpoint) = checkpoint(tensors);
        Layout::new(&checkpoint, &spec, map)
    };

    let mut missing = tensors("model.", 2);
    missing.retain(|tensor| tensor.name != "model.1.q.weight");
    let error = weight_error(layout(&missing, &map()));
    assert_eq!(error.to_string(), "tensor 'model.1.q.weight' is missing (layer 1, AttnQ weight)");

    let mut surplus = tensors("", 2);
    surplus.push(counted("1.q.scale", &[1], 0.0));
    surplus.push(counted("0.inv_freq", &[1], 0.0));
    let known = WeightMap { ignored: vec!["{layer}.inv_freq".into()], ..map() };
    let WeightError::Surplus { names } = weight_error(layout(&surplus, &known)) else { panic!() };
    assert_eq!(names, ["1.q.scale"]);

    let mut other_shape = tensors("", 2);
    other_shape.retain(|tensor| tensor.name != "1.up.weight");
    other_shape.push(counted("1.up.weight", &[4, 3], 0.0));
    let error = weight_error(layout(&other_shape, &map()));
    assert_eq!(error.to_string(), "tensor '1.up.weight' has shape [4, 3], expected [3, 4]");

    for dtype in [FileDtype::I32, FileDtype::U32] {
        let mut integers = tensors("", 2);
        integers.retain(|tensor| tensor.name != "1.norm1.weight");
        integers.push(raw("1.norm1.weight", dtype, &[4], vec![0; 16]));
        assert!(matches!(weight_error(layout(&integers, &map())), WeightError::Dtype { .. }));
    }

    let mut unmapped = map();
    unmapped.stacks[0] = Default::default();
    assert!(matches!(weight_error(layout(&tensors("", 2), &unmapped)), WeightError::Missing { .. }));

    // A step that the shapes allow and that still makes no sense.
    let mut senseless = map();
    let rope = LoadOp::UnpermuteRope { head_dim: 3, rotary_dim: 2 };
    senseless.stacks[0].module_with(TensorRole::AttnQ, "{prefix}{layer}.q", &[rope]);
    let error = layout(&tensors("", 2), &senseless).unwrap_err();
    assert!(error.to_string().contains("2 rotated rows in heads of 3, of 4 rows"), "{error}");
}

#[test]
fn a_fused_matrix_is_taken_apart_and_read_once() {
    let mut tensors = tensors("", 2);
    tensors.retain(|t| !["q", "k", "v"].iter().any(|part| t.name.ends_with(&format!(".{part}.weight"))));
    tensors.extend((0..2).map(|layer| counted(&format!("{layer}.qkv.weight"), &[4, 12], 0.0)));
    let mut map = map();
    for (i, role) in [TensorRole::AttnQ, TensorRole::AttnK, TensorRole::AttnV].into_iter().enumerate() {
        let take = LoadOp::TakeRows { groups: 1, block: 12, start: 4 * i };
        map.stacks[0].module_with(role, "{prefix}{layer}.qkv", &[LoadOp::Transpose, take]);
    }
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map).unwrap();
    let loaded = layout.load_groups(LAYER, WHOLE).unwrap();
    let k = loaded.require(TensorRole::AttnK.weight()).unwrap();
    assert_eq!(k.elements::<f32>()[..5], [4.0, 16.0, 28.0, 40.0, 5.0]);
    assert_eq!(layout.group_bytes(LAYER, Group::Dense), 4 * (4 + 4 * 16));
    assert_eq!(layout.group_bytes(LAYER, Group::FeedForward), 4 * (4 + 3 * 12));
    assert_eq!(layout.total_bytes(), checkpoint.bytes());
}

#[test]
fn one_expert_of_a_fused_tensor_is_read_alone() {
    let (router, expert) = (RouterSpec::softmax(1, true), ExpertSpec::Gated(mlp()));
    let spec = spec(
        2,
        &Ffn::Moe(MoeSpec { num_experts: 3, router, expert, shared: None, bias: false, latent: None }),
    );
    let mut tensors = tensors("", 2);
    tensors.retain(|t| !["gate", "up", "down"].iter().any(|part| t.name.contains(part)));
    for layer in 0..2 {
        tensors.push(counted(&format!("{layer}.gate_up.weight"), &[3, 6, 4], 0.0));
        tensors.push(counted(&format!("{layer}.down.weight"), &[3, 3, 4], 0.0));
        tensors.push(counted(&format!("{layer}.router.weight"), &[3, 4], 0.0));
    }
    let mut map = map();
    let select = LoadOp::SelectExpert { count: 3 };
    let rows = |start| LoadOp::TakeRows { groups: 1, block: 6, start };
    map.stacks[0]
        .module(TensorRole::Router, "{prefix}{layer}.router")
        .module_with(TensorRole::ExpertGate(0), "{prefix}{layer}.gate_up", &[select, rows(0)])
        .module_with(TensorRole::ExpertUp(0), "{prefix}{layer}.gate_up", &[select, rows(3)])
        .module_with(TensorRole::ExpertDown(0), "{prefix}{layer}.down", &[select, LoadOp::Transpose]);
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec, &map).unwrap();
    assert_eq!(layout.groups(LAYER).count(), 4);
    assert_eq!(layout.group_bytes(LAYER, Group::Expert(2)), 4 * (24 + 12));
    assert_eq!(layout.total_bytes(), checkpoint.bytes());
    let expert = layout.load_groups(LAYER, &[Group::Expert(2)]).unwrap();
    let up = expert.require(TensorRole::ExpertUp(2).weight()).unwrap();
    assert_eq!((up.shape(), up.elements::<f32>()[0]), (&[3, 4][..], 60.0));
    let down = expert.require(TensorRole::ExpertDown(2).weight()).unwrap();
    assert_eq!((down.shape(), &down.elements::<f32>()[..4]), (&[4, 3][..], &[24.0, 28.0, 32.0, 25.0][..]));
}

#[test]
fn dtypes_stay_but_for_f64_and_offset_norms() {
    let spec = spec(1, &Ffn::GatedMlp(mlp()));
    let mut tensors = tensors("", 1);
    tensors.retain(|t| {
        !["0.q.weight", "0.k.weight", "0.norm1.weight", "0.norm2.weight"].contains(&t.name.as_str())
    });
    let bf16s = |n: usize| (0..n).flat_map(|i| bf16::from_f32(i as f32).to_le_bytes()).collect::<Vec<_>>();
    tensors.push(raw("0.q.weight", FileDtype::BF16, &[4, 4], bf16s(16)));
    let doubles = (0..16).flat_map(|i| (f64::from(i) + 0.1).to_le_bytes()).collect();
    tensors.push(raw("0.k.weight", FileDtype::F64, &[4, 4], doubles));
    // 1 + 2^-10 is no bf16, and must not be rounded to one.
    let small = bf16::from_f32(2f32.powi(-10));
    tensors.push(raw("0.norm1.weight", FileDtype::BF16, &[4], [small; 4].map(bf16::to_le_bytes).concat()));
    let halves = [f16::from_f32(0.5); 4].map(f16::to_le_bytes).concat();
    tensors.push(raw("0.norm2.weight", FileDtype::F16, &[4], halves));
    let mut map = map();
    map.stacks[0].module_with(TensorRole::MixerNorm, "{prefix}{layer}.norm1", &[LoadOp::AddOne]);
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec, &map).unwrap();
    let loaded = layout.load_groups(Place::Layer { stack: 0, layer: 0 }, WHOLE).unwrap();
    let tensor = |role: TensorRole| loaded.require(role.weight()).unwrap();
    assert_eq!(tensor(TensorRole::AttnQ).dtype(), Dtype::Bf16);
    assert_eq!(tensor(TensorRole::AttnQ).to_f32()[15], 15.0);
    assert_eq!(tensor(TensorRole::AttnK).dtype(), Dtype::F32);
    assert_eq!(tensor(TensorRole::AttnK).elements::<f32>()[3], 3.1);
    assert_eq!(*tensor(TensorRole::MixerNorm).elements::<f32>(), [1.0 + 2f32.powi(-10); 4]);
    assert_eq!(tensor(TensorRole::FfnNorm).dtype(), Dtype::F16);
}

#[test]
fn shared_tensors_are_read_once_and_kept() {
    let mut tensors = tensors("", 2);
    tensors.retain(|t| !t.name.ends_with("norm1.weight"));
    tensors.push(counted("shared.weight", &[4], 7.0));
    let mut map = map();
    map.stacks[0].pinned(TensorRole::MixerNorm.weight(), "shared.weight");
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map).unwrap();
    assert_eq!(layout.pinned_bytes(), 16);
    assert_eq!(layout.total_bytes(), checkpoint.bytes());
    let load = |layer| layout.load_groups(Place::Layer { stack: 0, layer }, WHOLE).unwrap();
    let (first, second) = (load(0), load(1));
    let address =
        |t: &sli_weights::GroupTensors| t.require(TensorRole::MixerNorm.weight()).unwrap().bytes().as_ptr();
    assert_eq!(address(&first), address(&second));
    assert!(second.bytes_read() < first.bytes_read());
}

#[test]
fn rows_are_gathered_in_any_order() {
    let (_directory, checkpoint) = checkpoint(&tensors("", 2));
    let layout = Layout::new(&checkpoint, &spec(2, &Ffn::GatedMlp(mlp())), &map()).unwrap();
    let table = layout.slot(EMBEDDING, TensorRole::TokenEmbedding.weight()).unwrap();
    let rows = layout.read_rows(table, &[5, 0, 0, 3, 5]).unwrap();
    assert_eq!(rows.shape(), [5, 4]);
    let firsts: Vec<_> = rows.elements::<f32>().iter().step_by(4).copied().collect();
    assert_eq!(firsts, [20.0, 0.0, 0.0, 12.0, 20.0]);
    assert!(layout.read_rows(table, &[]).unwrap().is_empty());
    let kept = layout.load_table(table).unwrap();
    let same = kept.rows(&[5, 0, 0, 3, 5]).unwrap();
    assert_eq!((same.shape(), same.bytes()), (rows.shape(), rows.bytes()), "the same from memory");
    assert!(kept.rows(&[1, 6]).is_err());
    let error = layout.read_rows(table, &[1, 6]).unwrap_err();
    assert!(error.to_string().contains("row 6 of tensor 'embed.weight', which has 6 rows"), "{error}");

    let tile = layout.load_row_range(table, 2..4).unwrap();
    assert_eq!((tile.shape(), &tile.elements::<f32>()[..2]), (&[2, 4][..], &[8.0, 9.0][..]));
    assert!(layout.load_row_range(table, 5..7).is_err());
    assert!(layout.load_row_range(table, 3..3).is_err());
}

#[test]
fn rows_of_a_table_that_is_stored_the_other_way_round_are_gathered_too() {
    let mut tensors = tensors("", 1);
    tensors[0] = counted("embed.weight", &[4, 6], 0.0);
    let mut map = map();
    map.stacks[0].module_with(TensorRole::TokenEmbedding, "{prefix}embed", &[LoadOp::Transpose]);
    map.head.tensor(TensorRole::LmHead.weight(), &["{prefix}embed.weight"], &[LoadOp::Transpose]);
    let (_directory, checkpoint) = checkpoint(&tensors);
    let layout = Layout::new(&checkpoint, &spec(1, &Ffn::GatedMlp(mlp())), &map).unwrap();
    let table = layout.slot(EMBEDDING, TensorRole::TokenEmbedding.weight()).unwrap();
    let rows = layout.read_rows(table, &[5, 1]).unwrap();
    assert_eq!(*rows.elements::<f32>(), [5.0, 11.0, 17.0, 23.0, 1.0, 7.0, 13.0, 19.0]);
    let tile = layout.load_row_range(table, 4..6).unwrap();
    assert_eq!(tile.elements::<f32>()[..5], [4.0, 10.0, 16.0, 22.0, 5.0]);
    let request = ReadRequest::Rows(EMBEDDING, TensorRole::TokenEmbedding.weight(), 4..6);
    assert!(layout.memory_bytes(&request).unwrap() > 0);
}
