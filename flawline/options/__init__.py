"""What a user can set: one module per section and method, without the code that reads it."""
