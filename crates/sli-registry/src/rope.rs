//! Rotary position embeddings, in both spellings of a config.
//!
//! Released configs say `"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2}`; transformers 5 writes
//! `"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 2}`.

use sli_core::{Result, RopeScaling, RopeSpec};

use crate::config::HfConfig;

/// The base of the frequencies where a config names none.
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding of heads of `head_dim` that `config` describes.
pub(crate) fn rope(config: &HfConfig, head_dim: usize) -> Result<RopeSpec> {
    let top_theta = config.optional_f64("rope_theta")?;
    let top_share = config.optional_f64("partial_rotary_factor")?;
    let section = match config.section("rope_scaling")? {
        Some(section) => Some(section),
        None => config.section("rope_parameters")?,
    };
    let Some(section) = section else {
        let rotary_dim = rotary_dim(config, head_dim, top_share)?;
        return Ok(RopeSpec {
            theta: top_theta.unwrap_or(DEFAULT_THETA),
            rotary_dim,
            scaling: RopeScaling::None,
        });
    };
    // How the frequencies are shared out over time, height and width, which are all the position in a text.
    section.ignore(&["mrope_section", "mrope_interleaved", "interleaved"]);
    let theta = section.optional_f64("rope_theta")?.or(top_theta).unwrap_or(DEFAULT_THETA);
    let share = section.optional_f64("partial_rotary_factor")?.or(top_share);
    Ok(RopeSpec {
        theta,
        rotary_dim: rotary_dim(config, head_dim, share)?,
        scaling: scaling(config, &section)?,
    })
}

/// The first `share` of a head is rotated; all of it where no share is given.
fn rotary_dim(config: &HfConfig, head_dim: usize, share: Option<f64>) -> Result<usize> {
    match share {
        None => Ok(head_dim),
        Some(share) if 0.0 < share && share <= 1.0 => Ok((head_dim as f64 * share) as usize),
        Some(share) => {
            Err(config.error(format!("'partial_rotary_factor' is {share}, expected more than 0, at most 1")))
        }
    }
}

fn scaling(config: &HfConfig, section: &HfConfig) -> Result<RopeScaling> {
    const TYPES: &str = "one of default, linear, dynamic, llama3";
    // Files with both names mean the newer one.
    let key = section.first_of(&["rope_type", "type"]);
    section.ignore(&["type"]);
    match section.str_or(key, "default")? {
        "default" | "mrope" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: section.f64("factor")? }),
        "dynamic" => Ok(RopeScaling::Dynamic {
            factor: section.f64("factor")?,
            original_max_positions: config.usize("max_position_embeddings")?,
        }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: section.f64("factor")?,
            low_freq_factor: section.f64("low_freq_factor")?,
            high_freq_factor: section.f64("high_freq_factor")?,
            original_max_positions: original_max_positions(config, section)?,
        }),
        _ => Err(section.invalid(key, TYPES)),
    }
}

/// The context length before stretching: of the whole model, else of the section, else what the model has now.
fn original_max_positions(config: &HfConfig, section: &HfConfig) -> Result<usize> {
    const KEY: &str = "original_max_position_embeddings";
    match (config.optional_usize(KEY)?, section.optional_usize(KEY)?) {
        (Some(positions), _) | (None, Some(positions)) => Ok(positions),
        (None, None) => config.usize("max_position_embeddings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<RopeSpec> {
        rope(&HfConfig::parse(&value.to_string(), "config.json")?, 16)
    }

    #[test]
    fn both_spellings_say_the_same() {
        let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192});
        for (kind, extra) in
            [("linear", json!({"factor": 4})), ("dynamic", json!({"factor": 2})), ("llama3", llama3)]
        {
            let mut old = extra.clone();
            old["type"] = json!(kind);
            let mut new = extra;
            new["rope_type"] = json!(kind);
            new["rope_theta"] = json!(5e5);
            let old = json!({"max_position_embeddings": 64, "rope_theta": 5e5, "rope_scaling": old});
            let new = json!({"max_position_embeddings": 64, "rope_parameters": new});
            let (old, new) = (read(old).unwrap(), read(new).unwrap());
            assert_eq!(old, new);
            assert_eq!((new.theta, new.rotary_dim), (5e5, 16));
            assert_ne!(new.scaling, RopeScaling::None);
        }
    }

    #[test]
    fn a_share_of_the_head_is_rotated() {
        assert_eq!(read(json!({"partial_rotary_factor": 0.25})).unwrap().rotary_dim, 4);
        let new = json!({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_type": "default"}});
        assert_eq!(read(new).unwrap().rotary_dim, 8);
        assert!(read(json!({"partial_rotary_factor": -1})).is_err());
    }

    #[test]
    fn unknown_types_are_named() {
        let error = read(json!({"rope_scaling": {"type": "spiral", "factor": 2}})).unwrap_err().to_string();
        let expected = "'rope_scaling.type' is \"spiral\", expected one of default, linear, dynamic, llama3";
        assert!(error.ends_with(expected), "{error}");
        assert!(read(json!({"rope_scaling": {"type": "linear"}})).is_err());
    }
}
