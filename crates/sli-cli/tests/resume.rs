//! Runs that are killed at any moment, and go on: the results are those of a run that nobody disturbed, byte for byte.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sli_tests::command::{Workplace, json_lines, outcome, tree};

/// Enough chunks that a run lasts long enough to be hit.
const RECORDS: usize = 120;
const OPTIONS: &str = "--batch-size 1 --hidden-states all --logits full --score --quiet";
/// Kills that hit a run which has committed something, per test.
const KILLS: usize = 4;

/// A dataset of many records of different lengths.
fn workplace(case: &str) -> Workplace {
    let work = Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), case);
    let records = work.records.iter().cycle().take(RECORDS).enumerate().map(|(index, record)| {
        let mut record = record.clone();
        let ids = record["input_ids"].as_array().unwrap();
        record["input_ids"] = json!(ids[..ids.len() - index % 5]);
        record
    });
    work.write("many.jsonl", json_lines(&records.collect::<Vec<_>>()));
    work
}

/// What a run leaves, save for the files that say how long it took.
fn results(work: &Workplace, output: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let timed = |name: &PathBuf| name == Path::new("run.json") || name == Path::new("profile.json");
    tree(&work.path(output)).into_iter().filter(|(name, _)| !timed(name)).collect()
}

/// Are these the same files with the same bytes? Names the first that differs.
#[track_caller]
fn assert_same(found: &[(PathBuf, Vec<u8>)], expected: &[(PathBuf, Vec<u8>)]) {
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        assert!(found == expected, "{} differs", name.display());
    }
}

/// Commits of the unfinished run in a folder.
fn commits(work: &Workplace, output: &str) -> u64 {
    let states = outcome(&mut work.command(&format!("cache list --json --output {output}"))).json();
    states.get(0).map_or(0, |state| state["commits"].as_u64().unwrap())
}

