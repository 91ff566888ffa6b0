"""PostgreSQL's configuration: settings sized for this machine, and who may connect."""

import os
from pathlib import Path

import psutil

from infrawatch.embedded.endpoint import LOOPBACK
from infrawatch.embedded.home import Home

_MIB = 1024 * 1024

_SETTINGS = """\
# Written by InfraWatch at every start. To change a setting say
#     ALTER SYSTEM SET name = value;
# in SQL: that is kept in postgresql.auto.conf, and wins over this file.

listen_addresses = '{loopback}'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100

# An acknowledged batch is on disk.
fsync = on
synchronous_commit = on
full_page_writes = on

# Memory: this machine is also somebody's desk.
shared_buffers = '{shared_buffers_mib}MB'
effective_cache_size = '{cache_mib}MB'
work_mem = '16MB'
maintenance_work_mem = '{maintenance_mib}MB'

# Few, spread checkpoints; a crash has at most this much to replay.
wal_compression = 'pglz'
max_wal_size = '2GB'
min_wal_size = '160MB'
checkpoint_timeout = '10min'
checkpoint_completion_target = 0.9
# Until there are old files of the log to use again, a new one is needed every 16 MB, and every
# commit would wait 50 ms while it is filled with zeros. What is committed is synced either way.
wal_init_zero = off

# Short queries over few tables, on a disk without heads.
jit = off
random_page_cost = 1.1
max_parallel_workers = {cores}
max_parallel_workers_per_gather = {gather}

autovacuum_max_workers = 2
autovacuum_naptime = '30s'
autovacuum_vacuum_cost_limit = 1000

timezone = 'UTC'
log_timezone = 'UTC'

# One file for each day of the week, emptied when its day comes again. Statements that are slow
# or wrong are logged, what was bound to their parameters is not.
logging_collector = on
log_directory = '../{log_directory}'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = '1d'
log_rotation_size = 0
log_line_prefix = '%m [%p] %q%u@%d '
log_min_duration_statement = '2s'
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
"""

_HBA = f"""\
# Written by InfraWatch at every start.
host all         all {LOOPBACK}/32 scram-sha-256
host replication all {LOOPBACK}/32 scram-sha-256
"""


def write_configuration(home: Home) -> list[str]:
    """Write both files beside the cluster; return the options that make postgres read them.

    They are beside it because the cluster may belong to another account, in whose directories
    root must not follow names.
    """
    settings = home.path / "postgresql.conf"
    hba_file = home.path / "pg_hba.conf"
    _write(settings, render_settings(_memory_bytes(), os.cpu_count() or 1, home.logs.name))
    _write(hba_file, _HBA)
    return ["-c", f"config_file={settings}", "-c", f"hba_file={hba_file}"]


def render_settings(memory_bytes: int, cores: int, log_directory: str) -> str:
    """The text of postgresql.conf for a machine of this size."""
    memory_mib = memory_bytes // _MIB
    return _SETTINGS.format(
        loopback=LOOPBACK,
        shared_buffers_mib=min(max(memory_mib // 8, 32), 1024),
        cache_mib=max(memory_mib // 2, 64),
        maintenance_mib=min(max(memory_mib // 32, 16), 256),
        cores=cores,
        gather=min(cores // 2, 2),
        log_directory=log_directory,
    )


def _memory_bytes() -> int:
    """The memory of this machine, or of the container the process runs in."""
    installed = psutil.virtual_memory().total
    try:
        allowed = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return installed
    return min(installed, int(allowed)) if allowed.isdecimal() else installed


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.chmod(0o644)  # no secrets in it, and the account must be able to read it
    unfinished.replace(path)
