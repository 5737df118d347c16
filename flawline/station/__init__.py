"""A station beside a production line: judges photographs as they come, and keeps a record."""
