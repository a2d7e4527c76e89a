"""Tests of other libraries, run as they ship, with and without fastact."""
