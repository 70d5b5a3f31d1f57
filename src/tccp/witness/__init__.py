"""Witnesses: who cosigns the heads of logs, and lets each log only go forward."""
