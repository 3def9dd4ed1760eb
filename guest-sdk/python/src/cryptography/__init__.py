"""The part of `cryptography` that handler scripts use: Fernet, and keys for JSON Web Tokens.

Names and behaviour are those of the package of this name, whose native code cannot run in a sandbox; the host does the
work. What is missing is missing: importing it raises ImportError.
"""

__version__ = "45.0.0"
