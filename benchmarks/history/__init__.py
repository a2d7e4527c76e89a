"""What asv measures of each commit, and draws: a module for each question.

``fastact dashboard`` runs it. asv imports all files here, in an environment with fastact and NumPy and nothing else, and
starts processes from the one that has: so no file imports fastact, which a process does when it measures.
"""
