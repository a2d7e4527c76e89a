"""Presentation of functions: facts, formulas, tables in the terminal, plots."""
