"""What the settings of every organ have in common."""

from pydantic import BaseModel, ConfigDict


class OrganSettings(BaseModel):
    """Settings of one organ: frozen, nothing unknown, each field explained by its docstring."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )
