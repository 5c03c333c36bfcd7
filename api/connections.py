"""The former name of `api.http.connections:HeaderTimeoutProtocol`, for existing start commands."""

from api.http.connections import HeaderTimeoutProtocol as Patience

__all__ = ["Patience"]
