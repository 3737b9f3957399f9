"""The registered models: one module a family, one literal a model. A new module here is found by itself."""
