//! From a config.json to a model spec: the architectures that Sequential Layer Ingestion knows.
