#!/usr/bin/env python3
"""Makes a corpus of expressions for the fuzz targets: `seeds.py CASES.json DIR`, a file for each input in CASES.json."""
import hashlib
import json
import pathlib
import sys

cases, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
for case in json.load(open(cases)):
    text = case["input"].encode("utf-8", "surrogateescape")
    (folder / hashlib.sha1(text).hexdigest()).write_bytes(text)
