"""Compliance Copilot."""
