"""Settings of the language models."""

from pydantic import Field, SecretStr

from mongars.organ import OrganSettings


class LLMSettings(OrganSettings):
    """Which model answers, and how long it may take."""

    backend: str = Field("auto", pattern=r"^(auto|embedded|ollama|openai|ray|[\w.]+:\w+)$")
    """`auto` (Ollama if it answers and has a chat model, else embedded), `embedded` (llama.cpp in a
    child process), `ollama`, `openai` (any server with `/v1/chat/completions`), or a class of your
    own as `package.module:Class`."""

    url: str | None = None
    """Base address of the server, as in `http://localhost:11434` or `http://localhost:8080/v1`."""

    model: str | None = None
    """The model's name inside its backend; for `embedded` also the path of a `.gguf` file. Left
    out: the first chat model there."""

    api_key: SecretStr | None = None
    """The key that the server asks for."""

    fallbacks: tuple[str, ...] = ()
    """Who answers, in this order, while the chosen backend is away, as in
    `["ollama/qwen3:8b", "embedded"]`. Every answer says which model gave it."""

    seats: int | None = Field(None, ge=1)
    """How many answers are made at the same time; left out: 2 for `embedded`, 1 for `ollama`, 8 for
    `openai`."""

    context_tokens: int = Field(4096, ge=256)
    """How much one answer of the embedded model can read and write, in tokens; never more than the
    model was trained for. Memory grows with it and with `seats`."""

    cache_mib: int = Field(256, ge=0)
    """How much memory the embedded model may use to keep what it read before, in MiB."""

    load_timeout_s: float = Field(120.0, gt=0)
    """How long a request waits for the embedded model to be loaded, in seconds."""

    connect_timeout_s: float = Field(5.0, gt=0)
    """How long a connection may take, in seconds."""

    list_timeout_s: float = Field(10.0, gt=0)
    """How long a list of models may take, in seconds."""

    first_token_timeout_s: float = Field(600.0, gt=0)
    """How long the first token may take, in seconds; a small computer reads a long prompt slowly."""

    between_tokens_timeout_s: float = Field(60.0, gt=0)
    """How long the next token may take, in seconds."""

    check_interval_s: float = Field(15.0, gt=0)
    """How often it is looked whether the chosen backend still answers, in seconds."""

    keep_alive_s: float = 300.0
    """How long Ollama keeps a model in memory after its last use, in seconds."""

    hub_url: str | None = None
    """Address of another model hub or a mirror; left out: the one that huggingface_hub knows."""

    hub_token: SecretStr | None = None
    """Token of an account on the model hub, for models whose terms it accepted."""

    disk_reserve_bytes: int = 1_000_000_000
    """Bytes of disk that a download leaves free."""
