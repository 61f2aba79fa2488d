"""Validates an Adaptive Card (stdin) by Microsoft's schema of the version that the card names."""

import json
import pathlib
import sys
import sysconfig

import fastjsonschema

card = json.load(sys.stdin)
# What the card says to Teams alone; the schema knows no hosts.
card.pop("msteams", None)
schemas = pathlib.Path(sysconfig.get_paths()["purelib"], "adaptive_cards", "schemas")
schema = json.loads((schemas / f"schema-{card['version']}.json").read_text(encoding="utf-8"))
try:
    fastjsonschema.compile(schema)(card)
except fastjsonschema.JsonSchemaException as error:
    sys.exit(str(error))
