"""Checks of arguments, and views or copies of arrays of any layout in the layout that kernels take."""
