"""Runs a model and records what a pass over the dataset has to reproduce.

Samples run one at a time: what a sample gives must not depend on its neighbours, so no padding and no mask is
involved. Rows of all samples are laid end to end; `offsets` says where each begins.
"""

import torch
from torch import nn

from weights import uniform

FIRST_ORDINARY_TOKEN = 4  # smaller ids are padding, begin, end and mask in one model or another


def token_ids(name, count, vocab_size):
    """`count` ids of ordinary tokens, a function of `name`."""
    span = vocab_size - FIRST_ORDINARY_TOKEN
    return [FIRST_ORDINARY_TOKEN + int((v + 1) / 2 * span) for v in uniform(name, count).tolist()]


def samples(case, config):
    """The model's inputs, `{argument: ids}` per sample."""
    batch = []
    for index, length in enumerate(case.lengths):
        sample = {"input_ids": token_ids(f"input_ids.{index}", length, config.vocab_size)}
        if getattr(config, "type_vocab_size", 0) > 1:
            sample["token_type_ids"] = [int(position >= length // 2) for position in range(length)]
        if config.is_encoder_decoder:
            target = token_ids(f"decoder_input_ids.{index}", length - 3, config.vocab_size)
            sample["decoder_input_ids"] = [config.decoder_start_token_id, *target[1:]]
        for position, token in case.inserted[index] if case.inserted else ():
            sample["input_ids"][position] = token
        batch.append(sample)
    return batch


def offsets(rows):
    """Where each sample begins, and the end: I64, one longer than `rows`."""
    ends = torch.tensor(rows).cumsum(0)
    return torch.cat([torch.zeros(1, dtype=torch.int64), ends])


def layer_list(stack, path, num_layers):
    """The modules that are the stack's layers: those under `path`, or the first list of `num_layers` modules.

    A path may go through all modules of one list: `list.*.layers`.
    """
    if path:
        outer, _, inner = path.partition(".*.")
        modules = list(stack.get_submodule(outer))
        return [layer for module in modules for layer in module.get_submodule(inner)] if inner else modules
    for module in stack.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return list(module)
    raise ValueError(f"no list of {num_layers} layers in {type(stack).__name__}")


class Trace:
    """What flows through one stack of layers in one forward pass."""

    def __init__(self, stack, layers, ends_first):
        self.layer_inputs, self.layer_outputs, self.final = [], [], None
        self.handles = [stack.register_forward_hook(self.on_stack)]
        for layer in layers:
            self.handles.append(layer.register_forward_pre_hook(self.before_layer, with_kwargs=True))
            self.handles.append(layer.register_forward_hook(self.after_layer))

        if ends_first:
            self.handles.append(stack.get_submodule(ends_first).register_forward_hook(self.after_first))

    def on_stack(self, module, arguments, output):
        self.final = output[0]

    def before_layer(self, module, arguments, keywords):
        self.layer_inputs.append(arguments[0] if arguments else keywords["hidden_states"])

    def after_layer(self, module, arguments, output):
        self.layer_outputs.append(output[0] if isinstance(output, (tuple, list)) else output)

    def after_first(self, module, arguments, output):
        self.layer_outputs[0] = output

    def tensors(self, prefix):
        """The rows of the one sample that ran: `[tokens, width]` each."""
        named = {"embedding": self.layer_inputs[0], "final": self.final}
        named |= {f"layer_{index:04}": output for index, output in enumerate(self.layer_outputs)}
        return {prefix + name: hidden_state(tensor) for name, tensor in named.items()}


def hidden_state(tensor):
    """The rows of the one sample that ran, `[tokens, width]`. Of several residual streams, [streams, 1, tokens, width] or
    [1, tokens, streams, width], the first is the hidden state."""
    if tensor.dim() == 4:
        return tensor[0, 0] if tensor.shape[1] == 1 else tensor[0, :, 0]
    return tensor[(0,) * (tensor.dim() - 2)]


def stacks(case, model):
    """`(prefix, stack, layers)` of each stack of the model."""
    config = model.config
    if config.is_encoder_decoder:
        encoder, decoder = model.get_encoder(), model.get_decoder()
        # A config in sections has these numbers elsewhere; its cases name the path of the layers.
        num_layers = getattr(config, "num_hidden_layers", None)
        num_decoder_layers = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None)
        return [
            ("encoder_", encoder, layer_list(encoder, case.layers, num_layers)),
            ("decoder_", decoder, layer_list(decoder, case.layers, num_decoder_layers)),
        ]
    stack = model.get_decoder() if case.causal else model.base_model
    if stack is model:
        # A text model out of a multimodal one may take itself for the decoder, head and all. Others have no head.
        stack = getattr(model, "model", model)
    return [("", stack, layer_list(stack, case.layers, config.num_hidden_layers))]


def run_sample(case, model, sample):
    """One forward pass: every recorded tensor of one sample, without a batch dimension."""
    traces = [(prefix, Trace(stack, layers, case.ends_first)) for prefix, stack, layers in stacks(case, model)]
    output = model(**{name: torch.tensor([ids]) for name, ids in sample.items()})
    recorded = {}
    for prefix, trace in traces:
        recorded |= trace.tensors(prefix)
        for handle in trace.handles:
            handle.remove()
    if "logits" in output:
        # A discriminator has one logit a token, and no dimension for it.
        logits = output.logits[0]
        recorded["logits"] = logits if logits.dim() > 1 else logits[:, None]
    if case.causal:
        recorded["token_log_likelihood"] = token_log_likelihood(recorded["logits"], sample["input_ids"])
    return recorded


def token_log_likelihood(logits, ids):
    """ln p(token | tokens before it) per token; 0 for the first, which nothing predicts."""
    log_probabilities = torch.log_softmax(logits.double(), -1)
    following = torch.tensor(ids[1:])
    predicted = log_probabilities[:-1].gather(1, following[:, None])[:, 0]
    return torch.cat([torch.zeros(1, dtype=torch.float64), predicted])


def record(case, model, batch):
    """Every recorded tensor over all samples, rows end to end, in the precision of the model."""
    with torch.no_grad():
        runs = [run_sample(case, model, sample) for sample in batch]
    return {name: torch.cat([run[name] for run in runs]) for name in runs[0]}


def packed_inputs(batch):
    """The inputs as they are stored: ids end to end, with `offsets` (and `decoder_offsets`)."""
    inputs = {name: torch.tensor([row for sample in batch for row in sample[name]]) for name in batch[0]}
    inputs["offsets"] = offsets([len(sample["input_ids"]) for sample in batch])
    if "decoder_input_ids" in inputs:
        inputs["decoder_offsets"] = offsets([len(sample["decoder_input_ids"]) for sample in batch])
    return inputs
