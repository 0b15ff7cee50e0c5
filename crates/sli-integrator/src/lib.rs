//! Sequential Layer Ingestion as a library: dataset, plan, pipeline, outputs.
