//! Layers in two parts: the same results as whole ones, stopped anywhere and gone on with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sli_integrator::{
    CancelToken, Dataset, HiddenStates, Observer, Placement, Record, RunOptions, RunReport, SliError,
    UniversalSliIntegrator,
};
use sli_tests::command::tree;
use sli_tests::golden::{Spelling, case};

/// Stops a run after some chunks.
#[derive(Debug)]
struct StopAfter {
    chunks: AtomicUsize,
    cancel: CancelToken,
}

impl Observer for StopAfter {
    fn chunk_done(&self, _tokens: usize) {
        if self.chunks.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.cancel();
        }
    }
}

/// Runs the dense golden model in chunks of one sample, at most `chunks` of them; `None` when it was stopped.
fn run(
    model: &Path,
    output: &Path,
    in_parts: bool,
    activations: Placement,
    chunks: usize,
) -> Option<RunReport> {
    let records = case("llama").records();
    let records: Vec<_> = records.iter().map(|value| Record::from_json(value, "text").unwrap()).collect();
    let cancel = CancelToken::default();
    let options = RunOptions {
        batch_size: Some(1),
        layers_in_parts: Some(in_parts),
        hidden_states: HiddenStates::All,
        score: true,
        activations,
        cancel: cancel.clone(),
        observer: Arc::new(StopAfter { chunks: AtomicUsize::new(chunks), cancel }),
        ..RunOptions::default()
    };
    let builder = UniversalSliIntegrator::builder(model.display().to_string()).output_dir(output);
    match builder.build().unwrap().run_sli(&Dataset::from_records(records), &options) {
        Ok(result) => Some(result.report),
        Err(SliError::Interrupted { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The outputs that do not depend on when the run was made.
fn results(output: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let timed = |path: &Path| path.ends_with("run.json") || path.ends_with("profile.json");
    tree(output).into_iter().filter(|(path, _)| !timed(path)).collect()
}

#[test]
fn parts_are_reported_as_layers_and_give_the_same_results() {
    let (model, outputs) = (case("llama").model(Spelling::Current), tempfile::tempdir().unwrap());
    let [whole, parts] = [false, true].map(|in_parts| {
        let output = outputs.path().join(in_parts.to_string());
        let report = run(model.path(), &output, in_parts, Placement::Memory, usize::MAX).unwrap();
        (report, results(&output))
    });
    assert_eq!(whole.1, parts.1);
    let names = |report: &RunReport| report.layers.iter().map(|layer| layer.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&whole.0), names(&parts.0));
    assert!(parts.0.layers.iter().all(|layer| layer.compute_seconds > 0.0));
    // Reads are whole blocks, and two of them where there was one.
    assert!((whole.0.bytes_read..2 * whole.0.bytes_read).contains(&parts.0.bytes_read));
}

#[test]
fn a_run_that_is_stopped_in_either_part_goes_on() {
    let (model, outputs) = (case("llama").model(Spelling::Current), tempfile::tempdir().unwrap());
    let whole = outputs.path().join("whole");
    run(model.path(), &whole, true, Placement::Memory, usize::MAX).unwrap();
    for activations in [Placement::Memory, Placement::Disk] {
        let mut stops = 0;
        for chunks in 1.. {
            let output = outputs.path().join(format!("{activations} {chunks}"));
            if run(model.path(), &output, true, activations, chunks).is_some() {
                break;
            }
            stops += 1;
            let report = run(model.path(), &output, true, activations, usize::MAX).unwrap();
            assert_eq!(results(&output), results(&whole), "{activations}, after {chunks} chunks");
            // With embedding and final norm.
            assert_eq!(report.layers.len(), report.num_layers + 2, "{activations}, after {chunks} chunks");
        }
        assert!(stops > case("llama").records().len() * 4, "only {stops} stops");
    }
}
