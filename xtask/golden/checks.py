"""What a case must satisfy to be worth keeping."""

import copy

import torch


def check_agreement(expected, other, limit, from_what):
    """The largest difference between two records, relative to each tensor's largest magnitude.

    Raises ValueError, saying `from_what` the first differs, where it exceeds `limit`.
    """
    worst = 0.0
    for name, tensor in expected.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
        difference = (tensor.double() - other[name].double()).abs().max() / tensor.double().abs().max()
        if difference > limit:
            raise ValueError(f"{name} differs by {difference:.1e} {from_what}, more than {limit:.1e}")
        worst = max(worst, difference.item())
    return worst


def check_every_weight_matters(model, batch, known_idle):
    """Raises ValueError if an output does not depend on some parameter (of a stack of experts: on some expert),
    `known_idle` apart.

    A test could not notice such a parameter in the wrong place.
    """
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for sample in batch:
        output = model(**{name: torch.tensor([ids]) for name, ids in sample.items()})[0]
        total = total + (output * torch.randn(output.shape, generator=generator)).sum()
    model.zero_grad()
    total.backward()
    idle = []
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None or not gradient.any():
            if not _chooses(model, batch, parameter):
                idle.append(name)
        elif gradient.dim() > 2:
            idle += [f"{name}[{index}]" for index, part in enumerate(gradient) if not part.any()]
    idle = [name for name in idle if name not in known_idle]
    if idle:
        raise ValueError(f"no output depends on {', '.join(idle)}")


def nudged(model):
    """A copy of the model whose parameters are off by about one part in 100000."""
    generator = torch.Generator().manual_seed(1)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1 + 1e-5 * torch.randn(parameter.shape, generator=generator))
    return copied


@torch.no_grad()
def _chooses(model, batch, parameter):
    """Whether outputs change with the sign of a parameter that no gradient reaches, since it only makes choices."""

    def outputs():
        return [model(**{name: torch.tensor([ids]) for name, ids in sample.items()})[0] for sample in batch]

    before = outputs()
    parameter.neg_()
    after = outputs()
    parameter.neg_()
    return any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
