//! Pieces of specs and weight maps that mixtures of experts share.

use sli_core::{
    ExpertGroups, ExpertSpec, Ffn, LoadOp, MlpSpec, ModelSpec, MoeSpec, Result, RouterSpec, Scoring,
    SharedExpertSpec, StackMap, TensorRole, WeightMap,
};

use crate::blocks::layers;
use crate::config::HfConfig;
use crate::maps::modules;

/// Puts experts in place of the gated MLPs of the layers that `sparse` names. `experts` makes them of the MLP that was
/// there.
pub(crate) fn mix(
    spec: &mut ModelSpec,
    sparse: impl Fn(usize) -> bool,
    experts: impl Fn(MlpSpec) -> MoeSpec,
) {
    for (layer, block) in layers(spec) {
        if let (true, Some(Ffn::GatedMlp(mlp))) = (sparse(layer), &block.ffn) {
            block.ffn = Some(Ffn::Moe(experts(*mlp)));
        }
    }
}

/// The network of this width that every token goes through besides, otherwise like `mlp`; none where it has no width.
pub(crate) fn shared_network(mlp: MlpSpec, intermediate_size: usize) -> Option<SharedExpertSpec> {
    let mlp = MlpSpec { intermediate_size, ..mlp };
    (intermediate_size > 0).then_some(SharedExpertSpec { mlp, gated: false, scale: 1.0 })
}

/// Gated experts of this width without shared ones, otherwise like `mlp`.
pub(crate) fn gated_experts(
    num_experts: usize,
    router: RouterSpec,
    mlp: MlpSpec,
    intermediate_size: usize,
) -> MoeSpec {
    let expert = ExpertSpec::Gated(MlpSpec { intermediate_size, ..mlp });
    MoeSpec { num_experts, router, expert, shared: None, bias: false, latent: None }
}

/// Experts of the dense network's width in every layer, chosen by a softmax over all (OLMoE and its relatives).
pub(crate) fn softmax_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let num_experts = config.usize(config.first_of(&["num_experts", "num_local_experts"]))?;
    let normalize = config.bool_or("norm_topk_prob", false)?;
    let router = RouterSpec::softmax(config.usize("num_experts_per_tok")?, normalize);
    mix(spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(())
}

/// The experts of the first layer that has some.
pub(crate) fn experts_of(spec: &ModelSpec) -> Option<&MoeSpec> {
    spec.stacks.iter().flat_map(|stack| &stack.layers).find_map(|block| match &block.ffn {
        Some(Ffn::Moe(moe)) => Some(moe),
        _ => None,
    })
}

/// Experts as DeepSeek's configs describe them, in all layers but the first `first_k_dense_replace`.
pub(crate) fn deepseek_experts(spec: &mut ModelSpec, config: &HfConfig, router: RouterSpec) -> Result<()> {
    // How a loss was computed, and how experts were spread over devices.
    config.ignore(&["aux_loss_alpha", "seq_aux", "ep_size"]);
    let num_experts = config.usize(config.first_of(&["n_routed_experts", "num_experts"]))?;
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let num_shared = config.count_or("n_shared_experts", 0)?;
    let dense = config.count_or("first_k_dense_replace", 0)?;
    let every = config.usize_or("moe_layer_freq", 1)?;
    let types = config.strs("mlp_layer_types")?;
    let is_sparse = |layer: usize| match &types {
        Some(types) => types.get(layer).is_some_and(|kind| kind == "sparse"),
        None => layer >= dense && layer.is_multiple_of(every),
    };
    mix(spec, is_sparse, |mlp| {
        let mlp = MlpSpec { bias: false, ..mlp };
        let shared = MlpSpec { intermediate_size: num_shared * intermediate_size, ..mlp };
        MoeSpec {
            shared: (num_shared > 0).then_some(SharedExpertSpec { mlp: shared, gated: false, scale: 1.0 }),
            ..gated_experts(num_experts, router.clone(), mlp, intermediate_size)
        }
    });
    Ok(())
}

/// DeepSeek-V3's router: sigmoids, a correction for the choice, perhaps groups judged by their two best experts.
pub(crate) fn sigmoid_router(config: &HfConfig) -> Result<RouterSpec> {
    let scoring = config.str_or("scoring_func", "sigmoid")?;
    if scoring != "sigmoid" {
        return Err(config.invalid("scoring_func", "sigmoid"));
    }
    let method = config.str_or("topk_method", "noaux_tc")?;
    if method != "noaux_tc" {
        return Err(config.invalid("topk_method", "noaux_tc"));
    }
    Ok(RouterSpec {
        scoring: Scoring::Sigmoid,
        correction: true,
        groups: expert_groups(config, 2)?,
        normalize: config.bool_or("norm_topk_prob", true)?.then_some(1e-20),
        scale: config.f64_or("routed_scaling_factor", 1.0)?,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    })
}

