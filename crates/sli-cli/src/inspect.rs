//! `inspect`: what a model is, without reading its weights.

use serde_json::json;
use sli_core::{ByteSize, Result};
use sli_integrator::UniversalSliIntegrator;

use crate::arguments::InspectCommand;
use crate::inspect_layer::Layer;
use crate::run::hub_options;
use crate::terminal::print_json;

/// Runs the command.
pub(crate) fn inspect(command: &InspectCommand) -> Result<()> {
    let sli = match UniversalSliIntegrator::builder(&command.model).hub(hub_options(&command.hub)).build() {
        Ok(sli) => sli,
        // For a script, a model that is not supported is an answer.
        Err(error) if command.json => {
            return print_json(
                &json!({"model": command.model, "supported": false, "why_not": error.to_string()}),
            );
        }
        Err(error) => return Err(error),
    };
    let layer = command.layer.map(|index| Layer::of(&sli, index)).transpose()?;
    if command.json {
        return print_json(&json!({
            "supported": true,
            "summary": sli.model_summary(),
            "unread_config_keys": sli.unread_config_keys(),
            "layer": layer.as_ref().map(|layer| layer.spec),
            "weights": layer.as_ref().map(|layer| &layer.weights),
            "linear_inputs": sli.spec().linear_inputs,
            "head": sli.spec().head,
        }));
    }
    if let Some(layer) = layer {
        print!("{layer}");
        return Ok(());
    }
    let summary = sli.model_summary();
    let line = |name: &str, value: String| println!("{name:<20} {value}");
    line("model", summary.model.clone());
    line("supported", "yes".into());
    line("architecture", format!("{} (family {})", summary.architecture, summary.family));
    line("layers", summary.num_layers.to_string());
    line("hidden size", summary.hidden_size.to_string());
    line("vocabulary", summary.vocab_size.to_string());
    line(
        "longest sample",
        summary.max_length.map_or("no limit of its own".into(), |n| format!("{n} tokens")),
    );
    line("parameters", summary.parameters.to_string());
    line("weights", format!("{} in {}", ByteSize(summary.weight_bytes), summary.weight_dtype));
    if let Some(moe) = &summary.moe {
        line(
            "experts",
            format!(
                "{} per layer, {} per token, in {} layers",
                moe.num_experts, moe.experts_per_token, moe.num_moe_layers
            ),
        );
        let bytes = moe.parameters_per_expert * summary.weight_dtype.bits() / 8;
        line("one expert", format!("{} parameters, {}", moe.parameters_per_expert, ByteSize(bytes)));
        line("experts in use", format!("{} parameters for one token", moe.active_expert_parameters));
    }
    if !sli.unread_config_keys().is_empty() {
        line("not understood", format!("{} (in config.json)", sli.unread_config_keys().join(", ")));
    }
    Ok(())
}
