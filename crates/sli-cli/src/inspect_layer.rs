//! `inspect --layer`: what a layer computes and which weights it takes, to be read beside the paper.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;
use sli_core::{BlockSpec, LinearInputs, Result, SliError};
use sli_integrator::{LayerWeight, UniversalSliIntegrator};

/// A layer of a model, resolved. Displays as a tree of the spec and a table of the weights.
pub(crate) struct Layer<'a> {
    title: String,
    pub(crate) spec: &'a BlockSpec,
    pub(crate) weights: Vec<LayerWeight>,
}

impl<'a> Layer<'a> {
    /// Layer `index`, counted over all stacks.
    pub(crate) fn of(sli: &'a UniversalSliIntegrator, index: usize) -> Result<Self> {
        let summary = sli.model_summary();
        let spec = sli.layer(index).ok_or_else(|| {
            let last = summary.num_layers.saturating_sub(1);
            SliError::Usage(format!("--layer {index}: the model has layers 0 to {last}"))
        })?;
        let all = sli.spec().stacks.iter().flat_map(|stack| &stack.layers);
        let like = all.filter(|other| *other == spec).count();
        let inputs = match sli.spec().linear_inputs {
            LinearInputs::Exact => "",
            LinearInputs::EightBits => "; inputs of linear layers are rounded to 8 bits",
        };
        let title = format!(
            "layer {index} of {} ({}); {like} of {} layers are like it{inputs}",
            summary.architecture, summary.family, summary.num_layers
        );
        Ok(Self { title, spec, weights: sli.layer_weights(index) })
    }
}

impl Display for Layer<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.title)?;
        let spec = serde_json::to_value(self.spec).map_err(|_| fmt::Error)?;
        write_tree(f, &spec, 0)?;
        writeln!(f, "\nweights")?;
        let shapes: Vec<_> = self.weights.iter().map(|weight| format!("{:?}", weight.shape)).collect();
        let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let roles = width(&mut self.weights.iter().map(|weight| weight.role.len()));
        let columns = width(&mut shapes.iter().map(String::len));
        for (weight, shape) in self.weights.iter().zip(shapes) {
            let LayerWeight { role, stored, stored_shape, steps, .. } = weight;
            write!(f, "  {role:<roles$}  {shape:<columns$}  {stored}")?;
            if !steps.is_empty() {
                write!(f, " {stored_shape:?}: {}", steps.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// An object as one line per value, nested ones indented; of a variant with fields, its name stands on the line.
fn write_tree(f: &mut Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    let Some(fields) = value.as_object() else { return Ok(()) };
    for (name, value) in fields {
        let mut line =
            |value: &dyn Display| writeln!(f, "{:indent$}{name:<20} {value}", "", indent = 2 * depth);
        match value {
            Value::Null => line(&"none")?,
            Value::String(text) => line(text)?,
            Value::Object(inner) => match inner.iter().next() {
                Some((variant, of @ Value::Object(_))) if inner.len() == 1 => {
                    line(variant)?;
                    write_tree(f, of, depth + 1)?;
                }
                _ => {
                    writeln!(f, "{:indent$}{name}", "", indent = 2 * depth)?;
                    write_tree(f, value, depth + 1)?;
                }
            },
            other => line(other)?,
        }
    }
    Ok(())
}
