"""Option files: read, held against one schema, checked against classes and data, and documented by the schema."""
