"""Binary readers on files that nobody meant: whatever the bytes, a reader returns or refuses them by name.

`python -m tests.fuzz READER` runs one of them for as long as it is let, guided by coverage where atheris is installed.
"""
