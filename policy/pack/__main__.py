"""The rules of ``policy/rules.py`` for Pulumi: ``pulumi preview --policy-pack policy/pack``."""

import sys
from pathlib import Path

# Pulumi starts a pack with only the pack's own folder on the import path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from policy.analyzer import serve

serve()
