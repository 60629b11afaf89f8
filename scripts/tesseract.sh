#!/usr/bin/env bash
# Makes sure that tesseract's data (Debian's package) are here. Prints for pytest what has to be left
# out when they are not and cannot be installed; says so in one line.
set -u
have() { command -v tesseract >/dev/null; }
if ! have && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends tesseract-ocr; } >/dev/null 2>&1
fi
if ! have; then
    echo "Tesseract is not installed and could not be (needs root, apt and a mirror): OCR is not checked." >&2
    echo "--ignore=tests_check/test_ocr.py"
fi
