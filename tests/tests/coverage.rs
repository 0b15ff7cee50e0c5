//! What is promised is there: numbers checked for each architecture, and every family's models.

use std::collections::BTreeSet;

use serde_json::json;
use sli_core::Family;
use sli_registry::{ARCHITECTURES, ArchitectureRegistry, HfConfig};
use sli_tests::golden::{Spelling, cases};

/// Architectures whose mathematics is that of another one under other names, and the case that checks it. What differs
/// is where the weights lie, which the snapshots of sli-registry show.
const SHARED: &[(&str, &str)] = &[
    ("seed_oss", "qwen2"),
    ("internlm", "llama_bias"),
    ("internlm3", "llama_bias"),
    ("orion", "stablelm"),
    ("exaone", "llama"),
    ("yi", "llama"),
    ("deci", "llama"),
    ("minicpm", "granite"),
    ("ministral", "mistral_sliding"),
    ("neobert", "eurobert"),
    ("llama4", "llama4_text"),
    ("gemma3_multimodal", "gemma3_text"),
    ("mistral3", "mistral_full_headdim"),
    ("llava", "llama"),
    ("smolvlm", "llama"),
    ("qwen2_vl", "qwen2"),
    ("qwen2_audio", "qwen2"),
    ("qwen2_5_omni", "qwen2"),
    ("qwen3_vl", "qwen3"),
    ("qwen3_vl_moe", "qwen3_moe"),
    ("qwen3_omni_moe", "qwen3_moe"),
    ("qwen3_5", "qwen3_5"),
    ("qwen3_5_moe", "qwen3_5_moe"),
    ("deepseek", "deepseek_v2_lite"),
    ("aria", "aria_text"),
    ("glm4_moe_lite", "deepseek_v3"),
    ("glm_moe_dsa", "deepseek_v32"),
];

#[test]
fn every_architecture_has_a_golden_case_or_shares_one() {
    let registry = ArchitectureRegistry::new();
    let resolved = |case: &sli_tests::golden::Case| {
        let config = HfConfig::parse(&case.config(Spelling::Legacy), "config.json").unwrap();
        registry.resolve(&config).map(|resolved| resolved.architecture.name)
    };
    let cases = cases();
    let with_own: BTreeSet<_> = cases.iter().filter_map(|case| resolved(case).ok()).collect();
    for (name, case) in SHARED {
        assert!(registry.get(name).is_some(), "{name} is no architecture");
        let case = cases.iter().find(|other| other.name == *case).unwrap_or_else(|| panic!("no case {case}"));
        assert!(resolved(case).is_ok(), "{} is still pending", case.name);
        assert!(!with_own.contains(name), "{name} has a case of its own");
    }
    let without: Vec<_> = ARCHITECTURES
        .iter()
        .map(|architecture| architecture.name)
        .filter(|name| !with_own.contains(name) && SHARED.iter().all(|(sharing, _)| sharing != name))
        .collect();
    assert!(without.is_empty(), "no golden case shows the numbers of {}", without.join(", "));
}

#[test]
fn every_name_finds_its_architecture() {
    let registry = ArchitectureRegistry::new();
    let detect = |config: serde_json::Value| {
        let config = HfConfig::parse(&config.to_string(), "config.json").unwrap();
        registry.detect(&config).map(|architecture| architecture.name)
    };
    for architecture in ARCHITECTURES {
        for class in architecture.architectures {
            assert_eq!(detect(json!({ "architectures": [class] })).unwrap(), architecture.name, "{class}");
            for model_type in architecture.model_types {
                let config = json!({ "architectures": [class], "model_type": model_type });
                assert_eq!(detect(config).unwrap(), architecture.name, "{class} as {model_type}");
            }
        }
        for model_type in architecture.model_types {
            assert_eq!(
                detect(json!({ "model_type": model_type })).unwrap(),
                architecture.name,
                "{model_type}"
            );
        }
    }
}

#[test]
fn families_have_the_models_that_are_promised() {
    let registry = ArchitectureRegistry::new();
    for (family, promised) in PROMISED {
        let known = registry.models(*family).count();
        assert!(known >= *promised, "{family}: {known} of {promised} models");
    }
}

/// Released models, or groups of them, of the families whose decoders are complete.
const PROMISED: &[(Family, usize)] = &[
    (Family::Llama, 35),
    (Family::Gpt, 18),
    (Family::Qwen, 14),
    (Family::Gemma, 8),
    (Family::Mamba, 19),
    (Family::ChatGlm, 8),
    (Family::Phi, 6),
    (Family::Bloom, 5),
    (Family::Opt, 6),
];