/// SplitMix64: delays that look random and are the same in each run of the tests.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)) % limit
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a run has written more than `bytes` of its journal, so that it is at work; false when it ended before.
fn wait_for_journal(work: &Workplace, output: &str, child: &mut Child, bytes: u64) -> bool {
    let journal = work.path(output).join(".activations/sli-run.jsonl");
    while child.try_wait().unwrap().is_none() {
        if journal.metadata().is_ok_and(|journal| journal.len() > bytes) {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}

fn journal_bytes(work: &Workplace, output: &str) -> u64 {
    work.path(output).join(".activations/sli-run.jsonl").metadata().map_or(0, |journal| journal.len())
}

/// Starts a run again and again and kills it each time after a while, until `KILLS` have hit; then lets it finish.
fn survives_kills(case: &str, placement: &str, seed: u64) {
    let work = workplace(case);
    let options = format!("{OPTIONS} {placement}");
    let begin = Instant::now();
    outcome(&mut work.run("many.jsonl", "calm", &options)).printed();
    let calm_time = begin.elapsed();

    let mut random = Random(seed);
    let (mut hits, mut kills) = (0, 0);
    while hits < KILLS {
        assert!(kills < 40, "only {hits} of {kills} kills hit a run with commits");
        let before = journal_bytes(&work, "stormy");
        let mut child = start(&mut work.run("many.jsonl", "stormy", &options));
        // At first anywhere, even before the first commit; then soon after a new commit.
        let at_work = kills < 2 || wait_for_journal(&work, "stormy", &mut child, before);
        if at_work {
            sleep(calm_time.mul_f64(random.below(100) as f64 / 100.0 / KILLS as f64));
        }
        kills += 1;
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        if running && commits(&work, "stormy") > 0 {
            hits += 1;
        } else if work.path("stormy/run.json").exists() {
            // It finished before the kill: from the start.
            std::fs::remove_dir_all(work.path("stormy")).unwrap();
        }
    }
    let result = outcome(work.run("many.jsonl", "stormy", &options).arg("--json")).json();
    // The last kill may have come after run.json was written.
    assert!(result["resumed"] == json!(true) || result["already_finished"] == json!(true), "{result}");
    assert_same(&results(&work, "stormy"), &results(&work, "calm"));
    assert!(!work.path("stormy/.activations").exists(), "the state of a finished run is removed");
}

const IN_MEMORY: &str = "--activations memory --commit-every 0";
/// Not after each chunk, which would be a sync each: kills then fall between commits, too.
const ON_DISK: &str = "--activations disk --commit-every 0.003";

#[test]
fn decoder_in_memory() {
    survives_kills("llama", IN_MEMORY, 1);
}

#[test]
fn decoder_on_disk() {
    survives_kills("llama", ON_DISK, 2);
}

#[test]
fn experts_in_memory() {
    survives_kills("mixtral", IN_MEMORY, 3);
}

#[test]
fn experts_on_disk() {
    survives_kills("mixtral", ON_DISK, 4);
}

#[test]
fn encoder_decoder_in_memory() {
    survives_kills("t5_relu", IN_MEMORY, 5);
}

#[test]
fn encoder_decoder_on_disk() {
    survives_kills("t5_relu", ON_DISK, 6);
}

/// Starts a run and interrupts it once it has committed something; returns what it said.
fn interrupted(work: &Workplace, dataset: &str, output: &str, options: &str) -> String {
    let mut child = start(&mut work.run(dataset, output, options));
    assert!(wait_for_journal(work, output, &mut child, 2000), "it finished too soon to be interrupted");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(ended.stdout.is_empty());
    said
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_does() {
    for (case, placement) in [("llama", ON_DISK), ("mixtral", IN_MEMORY), ("t5_relu", ON_DISK)] {
        let work = workplace(case);
        let options = format!("{OPTIONS} {placement}");
        outcome(&mut work.run("many.jsonl", "calm", &options)).printed();
        let said = interrupted(&work, "many.jsonl", "out", &options);
        assert!(said.contains("interrupted after ") && said.contains("run the same command again"), "{said}");
        assert!(!said.contains("error: "), "{said}");
        assert!(!work.path("out/run.json").exists());

        let again = outcome(&mut work.run("many.jsonl", "out", &options.replace("--quiet", "")));
        assert!(again.printed().contains("going on with an interrupted run"), "{}", again.stdout);
        assert_same(&results(&work, "out"), &results(&work, "calm"));
    }
}

#[test]
fn what_is_unfinished_belongs_to_its_run() {
    let work = workplace("llama");
    let options = format!("{OPTIONS} {ON_DISK}");
    interrupted(&work, "many.jsonl", "out", &options);
    work.write("few.jsonl", json_lines(&work.records));

    let files = || {
        let mut files = tree(&work.path("out"));
        // The lock says which process was there last.
        files.retain(|(name, _)| !name.ends_with("sli-run.lock"));
        files
    };
    let before = files();
    let refused = outcome(&mut work.run("few.jsonl", "out", &options));
    let complaint = refused.complaint(1);
    assert!(complaint.contains("out holds an unfinished run of something else: dataset was "), "{complaint}");
    assert!(complaint.contains("hint: choose another --output, or discard the unfinished run with --fresh"));
    assert_same(&files(), &before);

    outcome(&mut work.run("few.jsonl", "out", &format!("{options} --fresh"))).printed();
    outcome(&mut work.run("few.jsonl", "calm", &options)).printed();
    assert_same(&results(&work, "out"), &results(&work, "calm"));
}

#[test]
fn what_died_before_its_first_commit_does_not_mix_with_the_next() {
    let work = workplace("llama");
    let mut child = start(&mut work.run("many.jsonl", "out", &format!("{OPTIONS} --activations memory")));
    while !work.path("out/hidden/layer_0001").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it finished too soon to be killed");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(commits(&work, "out"), 0);
    assert!(work.path("out/hidden/embedding/part-00000.safetensors").exists());

    work.write("few.jsonl", json_lines(&work.records));
    for output in ["out", "calm"] {
        outcome(&mut work.run("few.jsonl", output, "--quiet")).printed();
    }
    assert_same(&results(&work, "out"), &results(&work, "calm"));
}

#[test]
fn two_processes_do_not_share_an_output() {
    let work = workplace("llama");
    let options = format!("{OPTIONS} {ON_DISK}");
    let mut child = start(&mut work.run("many.jsonl", "out", &options));
    assert!(wait_for_journal(&work, "out", &mut child, 2000));
    let second = outcome(&mut work.run("many.jsonl", "out", &options));
    let fresh = outcome(&mut work.run("many.jsonl", "out", &format!("{options} --fresh")));
    assert!(child.wait().unwrap().success());
    for refused in [second, fresh] {
        assert!(refused.complaint(1).contains("is running in"), "{}", refused.stderr);
    }
    outcome(&mut work.run("many.jsonl", "calm", &options)).printed();
    assert_same(&results(&work, "out"), &results(&work, "calm"));
}

#[test]
fn a_finished_run_is_not_run_again() {
    let work = workplace("llama");
    let first = outcome(work.run("many.jsonl", "out", OPTIONS).arg("--json")).json();
    let before = tree(&work.path("out"));
    let again = outcome(&mut work.run("many.jsonl", "out", &OPTIONS.replace("--quiet", "")));
    assert!(again.printed().contains("was finished before"), "{}", again.stdout);
    let document = outcome(work.run("many.jsonl", "out", OPTIONS).arg("--json")).json();
    assert_eq!((&document["already_finished"], &first["already_finished"]), (&json!(true), &json!(false)));
    assert_eq!(document["samples"], first["samples"]);
    assert_same(&tree(&work.path("out")), &before);

    // Fewer records: parts and lines of the first run must not stay.
    work.write("few.jsonl", json_lines(&work.records));
    let fresh = outcome(work.run("few.jsonl", "out", OPTIONS).args(["--fresh", "--json"])).json();
    assert_eq!(fresh["already_finished"], Value::Bool(false));
    outcome(&mut work.run("few.jsonl", "calm", OPTIONS)).printed();
    assert_same(&results(&work, "out"), &results(&work, "calm"));
}
