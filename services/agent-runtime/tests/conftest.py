"""What the tests of agent-runtime share."""

import sys
from pathlib import Path

# Test folders are no packages: this makes ``agent_world`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))
