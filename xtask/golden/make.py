"""Makes golden cases: `make.py CASE...`, `make.py --all`, `make.py --list`, `make.py --fixture`."""

import argparse
import copy
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Functions that are compiled on first use round elsewhere than those that are not, and need a compiler.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
import transformers
from safetensors.torch import save_file

import checkpoint
import record
from cases import CASES
from checks import check_agreement, check_every_weight_matters, nudged
from fixture import fixture
from legacy import legacy_config, with_keys

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TOLERANCE = 2e-5  # of the largest magnitude in a tensor


def write_json(path, document):
    """Writes indented JSON with one line per innermost value."""
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_tensors(path, tensors):
    """Writes tensors.json, one tensor per line."""
    lines = [f"{json.dumps(name)}: {json.dumps(tensor)}" for name, tensor in tensors.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def record_in_float64(case, model, batch):
    """What the model computes in twice the precision; constants that it makes on the way follow the default."""
    torch.set_default_dtype(torch.float64)
    try:
        return record.record(case, copy.deepcopy(model).double(), batch)
    finally:
        torch.set_default_dtype(torch.float32)


def make(name):
    """Makes the case `name` and replaces its folder under `tests/golden`."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        tensors = checkpoint.layout(case, case.config(), source)
        checkpoint.write(case, tensors, source)
        model = checkpoint.load(case, source)
        batch = record.samples(case, model.config)
        expected = record.record(case, model, batch)

        precise = record_in_float64(case, model, batch)
        deviation = check_agreement(expected, precise, TOLERANCE / 4, "in float64")
        # Much more than this means a choice between experts that rounding could turn around.
        check_agreement(expected, record.record(case, nudged(model), batch), case.nudged_limit, "with nudged weights")
        # After the copies of the model: some models keep what their last run left, here with its gradients.
        check_every_weight_matters(model, batch, case.idle)

        config = with_keys(json.loads((source / "config.json").read_text()), case.config_keys)
        legacy = legacy_config(config, case.legacy)
        if case.same_in_transformers:
            write_json(source / "config.json", legacy)
            same = record.record(case, checkpoint.load(case, source), batch)
            check_agreement(expected, same, 0.0, "with config_legacy.json")

    target = GOLDEN / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_json(target / "config.json", config)
    write_json(target / "config_legacy.json", legacy)
    write_tensors(target / "tensors.json", tensors)
    floats = {key: tensor.to(torch.float32).contiguous() for key, tensor in expected.items()}
    save_file(record.packed_inputs(batch) | floats, target / "expected.safetensors")
    write_json(
        target / "meta.json",
        {
            "family": case.family,
            "model_type": config["model_type"],
            "architecture": case.model,
            "tolerance": TOLERANCE,
            "float32_deviation": float(f"{deviation:.1e}"),
            "ignored": sorted([*case.ignored, *(name for name in tensors if checkpoint.is_computed(case, name))]),
            "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        },
    )


def main():
    """Parses the command line and makes what it names."""
    parser = argparse.ArgumentParser(description="Make golden cases with transformers.")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--all", action="store_true", help="make every case")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument(
        "--fixture", action="store_true", help="write the values that the Rust twin must reproduce"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)} (--list prints the names)")
    if options.list:
        print("\n".join(CASES))
    if options.fixture:
        write_json(GOLDEN / "weights.fixture.json", fixture())
    failed = []
    for name in CASES if options.all else options.cases:
        try:
            make(name)
            print(f"{name}: made")
        except Exception as error:  # one broken case must not hide the others
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sys.exit(main())
