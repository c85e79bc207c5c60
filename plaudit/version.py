"""The version, said once: the build reads it here."""

VERSION = "0.1.0"