/// The groups of experts of which some are chosen first; `None` where there is one, or all are.
pub(crate) fn expert_groups(config: &HfConfig, best_of: usize) -> Result<Option<ExpertGroups>> {
    let (count, chosen) = (config.usize_or("n_group", 1)?, config.usize_or("topk_group", 1)?);
    Ok((count > 1 && chosen != count).then_some(ExpertGroups { count, chosen, best_of }))
}

/// Experts as modules of their own: a router and `experts.{expert}.NAME` under `base`, named as gate, up and down.
pub(crate) fn per_expert(map: &mut StackMap, base: &str, router: &str, [gate, up, down]: [&str; 3]) {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp, Router};
    map.module(Router, &format!("{base}{router}"));
    for (role, name) in [(ExpertGate(0), gate), (ExpertUp(0), up), (ExpertDown(0), down)] {
        map.module(role, &format!("{base}experts.{{expert}}.{name}"));
    }
}

/// A shared expert with Llama's names for its projections.
pub(crate) fn shared_expert(map: &mut StackMap, base: &str) {
    use TensorRole::{SharedDown, SharedGate, SharedUp};
    modules(map, base, &[(SharedGate, "gate_proj"), (SharedUp, "up_proj"), (SharedDown, "down_proj")]);
}

/// How a layer's experts are stored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fusion {
    /// Gate and up [experts, hidden, 2 inner], down [experts, inner, hidden].
    Columns,
    /// The same, with the columns of gate and up taking turns.
    ColumnsTakingTurns,
    /// Gate and up [experts, 2 inner, hidden], down [experts, hidden, inner].
    Rows,
    /// Gate and up [experts, 2 inner, hidden] with rows taking turns, down [experts, hidden, inner].
    RowsTakingTurns,
}

/// All experts of a layer in two tensors: gate with up, and down.
pub(crate) fn fused_experts(map: &mut StackMap, moe: &MoeSpec, fusion: Fusion, gate_up: &str, down: &str) {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
    let (select, inner) = (LoadOp::SelectExpert { count: moe.num_experts }, moe.expert.intermediate_size());
    let by_column = matches!(fusion, Fusion::Columns | Fusion::ColumnsTakingTurns);
    let turned = by_column.then_some(LoadOp::Transpose);
    for (role, second) in [(ExpertGate(0), 0), (ExpertUp(0), 1)] {
        let rows = match fusion {
            Fusion::ColumnsTakingTurns | Fusion::RowsTakingTurns => {
                LoadOp::TakeRows { groups: inner, block: 2, start: second }
            }
            Fusion::Columns | Fusion::Rows => {
                LoadOp::TakeRows { groups: 1, block: 2 * inner, start: second * inner }
            }
        };
        let ops: Vec<_> = [Some(select), turned, Some(rows)].into_iter().flatten().collect();
        map.tensor(role.weight(), &[gate_up], &ops);
    }
    let ops: Vec<_> = [Some(select), turned].into_iter().flatten().collect();
    map.tensor(ExpertDown(0).weight(), &[down], &ops);
}

/// The names of DeepSeek's mixtures, which many others use.
pub(crate) fn deepseek_names(map: &mut WeightMap) {
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    let stack = &mut map.stacks[0];
    per_expert(stack, BASE, "gate", ["gate_proj", "up_proj", "down_proj"]);
    let correction = format!("{BASE}gate.e_score_correction_bias");
    stack.tensor(TensorRole::RouterCorrection.weight(), &[&correction], &[]);
    shared_expert(stack, &format!("{BASE}shared_experts."));
}

/// Ignores the layers after the last one, which predict further tokens in training.
pub(crate) fn ignore_further_predictions(
    map: &mut WeightMap,
    config: &HfConfig,
    spec: &ModelSpec,
) -> Result<()> {
    let layers = spec.stacks[0].layers.len();
    const KEY: &str = "num_nextn_predict_layers";
    let more = config.count_or(KEY, 0)?;
    if more > layers {
        return Err(config.invalid(KEY, "no more than there are layers"));
    }
    map.ignored.extend((layers..layers + more).map(|layer| format!("{{prefix}}layers.{layer}.*")));
    Ok(())
}
