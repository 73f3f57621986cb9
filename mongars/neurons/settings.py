"""Settings of the encoder."""

from pydantic import Field, SecretStr

from mongars.organ import OrganSettings


class NeuronsSettings(OrganSettings):
    """The encoder: what makes vectors of texts."""

    backend: str = Field("embedded", pattern=r"^(embedded|ollama|openai|llm2vec|[\w.]+:\w+)$")
    """`embedded` (MiniLM-L6-v2 in this process), `ollama`, `openai` (any server with
    `/v1/embeddings`), `llm2vec`, or a class of your own as `package.module:Class`."""

    url: str | None = None
    """Base address of the server, as in `http://localhost:11434` or `http://localhost:8080/v1`."""

    model: str | None = None
    """The server's name of the model, as in `nomic-embed-text`."""

    api_key: SecretStr | None = None
    """The key that the server asks for."""

    query_prefix: str = ""
    """What this model wants in front of a question, as in `search_query: `."""

    passage_prefix: str = ""
    """What this model wants in front of a text that is to be found, as in `search_document: `."""

    timeout_s: float = Field(60.0, gt=0)
    """How long the server may take to answer for one batch, in seconds."""

    idle_unload_s: float = Field(600.0, gt=0)
    """How long the embedded encoder stays in memory unused, in seconds."""
