"""Who may do what: people, their sessions and keys, and the ways to prove who one is."""

from mongars.auth.caller import ALL_SCOPES, Caller, Role, Scope

__all__ = ["ALL_SCOPES", "Caller", "Role", "Scope"]
