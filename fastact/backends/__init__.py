"""Adapters to other people's nets and arrays: one module for each library, imported by its name.

``import fastact.backends.thinc`` needs ``pip install "fastact[thinc]"``, and so on for each module. None names a
function: what an adapter offers is derived from the registry, so that new functions appear in all of them.
"""
