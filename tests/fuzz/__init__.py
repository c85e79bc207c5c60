"""Bytes of strangers, and what must hold of whatever reads them.

Each module of ``targets`` has ``one(data)``, which takes any bytes and states the invariant, and
``seeds()``, from which mutations start. Inputs that once broke something lie in ``corpus/NAME``.
All run in the tests, bounded; ``python tests/fuzz NAME --seconds 60`` runs one under atheris.
"""
