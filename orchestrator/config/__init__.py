"""YAML that a person writes: documents with positions, schema, values, templates, shell quoting."""
