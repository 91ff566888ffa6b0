"""Unpack a chunk in the pass that adds up its differences (docs/decisions/0018).

Locks: none that readers or writers wait for. Undo: the function is as it was; no data changes.
"""

import runpy
from pathlib import Path
from typing import Any

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _revision(name: str) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).with_name(name)))


BEFORE = _revision("0002_create_the_samples_view.py")["CHUNK_SAMPLES"]

CHUNK_SAMPLES = """
-- The samples of one chunk, given its columns, in order of time and bit for bit as they came.
--
--   at    = start_at + step_us * (i + skipped) + shift_us + tick_us * late
--   value = (base + slope * i + factor * sum(deltas[0..i])) / 10 ^ exponent, or raw[i]
--
-- Packed number i lies in word i / lanes, i % lanes * bits above the lowest; lanes = 64 / bits;
-- those of `times` are skipped << late_bits | late. NULL `times` mean exactly on the grid, NULL
-- `deltas` a straight line (or raw).
--
-- PostgreSQL inlines it (it is not strict), so predicates on other columns reach the table. OFFSET
-- 0 keeps it from working out `chunk` again for every sample. `chunk` stands outside of the window,
-- which so carries nothing but `i`, and works out all the rest as it goes.
CREATE OR REPLACE FUNCTION chunk_samples(
    start_at timestamptz, count integer, step_us bigint,
    tick_us bigint, shift_us bigint, late_bits smallint, time_bits smallint, times bigint[],
    exponent smallint, factor bigint, base bigint, slope bigint, delta_bits smallint,
    deltas bigint[], raw float8[]
) RETURNS TABLE (at timestamptz, value float8) LANGUAGE sql STABLE PARALLEL SAFE ROWS 300 AS $$
SELECT samples.at, samples.value
FROM (
    SELECT 64 / time_bits AS time_lanes, (1::bigint << time_bits) - 1 AS time_mask,
        64 / nullif(delta_bits, 0) AS lanes, (1::bigint << delta_bits) - 1 AS delta_mask,
        (1::bigint << late_bits) - 1 AS late_mask, 10.0::float8 ^ exponent AS power
    OFFSET 0
) AS chunk
CROSS JOIN LATERAL (
    SELECT
        start_at + make_interval(secs => CASE
            WHEN times IS NULL THEN step_us * i
            ELSE step_us * (i + (place >> late_bits)) + shift_us + tick_us * (place & late_mask)
        END / 1e6::float8) AS at,
        CASE
            WHEN raw IS NULL THEN
                (base + slope * i + factor * coalesce(sum(delta) OVER so_far, 0))::float8 / power
            ELSE raw[i + 1]
        END AS value
    FROM (SELECT generate_series(0, count - 1) AS i) AS places
    CROSS JOIN LATERAL (
        SELECT (times[i / time_lanes + 1] >> i % time_lanes * time_bits) & time_mask AS place,
            ((deltas[i / lanes + 1] >> i % lanes * delta_bits) & delta_mask)::integer AS delta
    ) AS packed
    WINDOW so_far AS (ROWS UNBOUNDED PRECEDING)
) AS samples
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CHUNK_SAMPLES)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(BEFORE.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
