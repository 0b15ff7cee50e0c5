//! Every golden case, through the library: both spellings, in memory and on disk, kernels and the plain backend.

use std::path::Path;

use sli_integrator::{
    ComputeDtype, Dataset, Device, HiddenDtype, HiddenStates, Logits, Placement, Record, RunOptions,
    UniversalSliIntegrator,
};
use sli_registry::{ArchitectureRegistry, HfConfig};
use sli_tests::golden::{Case, Spelling, case, cases};

/// Cases that the registry refuses, since a part of their mathematics is not there yet, one per line. A case that
/// resolves belongs off the list.
const PENDING: &str = include_str!("../golden/pending.txt");

fn is_pending(case: &Case) -> bool {
    PENDING.lines().any(|name| name == case.name)
}

fn options(case: &Case) -> RunOptions {
    RunOptions {
        dtype: ComputeDtype::F32,
        hidden_states: HiddenStates::All,
        hidden_dtype: Some(HiddenDtype::F32),
        logits: Logits::Full,
        score: case.expected().contains_key("token_log_likelihood"),
        ..RunOptions::default()
    }
}

/// Runs a case and compares all that it leaves.
fn check(case: &Case, model: &Path, device: Device, options: &RunOptions) -> Result<(), String> {
    let output = tempfile::tempdir().map_err(|e| e.to_string())?;
    let records =
        case.records().iter().map(|value| Record::from_json(value, "text")).collect::<Result<Vec<_>, _>>()?;
    let sli = UniversalSliIntegrator::builder(model.display().to_string())
        .output_dir(output.path())
        .device(device)
        .build()
        .map_err(|e| e.to_string())?;
    let unread = sli.unread_config_keys();
    if !unread.is_empty() {
        return Err(format!("keys of config.json that nobody read: {}", unread.join(", ")));
    }
    sli.run_sli(&Dataset::from_records(records), options).map_err(|e| e.to_string())?;
    case.compare(output.path())
}

/// Runs all cases that are not pending, and names every one that fails.
fn check_all(spelling: Spelling, device: Device, change: impl Fn(&mut RunOptions)) {
    let mut failures = Vec::new();
    let cases: Vec<_> = cases().into_iter().filter(|case| !is_pending(case)).collect();
    for case in &cases {
        let mut options = options(case);
        change(&mut options);
        if let Err(why) = check(case, case.model(spelling).path(), device, &options) {
            failures.push(format!("{} ({spelling:?}): {why}", case.name));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn current_spelling() {
    check_all(Spelling::Current, Device::Cpu, |_| {});
}

#[test]
fn legacy_spelling_spilled_in_chunks_of_one_sample_and_layers_in_parts() {
    check_all(Spelling::Legacy, Device::Cpu, |options| {
        options.activations = Placement::Disk;
        options.layers_in_parts = Some(true);
        options.batch_size = Some(1);
    });
}

#[test]
fn plain_backend() {
    check_all(Spelling::Legacy, Device::NdArray, |_| {});
}

#[test]
fn both_spellings_give_the_same_spec() {
    for case in cases().iter().filter(|case| !is_pending(case)) {
        let spec = |spelling| {
            let config = HfConfig::parse(&case.config(spelling), "config.json").unwrap();
            ArchitectureRegistry::new().resolve(&config).unwrap_or_else(|e| panic!("{}: {e}", case.name)).spec
        };
        assert_eq!(spec(Spelling::Current), spec(Spelling::Legacy), "{}", case.name);
    }
}

#[test]
fn pending_cases_are_refused() {
    for name in PENDING.lines() {
        let case = case(name);
        let config = HfConfig::parse(&case.config(Spelling::Legacy), "config.json").unwrap();
        let resolved = ArchitectureRegistry::new().resolve(&config);
        assert!(resolved.is_err(), "{name} resolves: take it off the list");
    }
}

#[test]
fn a_wrong_weight_shows() {
    // The comparison itself must be able to fail: with another epsilon, llama is off.
    let case = case("llama");
    let model = case.model(Spelling::Legacy);
    let config = case.config(Spelling::Legacy);
    let mut value: serde_json::Value = serde_json::from_str(&config).unwrap();
    value["rms_norm_eps"] = serde_json::json!(0.01);
    std::fs::write(model.path().join("config.json"), value.to_string()).unwrap();
    let why = check(&case, model.path(), Device::Cpu, &options(&case)).unwrap_err();
    assert!(why.starts_with("layer_0000 is off by"), "{why}");
}
