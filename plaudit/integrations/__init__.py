"""Trainers that fetch their rewards from the service: one file each, see docs/trainers.md.

None of them imports its trainer before the trainer calls.
"""
