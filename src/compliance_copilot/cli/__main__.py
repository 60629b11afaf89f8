"""`python -m compliance_copilot.cli`."""

from compliance_copilot.cli import main

main()
