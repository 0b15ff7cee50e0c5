"""The spelling of config.json that released repositories carry, from the one that transformers 5 writes."""


def with_keys(config, keys):
    """`config` with other `keys`; None removes one."""
    return {key: value for key, value in (config | keys).items() if value is not None or key not in keys}


def legacy_config(config, overrides):
    """The released spelling of `config`; a key of `overrides` replaces or, if None, removes one.

    Before version 5 the base of the rotary embedding and its partial factor stood at the top level beside
    `rope_scaling`, and `dtype` was called `torch_dtype`.
    """
    legacy = {key: value for key, value in config.items() if key not in ("dtype", "rope_parameters")}
    legacy["torch_dtype"] = config.get("dtype", "float32")
    scaling = dict(config.get("rope_parameters") or {})
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in scaling:
            legacy[key] = scaling.pop(key)
    if scaling.get("rope_type", "default") != "default":
        legacy["rope_scaling"] = scaling
    return with_keys(legacy, overrides)
