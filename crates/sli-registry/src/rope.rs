//! Rotary position embeddings, in both spellings of a config.
//!
//! Released configs say `"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2}`; transformers 5 writes
//! `"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 2}`.

use serde_json::json;
use sli_core::{Result, RopeScaling, RopeSpec};

use crate::config::HfConfig;

/// The base of the frequencies where a config names none.
const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding of heads of `head_dim` that `config` describes.
pub(crate) fn rope(config: &HfConfig, head_dim: usize) -> Result<RopeSpec> {
    let section = match config.section("rope_scaling")? {
        Some(section) => Some(section),
        None => config.section("rope_parameters")?,
    };
    rope_of(config, section.as_ref(), head_dim)
}

/// The same where the layers of a type have rotations of their own: `rope_parameters.TYPE`, if there is such a section.
pub(crate) fn rope_of_type(config: &HfConfig, layer_type: &str, head_dim: usize) -> Result<Option<RopeSpec>> {
    let Some(sections) = config.section("rope_parameters")? else { return Ok(None) };
    let Some(section) = sections.section(layer_type)? else { return Ok(None) };
    rope_of(config, Some(&section), head_dim).map(Some)
}

/// The config in which the share of a head that is rotated follows from `rotary_dim`, where it counts the dimensions.
pub(crate) fn with_counted_dimensions(config: &HfConfig, head_dim: usize) -> Result<HfConfig> {
    Ok(match config.optional_usize("rotary_dim")? {
        Some(rotary_dim) => {
            config.with_defaults(json!({ "partial_rotary_factor": rotary_dim as f64 / head_dim as f64 }))
        }
        None => config.clone(),
    })
}

/// What `section` says, else the keys beside it.
fn rope_of(config: &HfConfig, section: Option<&HfConfig>, head_dim: usize) -> Result<RopeSpec> {
    let top_theta = config.optional_f64("rope_theta")?;
    let top_share = config.optional_f64("partial_rotary_factor")?;
    let Some(section) = section else {
        let rotary_dim = rotary_dim(config, head_dim, top_share)?;
        return Ok(RopeSpec {
            theta: top_theta.unwrap_or(DEFAULT_THETA),
            rotary_dim,
            scaling: RopeScaling::None,
        });
    };
    // How the frequencies are shared out over time, height and width, which are all the position in a text; whether a
    // model was trained with its scaling.
    section.ignore(&["mrope_section", "mrope_interleaved", "interleaved", "finetuned"]);
    let theta = section.optional_f64("rope_theta")?.or(top_theta).unwrap_or(DEFAULT_THETA);
    let share = section.optional_f64("partial_rotary_factor")?.or(top_share);
    let rotary_dim = rotary_dim(config, head_dim, share)?;
    if let Some(theta) = raised_theta(section, theta, rotary_dim)? {
        return Ok(RopeSpec { theta, rotary_dim, scaling: RopeScaling::None });
    }
    match scaling(config, section)? {
        // Here the share is one of frequencies, in a head that is rotated as a whole.
        RopeScaling::Proportional { factor, .. } => {
            let pairs = (share.unwrap_or(1.0) * head_dim as f64 / 2.0) as usize;
            let scaling = RopeScaling::Proportional { pairs, factor };
            Ok(RopeSpec { theta, rotary_dim: head_dim, scaling })
        }
        scaling => Ok(RopeSpec { theta, rotary_dim, scaling }),
    }
}

/// The base raised once and for all, where "dynamic" scaling has a fixed `alpha` (Hunyuan).
fn raised_theta(section: &HfConfig, theta: f64, rotary_dim: usize) -> Result<Option<f64>> {
    let key = section.first_of(&["rope_type", "type"]);
    let alpha = section.optional_f64("alpha")?.filter(|alpha| *alpha != 0.0);
    match (section.str_or(key, "default")?, alpha) {
        ("dynamic", Some(_)) if rotary_dim <= 2 => {
            Err(section.error("dynamic rotary scaling needs more than 2 rotated dimensions"))
        }
        ("dynamic", Some(alpha)) => {
            section.ignore(&["factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "type"]);
            let dim = rotary_dim as f64;
            Ok(Some(theta * alpha.powf(dim / (dim - 2.0))))
        }
        _ => Ok(None),
    }
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
    const TYPES: &str = "one of default, linear, dynamic, llama3, yarn, longrope, proportional";
    // Files with both names mean the newer one.
    let key = section.first_of(&["rope_type", "type"]);
    section.ignore(&["type"]);
    match section.str_or(key, "default")? {
        "default" | "mrope" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: section.f64("factor")? }),
        "proportional" => Ok(RopeScaling::Proportional { pairs: 0, factor: section.f64_or("factor", 1.0)? }),
        "dynamic" => {
            // What the model takes now is the original length, whatever is said here.
            section.ignore(&["original_max_position_embeddings"]);
            Ok(RopeScaling::Dynamic {
                factor: section.f64("factor")?,
                original_max_positions: config.usize("max_position_embeddings")?,
            })
        }
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: section.f64("factor")?,
            low_freq_factor: section.f64("low_freq_factor")?,
            high_freq_factor: section.f64("high_freq_factor")?,
            original_max_positions: original_max_positions(config, section)?,
        }),
        "yarn" => yarn(config, section),
        "longrope" | "su" => long_rope(config, section),
        _ => Err(section.invalid(key, TYPES)),
    }
}

