"""Scores samples.jsonl with transformers and writes expected.json, what a run of the demo has to agree with.

    python expect.py

Needs torch, transformers and tokenizers. Reads the files in model/ as they are shipped, computes in float32.
"""

import json
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

HERE = Path(__file__).resolve().parent


@torch.no_grad()
def log_likelihood(model: LlamaForCausalLM, tokens: list[int]) -> float:
    """The sum over all tokens but the first of the log-likelihood given those before."""
    ids = torch.tensor([tokens])
    log_probabilities = model(ids).logits[0, :-1].double().log_softmax(dim=-1)
    return log_probabilities.gather(1, ids[0, 1:, None]).sum().item()


def main():
    tokenizer = Tokenizer.from_file(str(HERE / "model" / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(HERE / "model", dtype=torch.float32).eval()
    expected = []
    print(f"{'sample':<24} {'tokens':>6} {'log-likelihood':>14} {'perplexity':>10}")
    for line in (HERE / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        tokens = tokenizer.encode(sample["text"]).ids
        score = log_likelihood(model, tokens)
        perplexity = math.exp(-score / (len(tokens) - 1))
        print(f"{sample['id']:<24} {len(tokens):>6} {score:>14.3f} {perplexity:>10.2f}")
        expected.append(
            {"id": sample["id"], "num_tokens": len(tokens), "log_likelihood": score, "perplexity": perplexity}
        )
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
