"""Settings of the circuit breakers."""

from pydantic import Field

from mongars.organ import OrganSettings


class CircuitSettings(OrganSettings):
    """When a server that fails is left alone, and for how long."""

    failures: int = Field(3, ge=1)
    """How many failures in a row open the circuit."""

    open_s: float = Field(5.0, gt=0)
    """How long an open circuit stays open before one request tries again, in seconds; doubled each
    time that the try fails."""

    longest_open_s: float = Field(60.0, gt=0)
    """How long it stays open at most, in seconds."""
