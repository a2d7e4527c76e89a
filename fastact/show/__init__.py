"""What people see: facts, formulas, tables on a terminal, plots."""
