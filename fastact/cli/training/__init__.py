"""What ``fastact demo`` runs: one net, trained with fastact and with plain NumPy, and in PyTorch if wanted.

`layers` and `net` are the net: read them for the use of fastact in a net of your own. `comparison` trains its variants in
turn on `digits`, `timing` holds what makes times comparable, `torch_net` is the same net in PyTorch, `report` and
`picture` show the results.
"""
