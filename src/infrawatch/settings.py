"""Every environment variable (prefix `INFRAWATCH_`); `.env.example` documents the same ones."""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    IPvAnyNetwork,
    SecretStr,
    TypeAdapter,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infrawatch.durations import parse_duration


def _to_timedelta(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _positive(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise ValueError("longer than 0, such as 5s, 90s, 15m or 2h")
    return duration


def _within_journal(window: timedelta) -> timedelta:
    """Refuse a replay window with which the journal would grow for ever.

    Its eight slots take five minutes of arrivals each, and have to be empty when their turn comes
    again.
    """
    if window > timedelta(minutes=30):
        raise ValueError("at most 30m: the journal goes back no further")
    return window


def _to_retention(value: object) -> object:
    """Read a retention; `0` and `15` are refused, because elsewhere they are for ever and days."""
    retention = None if value == "forever" else _to_timedelta(value)
    is_short = isinstance(retention, timedelta) and retention < timedelta(hours=1)
    if is_short and (not retention or str(value).isdecimal()):
        raise ValueError(f"{value!r} is too short: write 15d for days, or `forever`")
    return retention


def _to_labels(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = (pair.partition("=") for pair in value.split(",") if pair.strip())
    return {name.strip(): text.strip() for name, _, text in pairs}


def _to_list(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _of_redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("write it as redis://host:6379, or rediss:// with TLS")
    return url


def _to_origin(value: object) -> object:
    """Return a URL as browsers send an origin: lower case, no default port, no slash at its end."""
    return str(_URL.validate_python(value)).removesuffix("/")


_URL = TypeAdapter(AnyHttpUrl)

Duration = Annotated[timedelta, BeforeValidator(_to_timedelta), AfterValidator(_positive)]
ReplayWindow = Annotated[Duration, AfterValidator(_within_journal)]
# A scheme and a host, as browsers send them: no path, and no default port.
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[a-z0-9.\-\[\]:]+)$")]
# Only that: the server cannot be below a path.
PublicUrl = Annotated[
    str, BeforeValidator(_to_origin), Field(pattern=r"^https?://[a-z0-9.\-\[\]:]+$")
]
# Asymmetric algorithms only: with symmetric ones, any verifier can also sign.
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
RoleScopes = Annotated[str, Field(pattern=r"^(read|write|admin)(\+(read|write|admin))*$")]
RedisUrl = Annotated[SecretStr, AfterValidator(_of_redis)]
Retention = Annotated[timedelta | None, BeforeValidator(_to_retention)]
MIB = 1024 * 1024


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="INFRAWATCH_", env_file=".env", extra="ignore")


class LogSettings(_Variables):
    """Logging; read by every command."""

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class AgentSettings(_Variables):
    """The host agent; most are options of `infrawatch agent` too."""

    url: str = "http://127.0.0.1:8000"
    key_file: Path | None = None
    interval: Duration = timedelta(seconds=5)
    labels: Annotated[dict[str, str], NoDecode, BeforeValidator(_to_labels)] = {}
    spool_dir: Path = Path(".infrawatch/spool")
    spool_bytes: Annotated[int, Field(ge=MIB)] = 256 * MIB


class Settings(_Variables):
    """The server: `infrawatch serve`, and `infrawatch up` with its embedded database."""

    database_url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    public_url: PublicUrl | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    data_dir: Path = Path(".infrawatch")
    auth: Literal["required", "off", "off-and-i-know-it-is-open"] | None = None
    admin_key_file: Path | None = None
    admin_password_file: Path | None = None
    session_idle: Duration = timedelta(hours=12)
    session_life: Duration = timedelta(days=7)
    # https, as all responses of the issuer are trusted; http on loopback only.
    oidc_issuer: Annotated[
        str | None, Field(pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])")
    ] = None
    oidc_client_id: str | None = None
    oidc_client_secret_file: Path | None = None
    oidc_name: str = "single sign-on"
    oidc_scopes: str = "openid profile email"
    oidc_audience: str | None = None
    oidc_algorithms: Annotated[
        tuple[SigningAlgorithm, ...], NoDecode, BeforeValidator(_to_list), Field(min_length=1)
    ] = ("RS256",)
    oidc_role_claim: str = "groups"
    oidc_roles: Annotated[dict[str, RoleScopes], NoDecode, BeforeValidator(_to_labels)] = {}
    oidc_tenant_claim: str | None = None
    oidc_tenant: str = "default"
    metrics: Literal["read", "open"] = "read"
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_to_list)] = ()
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_to_list)] = ()

    header_deadline: Duration = timedelta(seconds=10)
    body_deadline: Duration = timedelta(seconds=10)
    body_min_bytes_per_s: Annotated[int, Field(ge=1)] = 1024
    answer_deadline: Duration = timedelta(seconds=15)
    answer_min_bytes_per_s: Annotated[int, Field(ge=1)] = 4096
    # Longer than the agents' and Prometheus' intervals, so that they keep their connections.
    keep_alive: Duration = timedelta(seconds=75)
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    max_connections_per_address: Annotated[int, Field(ge=0)] = 5_000
    # The URL parser accepts at most 65,535.
    max_url_bytes: Annotated[int, Field(ge=1024, le=65_535)] = 32 * 1024
    max_header_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024

    retention: Retention = timedelta(days=15)
    rollup_5m_retention: Retention = timedelta(days=90)
    rollup_1h_retention: Retention = timedelta(days=730)
    # Every day that has samples has a partition.
    max_past: Duration = timedelta(days=730)
    max_future: Duration = timedelta(minutes=10)
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * MIB

    # The live side looks back one minute for late commits.
    write_deadline: Annotated[Duration, Field(le=timedelta(seconds=30))] = timedelta(seconds=10)
    write_backlog_bytes: Annotated[int, Field(ge=MIB)] = 64 * MIB
    write_backlog_samples: Annotated[int, Field(ge=50_000)] = 1_000_000
    write_group_samples: Annotated[int, Field(ge=1)] = 100_000
    write_pool_size: Annotated[int, Field(ge=2)] = 4
    series_cache_bytes: Annotated[int, Field(ge=MIB)] = 256 * MIB

    read_deadline: Duration = timedelta(seconds=20)
    read_pool_size: Annotated[int, Field(ge=2)] = 8
    read_max_samples: Annotated[int, Field(ge=1)] = 10_000_000
    read_max_series: Annotated[int, Field(ge=1)] = 50_000
    redis_url: RedisUrl | None = None
    replay_window: ReplayWindow = timedelta(minutes=10)

    drain_deadline: Duration = timedelta(seconds=15)
    traces_url: AnyHttpUrl | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the listen address is reachable from this machine only."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def authentication(self) -> Literal["required", "off", "off-and-i-know-it-is-open"]:
        """The value of `auth`; if unset, keys are required unless `host` is loopback."""
        return self.auth or ("off" if self.is_loopback else "required")
