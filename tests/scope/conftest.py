"""Fixtures that several test files of scopes share."""

from tests.scope.zoo import scope, within, zoo

__all__ = ["scope", "within", "zoo"]
