"""Ablations: a table of named changes of parameters, each run for several seeds, with means and spreads of what they give."""
