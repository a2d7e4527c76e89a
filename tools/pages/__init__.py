"""The pages of the documentation that are generated when it is built: one for each function, and the API reference."""
