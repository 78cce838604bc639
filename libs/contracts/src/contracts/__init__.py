"""
The messages that services exchange, and nothing else.

Every model is frozen, documents its fields, and has a golden JSON sample in
``golden/``. Within a major version a message only gains optional fields, and a
reader ignores what it does not know. One module per noun; import from those.
"""
