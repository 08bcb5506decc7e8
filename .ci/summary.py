#!/usr/bin/env python3
"""Adds up JUnit reports: summary.py FOLDER TEST_ADDRESS...

Prints one line, and fails when a test failed or a test file left no report.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

folder, *addresses = sys.argv[1:]
tests = failed = skipped = 0
for address in addresses:
    # Pants names a report after the address: a/b/test_c.py:d is a.b.test_c.py.d.xml.
    report = Path(folder, address.replace("/", ".").replace(":", ".") + ".xml")
    try:
        suites = list(ElementTree.parse(report).iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        print(f"no report: {address}")
        tests += 1
        failed += 1
        continue
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))

line = f"{tests - failed - skipped} passed, {failed} failed"
print(line + f", {skipped} skipped" if skipped else line)
sys.exit(failed > 0)