fn yarn(config: &HfConfig, section: &HfConfig) -> Result<RopeScaling> {
    let original_max_positions = original_max_positions(config, section)?;
    let factor = factor(config, section, original_max_positions)?;
    let (mscale, all_dim) = (section.optional_f64("mscale")?, section.optional_f64("mscale_all_dim")?);
    let inferred = match (mscale, all_dim) {
        (Some(mscale), Some(all_dim)) if mscale != 0.0 && all_dim != 0.0 => {
            yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim)
        }
        _ => yarn_mscale(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: section.f64_or("beta_fast", 32.0)?,
        beta_slow: section.f64_or("beta_slow", 1.0)?,
        original_max_positions,
        truncate: section.bool_or("truncate", true)?,
        attention_factor: section.f64_or("attention_factor", inferred)?,
    })
}

/// The softmax factor that YaRN recommends for a context stretched by `factor`, weighted by `mscale`.
pub(crate) fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

fn long_rope(config: &HfConfig, section: &HfConfig) -> Result<RopeScaling> {
    let original_max_positions = original_max_positions(config, section)?;
    let factor = factor(config, section, original_max_positions)?;
    let inferred = match factor {
        factor if factor <= 1.0 => 1.0,
        factor => (1.0 + factor.ln() / (original_max_positions as f64).ln()).sqrt(),
    };
    let divisors = |key: &str| {
        section
            .f64s(key)?
            .ok_or_else(|| section.invalid(key, "a divisor for each rotated pair of dimensions"))
    };
    Ok(RopeScaling::LongRope {
        short: divisors("short_factor")?,
        long: divisors("long_factor")?,
        original_max_positions,
        attention_factor: section.f64_or("attention_factor", inferred)?,
    })
}

/// How much longer the context has become: as the section says, else as the lengths do.
fn factor(config: &HfConfig, section: &HfConfig, original_max_positions: usize) -> Result<f64> {
    match section.optional_f64("factor")? {
        Some(factor) => Ok(factor),
        None => Ok(config.usize("max_position_embeddings")? as f64 / original_max_positions as f64),
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
    use serde_json::Value;

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
    fn softmax_factors_of_yarn_and_longrope_are_inferred_where_none_is_given() {
        let attention_factor = |scaling: Value| {
            let config = json!({"max_position_embeddings": 256, "rope_scaling": scaling});
            match read(config).unwrap().scaling {
                RopeScaling::Yarn { attention_factor, .. }
                | RopeScaling::LongRope { attention_factor, .. } => attention_factor,
                other => panic!("{other:?}"),
            }
        };
        let yarn = |extra: Value| {
            let mut scaling = json!({"type": "yarn", "original_max_position_embeddings": 64});
            scaling.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            attention_factor(scaling)
        };
        // The factor follows from the lengths: 256 / 64.
        assert_eq!(yarn(json!({})), 0.1 * 4f64.ln() + 1.0);
        assert_eq!(yarn(json!({"factor": 2.0, "attention_factor": 1.5})), 1.5);
        assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0})), 1.0);
        assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 0.0})), 0.1 * 4f64.ln() + 1.0);
        let divisors = [1.0; 8];
        let long = json!({"type": "su", "short_factor": divisors, "long_factor": divisors,
            "original_max_position_embeddings": 64});
        assert_eq!(attention_factor(long), (1.0 + 4f64.ln() / 64f64.ln()).sqrt());
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
        let expected = "'rope_scaling.type' is \"spiral\", expected one of default, linear, dynamic, llama3, yarn, longrope, \
            proportional";
        assert!(error.ends_with(expected), "{error}");
        assert!(read(json!({"rope_scaling": {"type": "linear"}})).is_err());
    }
}
