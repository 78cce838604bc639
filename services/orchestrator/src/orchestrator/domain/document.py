"""Documents that people write, reduced to a digest that names their content."""

import hashlib
import json

from contracts.message import JsonObject


def digest(document: JsonObject) -> str:
    """Return the SHA-256 of the canonical JSON, in hex; key order is ignored."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
