"""How fast fastact is beside its peers: what ``fastact bench`` runs.

`timing` measures calls in turn, `contenders` knows the calls of fastact and of the NumPy baseline, `peers` those
of other libraries, `layers` all of these for rows and layers, `limit` what the memory allows, `report` makes
tables of it, and `chart` a picture.
"""
