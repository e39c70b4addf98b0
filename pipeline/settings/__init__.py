"""The sections of the configuration, one module each; `pipeline.config` holds them together."""
