"""What is computed of a row, whatever the passes over memory."""
