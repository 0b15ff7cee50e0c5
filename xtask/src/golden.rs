//! Golden cases: expectations made with transformers (see golden/README.md).

use std::process::Command;

use crate::{Result, root, succeed};

/// Runs golden/make.py with these arguments, in a virtual environment under target/ that is made when need be.
pub(crate) fn golden(arguments: &[String]) -> Result {
    let environment = root().join("target/golden-venv");
    let python = environment.join("bin/python");
    let golden = root().join("xtask/golden");
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let requirements = golden.join("requirements.txt");
        succeed(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--requirement"])
                .arg(requirements),
        )?;
    }
    succeed(Command::new(&python).arg(golden.join("make.py")).args(arguments))
}
